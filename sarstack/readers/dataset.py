"""The images in an xarray Dataset: variables ``vv vh hh hv`` over ``(time, y, x)``.

Formats that xarray opens (Zarr, netCDF) share this. xarray decodes names, times and coordinates;
the numbers stay packed, and are decoded window by window.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import TIME_NAMES, X_NAMES, Y_NAMES
from sarstack.errors import StackError
from sarstack.readers.attributes import read_packing, view_as
from sarstack.readers.dataset_grid import read_grid
from sarstack.readers.dataset_times import read_times
from sarstack.readers.grid import Grid
from sarstack.readers.image import Image, complex_numbers_error, describe_image
from sarstack.readers.names import (
    parse_name,
)
from sarstack.readers.paths import file_stem
from sarstack.readers.raster import Raster
from sarstack.readers.source_tags import SourceMetadata, make_tags
from sarstack.readers.times import NOT_A_TIME
from sarstack.tiles import Window

if TYPE_CHECKING:
    import xarray as xr

# Coordinates over time that describe each date; stackstac has the names of STAC.
_DATE_COORDS = {
    "platform": "platform",
    "relative_orbit": "relative_orbit",
    "orbit_direction": "orbit_direction",
    "sat:relative_orbit": "relative_orbit",
    "sat:orbit_state": "orbit_direction",
}


@dataclass(frozen=True)
class DatasetRaster(Raster):
    """One image in a variable of a Dataset.

    Attributes
    ----------
    place : tuple of int
        Index of the image along all dimensions of the variable but the last two.
    valid : tuple of 2 float or None
        Lowest and highest stored number that is valid, if the variable declares them.
    stored_as : str
        See :class:`sarstack.readers.attributes.Packing`.
    """

    place: tuple[int, ...] = ()
    valid: tuple[float, float] | None = None
    stored_as: str = ""

    def index_of(self, window: Window) -> tuple[Any, ...]:
        """Return the index of a window in the variable."""
        return (*self.place, *window.slices)

    def read_stored(
        self, windows: Iterable[Window], *, cache_blocks: bool
    ) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """Yield the stored numbers of each window, as the base class does."""
        for stored, is_masked in super().read_stored(windows, cache_blocks=cache_blocks):
            yield view_as(stored, self.stored_as), is_masked

    def read_metadata(self) -> SourceMetadata:
        """Return the attributes of the Dataset and the variable as tags."""
        try:
            return SourceMetadata(make_tags(*self.read_attributes()))
        except Exception:  # each library has its own errors; its pixels were read, so go on
            return SourceMetadata()

    def read_attributes(self) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
        """Return the attributes of the Dataset and of the variable; of an array, none."""
        return {}, {}

    @property
    def _holds_intensity(self) -> bool:
        return super()._holds_intensity and self.valid is None

    def _unpack(self, stored: NDArray[Any]) -> NDArray[Any]:
        numbers = super()._unpack(stored)
        if self.valid is not None:
            # At the precision of the file, as nodata is.
            low, high = (
                stored.dtype.type(n) if stored.dtype.kind == "f" else n for n in self.valid
            )
            numbers[(stored < low) | (stored > high)] = np.nan
        return numbers


class _Axes(NamedTuple):
    """The dimensions of a variable; None where it has none."""

    y: Hashable
    x: Hashable
    time: Hashable | None
    polarisation: Hashable | None


class _Layer(NamedTuple):
    """One polarisation of a variable: names that describe it, and its position along the axis."""

    polarisation: str
    names: list[str]
    position: int = 0


def list_dataset_images(
    path: str, dataset: "xr.Dataset", raster_class: type[DatasetRaster], bands: Sequence[str] | None
) -> list[Image]:
    """List the images of an open Dataset.

    Parameters
    ----------
    path : str
        Where the Dataset is stored.
    dataset : xarray.Dataset
        Opened with ``mask_and_scale=False``: packed values are unpacked by the raster.
    raster_class : type of DatasetRaster
        Reads the pixels.
    bands : sequence of str or None
        The first one names the polarisation of the only variable, if its name does not.

    Returns
    -------
    list of Image
        One for each date and polarisation.

    Raises
    ------
    StackError
        If no variable is of backscatter, or axes and coordinates are not those of an image.
    """
    default = parse_name(bands[0]).polarisation if bands else ""
    layers = {name: _find_layers(dataset[name]) for name in dataset.data_vars}
    chosen = {name: found for name, found in layers.items() if found}
    if not chosen and default and len(layers) == 1:
        chosen = {name: [_Layer(default, [str(name)])] for name in layers}
    if not chosen:
        raise StackError(
            f"{path} has no variable of backscatter",
            expected="variables named vv, vh, hh or hv, or a dimension with these labels",
            where=[f"its variables are {', '.join(map(str, layers)) or 'none'}"],
            do="rename them in xarray: ds.rename({'my_variable': 'vv'})",
        )
    polarisations = [layer.polarisation for found in chosen.values() for layer in found]
    if len(set(polarisations)) < len(polarisations):
        raise StackError(
            f"{path} has several variables of one polarisation",
            where=[str(name) for name in chosen],
            do="keep one variable for each polarisation; detect complex parts (i_ and q_) first",
        )
    first = dataset[next(iter(chosen))]
    axes = _find_axes(path, first)
    grid = read_grid(path, dataset, first, axes.y, axes.x)
    return [
        image
        for name, found in chosen.items()
        for layer in found
        for image in _list_dates(path, dataset, name, layer, raster_class, grid)
    ]


def _find_layers(variable: "xr.DataArray") -> list[_Layer]:
    """Return the polarisations of a variable: by the labels of an axis, or by its name."""
    if len(variable.dims) > 2 and {str(d).lower() for d in variable.dims[-2:]} <= {
        *Y_NAMES,
        *X_NAMES,
    }:
        for dim in variable.dims[:-2]:
            if labels := _polarisation_labels(variable, dim):
                return [
                    _Layer(polarisation, [label, str(variable.name)], position)
                    for position, (label, polarisation) in enumerate(labels.items())
                    if polarisation
                ]
    polarisation = parse_name(str(variable.name)).polarisation
    return [_Layer(polarisation, [str(variable.name)])] if polarisation else []


def _polarisation_labels(variable: "xr.DataArray", dim: Hashable) -> dict[str, str]:
    """Return the labels of an axis with their polarisations; empty if none has one."""
    if dim not in variable.coords or variable[dim].dtype.kind not in "UOST":
        return {}
    words = [v.decode() if isinstance(v, bytes) else str(v) for v in variable[dim].values]
    labels = {word: parse_name(word).polarisation for word in words}
    return labels if any(labels.values()) and len(labels) == len(words) else {}


def _list_dates(
    path: str,
    dataset: "xr.Dataset",
    name: Hashable,
    layer: _Layer,
    raster_class: type[DatasetRaster],
    grid: Grid,
) -> list[Image]:
    variable = dataset[name]
    if variable.dtype.kind == "c":
        raise complex_numbers_error(f"{path}:{name}")
    axes = _find_axes(path, variable)
    tags = {**dataset.attrs, **variable.attrs, "POLARISATION": layer.polarisation}
    stem = file_stem(path)
    packing = read_packing({**dataset.attrs, **variable.attrs}, variable.dtype)
    whole = raster_class(
        path,
        f"{stem}_{layer.polarisation}",
        variable=str(name),
        shape=grid.shape,
        **asdict(packing),
    )
    images = []
    for index, moment in enumerate(_read_times(path, variable, axes.time)):
        places = {axes.time: index, axes.polarisation: layer.position}
        place = tuple(places.get(dim, 0) for dim in variable.dims[:-2])
        raster = replace(whole, place=place)
        date_tags = {**tags, **_read_date_coords(dataset, axes.time, index)}
        stamp = "" if np.isnat(moment) else str(moment.astype("datetime64[s]"))
        if stamp:
            date_tags["ACQUISITION_DATETIME"] = stamp
        if axes.time is not None:
            label = stamp.replace("-", "").replace(":", "") or str(index + 1)
            raster = replace(raster, index=index, stem=f"{stem}_{label}_{layer.polarisation}")
        image = describe_image(raster, grid, layer.names, date_tags)
        images.append(replace(image, order=index, series=path))
    return images


def _read_date_coords(dataset: "xr.Dataset", time: Hashable | None, index: int) -> dict[str, str]:
    """Return platform and orbit of a date, as far as the dataset has them."""
    found = {}
    for key, tag in _DATE_COORDS.items():
        if key in dataset.coords and set(dataset[key].dims) <= {time}:
            values = dataset[key].values
            found[tag] = str(values[index] if values.ndim else values)
    return found


def _read_times(path: str, variable: "xr.DataArray", time: Hashable | None) -> list[np.datetime64]:
    """Return the time of each image of a variable, NaT if unknown."""
    if time is None:
        scalars = [variable.coords[n] for n in TIME_NAMES if n in variable.coords]
        one = next((s for s in scalars if s.ndim == 0), None)
        return [NOT_A_TIME] if one is None else read_times(path, one)
    if time in variable.coords:
        return read_times(path, variable.coords[time])
    return [NOT_A_TIME] * variable.sizes[time]


def _find_axes(path: str, variable: "xr.DataArray") -> _Axes:
    """Return the dimensions of a variable: rows and columns last, before them any other order."""
    names = [str(d).lower() for d in variable.dims]
    others = variable.dims[:-2]
    time = next((d for d in others if str(d).lower() in TIME_NAMES), None)
    polarisation = next((d for d in others if _polarisation_labels(variable, d)), None)
    unknown = [d for d in others if d not in (time, polarisation) and variable.sizes[d] != 1]
    if len(names) < 2 or names[-2] not in Y_NAMES or names[-1] not in X_NAMES or unknown:
        raise StackError(
            f"{path}:{variable.name} has dimensions ({', '.join(map(str, variable.dims))})",
            expected="(time, y, x) or (y, x), or (time, band, y, x) with bands named VV and VH",
            do="rename or reorder them in xarray: ds.transpose('time', 'y', 'x')",
        )
    return _Axes(variable.dims[-2], variable.dims[-1], time, polarisation)
