"""Which scale the numbers of a stack have: what is declared, checked against what is stored."""

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
_ASK = "say what they are: --scale linear, --scale amplitude or --scale db"
# Calibrated amplitude taken for intensity shows four times its looks (4.4 becomes 17).
_SUSPICIOUS_LOOKS = 12.0


def parse_scale(word: str | None) -> Scale | None:
    """Return the scale that a user's word means (``power``, ``dB``, ``amplitude``, ...).

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
            do="choose the scale of the stored numbers",
        )
    return scale


def settle_scale(
    images: Sequence[Image], scale: Scale | None, problems: Problems
) -> tuple[Scale, tuple[float, ...]]:
    """Decide the scale of a stack, the same for all dates.

    Parameters
    ----------
    images : sequence of Image
        All images of the stack.
    scale : {"linear", "amplitude", "db"} or None
        What the user says; beats tags and names, but not the numbers.
    problems : Problems
        Gets a ScaleError when unsure, or when tags, numbers and dates disagree.

    Returns
    -------
    scale : {"linear", "amplitude", "db"}
        Meaningless when an error was found.
    nodata : tuple of float
        Stored numbers found to be nodata: zero in decibel that fills whole borders.

    Notes
    -----
    Reads a few small windows of the first, middle and last date and one of every other.
    """
    told = scale or _settle_declared(images, problems)
    samples = _read_samples(images, problems)
    if problems.errors and told is None and any(i.declared for i in images):
        return "linear", ()
    settled = told or _guess(images, samples, problems)
    if settled is None:
        return "linear", ()
    _check_samples(images, samples, settled, problems, "--scale" if scale else "the tag or name")
    return settled, _find_zero_borders(samples, settled, problems)


def _settle_declared(images: Sequence[Image], problems: Problems) -> Scale | None:
    said: dict[Scale, list[str]] = {}
    for image in images:
        for scale, source in image.declared:
            said.setdefault(scale, []).append(f"{image.name} ({source})")
    if len(said) > 1:
        problems.add(
            ScaleError(
                "tags and names disagree on the scale of the numbers",
                expected="all images of a stack on one scale",
                where=[f"{scale}: {names[0]}" for scale, names in said.items()],
                do="separate them into one folder for each scale, or " + _ASK,
            )
        )
        return None
    silent = [i.name for i in images if not i.declared]
    if said and silent:
        # A tag on some images only is a hint, not a declaration for all: the numbers decide.
        return None
    return next(iter(said), None)


def _read_samples(images: Sequence[Image], problems: Problems) -> list[NDArray[np.float64]]:
    full = {0, len(images) // 2, len(images) - 1}
    for polarisation in {i.facts.polarisation for i in images}:
        own = [k for k, i in enumerate(images) if i.facts.polarisation == polarisation]
        full |= {own[0], own[len(own) // 2], own[-1]}

    def read(k: int) -> NDArray[np.float64] | StackReadError:
        try:
            return _read_sample(images[k], whole=k in full)
        except StackReadError as err:
            return err

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read, range(len(images))))
    for result in results:
        if isinstance(result, StackReadError):
            problems.add(result)
    nothing = np.full((1, _SAMPLE_PX, _SAMPLE_PX), np.nan)
    return [nothing if isinstance(r, StackReadError) else r for r in results]


def _read_sample(image: Image, *, whole: bool) -> NDArray[np.float64]:
    """Read windows from the centre outwards, until there is enough or all nine were read."""
    shape = image.grid.shape
    size = Shape(min(_SAMPLE_PX, shape.y), min(_SAMPLE_PX, shape.x))
    places, found, valid = [], [], 0
    for fy, fx in _PLACES:
        # At multiples of 64: four blocks of a tiled file often meet in the middle.
        y0, x0 = (round(f * (n - s)) // _SAMPLE_PX * _SAMPLE_PX
                  for f, n, s in ((fy, shape.y, size.y), (fx, shape.x, size.x)))  # fmt: skip
        places.append(Window(y0, y0 + size.y, x0, x0 + size.x))
    for numbers in image.raster.read_numbers(places):
        found.append(numbers.astype(np.float64))
        valid += int(np.count_nonzero(np.isfinite(numbers) & (numbers != 0)))
        if (not whole and valid >= _ENOUGH_PIXELS) or size == shape:
            break
    return np.stack(found)


_PLACES = (
    (0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25),
    (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0),
)  # fmt: skip


def _guess(
    images: Sequence[Image], samples: Sequence[NDArray[np.float64]], problems: Problems
) -> Scale | None:
    guesses = [guess_scale(_known(sample)) for sample in samples]
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
        where = [f"{len(own)} look {scale}: {own[0]}" for scale, own in names.items()]
        do = "separate them into one folder for each scale"
    else:
        what = "it is not clear whether the numbers are linear intensity, amplitude or decibel"
        where = [f"{i.name}: {why}" for i, (_, why) in zip(images, guesses, strict=True)]
        do = _ASK
    expected = "a unit or tag that says it, or numbers that leave no doubt"
    problems.add(ScaleError(what, expected=expected, where=sorted(where), do=do))
    return None


def _warn_if_amplitude(
    images: Sequence[Image], samples: Sequence[NDArray[np.float64]], problems: Problems
) -> None:
    looks = [median_local_looks(np.where(s == 0, np.nan, s)) for s in samples]
    known = [v for v in looks if np.isfinite(v)]
    if known and np.median(known) > _SUSPICIOUS_LOOKS:
        problems.warn(
            f"the numbers are taken for linear intensity, but are unusually smooth (about "
            f"{np.median(known):.0f} looks): amplitude looks like this, and so do filtered images",
            where=[images[0].name],
            do="if they are amplitude, say so: --scale amplitude",
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
        conflict = scale_conflict(_known(sample), scale)
        if conflict:
            conflicts[image.name] = conflict
    if not conflicts:
        return
    first = next(iter(conflicts.values()))
    if len(conflicts) == len(images):
        what = f"{source} says the numbers are {scale}, but {first}"
    else:
        what = f"{len(conflicts)} of {len(images)} images are not {scale} as the others; {first}"
    problems.add(
        ScaleError(
            what,
            expected=f"{scale} numbers in all images",
            where=list(conflicts),
            do="correct the tag, keep images of one scale together, or " + _ASK,
        )
    )


def _find_zero_borders(
    samples: Sequence[NDArray[np.float64]], scale: Scale, problems: Problems
) -> tuple[float, ...]:
    if scale != "db":
        return ()
    share = np.mean(np.concatenate([s.ravel() for s in samples]) == 0)
    if share < 0.01:
        return ()
    problems.warn(
        f"{share:.0%} of the decibel values are exactly 0: they are taken for nodata",
        do="declare the nodata value of the files to make this sure (gdal_edit.py -a_nodata 0)",
    )
    return (0.0,)


def _known(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(sample[np.isfinite(sample) & (sample != 0)])
