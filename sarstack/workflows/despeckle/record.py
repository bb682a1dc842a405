"""Write the record, the quicklook and the STAC items of a run."""

import logging
from pathlib import Path

from sarstack import __version__
from sarstack.workflows.despeckle.state import Outcome, Run
from sarstack.workflows.fingerprint import settings_of
from sarstack.workflows.progress import now_utc, write_json

LOGGER = logging.getLogger("sarstack")


def draw_middle(run: Run) -> None:
    """Draw the quicklook of the middle one of the new images."""
    from sarstack.output.quicklook import draw_quicklook

    made = [image for image in run.plan.images if image.output not in run.failures]
    if made:
        image = made[len(made) // 2 // len(run.statistics) * len(run.statistics)]
        picture = run.plan.output / "quicklook.png"
        draw_quicklook(image.raster, image.output, image.polarisation, picture)


def write_stac(run: Run) -> None:
    """Write STAC items for all finished images, also those of earlier runs."""
    import rasterio

    from sarstack.output.stac import Product, has_longitudes, write_catalogue

    plan = run.plan
    if not has_longitudes(plan.stack.grid):
        LOGGER.warning(
            "no STAC items: the images have no CRS, or one that does not give longitudes"
        )
        return
    products = []
    for layer, date in enumerate(plan.stack.dates):
        done = {i.polarisation: i.output for i in (*plan.finished, *plan.images)
                if i.layer == layer and i.output not in run.failures}  # fmt: skip
        if done and date.timestamp:
            with rasterio.open(next(iter(done.values())), driver="GTiff") as image:
                looks = float(image.tags()["ENL_BEFORE"])
            products.append(Product(date, done, looks))
    if products:
        name = f"{Path(plan.stack.path).stem}-{plan.despeckler.name}"
        settings = settings_of(plan.config, plan.despeckler)
        write_catalogue(plan.output / "stac", name, plan.stack.grid, products, settings)


def write_record(run: Run, started: str) -> Outcome:
    """Write run.json, and return the outcome."""
    plan = run.plan
    failures = {image.raster.path: str(run.failures[image.output])
                for image in plan.images if image.output in run.failures}  # fmt: skip
    failures |= dict(plan.stack.skipped)
    done = [i.output for i in (*plan.finished, *plan.images) if i.output not in run.failures]
    for path, notes in run.images.items():
        if notes.get("sum_before"):
            notes["mean_ratio"] = notes.pop("sum_after") / notes.pop("sum_before")
        notes["output"] = path.name
    record = {
        "sarstack": __version__,
        "started": started,
        "ended": now_utc(),
        "settings": settings_of(plan.config, plan.despeckler),
        "looks": {
            polarisation: next((known.looks for known in dates.values()), None)
            for polarisation, dates in run.statistics.items()
        },
        "images": list(run.images.values()),
        "finished_before": [image.output.name for image in plan.finished],
        "failures": failures,
        "peak_memory_bytes": run.peak_bytes,
        "estimated_memory_bytes": plan.memory_bytes,
    }
    write_json(plan.output / "run.json", record)
    return Outcome(plan.output, tuple(sorted(done)), failures, run.peak_bytes)
