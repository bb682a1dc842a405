"""Further images of a result as variables of a Dataset: uncertainty and support."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from sarstack.conventions import POLARISATIONS, Extra
from sarstack.despecklers.extras import check_extras
from sarstack.errors import UsageError

if TYPE_CHECKING:
    from sarstack.cube.contract import Restore
    from sarstack.despecklers import Despeckler


def check_place(
    obj: xr.Dataset | xr.DataArray, despeckler: "Despeckler", extras: Sequence[Extra]
) -> None:
    """Raise unless these images can be made and returned.

    Raises
    ------
    UsageError
    """
    check_extras(despeckler, extras)
    if extras and isinstance(obj, xr.DataArray):
        name = f"return_{extras[0].content}"
        raise UsageError(
            f"{name} = True: a DataArray has no place for a second variable",
            expected="a Dataset",
            do=f"array.to_dataset(name='vv').despeck.apply({name}=True)",
        )


def restore_extras(result: xr.Dataset, restore: "Restore", extras: Sequence[Extra]) -> Any:
    """Convert a result with variables of further images to the form of the user's object."""
    images = restore(result)
    if not extras or isinstance(images, xr.DataArray):
        return images
    names = [name for name in result.data_vars if name in POLARISATIONS]
    restored = images.copy()
    for extra in extras:
        own = {name: result[f"{name}{extra.ending}"] for name in names}
        others = restore(result.assign(own))
        for name in images.data_vars:
            if str(name).lower() in names:
                restored[f"{name}{extra.ending}"] = others[name]
    for name in images.data_vars:
        if str(name).lower() in names:
            ancillary = " ".join(f"{name}{extra.ending}" for extra in extras)
            restored[name].attrs["ancillary_variables"] = ancillary
    return restored
