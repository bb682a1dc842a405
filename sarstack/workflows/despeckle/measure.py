"""Measure the speckle of all images of a run, before its tiles are computed.

The number of images does not matter to the memory: of most images only a few numbers are kept.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.workers import Workers
from sarstack.readers.stack import find_product_looks
from sarstack.speckle.plausibility import describe_doubt
from sarstack.speckle.samples import SpeckleSample
from sarstack.speckle.statistics import SceneStatistics, choose_dates, combine_samples
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.state import Run
from sarstack.workflows.despeckle.tasks import ImageSpeckle
from sarstack.workflows.progress import read_json, write_json

LOGGER = logging.getLogger("sarstack")
Statistics = dict[str, dict[int, SceneStatistics]]


def measure_images(run: Run, workers: Workers) -> None:
    """Measure the scene statistics of all images, or read those of an interrupted run.

    Parameters
    ----------
    run : Run
        Receives the statistics, and the failures of images that cannot be read.
    workers : Workers
    """
    path = run.folder / "statistics.json"
    found = read_json(path)
    if found:  # else nothing was measured, or the file is damaged
        run.statistics = {
            polarisation: {
                int(layer): SceneStatistics(
                    **{**values, "correlation": tuple(values["correlation"])}
                )
                for layer, values in dates.items()
            }
            for polarisation, dates in found.items()
        }
    else:
        run.statistics = _measure(run, workers)
        write_json(path, {p: {str(layer): asdict(date) for layer, date in dates.items()}
                          for p, dates in run.statistics.items()})  # fmt: skip
    for image in run.plan.images:
        if image.layer not in run.statistics[image.polarisation]:
            run.fail(image, "its pixels could not be read")


def _measure(run: Run, workers: Workers) -> Statistics:
    inputs = {(i.polarisation, i.layer): i for i in (*run.plan.images, *run.plan.finished)}
    images = sorted(inputs.values(), key=lambda image: image.layer)
    measured = _measure_each(run, workers, images)
    found: Statistics = {}
    for polarisation in dict.fromkeys(image.polarisation for image in images):
        own = {i.layer: measured[i.output] for i in images
               if i.polarisation == polarisation and i.output in measured}  # fmt: skip
        samples = [image.sample for image in own.values() if image.sample is not None]
        if warning := describe_doubt(polarisation.upper(), samples):
            LOGGER.warning("warning: %s", warning)
        found[polarisation] = {layer: image.alone for layer, image in own.items()}
        if run.plan.stack.is_coregistered and own:
            common = _combine(run, polarisation, [*own], samples)
            found[polarisation] = {layer: replace(common, bright=image.alone.bright)
                                   for layer, image in own.items()}  # fmt: skip
    return found


def _combine(
    run: Run, polarisation: str, layers: Sequence[int], samples: Sequence[SpeckleSample]
) -> SceneStatistics:
    """Return looks and correlation of all dates of a polarisation, from the dates with samples."""
    told = find_product_looks([run.plan.stack.rasters[polarisation][i] for i in layers])
    return combine_samples(samples, looks=run.plan.config.looks, product_looks=told)[0]


def _measure_each(run: Run, workers: Workers, images: Sequence[Image]) -> dict[Path, ImageSpeckle]:
    """Measure each image alone; keep the samples of the dates from which looks are estimated.

    If such a date cannot be read, the choice of the dates changes, and some are measured again.
    """
    measured: dict[Path, ImageSpeckle] = {}
    while waiting := [*_list_unmeasured(run, images, measured)]:
        for task, outcome in run_tasks(workers, (_task(run, *of_one) for of_one in waiting)):
            if isinstance(outcome, Exception):
                run.fail(task.key, outcome)
            else:
                measured[task.key.output] = outcome
    chosen = {image.output for image, keep in _choose(run, images) if keep}
    return {output: image if output in chosen else image._replace(sample=None)
            for output, image in measured.items()}  # fmt: skip


def _list_unmeasured(
    run: Run, images: Sequence[Image], measured: dict[Path, ImageSpeckle]
) -> Iterator[tuple[Image, bool]]:
    """Yield the images to measure, and whether their samples are kept."""
    for image, keep in _choose(run, images):
        known = measured.get(image.output)
        if known is None or (keep and known.sample is None):
            yield image, keep


def _choose(run: Run, images: Sequence[Image]) -> Iterator[tuple[Image, bool]]:
    """Yield the images that can be read, and whether looks are estimated from them."""
    for polarisation in dict.fromkeys(image.polarisation for image in images):
        same = [image for image in images if image.polarisation == polarisation]
        own = [image for image in same if image.output not in run.failures]
        chosen = {*choose_dates(len(own))}
        yield from ((image, k in chosen) for k, image in enumerate(own))


def _task(run: Run, image: Image, keep: bool) -> Task:  # noqa: FBT001 (one of a pair)
    told = find_product_looks([image.raster])
    arguments = (image.raster, image.grid.shape, run.plan.config.looks, told, keep)
    return Task(tasks.measure_image, arguments, image)
