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
    complete: list[_Complete] = []
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
            tags = sound[image.output.name].tags
            gone = image.dates.find_gone(tags) if unfit else []
            complete.append(_Complete(image, bool(unfit), hash(tags.get(DATES_TAG)), gone))
    if others and refuse:
        raise _mismatch(others, refuse, keep_dates=keep_dates)
    return _keep_pairs(images, complete)


class _Complete(NamedTuple):
    """An image of which all files are there, without its tags: in a long series these are large.

    Attributes
    ----------
    image : Image
    has_other_dates : bool
        Whether it has seen other dates than the stack has now.
    seen : int
        Hash of the dates that it has seen.
    gone : list of str
        Those of them that are not in the stack any more.
    """

    image: Image
    has_other_dates: bool
    seen: int
    gone: list[str]


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


def _keep_pairs(images: Iterable[Image], complete: list[_Complete]) -> Finished:
    """Leave out kept images whose speckle would have seen other dates: both are made again."""
    seen_by_output = {one.image.output: one.seen for one in complete}
    seen: dict[tuple[str, int], set[int | None]] = {}
    for image in images:
        of_date = seen.setdefault((image.polarisation, image.layer), set())
        of_date.add(seen_by_output.get(image.output))
    finished = [one for one in complete if not one.has_other_dates
                or len(seen[one.image.polarisation, one.image.layer]) == 1]  # fmt: skip
    kept = [one for one in finished if one.has_other_dates]
    if gone := [*dict.fromkeys(name for one in kept for name in one.gone)]:
        named = ", ".join(gone[:_N_NAMED]) + (", ..." if len(gone) > _N_NAMED else "")
        LOGGER.warning("kept images have seen dates that are not in the stack any more (%d): %s",
                       len(gone), named)  # fmt: skip
    return Finished(tuple(one.image for one in finished), tuple(one.image for one in kept))


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
