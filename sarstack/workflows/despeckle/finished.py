"""Find the images that earlier runs finished, and refuse results that do not fit to a run."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sarstack.errors import ResumeMismatchError
from sarstack.workflows.despeckle.images import Image
from sarstack.workflows.despeckle.results import (
    Inspection,
    inspect_remote,
    inspect_result,
    read_records,
)
from sarstack.workflows.despeckle.seen_dates import DATES_TAG
from sarstack.workflows.remote_folder import RemoteFolder

LOGGER = logging.getLogger("sarstack")
_N_NAMED = 3


class Finished(NamedTuple):
    """Images that earlier runs finished.

    Attributes
    ----------
    images : tuple of Image
    kept : tuple of Image
        Those of them that have seen other dates than the stack has now (`keep_dates`).
    """

    images: tuple[Image, ...] = ()
    kept: tuple[Image, ...] = ()


def find_finished(
    images: tuple[Image, ...],
    inspect: Callable[[Path], Inspection | None],
    *,
    refuse: str,
    keep_dates: bool,
) -> Finished:
    """Find the images that a run need not make.

    Parameters
    ----------
    images : tuple of Image
        All images of the run.
    inspect : callable
        Returns what was found of an output, None if it is not there; see :func:`open_results`.
    refuse : str
        What is expected of results with other settings or inputs, for the error; empty: they are
        ignored, and made again.
    keep_dates : bool
        Keep results of a multi-temporal method that have seen other dates.

    Raises
    ------
    ResumeMismatchError
        If results have other settings or inputs.
    """
    complete: list[tuple[Image, dict[str, Inspection]]] = []
    others: dict[str, str] = {}
    for image in images:
        sound = _find_sound(image, inspect)
        unfit = {
            name: image.dates.refuse_reason(found.tags)
            for name, found in sound.items()
            if found.fingerprint != image.fingerprint
        }
        others |= {name: reason for name, reason in unfit.items() if reason or not keep_dates}
        if not {*unfit} & {*others} and len(sound) == len(image.outputs):
            complete.append((image, sound))
    if others and refuse:
        raise _mismatch(others, refuse, keep_dates=keep_dates)
    return _keep_pairs(images, complete)


def _find_sound(
    image: Image, inspect: Callable[[Path], Inspection | None]
) -> dict[str, Inspection]:
    """Return what was found of the outputs of an image; of damaged ones only a warning."""
    sound = {}
    for path in image.outputs:
        found = inspect(path)
        if found is not None and found.damage:
            LOGGER.warning("%s is made again: %s", path, found.damage)
        elif found is not None:
            sound[path.name] = found
    return sound


def _mismatch(others: Mapping[str, str], refuse: str, *, keep_dates: bool) -> ResumeMismatchError:
    """Return the error about results that do not fit, by name and reason (empty: other dates)."""
    keep = "" if any(others.values()) else ", or --keep-dates to keep them and make new dates only"
    return ResumeMismatchError(
        f"{len(others)} results in the output folder have other settings or inputs",
        expected=refuse,
        where=[f"{name}: {why}" for name, why in others.items()] if keep_dates else [*others],
        do=f"choose another folder with -o, or --overwrite to replace them{keep}",
    )


def _keep_pairs(
    images: Iterable[Image], complete: list[tuple[Image, dict[str, Inspection]]]
) -> Finished:
    """Leave out kept images whose speckle would have seen other dates: both are made again."""
    tags = {image.output: next(iter(sound.values())).tags for image, sound in complete}
    seen: dict[tuple[str, int], set[str]] = {}
    for image in images:
        of_image = tags.get(image.output, {}).get(DATES_TAG, "")
        seen.setdefault((image.polarisation, image.layer), set()).add(of_image)
    finished, kept, gone = [], [], dict[str, None]()
    for image, sound in complete:
        if all(found.fingerprint == image.fingerprint for found in sound.values()):
            finished.append(image)
        elif len(seen[image.polarisation, image.layer]) == 1:
            finished.append(image)
            kept.append(image)
            gone |= dict.fromkeys(image.dates.find_gone(tags[image.output]))
    if gone:
        named = ", ".join([*gone][:_N_NAMED]) + (", ..." if len(gone) > _N_NAMED else "")
        LOGGER.warning("kept images have seen dates that are not in the stack any more (%d): %s",
                       len(gone), named)  # fmt: skip
    return Finished(tuple(finished), tuple(kept))


def open_results(
    output: Path, remote: RemoteFolder | None, *, every_byte: bool
) -> Callable[[Path], Inspection | None]:
    """Return a function that compares an output, local or uploaded, with its record.

    Parameters
    ----------
    output : Path
        Local folder of the run.
    remote : RemoteFolder or None
        Where results are uploaded to.
    every_byte : bool
        See :func:`sarstack.workflows.despeckle.results.inspect_result`.
    """
    records = read_records(output)
    sizes = remote.list_sizes() if remote else {}

    def inspect(path: Path) -> Inspection | None:
        name = path.name
        if path.exists():
            return inspect_result(path, records.get(name), every_byte=every_byte)
        if remote and name in sizes:
            return inspect_remote(remote.place(name), sizes[name], records.get(name))
        return None

    return inspect
