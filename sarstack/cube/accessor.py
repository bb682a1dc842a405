"""The xarray accessor ``ds.despeck``: the methods of the command line for xarray objects.

It takes a Dataset of polarisations or one DataArray, in memory or backed by Dask, with or without
``time`` and CRS. Results are lazy if the input is lazy.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from sarstack.conventions import Extra
    from sarstack.cube.pictures import Preview
    from sarstack.despecklers import Despeckler
    from sarstack.output.picture import Picture
    from sarstack.workflows.learning.job import AdaptedModel

IN_MEMORY_CHUNK_PX = 1024


@xr.register_dataset_accessor("despeck")
@xr.register_dataarray_accessor("despeck")
class DespeckAccessor:
    """Despeckle an xarray object of Sentinel-1 intensities.

    Notes
    -----
    The accessor keeps a reference to the object, never changes it, and caches nothing.
    """

    def __init__(self, obj: xr.Dataset | xr.DataArray) -> None:
        self._obj = obj

    def apply(
        self,
        method: "str | Despeckler | None" = None,
        looks: float | None = None,
        *,
        return_noise: bool = False,
        return_uncertainty: bool = False,
        return_support: bool = False,
        **parameters: Any,
    ) -> Any:
        """Despeckle all dates and polarisations.

        Parameters
        ----------
        method : str or Despeckler, optional
            Name of a method (``sarstack methods``), path of a .safetensors model, a class in a
            file (``my_file.py:MyFilter``), or an object of a class of yours. Default:
            ``despecknet-mt`` for five dates or more, else ``despecknet``.
        looks : float, optional
            Equivalent number of looks. Default: measured from the scene.
        return_noise : bool
            Return the estimated speckle too, the second output of deSpeckNet: noisy divided by
            speckle-free intensity.
        return_uncertainty : bool
            Add the standard deviation of the result in dB: ``vv_uncertainty_db`` beside ``vv``,
            and so on. Only of a Dataset.
        return_support : bool
            Add the number of other dates that agree with a date at each pixel: ``vv_support``.
            Only of a Dataset, by methods of two passes (``passes=2``).
        **parameters
            Parameters of the method, for instance ``window_px=9``.

        Returns
        -------
        Dataset or DataArray
            Same dims, coordinates and attributes as the input; float32 linear intensity, NaN
            where the input is nodata. Lazy if the input is lazy. Georeferenced for rioxarray:
            ``result.rio.to_raster("x.tif")`` works for a date. With `return_noise`, two of
            them: the despeckled images and the speckle.

        Raises
        ------
        UsageError
            If the method or a parameter is unknown, the method does not estimate the speckle or
            the uncertainty, or it needs complex numbers and these are none.
        ScaleError
            If the values look like dB or amplitude, but the attributes do not declare it.
            Declared dB or amplitude is converted; the result is linear intensity.
        """
        from sarstack.checks import check_looks
        from sarstack.conventions import (
            POLARISATIONS,
            SPECKLE_ATTRIBUTES,
        )
        from sarstack.cube.complex_numbers import choose_conversion
        from sarstack.cube.computing import compute_with_progress
        from sarstack.cube.contract import as_cube
        from sarstack.cube.despeckle import despeckle_array
        from sarstack.cube.extras import check_place, restore_extras
        from sarstack.cube.georeference import check_crs, georeference
        from sarstack.despecklers import as_despeckler, default_method
        from sarstack.despecklers.extras import choose_extras

        check_looks(looks=looks)
        check_crs(self._obj)
        chosen = None if method is None else as_despeckler(method, **parameters)
        cube, restore = as_cube(self._obj, choose_conversion(chosen))
        despeckler = chosen or as_despeckler(default_method(cube.sizes["time"]), **parameters)
        wanted = choose_extras(uncertainty=return_uncertainty, support=return_support)
        check_place(self._obj, despeckler, wanted)
        lazy = _is_lazy(cube)
        chunked = _chunk(cube)

        def compute(method: "Despeckler", extras: "tuple[Extra, ...]" = ()) -> Any:
            result = cube.copy()
            for name in cube.data_vars:
                data = despeckle_array(chunked[name].data, method, looks, extras=extras)
                own = SPECKLE_ATTRIBUTES if method.returns_speckle else cube[name].attrs
                filtered = {"speckle_filter": method.name}
                for k, extra in enumerate(extras, 1):
                    attributes = extra.attributes | filtered
                    result[f"{name}{extra.ending}"] = (cube[name].dims, data[k], attributes)
                data = data[0] if extras else data
                result[name] = (cube[name].dims, data, own | filtered)
            result = result if lazy else compute_with_progress(result)
            further = [p + extra.ending for p in POLARISATIONS for extra in extras]
            return georeference(restore_extras(result, restore, extras), [*POLARISATIONS, *further])

        if return_noise:
            noise = despeckler.estimate_noise()  # an error here comes before any work
            return compute(despeckler, wanted), compute(noise)
        return compute(despeckler, wanted)

    def compute(self) -> Any:
        """Compute this object, for example a lazy result, and show a bar meanwhile.

        Returns
        -------
        Dataset or DataArray
            As ``.compute()`` of xarray, which shows nothing. Without a terminal or a notebook this
            shows nothing, too.
        """
        from sarstack.cube.computing import compute_with_progress

        return compute_with_progress(self._obj)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the images, and what can be done with them."""
        from sarstack.cube.description import accessor_html

        return accessor_html(self._obj)

    def __repr__(self) -> str:
        from sarstack.cube.description import accessor_text

        return accessor_text(self._obj)

    def preview(
        self,
        methods: "Sequence[str | Despeckler] | str | Despeckler | None" = None,
        window: "tuple[int, int, int, int] | str | None" = None,
        *,
        date: int | str | None = None,
        polarisation: str | None = None,
        looks: float | None = None,
    ) -> "Preview":
        """Despeckle a small window of one date by several methods, and draw all with one stretch.

        Parameters
        ----------
        methods : sequence of str or Despeckler, optional
            As `method` of :meth:`apply`. Default: boxcar, lee-sigma, despecknet-lite, despecknet.
        window : (y0, y1, x0, x1) or "textured", optional
            Pixels from the upper left corner, rows first. Default: the central 512 px.
            ``textured``: around the part with most texture, of some parts that are looked at.
        date : int or str, optional
            Index of a date, or a time from the first to the last date (the nearest is taken).
            Default: the middle one.
        polarisation : str, optional
            Default: the first one.
        looks : float, optional
            Equivalent number of looks. Default: measured from the scene.

        Returns
        -------
        Preview
            A notebook shows it; ``.images`` has the intensities, ``.figure`` is of matplotlib,
            ``.save("x.png")`` writes it. The pixels are those of :meth:`apply`.

        Raises
        ------
        UsageError
            If a method, the window, the date or the polarisation does not exist.
        """
        from sarstack.cube.contract import as_cube
        from sarstack.cube.pictures import PREVIEW_METHODS, preview_cube

        chosen = PREVIEW_METHODS if methods is None else methods
        cube = _chunk(as_cube(self._obj)[0])
        return preview_cube(cube, chosen, window, date, polarisation, looks)

    def plot(
        self,
        result: "xr.Dataset | xr.DataArray",
        window: "tuple[int, int, int, int] | str | None" = None,
        *,
        date: int | str | None = None,
        polarisation: str | None = None,
        looks: float | None = None,
    ) -> "Picture":
        """Draw a window before and after, with one stretch, the ratio, and its distribution.

        Parameters
        ----------
        result : Dataset or DataArray
            Despeckled images of the same dates, polarisations and pixels. Lazy ones are computed
            in the window only.
        window, date, polarisation
            As of :meth:`preview`.
        looks : float, optional
            Looks of the gamma density that is drawn for speckle. Default: measured.

        Returns
        -------
        Picture
            A notebook shows it; ``.figure`` is of matplotlib, ``.save("x.png")`` writes it.

        Raises
        ------
        UsageError
            If sizes or polarisations differ, or the window or the date does not exist.
        """
        from sarstack.cube.contract import as_cube
        from sarstack.cube.pictures import plot_result

        cube = _chunk(as_cube(self._obj)[0])
        return plot_result(cube, result, window, date, polarisation, looks)

    def evaluate(
        self,
        despeckled: "xr.Dataset | xr.DataArray",
        reference: "xr.Dataset | xr.DataArray | None" = None,
        looks: float | None = None,
    ) -> xr.Dataset:
        """Score a despeckled result of these images, by any program.

        Parameters
        ----------
        despeckled : Dataset or DataArray
            Result for the same dates, polarisations and pixels. Linear intensity, or with an
            attribute ``scale`` (``linear``, ``amplitude``, ``dB``), as all cubes.
        reference : Dataset or DataArray, optional
            Images without speckle: one a date, or one for all dates.
        looks : float, optional
            Equivalent number of looks of these images. Default: measured.

        Returns
        -------
        Dataset
            One variable a score, dims ``(polarisation, time)``; its attribute ``long_name`` says
            what it means. NaN where a score cannot be computed, for example without a reference.
            Computed immediately.

        Raises
        ------
        UsageError
            If sizes or polarisations differ.
        ScaleError
            If the numbers do not fit the scale that attributes declare, or none is declared and
            they are not clearly intensity.
        """
        from sarstack.checks import check_looks
        from sarstack.cube.scores import score_cubes

        check_looks(looks=looks)
        return score_cubes(self._obj, despeckled, reference, looks)

    def labels(
        self,
        rule: str = "cv",
        *,
        threshold: float = 0.1,
        quantile: float = 0.99,
        multilook_px: int = 1,
        looks: float | None = None,
    ) -> xr.Dataset:
        """Compute temporal mean, standard deviation, count, variation and stable mask.

        Parameters
        ----------
        rule, threshold, quantile : see `sarstack.labels.statistics.mark_stable`
            Rule of the stable mask.
        multilook_px : int
            Odd width of a spatial mean that is taken of each date first.
        looks : float, optional
            Equivalent number of looks. Default: measured.

        Returns
        -------
        Dataset
            Variables ``mean std count cv stable``, dims ``(polarisation, y, x)``.
            Lazy if the input is lazy. Georeferenced for rioxarray.

        Raises
        ------
        UsageError
            If there are fewer than two dates, or a parameter is impossible.
        """
        from sarstack.cube.contract import as_cube
        from sarstack.cube.georeference import check_crs
        from sarstack.cube.labels import check_label_rule, label_cube

        options: dict[str, Any] = {
            "looks": looks, "rule": rule, "threshold": threshold, "quantile": quantile
        }  # fmt: skip
        check_label_rule(multilook_px=multilook_px, **options)
        check_crs(self._obj)
        cube, _ = as_cube(self._obj)
        labels = label_cube(_chunk(cube), multilook_px, **options)
        return labels if _is_lazy(cube) else labels.compute()

    def finetune(
        self, output: str = "finetuned.safetensors", *, model: str = "shipped", **settings: Any
    ) -> "AdaptedModel":
        """Finetune a network on these images, without labels.

        Parameters
        ----------
        output : str
            Model file to write, to be used as the method of :meth:`apply`.
        model : str
            Model to start from: ``shipped``, or a .safetensors file.
        **settings
            ``mode`` (``auto``, ``noise2noise``, ``paper``), ``steps``, ``batch_size``,
            ``patch_px``, ``learning_rate``, ``seed``, ``precision``, ``looks``. Mode ``parts``
            (for ``merlin``) needs files.

        Returns
        -------
        AdaptedModel
            ``.model`` is the file. If ``.improved`` is False, nothing became better, and the
            file holds the weights of the start.
        """
        from sarstack.cube.contract import as_cube
        from sarstack.readers.cube import index_cube
        from sarstack.workflows.learning.finetune import finetune_index
        from sarstack.workflows.places import local_output
        from sarstack.workflows.settings import FinetuneConfig

        config = FinetuneConfig.make(stack="cube", model=model, output=output, **settings)
        path = local_output(output)
        cube, _ = as_cube(self._obj)
        return finetune_index(config, index_cube(cube), path)

    def looks(self) -> xr.Dataset:
        """Measure the looks and the lag-1 correlation of the speckle, for each polarisation.

        Returns
        -------
        Dataset
            Variables ``looks``, ``correlation_y``, ``correlation_x`` and ``source``, dim
            ``polarisation``. ``source`` is "compared" (from differences between dates),
            "estimated" (from single dates) or "nominal" (the scene is too small). Computed
            immediately, on sample windows only.
        """
        import dask

        from sarstack.cube.contract import as_cube
        from sarstack.readers.sampling import sample_dates
        from sarstack.speckle.statistics import choose_dates, combine_samples

        cube, _ = as_cube(self._obj)
        dates = choose_dates(cube.sizes["time"])
        chunked = _chunk(cube)
        statistics = []
        for name in chunked.data_vars:
            samples = dask.compute(*sample_dates(chunked[name].data, dates))
            statistics.append(combine_samples(samples)[0])
        return xr.Dataset(
            {
                "looks": ("polarisation", [s.looks for s in statistics]),
                "correlation_y": ("polarisation", [s.correlation[0] for s in statistics]),
                "correlation_x": ("polarisation", [s.correlation[1] for s in statistics]),
                "source": ("polarisation", [s.looks_source for s in statistics]),
            },
            {"polarisation": [str(name) for name in cube.data_vars]},
        )


def _is_lazy(cube: xr.Dataset) -> bool:
    return any(variable.chunks is not None for variable in cube.data_vars.values())


def _chunk(cube: xr.Dataset) -> xr.Dataset:
    """Return a cube with all variables in chunks; those of a lazy variable are used for others."""
    lazy = [array for array in cube.data_vars.values() if array.chunks is not None]
    if not lazy:
        return cube.chunk(y=IN_MEMORY_CHUNK_PX, x=IN_MEMORY_CHUNK_PX)
    in_memory = {
        n: a.chunk(lazy[0].chunksizes) for n, a in cube.data_vars.items() if a.chunks is None
    }
    return cube.assign(in_memory)
