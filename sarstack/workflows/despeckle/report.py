"""The report of a run: what was done, a table of all images, a part of an image at full size."""

import logging
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sarstack.errors import SarstackError
from sarstack.evaluation.report import (
    Cell,
    Report,
    ReportImage,
    ReportTable,
    Row,
    describe_stretch,
    make_crop,
    write_report,
)
from sarstack.output.quicklook import centre_window
from sarstack.readers.formats.gdal import open_gdal
from sarstack.readers.paths import file_name, public_path
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.results import RUN_REPORT, Record, read_records
from sarstack.workflows.despeckle.state import Run
from sarstack.workflows.progress import count_images, now_utc

LOGGER = logging.getLogger("sarstack")
CROP_PX = 400
_MAX_ROWS = 1000
_HEADINGS = ("date", "looks in", "correlation y, x", "looks out", "bias dB", "valid %", "seconds")
_LEGEND = (
    "looks in, looks out: equivalent number of looks; those of the result only where areas "
    "without texture are large enough",
    "correlation: of the speckle of neighbouring pixels",
    "bias dB: mean of the result / mean of the input",
    "seconds: of all tiles of the image, which were computed at the same time",
)


def write_run_report(run: Run, done: Sequence[Image], started: str) -> None:
    """Write the report of a run beside its results.

    Parameters
    ----------
    run : Run
    done : sequence of Image
        The finished images, also those of earlier runs.
    started : str
        Time of the start, ISO 8601.
    """
    plan = run.plan
    results = [image for image in done if not image.is_noise]
    records = read_records(plan.output) | run.records
    method = ", ".join(f"{k} {v[:32]}" for k, v in plan.despeckler.provenance().items())
    facts = [
        ("stack", public_path(plan.stack.path)),
        ("method", f"{plan.despeckler.name} ({method})" if method else plan.despeckler.name),
        ("results", f"{count_images(len(results))} in {plan.destination}"),
        ("size", plan.describe_size()),
        ("run", f"{started} to {now_utc()}; {plan.describe_finished()}"),
    ]
    failures = [f"{file_name(public_path(image.raster.path))}: {run.failures[image.output]}"
                for image in plan.images if image.output in run.failures]  # fmt: skip
    failures += [f"{public_path(path)}: {reason}" for path, reason in plan.stack.skipped]
    pictures = [show_image(run, image) for image in _choose_images(results)]
    report = Report(
        f"{plan.despeckler.name}: {file_name(public_path(plan.stack.path))}", facts,
        [_make_table(run, results, records)], [p for p in pictures if p is not None], failures,
    )  # fmt: skip
    write_report(report, plan.output / RUN_REPORT)


def _make_table(run: Run, results: Sequence[Image], records: dict[str, Record]) -> ReportTable:
    rows = [Row(image.raster.stem, [Cell(text) for text in _describe(run, image, records)])
            for image in results[:_MAX_ROWS]]  # fmt: skip
    title = "Images" if len(results) <= _MAX_ROWS else f"First {_MAX_ROWS} images"
    return ReportTable(title, "input", _HEADINGS, rows, _LEGEND)


def _describe(run: Run, image: Image, records: dict[str, Record]) -> list[str]:
    record = records.get(image.output.name, {})
    statistics = run.statistics.get(image.polarisation, {}).get(image.layer)
    looks = correlation = "-"
    if statistics is not None:
        looks = f"{statistics.looks:.1f} ({statistics.looks_source})"
        correlation = ", ".join(f"{rho:.2f}" for rho in statistics.correlation)
    ratio, n_px = record.get("mean_ratio"), image.grid.shape.y * image.grid.shape.x
    return [
        run.plan.stack.dates[image.layer].timestamp or "-",
        looks,
        correlation,
        f"{record['enl_after']:.0f}" if record.get("enl_after") else "-",
        f"{10 * math.log10(ratio):.3f}" if ratio and ratio > 0 else "-",
        f"{100 * record['valid_px'] / n_px:.1f}" if "valid_px" in record else "-",
        f"{record['seconds']:.1f}" if "seconds" in record else "-",
    ]


def _choose_images(results: Sequence[Image]) -> list[Image]:
    """Return the middle image of each polarisation."""
    by_polarisation: dict[str, list[Image]] = {}
    for image in results:
        by_polarisation.setdefault(image.polarisation, []).append(image)
    return [images[len(images) // 2] for images in by_polarisation.values()]


def show_image(run: Run, image: Image) -> ReportImage | None:
    """Draw the centre of an image, input and result; None if one of them cannot be read."""
    window = centre_window(image.grid.shape, CROP_PX)
    try:
        before = image.raster.read(window, cache_blocks=False)
        after = _read_result(run.plan.readable(image), window.slices)
    except SarstackError as failure:
        LOGGER.warning("the report has no picture: %s", failure.summary())
        return None
    title = f"rows {window.y0} to {window.y1}, columns {window.x0} to {window.x1}"
    crop = make_crop(title, before, {run.plan.despeckler.name: after}, image.polarisation)
    return ReportImage(f"{image.polarisation.upper()} {image.raster.stem}", [crop],
                       describe_stretch(before, image.polarisation))  # fmt: skip


def _read_result(path: str, place: tuple[slice, slice]) -> NDArray[np.float32]:
    from rasterio.windows import Window

    with open_gdal(path) as file:
        pixels = file.read(1, window=Window.from_slices(*place))
    return np.asarray(pixels, np.float32)
