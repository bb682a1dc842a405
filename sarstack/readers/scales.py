"""The scale of a stack: declared by user, tags or names, checked against the stored numbers."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from sarstack.conventions import SCALES, Scale
from sarstack.errors import ScaleError, StackReadError, UsageError
from sarstack.readers.image import Image
from sarstack.readers.names import find_scale_word
from sarstack.readers.problems import Problems
from sarstack.readers.radiometry import guess_scale, median_local_looks, scale_conflict
from sarstack.tiles import Shape, Window

_SAMPLE_PX = 64
_ENOUGH_PIXELS = 512
_MIN_ZERO_FRACTION = 0.01
_N_THREADS = 8
_GIVE_SCALE = "give the scale: --scale linear, --scale amplitude or --scale db"
# The looks of amplitude, computed as if it were intensity, are four times too many (17 for 4.4).
_SUSPICIOUS_LOOKS = 12.0
# Sample windows as fractions of height and width: the centre first, the corners last.
_PLACES = (
    (0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25),
    (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0),
)  # fmt: skip


def parse_scale(word: str | None) -> Scale | None:
    """Return the scale that the user's word means (``power``, ``dB``, ``amplitude``, ...).

    Raises
    ------
    UsageError
        If the word is not known.
    """
    if word is None:
        return None
    scale = find_scale_word(word)
    if scale is None:
        raise UsageError(
            f"scale = {word!r} is not known",
            expected=f"one of {', '.join(SCALES)} (or power, intensity, decibel)",
            do="give the scale of the numbers in the files",
        )
    return scale


def decide_scale(
    images: Sequence[Image], scale: Scale | None, problems: Problems
) -> tuple[Scale, tuple[float, ...]]:
    """Decide the scale of the stored numbers, which all images of a stack share.

    Parameters
    ----------
    images : sequence of Image
        All images of the stack.
    scale : {"linear", "amplitude", "db"} or None
        Given by the user. Used instead of tags and names; must fit the numbers too.
    problems : Problems
        Receives a ScaleError if the scale is unknown, or if tags, numbers or dates disagree.

    Returns
    -------
    scale : {"linear", "amplitude", "db"}
        If an error was added to `problems`, the value must not be used: it is ``linear``, or the
        declared scale that the numbers contradict.
    nodata : tuple of float
        Stored numbers found to be nodata: zero in decibel, if 1 % of the samples are zero.

    Notes
    -----
    Reads nine windows of 64 x 64 pixels of the first, middle and last date of each
    polarisation. Of all other dates, it reads windows until 512 pixels are valid.
    """
    declared = scale or _find_declared(images, problems)
    samples = _read_samples(images, problems)
    if problems.errors and declared is None and any(i.declared for i in images):
        return "linear", ()  # a guess would only add a second error
    decided = declared or _guess(images, samples, problems)
    if decided is None:
        return "linear", ()
    _check_samples(images, samples, decided, problems, "--scale" if scale else "the tag or name")
    return decided, _find_zero_borders(samples, decided, problems)


def _find_declared(images: Sequence[Image], problems: Problems) -> Scale | None:
    """Return the scale that all images declare, None if some do not or they disagree."""
    sources: dict[Scale, list[str]] = {}
    for image in images:
        for scale, source in image.declared:
            sources.setdefault(scale, []).append(f"{image.name} ({source})")
    if len(sources) > 1:
        problems.add(
            ScaleError(
                "tags and names disagree on the scale of the numbers",
                expected="all images of a stack on one scale",
                where=[f"{scale}: {names[0]}" for scale, names in sources.items()],
                do="move the images of each scale into a folder of their own, or " + _GIVE_SCALE,
            )
        )
        return None
    if not all(image.declared for image in images):
        # A tag on some images does not hold for the others: the numbers decide.
        return None
    return next(iter(sources), None)


def _read_samples(images: Sequence[Image], problems: Problems) -> list[NDArray[np.float64]]:
    """Read a sample of each image; NaN for an image that cannot be read, with an error."""
    read_fully = {0, len(images) // 2, len(images) - 1}
    for polarisation in {i.metadata.polarisation for i in images}:
        same = [k for k, i in enumerate(images) if i.metadata.polarisation == polarisation]
        read_fully |= {same[0], same[len(same) // 2], same[-1]}

    def read(k: int) -> NDArray[np.float64] | StackReadError:
        try:
            return _read_sample(images[k], all_windows=k in read_fully)
        except StackReadError as err:
            return err

    with ThreadPoolExecutor(_N_THREADS) as pool:
        results = list(pool.map(read, range(len(images))))
    for result in results:
        if isinstance(result, StackReadError):
            problems.add(result)
    unreadable = np.full((1, _SAMPLE_PX, _SAMPLE_PX), np.nan)
    return [unreadable if isinstance(r, StackReadError) else r for r in results]


def _read_sample(image: Image, *, all_windows: bool) -> NDArray[np.float64]:
    """Read windows from the centre outwards, until enough pixels are valid or all nine are read."""
    shape = image.grid.shape
    size = Shape(min(_SAMPLE_PX, shape.y), min(_SAMPLE_PX, shape.x))
    places, found, valid = [], [], 0
    for fy, fx in _PLACES:
        # Begin at multiples of 64: a window that crosses blocks of the file decodes all of them.
        y0, x0 = (round(f * (n - s)) // _SAMPLE_PX * _SAMPLE_PX
                  for f, n, s in ((fy, shape.y, size.y), (fx, shape.x, size.x)))  # fmt: skip
        places.append(Window(y0, y0 + size.y, x0, x0 + size.x))
    for numbers in image.raster.read_unpacked(places):
        found.append(numbers.astype(np.float64))
        valid += int(np.count_nonzero(np.isfinite(numbers) & (numbers != 0)))
        if (not all_windows and valid >= _ENOUGH_PIXELS) or size == shape:
            break
    return np.stack(found)


def _guess(
    images: Sequence[Image], samples: Sequence[NDArray[np.float64]], problems: Problems
) -> Scale | None:
    guesses = [guess_scale(_valid(sample)) for sample in samples]
    names: dict[Scale, list[str]] = {}
    for image, (scale, _) in zip(images, guesses, strict=True):
        if scale:
            names.setdefault(scale, []).append(image.name)
    if len(names) == 1:
        (scale,) = names
        if scale == "linear":
            _warn_if_amplitude(images, samples, problems)
        return scale
    if names:
        what = "the images are not all on one scale"
        where = [
            f"{len(same)} with values typical of {scale}: {same[0]}"
            for scale, same in names.items()
        ]
        do = "move the images of each scale into a folder of their own"
    else:
        what = "it is not clear whether the numbers are linear intensity, amplitude or decibel"
        where = [f"{i.name}: {why}" for i, (_, why) in zip(images, guesses, strict=True)]
        do = _GIVE_SCALE
    expected = "a unit or tag with the scale, or numbers that can only be of one scale"
    problems.add(ScaleError(what, expected=expected, where=sorted(where), do=do))
    return None


def _warn_if_amplitude(
    images: Sequence[Image], samples: Sequence[NDArray[np.float64]], problems: Problems
) -> None:
    looks = [median_local_looks(np.where(s == 0, np.nan, s)) for s in samples]
    measured = [v for v in looks if np.isfinite(v)]
    if measured and np.median(measured) > _SUSPICIOUS_LOOKS:
        problems.warn(
            f"the numbers are used as linear intensity, but have about {np.median(measured):.0f} "
            "looks: this is usual for amplitude and for filtered images",
            where=[images[0].name],
            do="if they are amplitude, use --scale amplitude",
        )


def _check_samples(
    images: Sequence[Image],
    samples: Sequence[NDArray[np.float64]],
    scale: Scale,
    problems: Problems,
    source: str,
) -> None:
    conflicts: dict[str, str] = {}
    for image, sample in zip(images, samples, strict=True):
        conflict = scale_conflict(_valid(sample), scale)
        if conflict:
            conflicts[image.name] = conflict
    if not conflicts:
        return
    first = next(iter(conflicts.values()))
    if len(conflicts) == len(images):
        what = f"{source} says the numbers are {scale}, but {first}"
    else:
        what = (
            f"{len(conflicts)} of {len(images)} images are not {scale}, unlike the others; {first}"
        )
    problems.add(
        ScaleError(
            what,
            expected=f"{scale} numbers in all images",
            where=list(conflicts),
            do="correct the tag, keep images of one scale together, or " + _GIVE_SCALE,
        )
    )


def _find_zero_borders(
    samples: Sequence[NDArray[np.float64]], scale: Scale, problems: Problems
) -> tuple[float, ...]:
    if scale != "db":
        return ()
    fraction = np.mean(np.concatenate([s.ravel() for s in samples]) == 0)
    if fraction < _MIN_ZERO_FRACTION:
        return ()
    problems.warn(
        f"{fraction:.0%} of the decibel values are exactly 0: they are used as nodata",
        do="write the nodata value into the files, for example gdal_edit.py -a_nodata 0",
    )
    return (0.0,)


def _valid(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers that are finite and not zero."""
    return np.asarray(sample[np.isfinite(sample) & (sample != 0)])
