"""Settings of the commands: typed and checked, written to run.yaml, and read from it again."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from sarstack.checks import MAX_WINDOW_PX
from sarstack.conventions import MAX_GAIN_DB, Calibration, MaskWord
from sarstack.errors import HIDDEN, ConfigError
from sarstack.output.rounding import ALL_BITS, DEFAULT_BITS, FEWEST_BITS
from sarstack.readers.paths import is_remote, public_path
from sarstack.workflows.settings_file import read_settings

DEFAULT_FILE = "sarstack.yaml"
AUTO = "auto"
Rule = Literal["cv", "paper"]


def _check_lengths(text: str) -> str:
    # The query of a URL may be longer.
    if "://" not in text and any(len(part.encode()) > 255 for part in text.split("/")):
        raise ValueError("a part of the path has more than 255 bytes")
    return text


_Text = Annotated[
    str, Field(max_length=10_000, pattern=r"^[^\x00]*$"), AfterValidator(_check_lengths)
]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_PLAIN_WORDS = {"extra_forbidden": "there is no such setting", "missing": "is required"}


class SelectionConfig(BaseModel):
    """Select images of a stack."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    stack: _Text = Field(
        repr=False, description="folder, file, Zarr store, netCDF file or glob pattern"
    )
    scale: Literal["linear", "amplitude", "db"] | None = Field(
        None, description="scale of the stored numbers; default: detected"
    )
    bands: tuple[str, ...] | None = Field(
        None,
        description="polarisations of the bands, if the files do not name them, e.g. [vv, vh, '-']",
    )
    calibration: Calibration | None = Field(
        None, description="of a SAFE or EOPF product: sigma0 (default), beta0, gamma0, or dn"
    )
    separate_slices: bool = Field(
        default=False, description="keep SAFE products whose lines follow each other apart"
    )
    mask: tuple[MaskWord, ...] | None = Field(
        None,
        description="parts of the product's mask that are nodata: [shadow, layover]; default: none",
    )
    gain_db: float | None = Field(
        None,
        ge=-MAX_GAIN_DB,
        le=MAX_GAIN_DB,
        description="decibels added to the backscatter, e.g. -83; default: factor of the product",
    )
    dates: _Text | None = Field(
        None, description="first and last date, e.g. 2021-01-01/2021-12-31; default: all"
    )
    bbox: tuple[_Number, _Number, _Number, _Number] | None = Field(
        None, description="xmin, ymin, xmax, ymax in the CRS of the stack; default: all"
    )
    polarisations: tuple[str, ...] | None = Field(None, description="e.g. [vv, vh]; default: all")
    looks: float | None = Field(
        None, ge=0.5, le=1e6, description="equivalent number of looks; default: measured"
    )

    def to_yaml(self) -> str:
        """Return all settings as YAML, with their descriptions as comments."""
        lines = [f"# sarstack {type(self).command()}: settings of the run; repeat it with --config"]
        public = self.without_secrets()
        if public != self:
            lines.append(f"# {HIDDEN}: secret part of a URL, not saved; give the whole URL again")
        for name, value in public.model_dump(mode="json").items():
            flow = yaml.safe_dump(value, default_flow_style=True, width=10**6)
            text = flow.removesuffix("...\n").strip()
            lines.append(f"{name}: {text}  # {type(self).model_fields[name].description}")
        return "\n".join(lines) + "\n"

    @classmethod
    def command(cls) -> str:
        """Return the name of the command of these settings."""
        return COMMANDS[cls.__name__]

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> Self:
        """Read settings from a YAML file; `overrides` that are not None replace them.

        Raises
        ------
        ConfigError
            If the file is missing, is not YAML, or has unknown or impossible settings.
        """
        entries = read_settings(path)
        entries |= {k: v for k, v in overrides.items() if v is not None}
        for name, value in entries.items():
            if isinstance(value, str) and is_remote(value) and HIDDEN in value:
                raise ConfigError(
                    f"{name} = {value} lacks the secret part of the URL, which is never saved",
                    expected="the whole URL, given again",
                    where=str(path),
                    do=f"sarstack {cls.command()} 'URL' --config {path}"
                    if name == "stack"
                    else f"add --{name} 'URL'",
                )
        return cls.make(**entries)

    def without_secrets(self) -> Self:
        """Return the settings as they may be saved: URLs without user, password and query."""
        texts = {name: value for name, value in self if isinstance(value, str)}
        return self.model_copy(update={name: public_path(text) for name, text in texts.items()})

    @classmethod
    def make(cls, **entries: Any) -> Self:
        """Build checked settings; one error lists all problems.

        Raises
        ------
        ConfigError
            If a setting is unknown, or its value impossible.
        """
        try:
            config = cls(**entries)
        except ValidationError as failure:
            problems = [
                f"{'.'.join(map(str, e['loc']))}: "
                + _PLAIN_WORDS.get(e["type"], e["msg"]).removeprefix("Value error, ")
                for e in failure.errors()
            ]
            # The list of all names helps if a name is misspelt.
            unknown = any(e["type"] == "extra_forbidden" for e in failure.errors())
            names = f"settings of `sarstack {cls.command()}`: {', '.join(cls.model_fields)}"
            wrong = dict.fromkeys(str(e["loc"][0]) for e in failure.errors() if e["loc"])
            fields = {n: cls.model_fields[n] for n in wrong if n in cls.model_fields}
            meanings = "; ".join(f"{name}: {field.description}" for name, field in fields.items())
            raise ConfigError(
                f"{len(problems)} setting(s) cannot be used: " + "; ".join(problems),
                expected=names if unknown else meanings,
                do=f"see `sarstack {cls.command()} --help`",
            ) from failure
        return config


class WorkersConfig(SelectionConfig):
    """Settings of workflows that run on workers."""

    cluster: _Text | None = Field(
        None, description="local, or address or file of a running Dask scheduler; default: threads"
    )
    workers: int | None = Field(
        None, gt=0, description="number of processes or threads; default: one per core"
    )


class StackConfig(WorkersConfig):
    """Settings of workflows that compute tiles."""

    tile_px: int = Field(1024, gt=0, le=2**15, description="width of a tile, a multiple of 256")

    work_folder: _Text | None = Field(
        None,
        description="local folder of unfinished work if the output is a URL; default: a folder in "
        "the current folder, the same for the same output",
    )

    @field_validator("tile_px")
    @classmethod
    def _check_tile(cls, tile_px: int) -> int:
        if tile_px % 256:
            raise ValueError(f"{tile_px} is not a multiple of 256 (it changes speed, never pixels)")
        return tile_px


class DespeckleConfig(StackConfig):
    """Settings of `sarstack despeckle`."""

    output: _Text | None = Field(
        None, description="folder of the results, or s3:// URL; default: STACK-despeckled"
    )
    method: _Text = Field(
        AUTO,
        description="name of a method, .safetensors model, or my_file.py:MyFilter; auto: "
        "despecknet-mt for five dates or more, else despecknet",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the method, e.g. {window_px: 9}"
    )
    remove_noise: bool = Field(
        default=False,
        description="subtract the noise of a SAFE or EOPF product from the despeckled pixels",
    )
    decorrelate: bool = Field(
        default=False,
        description="decorrelate the speckle of single look complex images before despeckling",
    )
    ensemble: Literal[1, 4, 8] = Field(
        1, description="mean over so many mirror images: better, and as many times slower"
    )
    output_noise: bool = Field(
        default=False,
        description="write the estimated speckle too, as NAME_noise.tif (deSpeckNet methods)",
    )
    output_uncertainty: bool = Field(
        default=False,
        description="write the standard deviation of the result in dB too, as "
        "NAME_uncertainty_db.tif (deSpeckNet methods)",
    )
    output_support: bool = Field(
        default=False,
        description="write the number of other dates that agree with a date too, as "
        "NAME_support.tif (methods of two passes)",
    )
    keep_bits: int = Field(
        DEFAULT_BITS,
        ge=FEWEST_BITS,
        le=ALL_BITS,
        description="bits of the mantissa that results are rounded to: 12 = 0.0005 dB, 23 = all",
    )
    compress: Literal["zstd", "deflate"] = Field(
        "zstd", description="compression of the results: zstd, or deflate for old programs"
    )
    keep_dates: bool = Field(
        default=False,
        description="keep finished results of a multi-temporal method when dates are added, and "
        "make the new dates only",
    )
    no_report: bool = Field(default=False, description="write no report.html")
    stac: bool = Field(default=False, description="write STAC items into OUTPUT/stac")
    finetune: bool = Field(default=False, description="finetune the network on the stack first")

    @field_validator("finetune")
    @classmethod
    def _check_finetune(cls, finetune: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
        if finetune and info.data.get("decorrelate"):
            raise ValueError("finetuning sees the speckle before --decorrelate; use one of them")
        return finetune


class DecorrelateConfig(SelectionConfig):
    """Settings of `sarstack decorrelate`."""

    output: _Text = Field("decorrelated", description="folder of the results")
    resample: bool = Field(
        default=False,
        description="keep only the band that the spectrum fills: fewer pixels, and white speckle",
    )
    workers: int | None = Field(None, gt=0, description="number of threads; default: one per core")
    compress: Literal["zstd", "deflate"] = Field(
        "zstd", description="compression of the results: zstd, or deflate for old programs"
    )


class LabelsConfig(StackConfig):
    """Settings of `sarstack build-labels`."""

    output: _Text | None = Field(
        None, description="Zarr store of the labels, or s3:// URL; default: labels.zarr"
    )
    rule: Rule = Field(
        "cv",
        description="stable pixels: cv = variation of speckle; paper = std below threshold",
    )
    threshold: float = Field(
        0.1,
        gt=0,
        allow_inf_nan=False,
        description="rule paper: largest standard deviation of a stable pixel",
    )
    quantile: float = Field(
        0.99, gt=0, lt=1, description="rule cv: fraction of pixels of pure speckle that is stable"
    )
    multilook_px: int = Field(
        1,
        gt=0,
        le=MAX_WINDOW_PX,
        description="odd width of a spatial mean that is taken of each date first",
    )


class LearningConfig(WorkersConfig):
    """Settings of workflows that train a network on patches."""

    batch_size: int = Field(16, gt=0, le=1024, description="number of patches in a batch")
    patch_px: int = Field(
        64, ge=16, le=1024, description="width of a patch; halved for small scenes"
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="random seed of places, dates and flips of the patches"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of convolutions; auto = bfloat16 if this processor supports it"
    )


class TrainConfig(LearningConfig):
    """Settings of `sarstack train`: supervised by labels, or speckle2void without any."""

    labels: _Text | None = Field(
        None,
        description="Zarr store that build-labels made from the same stack; not for speckle2void",
    )
    output: _Text = Field("model.safetensors", description="model file to write")
    variant: Literal["despecknet", "despecknet-lite", "despecknet-paper", "speckle2void"] = Field(
        "despecknet", description="network: on log intensity, as published, or blind-spot"
    )
    start: _Text = Field(
        "shipped",
        description="weights of the start: shipped, scratch (random), or a model file",
    )
    steps: int = Field(1000, gt=0, le=10**8, description="largest number of batches")
    learning_rate: float = Field(
        1e-4, gt=0, le=10, description="learning rate of Adam; use 1e-3 with start: scratch"
    )
    xi: float = Field(0.01, ge=0, le=1e6, description="weight of the reconstruction loss")
    patience: int = Field(
        6,
        ge=0,
        le=10**8,
        description="number of validations without progress before the training stops",
    )


class FinetuneConfig(LearningConfig):
    """Settings of `sarstack finetune`: on the noisy images, without labels."""

    model: _Text = Field(
        "shipped", description="model of the start: shipped, or a .safetensors model"
    )
    output: _Text = Field("finetuned.safetensors", description="model file to write")
    mode: Literal["auto", "noise2noise", "paper", "parts"] = Field(
        "auto",
        description="target: other dates (noise2noise), the image itself (paper), the other part "
        "of complex numbers (parts, for merlin); auto = parts for merlin, noise2noise with 4 "
        "dates or more",
    )
    steps: int = Field(200, gt=0, le=10**8, description="largest number of batches")
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=10,
        description="of Adam; default: 1e-4 for noise2noise and parts, 1e-5 for paper",
    )


COMMANDS = {
    "DespeckleConfig": "despeckle",
    "DecorrelateConfig": "decorrelate",
    "LabelsConfig": "build-labels",
    "TrainConfig": "train",
    "FinetuneConfig": "finetune",
}
