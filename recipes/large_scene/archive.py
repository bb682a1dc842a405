"""Run `despeckle` over an archive with the real scheduler and sleeping workers. See README.md."""

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

HERE = Path(__file__).parent
BLOCK_PX = 512
POLL_S = 0.5
# The command, without its check of the disk: sleeping tasks write nearly nothing.
COMMAND = (
    "import sarstack.workflows.despeckle.run as run; run.check_space = lambda *_: None; "
    "from sarstack.cli.commands import main; main()"
)


@dataclass(frozen=True)
class Seconds:
    """Seconds that a worker needs for the stages of an image."""

    sample: float
    tile: float
    finish: float


@dataclass(frozen=True)
class Cost:
    """What a run cost.

    Attributes
    ----------
    n_scenes, n_tasks : int
    seconds : float
        Wall time of the command.
    client_s, scheduler_s : float
        CPU seconds.
    client_mb, scheduler_mb : float
        Peak resident memory.
    """

    n_scenes: int
    n_tasks: int
    seconds: float
    client_s: float
    client_mb: float
    scheduler_s: float
    scheduler_mb: float


def write_archive(folder: Path, n_scenes: int, height: int, width: int) -> Path:
    """Write dates of VV and VH: names of one file, which has speckle in its middle block only."""
    folder.mkdir(parents=True)
    y0, x0 = (n // 2 // BLOCK_PX * BLOCK_PX for n in (height, width))
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "float32",
        "nodata": np.nan, "crs": "EPSG:32632", "transform": from_origin(4e5, 5.4e6, 10, 10),
        "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "sparse_ok": True,
    }  # fmt: skip
    side = min(BLOCK_PX, height - y0, width - x0)
    speckle = np.random.default_rng(0).gamma(4.4, 0.1 / 4.4, (side, side)).astype(np.float32)
    first = folder.with_name("one_image.tif")
    with rasterio.open(first, "w", **profile) as raster:
        raster.write(speckle, 1, window=Window(x0, y0, side, side))
    for i in range(n_scenes):
        date = datetime(2024, 1, 1) + timedelta(hours=2 * i)
        for polarisation in ("vv", "vh"):
            os.link(first, folder / f"S1A_IW_{date:%Y%m%dT%H%M%S}_gamma0_{polarisation}.tif")
    first.unlink()
    return folder


@contextmanager
def open_cluster(folder: Path, n_workers: int, seconds: Seconds) -> Iterator[tuple[Path, int]]:
    """Start a scheduler and a process of sleeping workers; yield scheduler file and process id."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0",
         "--no-dashboard", "--preload", "sarstack.cluster.scheduler",
         "--scheduler-file", str(file)], **quiet,
    )  # fmt: skip
    workers = None
    try:
        while not file.exists():
            time.sleep(0.1)
        workers = subprocess.Popen(
            [sys.executable, str(HERE / "sleeping_workers.py"), str(file),
             "--workers", str(n_workers), "--sample-s", str(seconds.sample),
             "--tile-s", str(seconds.tile), "--finish-s", str(seconds.finish)], **quiet,
        )  # fmt: skip
        yield file, scheduler.pid
    finally:
        for process in (workers, scheduler):
            if process is not None:
                process.terminate()
                process.wait()


def measure(folder: Path, n_scenes: int, size: tuple[int, int], tile_px: int, n_workers: int,
            seconds: Seconds) -> Cost:  # fmt: skip
    """Run the command over an archive of `n_scenes`, and measure client and scheduler."""
    stack = write_archive(folder / f"stack-{n_scenes}", n_scenes, *size)
    output = folder / f"output-{n_scenes}"
    n_tiles = -(-size[0] // tile_px) * -(-size[1] // tile_px)
    with open_cluster(folder, n_workers, seconds) as (file, scheduler_id):
        wait_for_workers(file, n_workers)
        scheduler = Watch(scheduler_id)
        start = time.monotonic()
        command = [sys.executable, "-c", COMMAND, "-q", "despeckle", str(stack), "-o",
                   str(output), "--method", "lee-sigma", "--tile-px", str(tile_px),
                   "--cluster", str(file)]  # fmt: skip
        client = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(client.pid, 0)
        elapsed = time.monotonic() - start
        scheduler.stop()
    if status:
        raise SystemExit(f"despeckle ended with status {status}")
    n_results = len(list(output.glob("*.tif")))
    assert n_results == 2 * n_scenes, f"{n_results} results of {2 * n_scenes} images"
    return Cost(
        n_scenes, 2 * n_scenes * (n_tiles + 2), elapsed, usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1e3, scheduler.cpu_s, scheduler.peak_mb,
    )  # fmt: skip


def wait_for_workers(file: Path, n_workers: int) -> None:
    """Wait until all workers are known to the scheduler."""
    from distributed import Client

    with Client(scheduler_file=str(file)) as client:
        client.wait_for_workers(n_workers, timeout=300)


class Watch:
    """Peak memory and CPU seconds of a process from now on, looked at every half second."""

    def __init__(self, process_id: int) -> None:
        self._process = psutil.Process(process_id)
        self._before = sum(self._process.cpu_times()[:2])
        self._end = threading.Event()
        self.peak_mb, self.cpu_s = 0.0, 0.0
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._end.wait(POLL_S):
            self._look()

    def _look(self) -> None:
        self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)
        self.cpu_s = sum(self._process.cpu_times()[:2]) - self._before

    def stop(self) -> None:
        """End the watch with a last look."""
        self._end.set()
        self._thread.join()
        self._look()


def render(costs: Sequence[Cost]) -> Iterator[str]:
    """Yield the lines of the table."""
    yield "scenes  tasks   wall s  client s  MB   scheduler s  MB   ms a task: client  scheduler"
    for c in costs:
        yield (
            f"{c.n_scenes:6d} {c.n_tasks:6d} {c.seconds:8.0f} {c.client_s:9.1f} {c.client_mb:4.0f}"
            f" {c.scheduler_s:12.1f} {c.scheduler_mb:4.0f} {1e3 * c.client_s / c.n_tasks:18.2f}"
            f" {1e3 * c.scheduler_s / c.n_tasks:9.2f}"
        )
    for before, after in pairwise(costs):
        n = after.n_scenes - before.n_scenes
        yield (
            f"from {before.n_scenes} to {after.n_scenes} scenes, for each scene: client"
            f" {(after.client_s - before.client_s) / n:.2f} CPU s,"
            f" {(after.client_mb - before.client_mb) / n:.2f} MB; scheduler"
            f" {(after.scheduler_s - before.scheduler_s) / n:.2f} CPU s,"
            f" {(after.scheduler_mb - before.scheduler_mb) / n:.2f} MB"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="is deleted first")
    parser.add_argument("--scenes", type=int, nargs="+", default=[10, 30, 60])
    parser.add_argument("--workers", type=int, default=40)
    parser.add_argument("--height", type=int, default=16_705)
    parser.add_argument("--width", type=int, default=26_102)
    parser.add_argument("--tile-px", type=int, default=2048)
    parser.add_argument("--sample-s", type=float, default=1.0)
    parser.add_argument("--tile-s", type=float, default=1.2)
    parser.add_argument("--finish-s", type=float, default=8.0)
    parser.add_argument("--faster", type=float, default=1.0, help="divide all seconds by this")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    seconds = Seconds(*(s / options.faster for s in (options.sample_s, options.tile_s,
                                                     options.finish_s)))  # fmt: skip
    costs: list[Cost] = []
    for n_scenes in options.scenes:
        size = options.height, options.width
        costs.append(measure(options.folder.absolute(), n_scenes, size, options.tile_px,
                             options.workers, seconds))  # fmt: skip
        print("\n".join(render(costs)), flush=True)


if __name__ == "__main__":
    main()
