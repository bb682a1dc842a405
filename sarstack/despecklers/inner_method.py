"""Base class of the multi-temporal methods that call a method of one date."""

from inspect import signature
from typing import Any

from sarstack.despecklers.despeckler import Despeckler
from sarstack.errors import UsageError


class MethodWithInner(Despeckler):
    """A method that calls another method, the inner method, on images of one date.

    Parameters
    ----------
    inner : Despeckler
        A method of one date.
    """

    def __init__(self, inner: Despeckler) -> None:
        self.inner = inner
        # Cells and blocks must suit the inner method. These are class attributes elsewhere.
        vars(self).update(
            alignment=inner.alignment,
            cell_px=inner.cell_px,
            nodata_acts_as_edge=inner.nodata_acts_as_edge,
        )

    @property
    def call_px(self) -> int:
        """Width of the cells of the inner method in this process."""
        return self.inner.call_px

    @property
    def runtime_bytes(self) -> int:
        """Memory of the libraries of the inner method."""
        return self.inner.runtime_bytes

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU does the arithmetic of the inner method."""
        return self.inner.on_gpu

    def warm_up(self) -> None:
        """Load the model of the inner method into this process."""
        self.inner.warm_up()

    def files(self) -> list[str]:
        """Return the files of the inner method."""
        return self.inner.files()

    def memory_bytes(self, n_px: int) -> int:
        """Estimate the memory that one call needs for an input of `n_px` pixels."""
        return self.inner.memory_bytes(n_px) + 8 * 8 * n_px

    def settings(self) -> dict[str, str]:
        """Return the settings of this method, and those of the inner method after its name."""
        of_inner = {
            f"{self.inner.name}_{name}": value for name, value in self.inner.provenance().items()
        }
        own = {name: str(value) for name, value in vars(self).items() if name not in _NOT_SETTINGS}
        return dict(sorted((own | of_inner).items()))


_NOT_SETTINGS = ("inner", "alignment", "cell_px", "nodata_acts_as_edge")


def make_inner(**names: Any) -> Despeckler:
    """Build the inner method that a parameter names; further parameters are for its constructor.

    Parameters
    ----------
    **names
        The first is the parameter that names the method; the others are given to the method if it
        has parameters of this name.

    Returns
    -------
    Despeckler

    Raises
    ------
    UsageError
        If there is no such method, or it is multi-temporal, or needs complex numbers.
    """
    from sarstack.despecklers.registry import find_class, make_despeckler

    (parameter, name), *others = names.items()
    if not isinstance(name, str):
        raise UsageError(
            f"{parameter} = {name!r}",
            expected="the name of a method of one date",
            do="`sarstack methods` lists the names",
        )
    accepted = () if name.endswith(".safetensors") else signature(find_class(name)).parameters
    inner = make_despeckler(name, **{key: value for key, value in others if key in accepted})
    if inner.n_summary or inner.needs_complex:
        kind = "is a multi-temporal method" if inner.n_summary else "needs complex numbers"
        raise UsageError(
            f"{parameter} = {name!r} {kind}",
            expected="a method of one date, for intensity",
            do=f"choose another one, for example {parameter}=lee-sigma",
        )
    return inner
