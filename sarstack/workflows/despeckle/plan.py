"""The plan of a despeckling run: images, tiles and sizes, before any pixel is computed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from sarstack.cluster.dispatch import QUEUE_PER_WORKER
from sarstack.cluster.layout import Layout
from sarstack.despecklers import Despeckler, default_method, make_despeckler
from sarstack.despecklers.catalogue import measure_speed
from sarstack.errors import UsageError
from sarstack.html_repr import render_html
from sarstack.readers import index_stack
from sarstack.readers.decorrelated import decorrelate_stack
from sarstack.readers.paths import public_path
from sarstack.readers.selection import select_part
from sarstack.readers.stack import Stack
from sarstack.tiles import Shape, n_tiles
from sarstack.workflows.despeckle.destination import find_output
from sarstack.workflows.despeckle.finished import Finished, find_finished, open_results
from sarstack.workflows.despeckle.images import Image, list_images
from sarstack.workflows.despeckle.memory import (
    cell_px,
    check_memory,
    choose_layout,
    worker_memory_bytes,
)
from sarstack.workflows.despeckle.plan_checks import check_names, check_numbers, refuse_input_folder
from sarstack.workflows.despeckle.results import (
    UNFINISHED_FOLDER,
    describe_expected,
)
from sarstack.workflows.disk import BYTES_PER_PX, image_bytes
from sarstack.workflows.fingerprint import settings_of
from sarstack.workflows.places import check_places
from sarstack.workflows.progress import count_images
from sarstack.workflows.remote_folder import RemoteFolder
from sarstack.workflows.settings import AUTO, DecorrelateConfig, DespeckleConfig, SelectionConfig

LOGGER = logging.getLogger("sarstack")
_ONE_AT_A_TIME = "use `sarstack despeckle`, which takes each image alone"
# Runs of many tiles use large ones by default. Workers of a cluster do not share decoded blocks; a
# tile of 1024 px with its halo reads four times its own blocks, a tile of 2048 px 2.25 times.
MANY_TILES, LARGE_TILE_PX = 16, 2048


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes
    ----------
    images : tuple of Image
        Images to compute, in order of date and polarisation.
    finished : tuple of Image
        Images that an earlier run with the same settings has finished.
    output : Path
        Local folder in which the run works.
    remote : RemoteFolder or None
        Where finished results are uploaded to; None if they stay in `output`.
    kept : tuple of Image
        Those of `finished` that have seen other dates than the stack has now (`keep_dates`).
    """

    config: DespeckleConfig
    stack: Stack
    despeckler: Despeckler
    output: Path
    images: tuple[Image, ...]
    finished: tuple[Image, ...]
    remote: RemoteFolder | None = None
    kept: tuple[Image, ...] = ()

    @property
    def destination(self) -> str:
        """Folder or URL of the finished results."""
        return self.remote.url if self.remote else str(self.output)

    def readable(self, image: Image) -> str:
        """Return the path of a finished image, or its URL if it was uploaded."""
        if self.remote and not image.output.exists():
            return self.remote.place(image.output.name)
        return str(image.output)

    @property
    def n_tiles(self) -> int:
        """Number of tiles of all images to compute."""
        return sum(n_tiles(image.grid.shape, self.config.tile_px) for image in self.images)

    @property
    def n_tasks(self) -> int:
        """Number of tasks: two for each image, one for each tile, summary tile and first pass."""
        before = 0
        if self.despeckler.n_summary:
            n_polarisations = len({image.polarisation for image in self.images})
            n_images = n_polarisations + (self._n_inputs if self.despeckler.first_pass else 0)
            before = n_images * n_tiles(self.stack.grid.shape, self.config.tile_px)
        return 2 * len(self.images) + len(self.finished) + self.n_tiles + before

    @property
    def _n_inputs(self) -> int:
        """Number of input images of all dates, of the polarisations to compute."""
        own = [self.stack.rasters[p] for p in {image.polarisation for image in self.images}]
        return sum(len(rasters) - rasters.count(None) for rasters in own)

    @property
    def total_px(self) -> int:
        """Number of pixels of all images to compute."""
        return sum(image.grid.shape.y * image.grid.shape.x for image in self.images)

    @property
    def bytes_to_read(self) -> int:
        """Bytes to read, uncompressed, with halos."""
        size, parts = self.config.tile_px, [(self.total_px, self.despeckler.halo)]
        if self.despeckler.n_summary:
            scene = self.stack.grid.shape
            parts.append((self._n_inputs * scene.y * scene.x, self.despeckler.summary_halo))
        n_px = sum(n * ((size + 2 * halo) / size) ** 2 for n, halo in parts)
        n_parts = 2 if self.despeckler.needs_complex or self.config.decorrelate else 1
        return round(n_px * n_parts * BYTES_PER_PX)

    @property
    def bytes_to_write(self) -> int:
        """Upper limit of the bytes to write: uncompressed, with overviews."""
        n_px = sum(i.grid.shape.y * i.grid.shape.x * len(i.outputs) for i in self.images)
        return image_bytes(n_px, 1)

    @property
    def layout(self) -> Layout:
        """Processes and threads of the run on this machine."""
        return choose_layout(self.despeckler, self.config)

    @property
    def memory_bytes(self) -> int:
        """Peak memory of one worker process."""
        shape, rasters = self.largest_shape, [image.raster for image in self.images]
        return worker_memory_bytes(self.despeckler, self.config, shape, rasters, self.layout)

    @property
    def largest_shape(self) -> Shape:
        """Rows and columns of the largest image of the stack."""
        return max((grid.shape for grid in self.stack.grids), key=lambda shape: shape.y * shape.x)

    def check_memory(self) -> None:
        """Raise if the workers of this machine together need more memory than it has.

        Raises
        ------
        NotEnoughSpaceError
            With the tile size or the number of workers that fits.
        """
        rasters = [image.raster for image in self.images]
        check_memory(self.despeckler, self.config, self.largest_shape, rasters)

    def describe_size(self) -> str:
        """Return the size of the images as text, and whether each is despeckled alone."""
        low, high = (pick(g.shape for g in self.stack.grids) for pick in (min, max))
        if self.stack.is_coregistered:
            return f"{high.y} x {high.x} px each"
        return (
            f"{low.y} x {low.x} to {high.y} x {high.x} px: the dates are in radar geometry, not "
            "co-registered, so each is despeckled alone"
        )

    def describe_finished(self) -> str:
        """Return how many images need not be made as text, and how many have seen other dates."""
        text = f"{len(self.finished)} finished before"
        if self.kept:
            text += f", {len(self.kept)} of them kept: they have seen other dates"
        return text

    def _describe_tile(self) -> str:
        size, scene = self.config.tile_px, self.largest_shape
        rows, columns = min(size, scene.y), min(size, scene.x)
        return f"{size} px" if rows == columns == size else f"at most {rows} x {columns} px"

    def estimate_seconds(self) -> float:
        """Measure the time of one cell, and scale it to the plan; without reading and writing."""
        speed = measure_speed(self.despeckler, cell_px(self.despeckler, self.config))
        return self.total_px / speed / self.layout.n_computing

    def facts(self) -> dict[str, str]:
        """Return the names and values of what the run will do."""
        layout = self.layout
        n_submitted = QUEUE_PER_WORKER * layout.n_tasks
        dates = sorted({image.layer for image in self.images})
        known = self.despeckler.provenance().items()
        method = ", ".join(f"{k} {v[:12] if k.endswith('sha256') else v}" for k, v in known)
        return {
            "stack": public_path(self.stack.path),
            "method": f"{self.despeckler.name} ({method})",
            "dates to do": f"{len(dates)} ({', '.join(self.stack.polarisations)}), "
            f"{count_images(len(self.images))}; {self.describe_finished()}",
            "size": self.describe_size(),
            "tiles": f"{self.n_tiles} of {self._describe_tile()}, halo {self.despeckler.halo} px",
            "tasks": f"{self.n_tasks}, at most {n_submitted} of them submitted",
            "to read": f"{_size(self.bytes_to_read)}, halo included",
            "to write": f"at most {_size(self.bytes_to_write)} into {self.destination}",
            "memory": f"{self.memory_bytes / 1e6:.0f} MB per worker process, {layout.describe()}",
            "time": f"about {_duration(self.estimate_seconds())}, reading not counted",
        }

    def render(self) -> str:
        """Return the plan as text for `--dry-run`."""
        return "\n".join(f"{name:>12}: {value}" for name, value in self.facts().items())

    def _repr_html_(self) -> str:
        """Return the plan as a notebook shows it."""
        return render_html("Plan of a run: nothing is written yet", self.facts())


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def select_stack(
    config: SelectionConfig, *, skip_unreadable: bool = False, remove_noise: bool = False
) -> Stack:
    """Index a stack and select the part that the settings ask for.

    Raises
    ------
    StackError
        If the stack is empty or inconsistent; except for `despeckle`, also if its dates are not
        co-registered.
    """
    stack = index_stack(
        config.stack,
        scale=config.scale,
        bands=list(config.bands) if config.bands else None,
        skip_unreadable=skip_unreadable,
        calibration=config.calibration,
        remove_noise=remove_noise,
        separate_slices=config.separate_slices,
        mask=config.mask,
        gain_db=config.gain_db,
    )
    dates = tuple(config.dates.split("/")) if config.dates else None
    part = select_part(stack, dates=dates, bbox=config.bbox, polarisations=config.polarisations)
    if not isinstance(config, DespeckleConfig | DecorrelateConfig):
        part.check_coregistered(config.command(), do=_ONE_AT_A_TIME)
    return part


def plan_despeckle(
    config: DespeckleConfig, *, overwrite: bool = False, verify: bool = False
) -> Plan:
    """Plan a run. This writes nothing, and reads headers only (with `verify`, finished results).

    Raises
    ------
    StackError
        If the stack is empty or inconsistent, or two results would have the same name.
    ResumeMismatchError
        If finished results have other settings, and `overwrite` is False.
    UsageError
        If `verify` is asked for results in object storage, or the method needs complex numbers
        and images have none.
    """
    remote, output = find_output(config)
    if remote and verify:
        raise UsageError(
            f"the results at {remote.url} cannot be compared byte by byte",
            expected="results on a disk of this machine or a network disk",
            where="--verify",
            do="leave it out: size, header and tags are compared in any case",
        )
    stack = select_stack(config, skip_unreadable=True, remove_noise=config.remove_noise)
    if config.decorrelate:
        stack = decorrelate_stack(stack)
    if config.method == AUTO:
        # The polarisation with the fewest dates decides.
        n_dates = min(sum(r is not None for r in own) for own in stack.rasters.values())
        if not stack.is_coregistered:
            n_dates = 1
        config = config.model_copy(update={"method": default_method(n_dates)})
    ensemble = {"ensemble": config.ensemble} if config.ensemble > 1 else {}
    despeckler = make_despeckler(config.method, **config.parameters | ensemble)
    if despeckler.n_summary:
        stack.check_coregistered(despeckler.name, do="use a method of single dates, for example "
                                 "--method despecknet")  # fmt: skip
    check_numbers(stack, despeckler)
    check_places([], [output])
    refuse_input_folder(chain(*stack.rasters.values()), output, remote)
    images = list_images(config, stack, despeckler, output)
    check_names(config, output, images)
    if "tile_px" not in config.model_fields_set:
        config = _choose_tile(config, images)
    # Also an interrupted run with --overwrite continues: its results have the new fingerprint.
    begun = (output / UNFINISHED_FOLDER / "manifest.json").exists()
    finished = Finished()
    if begun or not overwrite:
        expected = "" if overwrite else describe_expected(output, settings_of(config, despeckler))
        keep = config.keep_dates and not overwrite
        inspect = open_results(output, remote, every_byte=verify)
        finished = find_finished(images, inspect, refuse=expected, keep_dates=keep)
    names = {image.output for image in finished.images}
    todo = tuple(image for image in images if image.output not in names)
    return Plan(config, stack, despeckler, output, todo, finished.images, remote, finished.kept)


def _choose_tile(config: DespeckleConfig, images: Sequence[Image]) -> DespeckleConfig:
    """Choose large tiles if there are many; finished images count, so a resumed run agrees.

    Images that are not larger than a tile of the default size have one tile in any case.
    """
    if all(max(image.grid.shape) <= config.tile_px for image in images):
        return config
    many = sum(n_tiles(image.grid.shape, LARGE_TILE_PX) for image in images) >= MANY_TILES
    return config.model_copy(update={"tile_px": LARGE_TILE_PX}) if many else config
