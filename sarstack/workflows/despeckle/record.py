"""Write what completes a run: dB views, quicklook, STAC items and the record run.json.

A killed run can lose any of these, so the next run makes what is missing.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from sarstack import __version__
from sarstack.errors import SarstackError, hide_secrets
from sarstack.output.vrt import name_db_view, write_db_view
from sarstack.readers.formats.gdal import open_gdal
from sarstack.readers.names import find_instrument_mode
from sarstack.readers.paths import file_name, file_stem, near_folders, public_path
from sarstack.readers.stack import Date
from sarstack.training.checkpoint import CHECKPOINT
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.results import RUN_RECORD, RUN_REPORT, read_records
from sarstack.workflows.despeckle.seen_dates import describe_seen
from sarstack.workflows.despeckle.state import Outcome, Run
from sarstack.workflows.fingerprint import settings_of
from sarstack.workflows.folder import remove_temporary_files
from sarstack.workflows.progress import now_utc, write_json

LOGGER = logging.getLogger("sarstack")


def complete_results(run: Run, started: str, *, continued: bool) -> None:
    """Write missing dB views, the quicklook, the report, and STAC items if they were asked for.

    Parameters
    ----------
    run : Run
        With all images done.
    started : str
        Time of the start, ISO 8601.
    continued : bool
        Whether an earlier run was interrupted: its quicklook may be that of still older results.
    """
    plan = run.plan
    for image in _finished_images(run):
        view = name_db_view(image.output)
        if not view.exists():
            write_db_view(image.output, image.grid, image.describe(plan.stack.calibration))
    picture = plan.output / "quicklook.png"
    if plan.images or continued or not picture.exists():
        _draw_middle(run, picture)
    if not plan.config.no_report:
        from sarstack.workflows.despeckle.report import write_run_report

        write_run_report(run, _finished_images(run), started)
    if plan.config.stac:
        write_stac(run)


def _finished_images(run: Run) -> list[Image]:
    """Return the finished images of this run and of earlier ones."""
    plan = run.plan
    images = (*plan.finished, *plan.images)
    return [image for image in images if image.output not in run.failures]


def _draw_middle(run: Run, picture: Path) -> None:
    """Draw the quicklook of the middle one of the new images; without new ones, of all."""
    from sarstack.output.quicklook import draw_quicklook

    done = [image for image in _finished_images(run) if not image.is_noise]
    new = {image.output for image in run.plan.images}
    made = [image for image in done if image.output in new] or done
    if made:
        n_polarisations = len(run.plan.stack.polarisations)
        image = made[len(made) // 2 // n_polarisations * n_polarisations]
        try:
            draw_quicklook(image.raster, run.plan.readable(image), image.polarisation, picture)
        except SarstackError as failure:
            LOGGER.warning("no quicklook: %s", failure.summary())


def delete_leftovers(run: Run) -> None:
    """Delete the folder of unfinished work, and temporary files of killed runs."""
    output = run.plan.output
    shutil.rmtree(run.folder, ignore_errors=True)
    names = [RUN_RECORD, "run.yaml", RUN_REPORT, "quicklook.png", "finetuned.safetensors"]
    for image in _finished_images(run):
        names += [path.name for path in image.outputs] + [name_db_view(image.output).name]
    remove_temporary_files(output, names)
    # Of a tuning that was killed after it had written its model.
    (output / "finetuned.training" / CHECKPOINT).unlink(missing_ok=True)


def write_stac(run: Run) -> None:
    """Write STAC items for all finished images, also those of earlier runs."""
    from sarstack.output.footprint import has_longitudes
    from sarstack.output.stac import Product, write_catalogue

    plan = run.plan
    if not all(has_longitudes(grid) for grid in plan.stack.grids):
        LOGGER.warning(
            "no STAC items: without a CRS, or with one that has no longitudes, pixels have no place"
        )
        return
    products = []
    by_layer: dict[int, list[Image]] = {}
    for image in _finished_images(run):
        by_layer.setdefault(image.layer, []).append(image)
    for layer, date in enumerate(plan.stack.dates):
        images = by_layer.get(layer, [])
        done = {_name_asset(image): image.output for image in images}
        done |= {f"{i.polarisation}-{extra.content}": path for i in images
                 for extra, path in i.extras}  # fmt: skip
        if done and date.timestamp:
            with open_gdal(plan.readable(images[0])) as result:
                tags = result.tags()
            grid, mode = plan.stack.grid_at(layer), _find_mode(date, images)
            looks, seen = float(tags["ENL_BEFORE"]), describe_seen(tags)
            products.append(Product(date, grid, done, looks, mode, seen))
    if products:
        name = f"{file_stem(plan.stack.path)}-{plan.despeckler.name}"
        settings = settings_of(plan.config, plan.despeckler)
        write_catalogue(plan.output / "stac", name, products, settings)


def _name_asset(image: Image) -> str:
    return f"{image.polarisation}-noise" if image.is_noise else image.polarisation


def _find_mode(date: Date, images: Sequence[Image]) -> str:
    """Return the instrument mode of Sentinel-1 in the names of the inputs, else empty."""
    if not date.platform.startswith("sentinel-1"):
        return ""
    paths = [public_path(image.raster.path) for image in images]
    names = [*map(file_name, paths), *(near for path in paths for near in near_folders(path))]
    return find_instrument_mode([*names, *(image.raster.item for image in images)])


def write_record(run: Run, started: str) -> Outcome:
    """Write run.json, and return the outcome.

    Results that earlier runs finished keep their records.
    """
    plan = run.plan
    failures = {public_path(image.raster.path): str(run.failures[image.output])
                for image in plan.images if image.output in run.failures}  # fmt: skip
    failures |= {public_path(path): hide_secrets(reason) for path, reason in plan.stack.skipped}
    done = [path for image in _finished_images(run) for path in image.outputs]
    records = read_records(plan.output) | run.records
    uploaded = plan.remote.list_sizes() if plan.remote else {}
    kept = [r for name, r in records.items() if name in uploaded or (plan.output / name).exists()]
    record = {
        "sarstack": __version__,
        "started": started,
        "ended": now_utc(),
        "settings": settings_of(plan.config, plan.despeckler),
        "looks": {
            polarisation: next((date.looks for date in dates.values()), None)
            for polarisation, dates in run.statistics.items()
        },
        "images": sorted(kept, key=lambda record: str(record["output"])),
        "finished_before": [image.output.name for image in plan.finished],
        "kept": [image.output.name for image in plan.kept],
        "failures": failures,
        "peak_memory_bytes": run.peak_bytes,
        "estimated_memory_bytes": plan.memory_bytes,
    }
    write_json(plan.output / RUN_RECORD, record)
    url = plan.remote.url if plan.remote else ""
    return Outcome(plan.output, tuple(sorted(done)), failures, run.peak_bytes, url, record)
