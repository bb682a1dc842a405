"""Despeckle a stack: plan, measure, compute tiles, finish images, record."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sarstack import __version__, scratch, tasks
from sarstack.cluster import Task, Workers, open_workers, run_tasks
from sarstack.config import DespeckleConfig
from sarstack.errors import ResumeMismatchError, SomeDatesFailedError
from sarstack.runlog import log_to, now_utc, show_progress, write_json
from sarstack.speckle import SceneStatistics, SpeckleSample, combine_samples
from sarstack.tiles import Tile, tile_grid
from sarstack.workflows.plan import (
    FINGERPRINT_TAG,
    Image,
    Plan,
    check_space,
    fingerprint,
    plan_despeckle,
    settings_of,
)

LOGGER = logging.getLogger("sarstack")
SCRATCH = ".sarstack-unfinished"


@dataclass
class Run:
    """A run while it goes: what is known of its images, and what failed."""

    plan: Plan
    folder: Path
    statistics: dict[str, dict[int, SceneStatistics]] = field(default_factory=dict)
    failures: dict[Path, str] = field(default_factory=dict)
    images: dict[Path, dict[str, Any]] = field(default_factory=dict)
    peak_bytes: int = 0

    def fail(self, image: Image, reason: object) -> None:
        """Give one image up; the others go on."""
        if image.output not in self.failures:
            LOGGER.warning("%s: %s", image.raster.stem, reason)
        self.failures.setdefault(image.output, str(reason))

    def todo(self, polarisation: str | None = None) -> list[Image]:
        """List the images that have not failed."""
        return [
            image
            for image in self.plan.images
            if image.output not in self.failures and polarisation in (None, image.polarisation)
        ]


@dataclass(frozen=True)
class Outcome:
    """What a finished run made.

    Attributes
    ----------
    outputs : tuple of Path
        All COGs of the plan, those of earlier runs included.
    failures : dict of str
        Reasons of images that could not be made, by name.
    peak_bytes : int
        Largest memory any worker process had.
    """

    folder: Path
    outputs: tuple[Path, ...]
    failures: dict[str, str]
    peak_bytes: int

    def raise_failures(self) -> None:
        """Raise if some images are missing (after all others were made)."""
        if self.failures:
            raise SomeDatesFailedError(
                f"{len(self.failures)} image(s) could not be made; all others are finished",
                where=[f"{name}: {reason}" for name, reason in self.failures.items()],
                do="mend or remove these files, and run the same command again",
            )


def despeckle(config: DespeckleConfig, *, overwrite: bool = False) -> Outcome:
    """Despeckle every date and polarisation of a stack into COGs.

    Parameters
    ----------
    config : DespeckleConfig
        What to do; see its fields.
    overwrite : bool
        Make finished results again, and drop unfinished ones of other settings.

    Returns
    -------
    Outcome

    Raises
    ------
    SarstackError
        Before any work, if the stack, the settings or the cluster cannot be used.

    Notes
    -----
    Interrupted at any moment, the same call continues: finished images stand under
    their names, finished tiles in a scratch store beside them. One image that fails
    does not stop the others; see :meth:`Outcome.raise_failures`.
    """
    plan = plan_despeckle(config, overwrite=overwrite)
    plan.output.mkdir(parents=True, exist_ok=True)
    run = Run(plan, plan.output / SCRATCH)
    started = now_utc()
    with log_to(plan.output / "log.txt"):
        _announce(plan)
        settings = config.model_copy(update={"output": str(plan.output)})
        (plan.output / "run.yaml").write_text(settings.to_yaml(), encoding="utf-8")
        if plan.images:
            check_space(plan.output, 2 * plan.bytes_to_write)
            _open_scratch(run, overwrite=overwrite)
            with open_workers(config.cluster, config.workers) as workers:
                if workers.dashboard:
                    LOGGER.info("dashboard: %s", workers.dashboard)
                _measure(run, workers)
                _summarise(run, workers)
                _compute(run, workers)
            shutil.rmtree(run.folder, ignore_errors=True)
            _draw(run)
        if config.stac:
            _write_stac(run)
        return _record(run, started)


def _announce(plan: Plan) -> None:
    LOGGER.info(
        "%d images to do, %d finished before; %d tiles; about %.0f MB per worker; into %s",
        len(plan.images), len(plan.finished), plan.n_tiles, plan.memory_bytes / 1e6, plan.output,
    )  # fmt: skip


def _open_scratch(run: Run, *, overwrite: bool) -> None:
    """Create the store of unfinished tiles, or enter the one of an interrupted run."""
    plan = run.plan
    images = sorted(image.fingerprint for image in (*plan.images, *plan.finished))
    settings = settings_of(plan.config, plan.despeckler) | {
        "tile_px": plan.config.tile_px,
        # Sorted: which of them are finished already must not matter.
        "images": f"{len(images)} images, {fingerprint(*images)}",
    }
    manifest = run.folder / "manifest.json"
    found = _read_json(manifest)
    wanted = {key: str(value) for key, value in settings.items()}
    if overwrite or found is None:
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
        write_json(manifest, wanted)
    elif found != wanted:
        differs = [f"{key}: {found.get(key)} then, {wanted[key]} now" for key in wanted
                   if found.get(key) != wanted[key]]  # fmt: skip
        raise ResumeMismatchError(
            "an interrupted run with other settings lies in the output folder",
            expected="the same settings and inputs as then",
            where=differs,
            do="repeat the earlier command to finish it, or --overwrite to start anew",
        )
    else:
        LOGGER.info("continuing an interrupted run")
    n_dates, scene = len(plan.stack.dates), plan.stack.grid.shape
    for polarisation in {image.polarisation for image in plan.images}:
        scratch.create_array(_pixels(run, polarisation), n_dates, scene, plan.config.tile_px)
        if depth := plan.despeckler.n_summary:
            path = _summary(run, polarisation)
            scratch.create_array(path, depth, scene, plan.config.tile_px, depth)


def _read_json(path: Path) -> Any:
    import json

    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _pixels(run: Run, polarisation: str) -> str:
    return str(run.folder / polarisation)


def _summary(run: Run, polarisation: str) -> str:
    return str(run.folder / f"{polarisation}-summary")


def _measure(run: Run, workers: Workers) -> None:
    """Find the scene statistics of every image; kept, so that a resumed run has the same."""
    plan, path = run.plan, run.folder / "statistics.json"
    known = _read_json(path)
    if known is None:
        known = _measure_stack(run, workers)
        write_json(path, known)
    for polarisation, dates in known.items():
        run.statistics[polarisation] = {
            int(layer): SceneStatistics(**{**values, "correlation": tuple(values["correlation"])})
            for layer, values in dates.items()
        }
    for image in plan.images:
        if image.layer not in run.statistics[image.polarisation]:
            run.fail(image, "its pixels could not be read when the scene was measured")


def _measure_stack(run: Run, workers: Workers) -> dict[str, dict[str, dict[str, Any]]]:
    plan = run.plan
    scene = plan.stack.grid.shape
    images = sorted((*plan.images, *plan.finished), key=lambda image: image.layer)
    jobs = (Task(tasks.sample_image, (image.raster, scene), image) for image in images)
    samples: dict[str, dict[int, SpeckleSample]] = {i.polarisation: {} for i in images}
    for task, outcome in run_tasks(workers, jobs):
        if isinstance(outcome, Exception):
            run.fail(task.key, outcome)
        else:
            samples[task.key.polarisation][task.key.layer] = outcome
    found = {}
    for polarisation, dates in samples.items():
        layers = sorted(dates)
        statistics = combine_samples([dates[i] for i in layers], looks=plan.config.looks)
        found[polarisation] = {
            str(layer): asdict(known) for layer, known in zip(layers, statistics, strict=True)
        }
    return found


def _summarise(run: Run, workers: Workers) -> None:
    """For multi-temporal methods: add all dates up, tile by tile, before any is despeckled."""
    plan = run.plan
    if not plan.despeckler.n_summary:
        return
    scene = plan.stack.grid.shape

    def jobs() -> Iterator[Task]:
        for polarisation in run.statistics:
            rasters = plan.stack.rasters[polarisation]
            known = run.statistics[polarisation]
            images = tuple((r, known[i]) for i, r in enumerate(rasters) if r and i in known)
            path = _summary(run, polarisation)
            for tile in tile_grid(scene, plan.config.tile_px):
                if not scratch.has_tile(path, 0, tile):
                    arguments = (plan.despeckler, images, scene, tile, path)
                    yield Task(tasks.summarise_tile, arguments, tile)

    total_px = scene.y * scene.x * len(run.statistics)
    with show_progress("adding dates up", total_px) as progress:
        for task, outcome in run_tasks(workers, jobs()):
            if isinstance(outcome, Exception):
                raise outcome
            for problem in outcome:
                LOGGER.warning("left out of the temporal summary: %s", problem)
            progress.advance(task.key.window.shape.y * task.key.window.shape.x)


def _compute(run: Run, workers: Workers) -> None:
    """Despeckle all tiles, and finish each image as soon as its last tile is done."""
    plan = run.plan
    scene, tile_px = plan.stack.grid.shape, plan.config.tile_px
    left: Counter[Path] = Counter()
    ready: list[Image] = []

    def jobs() -> Iterator[Task]:
        for image in run.todo():
            path = _pixels(run, image.polarisation)
            tiles = [
                t for t in tile_grid(scene, tile_px) if not scratch.has_tile(path, image.layer, t)
            ]
            left[image.output] = len(tiles)
            if not tiles:
                ready.append(image)
            for tile in tiles:
                while ready:
                    yield _finish_task(run, ready.pop())
                if image.output not in run.failures:
                    yield _tile_task(run, image, tile)
        while ready:
            yield _finish_task(run, ready.pop())

    with show_progress("despeckling", plan.total_px) as progress:
        waiting = jobs()
        while True:
            for task, outcome in run_tasks(workers, waiting):
                image, tile = task.key
                if isinstance(outcome, Exception):
                    run.fail(image, outcome)
                elif tile is None:
                    _note_image(run, image, outcome)
                else:
                    _note_tile(run, image, outcome)
                    progress.advance(tile.window.shape.y * tile.window.shape.x)
                    left[image.output] -= 1
                    if not left[image.output]:
                        ready.append(image)
            if not ready:
                return
            waiting = iter([_finish_task(run, image) for image in ready])
            ready.clear()


def _tile_task(run: Run, image: Image, tile: Tile) -> Task:
    plan = run.plan
    known = run.statistics[image.polarisation][image.layer]
    summary = _summary(run, image.polarisation) if plan.despeckler.n_summary else ""
    arguments = (plan.despeckler, image.raster, known, plan.stack.grid.shape, tile, image.layer,
                 _pixels(run, image.polarisation), summary)  # fmt: skip
    return Task(tasks.despeckle_tile, arguments, (image, tile))


def _finish_task(run: Run, image: Image) -> Task:
    plan = run.plan
    description = f"{plan.stack.calibration} {image.polarisation}".strip()
    source = _pixels(run, image.polarisation)
    arguments = (source, image.layer, plan.stack.grid, plan.config.tile_px, str(image.output),
                 description, _tags(run, image))  # fmt: skip
    return Task(tasks.finish_image, arguments, (image, None))


def _tags(run: Run, image: Image) -> dict[str, str]:
    """Say in the file where it comes from (names as in users' tools)."""
    plan = run.plan
    date = plan.stack.dates[image.layer]
    known = run.statistics[image.polarisation][image.layer]
    time = "" if str(date.time) == "NaT" else f"{date.time.astype('datetime64[s]')}Z"
    tags = {
        "ACQUISITION_DATETIME": time,
        "PLATFORM": date.platform,
        "ORBIT_DIRECTION": date.orbit_direction,
        "RELATIVE_ORBIT": "" if date.relative_orbit is None else str(date.relative_orbit),
        "POLARIZATION": image.polarisation.upper(),
        "CALIBRATION": plan.stack.calibration,
        "BACKSCATTER_SCALE": "linear",
        "SPECKLE_FILTER": plan.despeckler.name,
        **{f"SPECKLE_{k.upper()}": v for k, v in plan.despeckler.settings().items()},
        "HALO_PX": str(plan.despeckler.halo),
        "TILE_SIZE_PX": str(plan.config.tile_px),
        "INPUT_FILE": Path(image.raster.path).name,
        "ENL_BEFORE": f"{known.looks:.2f}",
        "ENL_SOURCE": known.looks_source,
        "SPECKLE_CORRELATION": f"{known.correlation[0]:.2f} {known.correlation[1]:.2f}",
        "PROCESSING_DATETIME": now_utc(),
        "SARSTACK_VERSION": __version__,
        "TIFFTAG_SOFTWARE": f"sarstack {__version__}",
        FINGERPRINT_TAG: image.fingerprint,
    }
    return {name: value for name, value in tags.items() if value}


def _note_tile(run: Run, image: Image, record: tasks.TileRecord) -> None:
    notes = run.images.setdefault(
        image.output, {"valid_px": 0, "sum_before": 0.0, "sum_after": 0.0, "seconds": 0.0}
    )
    notes["valid_px"] += record.n_valid
    notes["sum_before"] += record.sum_before
    notes["sum_after"] += record.sum_after
    notes["seconds"] += record.seconds
    run.peak_bytes = max(run.peak_bytes, record.peak_bytes)


def _note_image(run: Run, image: Image, record: tasks.ImageRecord) -> None:
    notes = run.images.setdefault(image.output, {})
    notes["enl_after"] = record.enl_after
    run.peak_bytes = max(run.peak_bytes, record.peak_bytes)
    LOGGER.debug("finished %s", image.output.name)


def _draw(run: Run) -> None:
    """Draw the image in the middle of the run, before and after."""
    from sarstack.report import draw_quicklook

    made = [image for image in run.plan.images if image.output not in run.failures]
    if made:
        image = made[len(made) // 2 // len(run.statistics) * len(run.statistics)]
        picture = run.plan.output / "quicklook.png"
        draw_quicklook(image.raster, image.output, image.polarisation, picture)


def _write_stac(run: Run) -> None:
    """Describe all finished images of the plan, those of earlier runs included."""
    import rasterio

    from sarstack.stac import Product, write_catalogue

    plan = run.plan
    if not plan.stack.grid.is_georeferenced or plan.stack.grid.gcps:
        LOGGER.warning("no STAC items: the images are not georeferenced by an affine")
        return
    products = []
    for layer, date in enumerate(plan.stack.dates):
        done = {i.polarisation: i.output for i in (*plan.finished, *plan.images)
                if i.layer == layer and i.output not in run.failures}  # fmt: skip
        if done and str(date.time) != "NaT":
            with rasterio.open(next(iter(done.values()))) as image:
                looks = float(image.tags()["ENL_BEFORE"])
            products.append(Product(date, done, looks))
    if products:
        name = f"{Path(plan.stack.path).stem}-{plan.despeckler.name}"
        settings = settings_of(plan.config, plan.despeckler)
        write_catalogue(plan.output / "stac", name, plan.stack.grid, products, settings)


def _record(run: Run, started: str) -> Outcome:
    """Write run.json and sum the run up."""
    plan = run.plan
    failures = {image.raster.path: str(run.failures[image.output])
                for image in plan.images if image.output in run.failures}  # fmt: skip
    failures |= dict(plan.stack.skipped)
    done = [i.output for i in (*plan.finished, *plan.images) if i.output not in run.failures]
    for path, notes in run.images.items():
        if notes.get("sum_before"):
            notes["mean_ratio"] = notes.pop("sum_after") / notes.pop("sum_before")
        notes["output"] = path.name
    record = {
        "sarstack": __version__,
        "started": started,
        "ended": now_utc(),
        "settings": settings_of(plan.config, plan.despeckler),
        "looks": {
            polarisation: next((known.looks for known in dates.values()), None)
            for polarisation, dates in run.statistics.items()
        },
        "images": list(run.images.values()),
        "finished_before": [image.output.name for image in plan.finished],
        "failures": failures,
        "peak_memory_bytes": run.peak_bytes,
        "estimated_memory_bytes": plan.memory_bytes,
    }
    write_json(plan.output / "run.json", record)
    return Outcome(plan.output, tuple(sorted(done)), failures, run.peak_bytes)
