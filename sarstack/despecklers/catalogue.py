"""What is known of each method: description, paper, domain, halo, licence of its weights, speed."""

import time
from dataclasses import dataclass
from inspect import cleandoc, signature
from textwrap import fill
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.despecklers.despeckler import Despeckler
from sarstack.despecklers.registry import despeckler_classes
from sarstack.speckle.statistics import SceneStatistics

# The side of the image by which the speed is measured, and the looks of its speckle.
SIDE_PX, _LOOKS = 512, 4.4
_INDENT: dict[str, Any] = {"initial_indent": 19 * " ", "subsequent_indent": 19 * " "}


@dataclass(frozen=True)
class Entry:
    """A method as a user sees it in a list.

    Attributes
    ----------
    name, summary : str
        First line of the description.
    paper : str
        Where the method was published; empty if nowhere.
    domain : str
        What the method computes on: ``intensity`` or ``log intensity``.
    halo : int or None
        Pixels on each side that a result depends on, with the default parameters; None if a
        parameter has no default.
    licence : str
        Of the weights; empty for a method without weights.
    origin : str
        Package of a method from outside this package.
    has_uncertainty : bool
        The method tells how uncertain its result is.
    pixels_per_s : float or None
        Speed of one call on this machine; None if it was not measured.
    """

    name: str
    summary: str
    paper: str
    domain: str
    halo: int | None
    licence: str
    origin: str
    has_uncertainty: bool = False
    pixels_per_s: float | None = None

    def render(self) -> str:
        """Return a few lines of text: the name at their left."""
        origin = f" [{self.origin}]" if self.origin else ""
        facts = [f"on {self.domain}"]
        if self.halo is not None:
            facts.append(f"halo {self.halo} px")
        if self.has_uncertainty:
            facts.append("tells its uncertainty")
        if self.licence:
            facts.append(f"weights {self.licence}")
        if self.pixels_per_s is not None:
            facts.append(f"{self.pixels_per_s / 1e6:.3g} Mpx/s here")
        first = f"{self.name:<18} {self.summary}{origin}"
        rest = (fill(text, 100, **_INDENT) for text in (", ".join(facts), self.paper) if text)
        return "\n".join([first, *rest])


def list_methods(*, measure: bool = False) -> list[Entry]:
    """Describe all methods that are installed.

    Parameters
    ----------
    measure : bool
        Measure the speed of each method on this machine: some ten seconds in all.
    """
    return [make_entry(cls, measure=measure) for cls in despeckler_classes().values()]


def make_entry(cls: type[Despeckler], *, measure: bool = False) -> Entry:
    """Describe one method; see :func:`list_methods`."""
    has_defaults = all(p.default is not p.empty for p in signature(cls).parameters.values())
    method = cls() if has_defaults else None
    card = getattr(method, "card", None)
    origin = cls.source.label if cls.source else ""
    speed = measure_speed(method) if measure and method else None
    return Entry(
        cls.name, first_line(cls), find_paper(cls), (method or cls).domain,
        method.halo if method else None, card.licence if card else "", origin,
        (method or cls).has_uncertainty, speed,
    )  # fmt: skip


def measure_speed(method: Despeckler, side_px: int = SIDE_PX) -> float:
    """Return the pixels per second of a method on one date, a square image in memory.

    Time to load a model or to compile is not counted.
    """
    rng = np.random.default_rng(0)
    image: NDArray[Any] = rng.gamma(_LOOKS, 1 / _LOOKS, (side_px, side_px)).astype(np.float32)
    if method.needs_complex:
        image = np.sqrt(image) * np.exp(2j * np.pi * rng.random(image.shape)).astype(np.complex64)
    statistics = [SceneStatistics(looks=_LOOKS, bright=3.0)]
    method.apply(image[np.newaxis], statistics)
    start = time.perf_counter()
    method.apply(image[np.newaxis], statistics)
    return image.size / (time.perf_counter() - start)


def first_line(cls: type[Despeckler]) -> str:
    """Return the first line of the description of a method; empty without a docstring."""
    return next(iter((cls.__doc__ or "").strip().splitlines()), "")


def find_paper(cls: type[Despeckler]) -> str:
    """Return the first reference in the description of a method; empty without one.

    A class without references has those of its base class.
    """
    for base in cls.__mro__:
        _, found, rest = cleandoc(base.__doc__ or "").partition("References\n----------\n")
        if found and issubclass(base, Despeckler):
            return " ".join(rest.split("\n\n")[0].split())
    return ""


def describe_class(cls: type[Despeckler]) -> str:
    """Return name, origin, parameters and the whole description of a method."""
    parameters = ", ".join(str(p) for p in signature(cls).parameters.values()) or "none"
    lines = [f"{cls.name}: {first_line(cls)}", "", f"parameters (--set NAME=VALUE): {parameters}"]
    if cls.source:
        lines.append(f"source: {cls.source.label}, sha256 {cls.source.sha256}")
    if cls.n_summary:
        lines.append("multi-temporal: uses all dates of the stack")
    rest = (cleandoc(cls.__doc__ or "").splitlines() or [""])[1:]
    return "\n".join([*lines, *rest])
