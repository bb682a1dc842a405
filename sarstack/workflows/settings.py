"""Settings of the commands: typed and checked, written to run.yaml, and read from it again."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sarstack.errors import HIDDEN, ConfigError
from sarstack.readers.paths import is_remote, public_path

DEFAULT_FILE = "sarstack.yaml"
AUTO = "auto"
Rule = Literal["cv", "paper"]
_PLAIN_WORDS = {"extra_forbidden": "there is no such setting", "missing": "is required"}


class SelectionConfig(BaseModel):
    """Select images of a stack."""

    model_config = ConfigDict(extra="forbid")

    stack: str = Field(
        repr=False, description="folder, file, Zarr store, netCDF file or glob pattern"
    )
    scale: Literal["linear", "amplitude", "db"] | None = Field(
        None, description="scale of the stored numbers; default: detected"
    )
    bands: tuple[str, ...] | None = Field(
        None, description="polarisations of the bands, if the files do not name them, e.g. [vv, vh]"
    )
    dates: str | None = Field(
        None, description="first and last date, e.g. 2021-01-01/2021-12-31; default: all"
    )
    bbox: tuple[float, float, float, float] | None = Field(
        None, description="xmin, ymin, xmax, ymax in the CRS of the stack; default: all"
    )
    polarisations: tuple[str, ...] | None = Field(None, description="e.g. [vv, vh]; default: all")
    looks: float | None = Field(
        None, ge=0.5, description="equivalent number of looks; default: measured"
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
        entries = _read_yaml(path)
        if not isinstance(entries, dict):
            raise ConfigError("the settings are not a mapping of names to values", where=str(path))
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
            raise ConfigError(
                f"{len(problems)} setting(s) cannot be used: " + "; ".join(problems),
                expected=names if unknown else "",
                do=f"see `sarstack {cls.command()} --help`",
            ) from failure
        return config


def _read_yaml(path: Path) -> Any:
    """Read a YAML file in UTF-8, with or without a byte order mark; empty files are ``{}``.

    Raises
    ------
    ConfigError
        If it is no regular file (a named pipe would wait for ever), no UTF-8 or no YAML.
    """
    do = "check the file"
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")  # noqa: TRY301
        return yaml.safe_load(path.read_bytes().decode("utf-8-sig")) or {}
    except UnicodeDecodeError:
        reason, do = "it is not a text in UTF-8", "save it again in the encoding UTF-8"
    except OSError as failure:
        reason = failure.strerror or str(failure)
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        reason = str(failure)
    raise ConfigError(
        f"the settings cannot be read: {reason}",
        expected="a YAML file such as run.yaml",
        where=str(path),
        do=do,
    )


class WorkersConfig(SelectionConfig):
    """Settings of workflows that run on workers."""

    cluster: str | None = Field(
        None, description="local, or address or file of a running Dask scheduler; default: threads"
    )
    workers: int | None = Field(
        None, gt=0, description="number of processes or threads; default: one per core"
    )


class StackConfig(WorkersConfig):
    """Settings of workflows that compute tiles."""

    tile_px: int = Field(1024, gt=0, description="width of a tile, a multiple of 256")

    @field_validator("tile_px")
    @classmethod
    def _check_tile(cls, tile_px: int) -> int:
        if tile_px % 256:
            raise ValueError(f"{tile_px} is not a multiple of 256 (it changes speed, never pixels)")
        return tile_px


class DespeckleConfig(StackConfig):
    """Settings of `sarstack despeckle`."""

    output: str | None = Field(None, description="folder of the results; default: STACK-despeckled")
    method: str = Field(
        AUTO,
        description="name of a method, .safetensors model, or my_file.py:MyFilter; auto: "
        "despecknet-mt for five dates or more, else despecknet",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the method, e.g. {window_px: 9}"
    )
    stac: bool = Field(default=False, description="write STAC items into OUTPUT/stac")
    finetune: bool = Field(default=False, description="finetune the network on the stack first")


class LabelsConfig(StackConfig):
    """Settings of `sarstack build-labels`."""

    output: str | None = Field(None, description="Zarr store of the labels; default: labels.zarr")
    rule: Rule = Field(
        "cv",
        description="stable pixels: cv = variation of speckle; paper = std below threshold",
    )
    threshold: float = Field(
        0.1, gt=0, description="rule paper: largest standard deviation of a stable pixel"
    )
    quantile: float = Field(
        0.99, gt=0, lt=1, description="rule cv: fraction of pixels of pure speckle that is stable"
    )
    multilook_px: int = Field(
        1, gt=0, description="odd width of a spatial mean that is taken of each date first"
    )


class LearningConfig(WorkersConfig):
    """Settings of workflows that train a network on patches."""

    batch_size: int = Field(16, gt=0, description="number of patches in a batch")
    patch_px: int = Field(64, ge=16, description="width of a patch; halved for small scenes")
    seed: int = Field(0, description="random seed of places, dates and flips of the patches")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of convolutions; auto = bfloat16 if this processor supports it"
    )


class TrainConfig(LearningConfig):
    """Settings of `sarstack train`: phase 1 of deSpeckNet, supervised by labels."""

    labels: str = Field(description="Zarr store that build-labels made from the same stack")
    output: str = Field("model.safetensors", description="model file to write")
    variant: Literal["despecknet", "despecknet-lite", "despecknet-paper"] = Field(
        "despecknet", description="network: on log intensity, or as published"
    )
    start: str = Field(
        "shipped",
        description="weights of the start: shipped, scratch (random), or a model file",
    )
    steps: int = Field(1000, gt=0, description="largest number of batches")
    learning_rate: float = Field(
        1e-4, gt=0, description="learning rate of Adam; use 1e-3 with start: scratch"
    )
    xi: float = Field(0.01, ge=0, description="weight of the reconstruction loss")
    patience: int = Field(
        6, ge=0, description="number of validations without progress before the training stops"
    )


class FinetuneConfig(LearningConfig):
    """Settings of `sarstack finetune`: on the noisy images, without labels."""

    model: str = Field(
        "shipped", description="model of the start: shipped, or a .safetensors model"
    )
    output: str = Field("finetuned.safetensors", description="model file to write")
    mode: Literal["auto", "noise2noise", "paper"] = Field(
        "auto",
        description="target: other dates (noise2noise), the image itself (paper); "
        "auto = noise2noise with 4 dates or more",
    )
    steps: int = Field(200, gt=0, description="largest number of batches")
    learning_rate: float | None = Field(
        None,
        gt=0,
        description="of Adam; default: 1e-4 for noise2noise, 1e-5 for paper",
    )


COMMANDS = {
    "DespeckleConfig": "despeckle",
    "LabelsConfig": "build-labels",
    "TrainConfig": "train",
    "FinetuneConfig": "finetune",
}
