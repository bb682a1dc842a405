"""The uncertainty of a result as a second variable of the user's Dataset."""

import xarray as xr

from sarstack.conventions import POLARISATIONS, UNCERTAINTY
from sarstack.cube.contract import Restore
from sarstack.despecklers import Despeckler
from sarstack.errors import UsageError


def check_uncertainty(obj: xr.Dataset | xr.DataArray, despeckler: Despeckler) -> None:
    """Raise unless the uncertainty of a result can be returned."""
    despeckler.check_uncertainty()
    if isinstance(obj, xr.DataArray):
        raise UsageError(
            "return_uncertainty = True: a DataArray has no place for a second variable",
            expected="a Dataset",
            do="array.to_dataset(name='vv').despeck.apply(return_uncertainty=True)",
        )


def restore_uncertainty(result: xr.Dataset, restore: Restore) -> xr.Dataset:
    """Convert a result with variables of uncertainty to the form of the user's Dataset."""
    names = [name for name in result.data_vars if name in POLARISATIONS]
    spread = {name: result[f"{name}{UNCERTAINTY}"] for name in names}
    images, spreads = restore(result), restore(result.assign(spread))
    restored: xr.Dataset = images.copy()
    for name in images.data_vars:
        if str(name).lower() in names:
            restored[f"{name}{UNCERTAINTY}"] = spreads[name]
            restored[name].attrs["ancillary_variables"] = f"{name}{UNCERTAINTY}"
    return restored
