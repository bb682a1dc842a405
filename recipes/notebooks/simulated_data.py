"""Small simulated stacks for the notebooks: files like Sentinel-1 GRD, and their truth."""

import json
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from sarstack.speckle.landscapes import Reflectivity, simulate_reflectivity
from sarstack.speckle.sensor import SpeckleSimulator

SENSOR = SpeckleSimulator(4.5, (0.65, 0.65))
LEVELS = {"vv": 0.08, "vh": 0.016}
WATER_DB = -10.0


def write_stack(
    folder: str, n_dates: int = 4, side_px: int = 256, *, flooded: bool = False, seed: int = 3
) -> NDArray[np.float32]:
    """Write one GeoTIFF per date and polarisation, and return the truth of VV.

    Parameters
    ----------
    folder : str
        Folder to make.
    n_dates, side_px : int
    flooded : bool
        On the last date, a part of the land is 10 dB darker.
    seed : int

    Returns
    -------
    ndarray, shape (date, y, x), float32
        Linear power without speckle.
    """
    rng = np.random.default_rng(seed)
    Path(folder).mkdir(parents=True, exist_ok=True)
    land = simulate_reflectivity((side_px, side_px), rng, kind="fields")
    land = Reflectivity(land.diffuse / np.median(land.diffuse), land.points)
    truth = []
    for date in range(n_dates):
        scene = _flood(land) if flooded and date == n_dates - 1 else land
        for polarisation, level in LEVELS.items():
            pixels = level * SENSOR.observe(scene, rng)
            _write(Path(folder) / f"S1A_IW_{_day(date)}T053412_{polarisation}.tif", pixels)
        truth.append(LEVELS["vv"] * SENSOR.expect(scene))
    return np.stack(truth)


def write_items(folder: str, target: str) -> None:
    """Write a STAC item collection of the images of a folder: what a search would return."""
    features = []
    for path in sorted(Path(folder).glob("*_vv.tif")):
        day = path.name[7:15]
        assets = {
            polarisation: {"href": str(path).replace("_vv", f"_{polarisation}"), "roles": ["data"]}
            for polarisation in LEVELS
        }
        features.append(
            {"type": "Feature", "stac_version": "1.0.0", "id": path.stem, "links": [],
             "geometry": None, "assets": assets,
             "properties": {"datetime": f"{day[:4]}-{day[4:6]}-{day[6:]}T05:34:12Z"}}
        )  # fmt: skip
    document = {"type": "FeatureCollection", "features": features}
    Path(target).write_text(json.dumps(document), encoding="utf-8")


def _flood(land: Reflectivity) -> Reflectivity:
    """Darken an ellipse in the middle of a landscape."""
    y, x = np.ogrid[-1 : 1 : land.diffuse.shape[0] * 1j, -1 : 1 : land.diffuse.shape[1] * 1j]
    water = (x / 0.7) ** 2 + (y / 0.35) ** 2 < 1
    diffuse = np.where(water, land.diffuse * 10 ** (WATER_DB / 10), land.diffuse)
    return Reflectivity(diffuse.astype(np.float32), np.where(water, 0, land.points))


def _day(date: int) -> str:
    return str(np.datetime64("2024-04-03") + np.timedelta64(12 * date, "D")).replace("-", "")


def _write(path: Path, pixels: NDArray[np.float32]) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", height=pixels.shape[0], width=pixels.shape[1], count=1,
        dtype="float32", nodata=np.nan, crs="EPSG:32632", tiled=True, compress="deflate",
        transform=from_origin(600_000, 5_300_000, 10, 10),
    ) as raster:  # fmt: skip
        raster.write(pixels.astype(np.float32), 1)
