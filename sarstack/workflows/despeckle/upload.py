"""Upload finished images while others are computed, and the files of the run at its end.

The run works in a local folder. A COG is deleted there when its upload is verified; small files
stay.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from sarstack.errors import SarstackError
from sarstack.output.vrt import name_db_view
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.results import RUN_RECORD, RUN_REPORT
from sarstack.workflows.despeckle.state import Run
from sarstack.workflows.remote_folder import RemoteFolder

LOGGER = logging.getLogger("sarstack")
_N_UPLOADS = 2
_RUN_FILES = ("quicklook.png", RUN_REPORT, "log.txt", "finetuned.safetensors", RUN_RECORD)


@contextmanager
def open_uploads(run: Run) -> Iterator[None]:
    """Upload every image that the run finishes, and those that an earlier run did not upload.

    At the end, wait for all uploads. An image whose upload fails counts as failed: it stays in the
    work folder, and the next run uploads it.
    """
    if run.plan.remote is None:
        yield
        return
    uploads: dict[Image, Future[None]] = {}
    # Shows before any work whether the folder can be written.
    run.plan.remote.upload(run.plan.output / "run.yaml", "run.yaml")
    with ThreadPoolExecutor(_N_UPLOADS) as threads:

        def start(image: Image) -> None:
            if run.plan.remote and image.output.exists():
                uploads[image] = threads.submit(_upload_image, image, run.plan.remote)

        run.when_finished = start
        for image in run.plan.finished:
            start(image)
        yield
        for image, upload in uploads.items():
            failure = upload.exception()
            if isinstance(failure, SarstackError):
                run.fail(image, failure)
            elif failure:
                raise failure


def _upload_image(image: Image, folder: RemoteFolder) -> None:
    """Upload side-cars, dB view and uncertainty, then the COG: when it is there, nothing misses."""
    cogs = [path.name for path in reversed(image.outputs)]
    names = [*(f"{name}.aux.xml" for name in cogs), name_db_view(image.output).name, *cogs]
    local = image.output.parent
    for name in names:
        if (local / name).exists():
            folder.upload(local / name, name)
    for name in cogs:
        (local / name).unlink(missing_ok=True)
    LOGGER.debug("uploaded %s", image.output.name)


def fetch_record(folder: RemoteFolder, output: Path) -> None:
    """Download the record of earlier runs if the work folder has none."""
    if not (output / RUN_RECORD).exists() and RUN_RECORD in folder.list_sizes():
        folder.download(RUN_RECORD, output / RUN_RECORD)


def upload_run_files(run: Run) -> None:
    """Upload quicklook, log, STAC items and missing dB views, and run.json after them."""
    folder, output = run.plan.remote, run.plan.output
    if folder is None:
        return
    present = folder.list_sizes()
    views = [view.name for i in run.plan.finished if (view := name_db_view(i.output)).exists()]
    items = [p.relative_to(output).as_posix() for p in (output / "stac").rglob("*.json")]
    names = [*(view for view in views if view not in present), *items, *_RUN_FILES]
    folder.upload_all(output, [name for name in names[:-1] if (output / name).exists()])
    folder.upload(output / RUN_RECORD, RUN_RECORD)
