"""netCDF files, classic and netCDF-4: variables ``vv vh hh hv`` over ``(time, y, x)``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.readers.dataset import DatasetRaster, list_dataset_images
from sarstack.readers.image import Image
from sarstack.tiles import Window

TITLE = "netCDF file"
SUFFIXES = (".nc", ".nc4")


def matches(path: str) -> bool:
    """Return whether a path has the name of a netCDF file."""
    return path.lower().endswith(SUFFIXES) and not Path(path).is_dir()


def list_images(path: str, bands: Sequence[str] | None) -> list[Image]:
    """List the images of a file, see :class:`sarstack.readers.registry.Format`."""
    import xarray as xr

    engine: Any = "scipy" if _is_classic(path) else "h5netcdf"
    if engine == "h5netcdf":
        _check_hdf5(path)
    dataset = xr.open_dataset(path, engine=engine, mask_and_scale=False, decode_coords="all")
    with dataset:
        return list_dataset_images(path, dataset, NetcdfRaster, bands)


@dataclass(frozen=True)
class NetcdfRaster(DatasetRaster):
    """One date of a variable of a netCDF file."""

    def decode(self, windows: Sequence[Window], *, cache_blocks: bool) -> Iterator[NDArray[Any]]:
        """Read windows as stored. Chunks are not cached."""
        if _is_classic(self.path):
            from scipy.io import netcdf_file

            with netcdf_file(self.path, mmap=True) as classic:
                for window in windows:
                    yield np.array(classic.variables[self.variable][self.index_of(window)])
            return
        import h5netcdf

        _check_hdf5(self.path)
        with h5netcdf.File(self.path, "r") as file:
            for window in windows:
                yield np.asarray(file[self.variable][self.index_of(window)])

    def read_attributes(self) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
        """Return the attributes of the file and of the variable."""
        if _is_classic(self.path):
            from scipy.io import netcdf_file

            with netcdf_file(self.path, mmap=False) as classic:
                return dict(classic._attributes), dict(classic.variables[self.variable]._attributes)
        import h5netcdf

        with h5netcdf.File(self.path, "r") as file:
            return dict(file.attrs), dict(file[self.variable].attrs)


def _check_hdf5(path: str) -> None:
    """Raise an error if a file is not HDF5, or the attributes of its root are damaged.

    If h5netcdf finds that itself, it prints a traceback when Python deletes its object.
    """
    import h5py

    with h5py.File(path, "r") as file:
        dict(file.attrs)


def _is_classic(path: str) -> bool:
    """Return whether a file is netCDF 3, which HDF5 cannot open."""
    with Path(path).open("rb") as file:
        return file.read(3) == b"CDF"
