"""What is checked before a run: the numbers of its input, and the places of its output."""

import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sarstack.despecklers import Despeckler
from sarstack.errors import StackReadError, UsageError
from sarstack.output.vrt import name_db_view
from sarstack.readers.decorrelated import DecorrelatedRaster, read_centred
from sarstack.readers.paths import file_name
from sarstack.readers.raster import Raster
from sarstack.readers.stack import Stack
from sarstack.speckle.complex_parts import check_powers, describe_asymmetry
from sarstack.tiles import sample_windows
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.results import RUN_RECORD, RUN_REPORT, UNFINISHED_FOLDER
from sarstack.workflows.places import check_places
from sarstack.workflows.remote_folder import RemoteFolder
from sarstack.workflows.settings import DespeckleConfig

LOGGER = logging.getLogger("sarstack")
# Of the 36 sample windows of a complex image, each sixth shows whether its spectrum is symmetric.
SPECTRUM_WINDOW_STEP = 6


def check_numbers(stack: Stack, despeckler: Despeckler) -> None:
    """Raise if the method needs complex numbers, and an image has none that can be used."""
    rasters = [r for own in stack.rasters.values() for r in own if r is not None]
    if despeckler.needs_complex:
        despeckler.check_complex([file_name(r.opened_path) for r in rasters if not r.complex_as])
        for raster in rasters:
            raster.check_baseband()
    if despeckler.needs_complex or isinstance(rasters[0], DecorrelatedRaster):
        check_independence(rasters[0])


def check_independence(raster: Raster) -> None:
    """Raise if real and imaginary part have different powers; warn if they are not independent.

    They are not if the spectrum is not symmetric, although its middle was moved. Of an image that
    is decorrelated while it is read, the stored numbers are looked at.
    """
    if isinstance(raster, DecorrelatedRaster):
        raster = raster.stored
    windows = sample_windows(raster.shape)[::SPECTRUM_WINDOW_STEP]
    with suppress(StackReadError):  # the task of this image will tell
        fields = [read_centred(raster, window) for window in windows]
        name = file_name(raster.opened_path)
        check_powers(fields, name)
        if text := describe_asymmetry(fields, name):
            LOGGER.warning("%s", text)


def check_names(config: DespeckleConfig, output: Path, images: tuple[Image, ...]) -> None:
    """Raise if something that the run did not make has the name of a file that it will write."""
    names = ["log.txt", "run.yaml", RUN_RECORD, RUN_REPORT, "quicklook.png"]
    results = [path for image in images for path in image.outputs]
    views = [name_db_view(image.output) for image in images]
    files = [*(output / name for name in names), *results, *views]
    folders = [output / "stac"] if config.stac else []
    check_places(files, folders, own_folders=[output / UNFINISHED_FOLDER])


def refuse_input_folder(
    rasters: Iterable[Raster | None], output: Path, remote: RemoteFolder | None = None
) -> None:
    """Refuse an output folder that has input images: a later run would read results as input.

    Parameters
    ----------
    rasters : iterable of Raster or None
        The input images.
    output : Path
        Local folder.
    remote : RemoteFolder, optional
        Where results are uploaded to.
    """
    paths = {raster.path for raster in rasters if raster is not None}
    if remote and any(path.rpartition("/")[0] == remote.url for path in paths):
        place, do = remote.url, remote.place("despeckled")
    elif output.resolve() in {Path(path).resolve().parent for path in paths}:
        place, do = str(output), str(output / "results")
    else:
        return
    raise UsageError(
        f"the output folder {place} has images of the stack",
        expected="another folder: a later run would read results as input",
        do=f"choose another folder, for instance -o {do}",
    )
