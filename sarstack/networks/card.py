"""The card of a model: which network it is, how it was trained, and its radiometric bias.

The card is JSON in the header of the model file (:mod:`sarstack.networks.model_file`). Neither
the weights nor torch are needed to read it.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter

from sarstack.html_repr import Details, render_html

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet

CARD_KEY = "sarstack-card"
# Limits of what a card from somebody else can make sarstack allocate or compute.
MAX_HALO_PX = 4096
MAX_LAYER_SIZE = 1024
_MAX_AXIS = 256
_MAX_TABLES = 64
_MAX_BIAS = 10.0
# Smallest sizes of a network; all others may be 0.
_MIN_SIZES = {"width": 1, "deep_width": 1, "body": 1, "dilation": 1, "depth": 2}
_Text = Annotated[str, Field(max_length=100_000)]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Size = Annotated[int, Field(ge=0, le=MAX_LAYER_SIZE)]
DESPECKLING_VARIANTS = (
    "despecknet", "despecknet-lite", "despecknet-mt", "despecknet-paper", "sar-cnn",
    "speckle2void",
)  # fmt: skip
BLIND_VARIANTS = ("speckle2void",)
"""Trained on noisy images alone; the looks are a part of their likelihood."""
PART_VARIANTS = ("merlin",)
"""Networks whose input is one part of a single look complex image."""
KNOWN_VARIANTS = (*DESPECKLING_VARIANTS, *PART_VARIANTS, "gaussian-cnn")


@dataclass(frozen=True)
class BiasTable:
    """Bias of a network: mean of its output over mean of its input, on stationary speckle.

    Attributes
    ----------
    looks : tuple of float
        Equivalent number of looks of each row, increasing.
    correlation : tuple of float
        Lag-1 correlation of each column (geometric mean of both axes), increasing.
    bias : tuple of tuple of float
        Ratio of the means. The result of the network is divided by it.
    bias_without_sensor : tuple of tuple of float
        The same for a network without looks and correlation as input; empty: as `bias`.
        Its key in the file is ``untold``.
    n_others : int
        Number of other dates that the network had as input.

    Raises
    ------
    ValueError
        If the axes are not increasing, the tables have another shape than the axes, or a bias is
        not a number between 0.1 and 10.
    """

    looks: tuple[float, ...] = (1.0,)
    correlation: tuple[float, ...] = (0.0,)
    bias: tuple[tuple[float, ...], ...] = ((1.0,),)
    bias_without_sensor: Annotated[tuple[tuple[float, ...], ...], Field(alias="untold")] = ()
    n_others: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        _check_axis("looks", self.looks, 0.01, 1e4)
        _check_axis("correlation", self.correlation, -1, 1)
        shape = (len(self.looks), len(self.correlation))
        for name in ("bias", "bias_without_sensor"):
            rows = getattr(self, name)
            if name == "bias_without_sensor" and not rows:
                continue
            if len(rows) != shape[0] or any(len(row) != shape[1] for row in rows):
                raise ValueError(f"{name} should have {shape[0]} rows of {shape[1]} numbers")
            if not all(1 / _MAX_BIAS <= ratio <= _MAX_BIAS for row in rows for ratio in row):
                raise ValueError(f"{name} should have numbers between 0.1 and 10")

    def interpolate(
        self, looks: float, correlation: tuple[float, float], *, sensor_given: bool = True
    ) -> float:
        """Return the bias, linear in ln(looks) and in the mean correlation.

        Outside the table, the nearest row and column hold.

        Parameters
        ----------
        looks : float
            Equivalent number of looks.
        correlation : tuple of float
            Lag-1 correlation along y and x.
        sensor_given : bool
            Whether the network has looks and correlation as input.
        """
        bias = self.bias if sensor_given else self.bias_without_sensor or self.bias
        mean_correlation = float(np.sqrt(max(correlation[0], 0) * max(correlation[1], 0)))
        by_looks = [np.interp(mean_correlation, self.correlation, row) for row in bias]
        return float(np.interp(np.log(max(looks, 1e-3)), np.log(self.looks), by_looks))


@dataclass(frozen=True)
class ModelCard:
    """Metadata of a model file.

    Attributes
    ----------
    variant : str
        One of `KNOWN_VARIANTS`.
    domain : {"log", "linear"}
        Domain in which the branches compute: log or linear intensity.
    halo : int
        Pixels needed on each side.
    architecture : dict of str to int
        Sizes, the parameters of :func:`sarstack.networks.variants.build_network`.
    channels : float
        Activations per pixel of the widest layer, for the estimate of memory.
    polarisations : tuple of str
        Polarisations of the training data; empty: any (the simulation has no polarisation).
    looks, correlation : tuple of float
        Lowest and highest number of looks and lag-1 correlation in training.
    calibration : BiasTable
        Bias without other dates as input.
    with_others : tuple of BiasTable
        Bias with other dates as input, by their number, increasing.
    spread_scale : BiasTable
        Factor on the uncertainty that the network tells.
    data, licence, command, sarstack_version, created : str
        Provenance. `created` is UTC, ISO 8601.
    scores : dict of str to float
        RMSE in dB by simulated scene, measured after training.
    """

    variant: str
    domain: Literal["log", "linear"]
    halo: Annotated[int, Field(ge=0, le=MAX_HALO_PX)]
    architecture: dict[str, _Size] = field(default_factory=dict, hash=False)
    channels: Annotated[float, Field(gt=0, le=1e5)] = 64.0
    polarisations: Annotated[tuple[_Text, ...], Field(max_length=16)] = ()
    looks: tuple[_Number, _Number] = (1.0, 20.0)
    correlation: tuple[_Number, _Number] = (0.0, 0.85)
    calibration: BiasTable = field(default_factory=BiasTable)
    with_others: Annotated[tuple[BiasTable, ...], Field(max_length=_MAX_TABLES)] = ()
    spread_scale: BiasTable = field(default_factory=BiasTable)
    data: _Text = ""
    licence: _Text = ""
    command: _Text = ""
    sarstack_version: _Text = ""
    created: _Text = ""
    scores: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, least in _MIN_SIZES.items():
            if self.architecture.get(name, least) < least:
                raise ValueError(f"architecture.{name} should be at least {least}")
        numbers = [table.n_others for table in self.with_others]
        if numbers != sorted(set(numbers)):
            raise ValueError("with_others should have one table for each number, increasing")

    @property
    def has_spread(self) -> bool:
        """Whether the network can tell how uncertain its result is."""
        return self.architecture.get("spread", 0) > 0 or self.variant in BLIND_VARIANTS

    def to_json(self) -> str:
        """Return the card as one line of JSON."""
        return json.dumps(_schema().dump_python(self, by_alias=True, warnings=False))

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """Read a card and check the type and range of each field; unknown keys are ignored.

        Unknown keys come from later versions of sarstack.

        Raises
        ------
        pydantic.ValidationError
            If the text is not a card. It is a ValueError and names each wrong field.
        """
        return _schema().validate_json(text, strict=True)

    def _repr_html_(self) -> str:
        """Return the card as a notebook shows it: where the network is valid, and its origin."""
        dates = [table.n_others for table in self.with_others]
        facts = {
            "computes on": f"{self.domain} intensity",
            "halo": f"{self.halo} px",
            "trained for": f"{_range(self.looks)} looks, correlation {_range(self.correlation)}",
            "polarisations": ", ".join(self.polarisations) or "any",
            "other dates": f"corrected for 0 to {dates[-1]} of them" if dates else "",
            "data": self.data,
            "licence": self.licence,
            "made": f"{self.created} by sarstack {self.sarstack_version}",
        }
        scores = {name: f"{rmse:.2f} dB" for name, rmse in self.scores.items()}
        sizes = {name: str(size) for name, size in self.architecture.items()}
        details = [
            Details("RMSE on simulated scenes", scores),
            Details("sizes of the network", sizes),
            Details("command", {}, [self.command] if self.command else []),
        ]
        return render_html(f"Model card: {self.variant}", facts, details)


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:g} to {limits[1]:g}"


def _check_axis(name: str, values: tuple[float, ...], low: float, high: float) -> None:
    if not 1 <= len(values) <= _MAX_AXIS or not all(low <= value <= high for value in values):
        raise ValueError(f"{name} should have 1 to {_MAX_AXIS} numbers from {low:g} to {high:g}")
    if any(after <= before for before, after in pairwise(values)):
        raise ValueError(f"{name} should be increasing")


@cache
def _schema() -> TypeAdapter[ModelCard]:
    """Return the schema of the JSON; building it takes some 50 ms, so on first use only."""
    return TypeAdapter(ModelCard)


def make_card(network: "DeSpeckNet", **fields: Any) -> ModelCard:
    """Make the card of a network; `fields` are those that do not follow from the network."""
    try:
        sarstack_version = version("sarstack")
    except PackageNotFoundError:
        sarstack_version = "unknown"
    return ModelCard(
        variant=network.variant,
        domain=network.domain,
        halo=network.halo,
        architecture=dict(network.architecture),
        channels=network.channels,
        sarstack_version=sarstack_version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **fields,
    )
