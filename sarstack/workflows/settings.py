"""Settings of a run: typed, checked as a whole, written beside every result and replayable."""

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from sarstack.errors import ConfigError

DEFAULT_FILE = "sarstack.yaml"
AUTO = "auto"
Rule = Literal["cv", "paper"]
_PLAIN_WORDS = {"extra_forbidden": "there is no such setting", "missing": "must be given"}


class SelectionConfig(BaseModel):
    """Which images of a stack take part."""

    model_config = ConfigDict(extra="forbid")

    stack: str = Field(description="folder, file, Zarr store, netCDF file or glob pattern")
    scale: Literal["linear", "amplitude", "db"] | None = Field(
        None, description="what the stored numbers are; found out when not given"
    )
    bands: tuple[str, ...] | None = Field(
        None, description="polarisations of the bands, where the files do not say, e.g. [vv, vh]"
    )
    dates: str | None = Field(None, description="first and last date, 2021-01-01/2021-12-31")
    bbox: tuple[float, float, float, float] | None = Field(
        None, description="xmin, ymin, xmax, ymax in the coordinates of the stack"
    )
    polarisations: tuple[str, ...] | None = Field(None, description="e.g. [vv, vh]; default all")
    looks: float | None = Field(
        None, ge=0.5, description="equivalent number of looks; measured when not given"
    )

    def to_yaml(self) -> str:
        """Return all effective values as YAML, each with its description as a comment."""
        lines = [f"# sarstack {type(self).command()}: effective settings, replay with --config"]
        for name, value in self.model_dump(mode="json").items():
            flow = yaml.safe_dump(value, default_flow_style=True, width=10**6)
            text = flow.removesuffix("...\n").strip()
            lines.append(f"{name}: {text}  # {type(self).model_fields[name].description}")
        return "\n".join(lines) + "\n"

    @classmethod
    def command(cls) -> str:
        """Return the name of the command these settings belong to."""
        return COMMANDS[cls.__name__]

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> Self:
        """Read settings from a YAML file; `overrides` that are not None win.

        Raises
        ------
        ConfigError
            If the file is missing, is not YAML, or has unknown or impossible entries.
        """
        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as failure:
            raise ConfigError(
                f"settings cannot be read: {failure}", where=str(path), do="check the file"
            ) from failure
        if not isinstance(entries, dict):
            raise ConfigError("settings are not a mapping of names to values", where=str(path))
        return cls.make(**entries | {k: v for k, v in overrides.items() if v is not None})

    @classmethod
    def make(cls, **entries: Any) -> Self:
        """Check settings and build them, with every problem named in one error.

        Raises
        ------
        ConfigError
            If an entry is unknown or its value impossible.
        """
        try:
            config = cls(**entries)
        except ValidationError as failure:
            problems = [
                f"{'.'.join(map(str, e['loc']))}: "
                + _PLAIN_WORDS.get(e["type"], e["msg"]).removeprefix("Value error, ")
                for e in failure.errors()
            ]
            # The list of all names helps only who has misspelt one.
            unknown = any(e["type"] == "extra_forbidden" for e in failure.errors())
            names = f"settings of `sarstack {cls.command()}`: {', '.join(cls.model_fields)}"
            raise ConfigError(
                f"{len(problems)} setting(s) cannot be used: " + "; ".join(problems),
                expected=names if unknown else "",
                do=f"see `sarstack {cls.command()} --help`",
            ) from failure
        return config


class WorkersConfig(SelectionConfig):
    """A job on the workers one chooses."""

    cluster: str | None = Field(
        None, description="local, or the address or file of a running Dask scheduler"
    )
    workers: int | None = Field(None, gt=0, description="processes or threads; default all cores")


class StackConfig(WorkersConfig):
    """A job that goes over the stack tile by tile."""

    tile_px: int = Field(1024, gt=0, description="edge of a tile; a multiple of 256")

    @field_validator("tile_px")
    @classmethod
    def _check_tile(cls, tile_px: int) -> int:
        if tile_px % 256:
            raise ValueError(f"{tile_px} is not a multiple of 256 (it changes speed, never pixels)")
        return tile_px


class DespeckleConfig(StackConfig):
    """Settings of `sarstack despeckle`."""

    output: str | None = Field(None, description="folder of the results; default STACK-despeckled")
    method: str = Field(
        AUTO,
        description="a method's name or a .safetensors model; auto: despecknet-mt for five dates "
        "or more, else despecknet",
    )
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the method, e.g. {window_px: 9}"
    )
    stac: bool = Field(default=False, description="write STAC items beside the results")
    finetune: bool = Field(default=False, description="tune the network on the stack first")


class LabelsConfig(StackConfig):
    """Settings of `sarstack build-labels`."""

    output: str | None = Field(None, description="Zarr store of the labels; default labels.zarr")
    rule: Rule = Field(
        "cv", description="stable where: cv = variation is speckle's; paper = std below threshold"
    )
    threshold: float = Field(0.1, gt=0, description="largest standard deviation for rule paper")
    quantile: float = Field(0.99, gt=0, lt=1, description="of pure speckle kept by rule cv")
    multilook_px: int = Field(1, gt=0, description="odd width of a spatial mean of each date")


class AdaptConfig(WorkersConfig):
    """How the patches of a stack are seen and computed where a network learns from them."""

    batch_size: int = Field(16, gt=0, description="patches per batch")
    patch_px: int = Field(64, ge=16, description="edge of a patch; halved for small scenes")
    seed: int = Field(0, description="decides places, dates and flips of all patches")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of convolutions; auto = bfloat16 where this processor has it"
    )


class TrainConfig(AdaptConfig):
    """Settings of `sarstack train`: phase 1, supervised by the labels."""

    labels: str = Field(description="store made by build-labels from the same stack")
    output: str = Field("model.safetensors", description="model file to write")
    variant: Literal["despecknet", "despecknet-lite", "despecknet-paper"] = Field(
        "despecknet", description="network: on log intensity, or as published"
    )
    start: str = Field(
        "shipped", description="weights to start from: shipped, scratch, or a .safetensors model"
    )
    steps: int = Field(1000, gt=0, description="batches to train on, at most")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam; 1e-3 suits start scratch")
    xi: float = Field(0.01, ge=0, description="weight of the reconstruction loss")
    patience: int = Field(6, ge=0, description="validations without progress before stopping")


class FinetuneConfig(AdaptConfig):
    """Settings of `sarstack finetune`: on the noisy images themselves, without labels."""

    model: str = Field("shipped", description="model to tune: shipped, or a .safetensors model")
    output: str = Field("finetuned.safetensors", description="model file to write")
    mode: Literal["auto", "noise2noise", "paper"] = Field(
        "auto",
        description="target: other dates (noise2noise), the image itself (paper); "
        "auto = noise2noise with 4 dates or more",
    )
    steps: int = Field(200, gt=0, description="batches, at most")
    learning_rate: float | None = Field(
        None, gt=0, description="of Adam; default 1e-4 for noise2noise, 1e-5 for paper"
    )


COMMANDS = {
    "DespeckleConfig": "despeckle",
    "LabelsConfig": "build-labels",
    "TrainConfig": "train",
    "FinetuneConfig": "finetune",
}
