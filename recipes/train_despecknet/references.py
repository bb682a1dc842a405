"""Clean images for training: aerial photographs and temporal means of stacks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

import sarstack

FloatImage = NDArray[np.float32]

# Standard deviation of an aerial image after its brightness was scaled to dB.
AERIAL_SPREAD_DB = 3.5
MIN_DATES = 12


def load_references(folder: Path) -> list[FloatImage]:
    """Read aerial images (``aerial/*.tif``) and stacks (``stacks/*/``) as clean images in dB."""
    images = [image for path in sorted(folder.glob("aerial/*.tif")) for image in _aerial(path)]
    for stack in sorted(path for path in folder.glob("stacks/*") if path.is_dir()):
        images += _temporal_means(stack)
    return images


def _aerial(path: Path) -> Iterator[FloatImage]:
    """Yield every band as a landscape: bright areas are rough, dark ones smooth."""
    with rasterio.open(path) as dataset:
        for band in dataset.read().astype(np.float32):
            data = band[(band > 0).any(axis=1)][:, (band > 0).any(axis=0)]
            yield (AERIAL_SPREAD_DB * (data - data.mean()) / data.std()).astype(np.float32)


def _temporal_means(path: Path) -> Iterator[FloatImage]:
    for dates in sarstack.open_stack(path).data_vars.values():
        mean = dates.mean("time").to_numpy()
        if dates.sizes["time"] >= MIN_DATES and np.isfinite(mean).all() and (mean > 0).all():
            yield (10 * np.log10(mean)).astype(np.float32)
