"""Despeckle a stack: plan, measure the speckle, compute tiles, write COGs and the record."""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sarstack.cluster.check import check_workers
from sarstack.cluster.dispatch import Task, run_groups
from sarstack.cluster.layout import LOCAL
from sarstack.cluster.workers import Workers, open_workers
from sarstack.despecklers.external import absolute_method, is_method_file
from sarstack.errors import DiskError, ResumeMismatchError, UsageError
from sarstack.output.cog import check_compression
from sarstack.output.complete_file import write_text
from sarstack.readers.paths import absolute_path, public_path
from sarstack.readers.slices import describe_slices
from sarstack.tiles import Tile, split_evenly
from sarstack.workflows.despeckle import tasks
from sarstack.workflows.despeckle.all_dates import find_sums, first_pass_bytes, read_all_dates
from sarstack.workflows.despeckle.destination import find_output
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.measure import measure_images
from sarstack.workflows.despeckle.plan import Plan, plan_despeckle
from sarstack.workflows.despeckle.preparation import prepare_workers
from sarstack.workflows.despeckle.record import (
    complete_results,
    delete_leftovers,
    write_record,
)
from sarstack.workflows.despeckle.results import (
    UNFINISHED_FOLDER,
    delete_results,
    keep_records,
)
from sarstack.workflows.despeckle.state import Outcome, Run
from sarstack.workflows.despeckle.tags import make_tags
from sarstack.workflows.despeckle.upload import fetch_record, open_uploads, upload_run_files
from sarstack.workflows.disk import explain_disk_errors
from sarstack.workflows.fingerprint import FileStamp, fingerprint, settings_of, stamp_files
from sarstack.workflows.folder import check_space, make_folder
from sarstack.workflows.lock import claim_folder
from sarstack.workflows.progress import (
    count_images,
    log_to,
    now_utc,
    read_json,
    show_progress,
    write_json,
)
from sarstack.workflows.settings import AUTO, DespeckleConfig

LOGGER = logging.getLogger("sarstack")


def despeckle(config: DespeckleConfig, *, overwrite: bool = False, verify: bool = False) -> Outcome:
    """Despeckle all dates and polarisations of a stack into COGs.

    Parameters
    ----------
    config : DespeckleConfig
        Stack, output folder, method, workers and other settings.
    overwrite : bool
        Replace finished results, and delete unfinished ones of other settings.
    verify : bool
        Compare every byte of finished results with their checksums. Else damage is found only if
        it changes the size of a file or makes its header unreadable.

    Returns
    -------
    Outcome
        Paths of the results, and failures.

    Raises
    ------
    SarstackError
        If the stack, the settings or the cluster cannot be used; before any work.

    Notes
    -----
    After an interruption the same call continues: finished images have their names, finished
    tiles are in a hidden folder beside them. An image that fails does not stop the others; see
    :meth:`Outcome.raise_failures`.
    """
    if config.finetune:
        config = finetune_first(config, overwrite=overwrite)
    if config.cluster == LOCAL:
        prepare_workers(config.method)
    plan = plan_despeckle(config, overwrite=overwrite, verify=verify)
    return carry_out(plan, overwrite=overwrite)


def carry_out(plan: Plan, *, overwrite: bool = False) -> Outcome:
    """Carry out a plan, see :func:`despeckle`."""
    make_folder(plan.output)
    if plan.remote:
        fetch_record(plan.remote, plan.output)
    run = Run(plan, plan.output / UNFINISHED_FOLDER)
    started = now_utc()
    with (
        explain_disk_errors(plan.output, 2 * plan.bytes_to_write),
        claim_folder(plan.output),
        log_to(plan.output / "log.txt"),
    ):
        _announce(plan)
        continued = run.folder.exists()
        keep_records(plan.output)
        write_text(plan.output / "run.yaml", _effective(plan).to_yaml())
        with open_uploads(run):
            _make_images(run, overwrite=overwrite)
        complete_results(run, started, continued=continued)
        outcome = write_record(run, started)
        upload_run_files(run)
        delete_leftovers(run)
    return outcome


def _make_images(run: Run, *, overwrite: bool) -> None:
    """Compute the images that are not finished."""
    plan, config = run.plan, run.plan.config
    if not plan.images:
        return
    plan.check_memory()
    check_compression(config.compress)
    check_space(plan.output, 2 * plan.bytes_to_write + first_pass_bytes(run))
    _open_unfinished(run, overwrite=overwrite)
    if overwrite:
        _delete_old_extras(run)
    on_gpu = plan.despeckler.on_gpu
    with open_workers(config.cluster, config.workers, on_gpu=on_gpu) as workers:
        if workers.dashboard:
            LOGGER.info("dashboard: %s", workers.dashboard)
        check_workers(
            workers, plan.stack, run.folder,
            models=plan.despeckler.files(), source=plan.despeckler.source,
        )  # fmt: skip
        measure_images(run, workers)
        read_all_dates(run, workers)
        _compute(run, workers)


def _delete_old_extras(run: Run) -> None:
    """Delete speckle and extras of images that are made again without them: they would not fit."""
    plan = run.plan
    made = {path.name for image in (*plan.images, *plan.finished) for path in image.outputs}
    names = {name for image in plan.images for name in image.second_names}
    delete_results(plan.output, names - made, plan.remote)


def _effective(plan: Plan) -> DespeckleConfig:
    """Return the settings with absolute paths, so that run.yaml works from any folder."""
    config = plan.config
    method = config.method
    if method.endswith(".safetensors"):
        method = absolute_path(method)
    elif is_method_file(method):
        method = absolute_method(method)
    paths = {
        "stack": absolute_path(config.stack),
        "method": method,
        "output": plan.destination,
    }
    return config.model_copy(update=paths)


def finetune_first(config: DespeckleConfig, *, overwrite: bool) -> DespeckleConfig:
    """Finetune the network on the stack, and return settings with the new model.

    The model lies in the output folder. A resumed run uses it without tuning again.
    """
    from sarstack.networks.card import DESPECKLING_VARIANTS, PART_VARIANTS
    from sarstack.networks.model_file import shipped_model
    from sarstack.workflows.learning.finetune import finetune_on_stack
    from sarstack.workflows.settings import FinetuneConfig

    start = "despecknet" if config.method == AUTO else config.method
    variants = (*DESPECKLING_VARIANTS, *PART_VARIANTS)
    if start in variants:
        start = str(shipped_model(start))
    elif not start.endswith(".safetensors"):
        raise UsageError(
            f"method {config.method!r} is not a network and cannot be finetuned",
            expected=f"{' or '.join(variants)}, or a .safetensors model",
            do="choose a network, or leave out --finetune",
        )
    _, output = find_output(config)
    make_folder(output)
    model = output / "finetuned.safetensors"
    if overwrite or not model.exists():
        shared = FinetuneConfig.model_fields.keys() & DespeckleConfig.model_fields.keys()
        entries = config.model_dump(include=shared - {"output"})
        tuning = FinetuneConfig.make(**entries, model=start, output=str(model))
        LOGGER.info("%s", finetune_on_stack(tuning, overwrite=overwrite).message)
    return config.model_copy(
        update={"method": str(model), "finetune": False, "output": config.output or str(output)}
    )


def _announce(plan: Plan) -> None:
    LOGGER.info(
        "%s to do, %s; %d tiles; about %.0f MB per worker; into %s",
        count_images(len(plan.images)), plan.describe_finished(), plan.n_tiles,
        plan.memory_bytes / 1e6, plan.output,
    )  # fmt: skip
    if not plan.stack.is_coregistered:
        LOGGER.info("%s", plan.describe_size())
    if joined := describe_slices([image.raster for image in plan.images]):
        LOGGER.info("joined: %s", joined)


def _open_unfinished(run: Run, *, overwrite: bool) -> None:
    """Create the folder of unfinished work, or continue the one of an interrupted run."""
    plan = run.plan
    images = sorted(image.fingerprint for image in (*plan.images, *plan.finished))
    settings = settings_of(plan.config, plan.despeckler) | {
        "tile_px": plan.config.tile_px,
        # Sorted, so that it does not depend on which images are finished.
        "images": f"{len(images)} images, {fingerprint(*images)}",
    }
    manifest = run.folder / "manifest.json"
    found = read_json(manifest)
    wanted: dict[str, Any] = {key: str(value) for key, value in settings.items()}
    run.inputs = stamp_files(plan.stack)
    inputs = {public_path(path): stamp for path, stamp in run.inputs.items()}
    before = (found or {}).pop("inputs", inputs)
    # Settings of a run that computed no tile need not match.
    new = found is None or not any(run.folder.glob("*/*/*"))
    changed = found == wanted and before != inputs
    # With keep_dates a run is not repeated as it was: sums of other dates are of no use any more.
    added = plan.config.keep_dates and (found or {}) | {"images": wanted["images"]} == wanted
    if new or (overwrite and found != wanted) or changed or (added and found != wanted):
        if not new and (changed or added):
            names = ", ".join(_name_changed(before, inputs)) or "the list of images"
            LOGGER.warning("%s came or may have changed since the interruption: unfinished work "
                           "starts again", names)  # fmt: skip
        shutil.rmtree(run.folder, ignore_errors=True)
        run.folder.mkdir(parents=True)
        write_json(manifest, wanted | {"inputs": inputs})
    elif found is not None and found != wanted:
        differs = [f"{key}: {found.get(key)} before, {wanted[key]} now" for key in wanted
                   if found.get(key) != wanted[key]]  # fmt: skip
        differs += [f"changed: {name}" for name in _name_changed(before, inputs)]
        raise ResumeMismatchError(
            "the output folder has an interrupted run "
            + ("with other settings" if found else "whose record of settings is damaged"),
            expected="the settings and inputs of the interrupted run",
            where=differs,
            do="repeat the earlier command to finish it, or --overwrite to start again",
        )
    else:
        LOGGER.info("continuing an interrupted run")


def _name_changed(before: dict[str, FileStamp], now: dict[str, FileStamp]) -> list[str]:
    """Name the files that changed, came or went."""
    paths = sorted({*before, *now})
    return [Path(path).name for path in paths if before.get(path) != now.get(path)]


def _is_of_one_version(run: Run, image: Image) -> bool:
    """Return whether the file of an image is the one that the run began with; else it fails."""
    if not run.changed_inputs(image.raster.versions):
        return True
    run.fail(image, "it changed while it was read")
    run.delete_pieces(image)
    return False


def _compute(run: Run, workers: Workers) -> None:
    """Despeckle all tiles, and write the COG of an image after its last tile."""
    plan = run.plan
    tiles_left: Counter[Path] = Counter()
    ready: list[Image] = []

    def groups() -> Iterator[Iterator[Task]]:
        """Yield one group of tiles for each image; several groups if there are few images."""
        images = run.todo()
        for index, image in enumerate(images):
            tiles = run.missing_tiles(image)
            tiles_left[image.output] = len(tiles)
            if not tiles:
                ready.append(image)
            n_groups = -(-len(workers.processes()) // (len(images) - index))
            for group in split_evenly(tiles, n_groups):
                yield jobs(image, group)

    def jobs(image: Image, tiles: Sequence[Tile]) -> Iterator[Task]:
        for tile in tiles:
            while ready:
                yield _finish_task(run, ready.pop())
            if image.output not in run.failures:
                yield _tile_task(run, image, tile)

    with show_progress("despeckling", plan.total_px) as progress:
        waiting = groups()
        while True:
            for task, outcome in run_groups(workers, waiting):
                image, tile = task.key
                if isinstance(outcome, DiskError):
                    raise outcome
                if isinstance(outcome, Exception):
                    run.fail(image, outcome)
                elif tile is None:
                    run.note_image(image, outcome)
                else:
                    run.note_tile(outcome)
                    progress.advance(tile.window.shape.y * tile.window.shape.x)
                    tiles_left[image.output] -= 1
                    if not tiles_left[image.output] and _is_of_one_version(run, image):
                        ready.append(image)
            if not ready:
                return
            waiting = (iter([_finish_task(run, image)]) for image in [*ready])
            ready.clear()


def _tile_task(run: Run, image: Image, tile: Tile) -> Task:
    statistics = run.statistics[image.polarisation][image.layer]
    arguments = (image.despeckler, image.raster, statistics, tile, run.pieces(image),
                 find_sums(run, image), run.extras(image))  # fmt: skip
    return Task(tasks.despeckle_tile, arguments, (image, tile))


def _finish_task(run: Run, image: Image) -> Task:
    description = image.describe(run.plan.stack.calibration)
    source = image.raster.read_metadata()
    grid = replace(image.grid, rpcs=source.rpcs or image.grid.rpcs)
    tags = make_tags(run, image, source.tags)
    arguments = (run.pieces(image), grid, str(image.output), description, tags,
                 run.plan.config.compress, run.extras(image))  # fmt: skip
    return Task(tasks.finish_image, arguments, (image, None))
