"""Dask workers whose tasks of `despeckle` sleep instead of computing. See README.md.

The client and the scheduler are the real ones: a task is sent by the name of its function, and in
this process the functions of that name are replaced. All workers are threads of this one process.
"""

import argparse
import asyncio
import logging
import time
from functools import cache
from pathlib import Path

import numpy as np
import rasterio

from sarstack.output.pieces import Pieces
from sarstack.readers.grid import Grid
from sarstack.readers.raster import Raster
from sarstack.speckle.samples import SpeckleSample, sample_speckle
from sarstack.speckle.statistics import combine_samples
from sarstack.tiles import Shape, Tile, sample_windows
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.despeckle.results import write_result_record
from sarstack.workflows.despeckle.tasks import ImageRecord, ImageSpeckle, TileRecord
from sarstack.workflows.fingerprint import FINGERPRINT_TAG


@cache
def simulated_sample(scene: Shape) -> SpeckleSample:
    """Return the sample of an image of pure speckle; as large as that of a real image."""
    rng = np.random.default_rng(0)
    windows = sample_windows(scene)
    return sample_speckle([rng.gamma(4.4, 1 / 4.4, w.shape).astype(np.float32) for w in windows])


class SleepingTasks:
    """The tasks of a run, which sleep for given times and write files without pixels.

    Parameters
    ----------
    sample_s, tile_s, finish_s : float
        Seconds to sleep for the samples of an image, a tile, and the end of an image.
    """

    def __init__(self, sample_s: float, tile_s: float, finish_s: float) -> None:
        self.sample_s, self.tile_s, self.finish_s = sample_s, tile_s, finish_s

    def install(self) -> None:
        """Replace the tasks of this process."""
        tasks.measure_image = self.measure_image
        tasks.despeckle_tile = self.despeckle_tile
        tasks.finish_image = self.finish_image

    def measure_image(self, _raster: Raster, scene: Shape, *options: object) -> ImageSpeckle:
        """Return a sample of the size of a real one, if the client asks for it."""
        time.sleep(self.sample_s)
        *_, keep_sample = options
        sample = simulated_sample(scene)
        return ImageSpeckle(combine_samples([sample])[0], sample if keep_sample else None)

    def despeckle_tile(
        self,
        _method: object,
        _raster: Raster,
        _statistics: object,
        tile: Tile,
        pieces: Pieces,
        *_: object,
    ) -> TileRecord:
        """Write as many files as a real tile: they are listed and deleted by the client."""
        time.sleep(self.tile_s)
        pieces.folder.mkdir(parents=True, exist_ok=True)
        for level in range(pieces.n_overviews + 1):
            pieces.path(tile, level).touch()
        return TileRecord(1)

    def finish_image(
        self,
        pieces: Pieces,
        grid: Grid,
        output: str,
        _description: str,
        tags: dict[str, str],
        *_: object,
    ) -> ImageRecord:
        """Write an image of the real size without blocks, with all tags, and its record."""
        time.sleep(self.finish_s)
        path = Path(output)
        complete = pieces.folder / "complete.tif"
        profile = {
            "driver": "GTiff", "height": grid.shape.y, "width": grid.shape.x, "count": 1,
            "dtype": "float32", "nodata": np.nan, "crs": grid.crs_wkt, "transform": grid.transform,
            "tiled": True, "blockxsize": 512, "blockysize": 512, "sparse_ok": True,
        }  # fmt: skip
        with rasterio.open(complete, "w", **profile) as raster:
            raster.update_tags(**tags)
        mark = {"fingerprint": tags.get(FINGERPRINT_TAG), "valid_px": 0, "seconds": 0.0}
        record = write_result_record(path, complete, mark)
        complete.replace(path)
        return ImageRecord((record,), 1)


async def serve(scheduler_file: str, n_workers: int) -> None:
    """Run workers of one thread until the scheduler closes them."""
    from distributed import Worker

    workers = [
        Worker(scheduler_file=scheduler_file, nthreads=1, name=f"sleeping-{i}",
               dashboard=False, silence_logs=logging.ERROR)
        for i in range(n_workers)
    ]  # fmt: skip
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scheduler_file")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--sample-s", type=float, required=True)
    parser.add_argument("--tile-s", type=float, required=True)
    parser.add_argument("--finish-s", type=float, required=True)
    options = parser.parse_args()
    SleepingTasks(options.sample_s, options.tile_s, options.finish_s).install()
    asyncio.run(serve(options.scheduler_file, options.workers))


if __name__ == "__main__":
    main()
