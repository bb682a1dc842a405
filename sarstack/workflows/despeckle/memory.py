"""The memory that a despeckling run needs, estimated before it starts."""

from collections.abc import Sequence

from sarstack.cluster.process import GDAL_CACHE_BYTES
from sarstack.cluster.workers import LOCAL, n_cores, threads_per_worker
from sarstack.despecklers import Despeckler
from sarstack.errors import NotEnoughSpaceError
from sarstack.readers.raster import Raster
from sarstack.tiles import Shape
from sarstack.workflows.disk import BYTES_PER_PX
from sarstack.workflows.settings import DespeckleConfig

# Python with the libraries of a worker process, and of a process that has planned a run; measured.
WORKER_BYTES, PLANNER_BYTES = 136 * 2**20, 190 * 2**20
# To measure the speckle of an image: its sample windows and the arrays computed from them. Each
# thread has a heap of its own, which keeps these pages.
SAMPLING_BYTES, SAMPLING_COPIES = 32 * 2**20, 5
# To write the COG of a large image: GDAL's cache and the buffers of its threads; measured.
COG_BYTES = 96 * 2**20


def worker_memory_bytes(
    despeckler: Despeckler, config: DespeckleConfig, scene: Shape, rasters: Sequence[Raster]
) -> int:
    """Estimate the peak memory of one worker process.

    Parameters
    ----------
    despeckler : Despeckler
        The method.
    config : DespeckleConfig
        Tile size, workers, cluster.
    scene : Shape
        Rows and columns of an image.
    rasters : sequence of Raster
        Images of the run.

    Returns
    -------
    int
        The sum of: libraries and caches; writing one COG; for each thread, the samples of one
        image, a tile with its halo (input and result) and its temporal summary; for each thread
        that computes at a time, what the method needs for one cell. A worker of a cluster has one
        thread, or several that share a GPU. Without a cluster one process has all threads.
    """
    halo = despeckler.halo
    image = scene.y * scene.x * BYTES_PER_PX
    tile = (5 + 3 * despeckler.n_summary) * (config.tile_px + 2 * halo) ** 2 * BYTES_PER_PX
    tile += min(SAMPLING_BYTES, SAMPLING_COPIES * image)
    cell = despeckler.memory_bytes((cell_px(despeckler, config) + 2 * halo) ** 2)
    n_threads = threads_per_worker() if config.cluster else config.workers or n_cores()
    outer = Shape(config.tile_px + 2 * halo, config.tile_px + 2 * halo)
    kept = max((raster.cache_bytes(outer) for raster in rasters), default=0)
    caches = GDAL_CACHE_BYTES + min(kept, image * len(rasters))
    process = WORKER_BYTES if config.cluster else PLANNER_BYTES
    process += caches + despeckler.runtime_bytes + min(COG_BYTES, image)
    return process + n_threads * tile + min(n_threads, n_cores()) * cell


def cell_px(despeckler: Despeckler, config: DespeckleConfig) -> int:
    """Return the largest side that one call computes: a cell of the method, or a smaller tile."""
    return min(despeckler.cell_px, config.tile_px)


def check_memory(
    despeckler: Despeckler, config: DespeckleConfig, scene: Shape, rasters: Sequence[Raster]
) -> None:
    """Raise if the workers of this machine together need more memory than it has.

    Parameters are those of :func:`worker_memory_bytes`. Workers of a scheduler on another machine
    are not checked.

    Raises
    ------
    NotEnoughSpaceError
        With the tile size or the number of workers that fits.
    """
    from distributed.system import MEMORY_LIMIT

    if config.cluster not in (None, LOCAL):
        return

    def needed(n_workers: int, tile_px: int) -> int:
        tried = config.model_copy(update={"workers": n_workers, "tile_px": tile_px})
        processes = n_workers if config.cluster else 1
        return processes * worker_memory_bytes(despeckler, tried, scene, rasters)

    wanted = config.workers or n_cores()
    if needed(wanted, config.tile_px) <= MEMORY_LIMIT:
        return
    choices = [(wanted, tile) for tile in (1024, 512, 256) if tile < config.tile_px]
    choices += [(n, min(config.tile_px, 512)) for n in range(wanted - 1, 0, -1)]
    fitting = next((c for c in choices if needed(*c) <= MEMORY_LIMIT), None)
    raise NotEnoughSpaceError(
        f"the plan needs {needed(wanted, config.tile_px) / 1e9:.1f} GB of memory "
        f"for {wanted} workers",
        expected=f"at most {MEMORY_LIMIT / 1e9:.1f} GB, the memory of this machine",
        do=f"--workers {fitting[0]} --tile-px {fitting[1]}" if fitting else "use a larger machine",
    )
