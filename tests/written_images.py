"""Small images written to disk with any profile, for the tests of the readers."""

import warnings
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from sarstack.tiles import Window

SHAPE = (96, 80)
PLACE = Affine(10, 0, 500000, 0, -10, 5000000)


def speckle(seed=0, mean=0.1, shape=SHAPE):
    """Gamma speckle of 4.4 looks on a flat scene, float32 linear intensity."""
    scene = np.random.default_rng(seed).gamma(4.4, mean / 4.4, shape)
    return scene.astype(np.float32)


def write_tif(
    path: Path, bands, *, crs="EPSG:32632", transform=PLACE, names=(), tags=None, **profile
):
    """Write one band or several, with band names and tags."""
    bands = np.asarray(bands)
    bands = bands[None] if bands.ndim == 2 else bands
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "dtype": bands.dtype.name, "crs": crs, **profile}
    if transform is not None:
        profile["transform"] = transform
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", height=height, width=width, count=count, **profile) as out:
            out.update_tags(**(tags or {}))
            for i, name in enumerate(names, 1):
                out.set_band_description(i, name)
            out.write(bands)
    return path


def read_whole(stack, polarisation="vv", date=0):
    """Read all pixels of one image of a stack."""
    raster = stack.rasters[polarisation][date]
    return raster.read(Window(0, raster.shape.y, 0, raster.shape.x))
