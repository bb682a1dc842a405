"""Looks and correlation of the speckle in every image of a stack."""

import numpy as np

from sarstack.cluster.dispatch import Task, run_tasks
from sarstack.cluster.workers import Workers
from sarstack.readers.stack import ImageStack, find_product_looks
from sarstack.speckle.samples import SpeckleSample
from sarstack.speckle.statistics import SceneStatistics, combine_samples
from sarstack.workflows.despeckle import tasks

Statistics = dict[str, dict[int, SceneStatistics]]
"""Of each polarisation and date number."""


def measure_statistics(stack: ImageStack, looks: float | None, workers: Workers) -> Statistics:
    """Measure the scene statistics of every image.

    `looks`, if given, replaces the number that the product tells, and this one the measured number.
    """
    images = [
        (polarisation, date, raster)
        for polarisation in stack.polarisations
        for date, raster in enumerate(stack.rasters[polarisation])
        if raster is not None
    ]
    calls = (Task(tasks.sample_image, (image[2], stack.grid.shape), image[:2]) for image in images)
    samples: dict[tuple[str, int], SpeckleSample] = {}
    for task, outcome in run_tasks(workers, calls):
        if isinstance(outcome, Exception):
            raise outcome
        samples[task.key] = outcome
    statistics = {}
    for polarisation in stack.polarisations:
        dates = [date for name, date, _ in images if name == polarisation]
        of_dates = combine_samples(
            [samples[polarisation, date] for date in dates],
            looks=looks,
            product_looks=find_product_looks(stack.rasters[polarisation]),
        )
        statistics[polarisation] = dict(zip(dates, of_dates, strict=True))
    return statistics


def list_statistics(statistics: Statistics) -> list[SceneStatistics]:
    """Return the statistics of all images."""
    return [date for dates in statistics.values() for date in dates.values()]


def pool_statistics(statistics: Statistics) -> tuple[float, tuple[float, float]]:
    """Return the looks whose variance is the mean over all images, and the mean correlation."""
    all_statistics = list_statistics(statistics)
    looks = 1 / float(np.mean([1 / s.looks for s in all_statistics]))
    y, x = np.mean([s.correlation for s in all_statistics], axis=0)
    return looks, (float(y), float(x))
