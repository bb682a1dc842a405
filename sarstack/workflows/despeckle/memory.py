"""The memory that a despeckling run needs, estimated before it starts."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import cycle, islice

from sarstack.cluster.layout import (
    LOCAL,
    Layout,
    Machine,
    find_machine,
    memory_limit_bytes,
    plan_layout,
)
from sarstack.cluster.process import GDAL_CACHE_BYTES
from sarstack.despecklers import Despeckler
from sarstack.errors import NotEnoughSpaceError
from sarstack.readers.raster import Raster
from sarstack.tiles import Shape, tile_grid
from sarstack.workflows.disk import BYTES_PER_PX
from sarstack.workflows.settings import DespeckleConfig

# Python with the libraries of a worker process, and of a process that has planned a run; measured.
WORKER_BYTES, PLANNER_BYTES = 136 * 2**20, 190 * 2**20
# To measure the speckle of an image: its sample windows and the arrays computed from them. Each
# thread has a heap of its own, which keeps these pages.
SAMPLING_BYTES, SAMPLING_COPIES = 32 * 2**20, 5
# Arrays of a thread beside its tile while a GPU computes: the scaled input, masks, the result, and
# its part of the page-locked copies.
GPU_HOST_BYTES_PER_PX = 24
# Arrays of float32 that the decorrelation of a tile needs: complex numbers and their filter.
_DECORRELATION_ARRAYS = 16
# To write the COG of a large image: GDAL's cache and the buffers of its threads; measured.
COG_BYTES = 96 * 2**20


def choose_layout(
    despeckler: Despeckler, config: DespeckleConfig, machine: Machine | None = None
) -> Layout:
    """Choose the processes and threads of a run; by default on this machine."""
    machine = machine or find_machine(on_gpu=despeckler.on_gpu)
    return plan_layout(config.workers, machine, in_processes=config.cluster is not None)


def worker_memory_bytes(
    despeckler: Despeckler,
    config: DespeckleConfig,
    scene: Shape,
    rasters: Sequence[Raster],
    layout: Layout,
) -> int:
    """Estimate the peak memory of one worker process.

    Parameters
    ----------
    despeckler : Despeckler
        The method.
    config : DespeckleConfig
        Tile size, cluster.
    scene : Shape
        Rows and columns of an image.
    rasters : sequence of Raster
        Images of the run.
    layout : Layout
        Threads of the process.

    Returns
    -------
    int
        The sum of: libraries and caches; writing one COG; for each thread, the samples of one
        image, a tile with its halo (input, complex or not, and result) and its temporal summary;
        for each cell that is computed on a core, what the method needs for it. With a GPU, layers
        of a network are in its memory; each thread has a few arrays of a cell. Tiles and cells are
        the largest of the scene; their halos end at its edge.
    """
    halo = despeckler.halo
    image = scene.y * scene.x * BYTES_PER_PX
    tiles = _largest_px(scene, config.tile_px, halo, layout.n_threads)
    cell = cell_px(despeckler, config)
    n_sums = despeckler.n_summary * (2 if despeckler.first_pass else 1)
    n_second = config.output_uncertainty + config.output_support
    n_arrays = 5 + 3 * n_sums + n_second + despeckler.needs_complex
    n_arrays += _DECORRELATION_ARRAYS * config.decorrelate
    in_work = n_arrays * sum(tiles) * BYTES_PER_PX
    in_work += layout.n_threads * min(SAMPLING_BYTES, SAMPLING_COPIES * image)
    cells = _largest_px(scene, cell, halo, layout.n_cells_in_memory)
    in_work += sum(map(despeckler.memory_bytes, cells))
    if layout.gpus:
        in_work += GPU_HOST_BYTES_PER_PX * sum(_largest_px(scene, cell, halo, layout.n_threads))
    side = config.tile_px + 2 * halo
    outer = Shape(min(side, scene.y), min(side, scene.x))
    kept = max((raster.cache_bytes(outer) for raster in rasters), default=0)
    caches = GDAL_CACHE_BYTES + min(kept, image * len(rasters))
    process = WORKER_BYTES if config.cluster else PLANNER_BYTES
    return process + caches + despeckler.runtime_bytes + min(COG_BYTES, image) + in_work


def _largest_px(scene: Shape, size_px: int, halo: int, n_largest: int) -> list[int]:
    """Return the pixels of the `n_largest` tiles, with halos; repeated if there are fewer."""
    inputs = [tile.window.expand(halo, scene).shape for tile in tile_grid(scene, size_px)]
    largest = sorted((shape.y * shape.x for shape in inputs), reverse=True)[:n_largest]
    return list(islice(cycle(largest), n_largest))


def cell_px(despeckler: Despeckler, config: DespeckleConfig) -> int:
    """Return the largest side that one call computes: a cell of the method, or a smaller tile."""
    return min(despeckler.call_px, config.tile_px)


def check_memory(
    despeckler: Despeckler,
    config: DespeckleConfig,
    scene: Shape,
    rasters: Sequence[Raster],
    machine: Machine | None = None,
    available_bytes: int | None = None,
) -> None:
    """Raise if the workers of a machine together need more memory than it has.

    Workers of a scheduler on another machine are not checked.

    Parameters
    ----------
    despeckler, config, scene, rasters
        See :func:`worker_memory_bytes`.
    machine : Machine, optional
        Default: this one.
    available_bytes : int, optional
        Memory of the machine.

    Raises
    ------
    NotEnoughSpaceError
        With the tile size or the number of workers that fits.
    """
    if config.cluster not in (None, LOCAL):
        return
    machine = machine or find_machine(on_gpu=despeckler.on_gpu)
    limit = available_bytes or memory_limit_bytes()

    def needed(n_workers: int, tile_px: int) -> int:
        tried = config.model_copy(update={"workers": n_workers, "tile_px": tile_px})
        layout = choose_layout(despeckler, tried, machine)
        one = worker_memory_bytes(despeckler, tried, scene, rasters, layout)
        return layout.n_processes * one

    layout = choose_layout(despeckler, config, machine)
    wanted = layout.n_processes if config.cluster else layout.n_threads
    if needed(wanted, config.tile_px) <= limit:
        return
    choices = [(wanted, tile) for tile in (1024, 512, 256) if tile < config.tile_px]
    small = min(config.tile_px, 512)
    most = bisect_right(range(1, wanted), limit, key=lambda n: needed(n, small))
    choices += [(most, small)] if most else []
    fitting = next((c for c in choices if needed(*c) <= limit), None)
    raise NotEnoughSpaceError(
        f"the plan needs {needed(wanted, config.tile_px) / 1e9:.1f} GB of memory "
        f"for {wanted} workers",
        expected=f"at most {limit / 1e9:.1f} GB, the memory of this machine",
        do=f"--workers {fitting[0]} --tile-px {fitting[1]}" if fitting else "use a larger machine",
    )
