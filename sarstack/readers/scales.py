"""The scale of a stack: declared by user, tags or names, checked against the stored numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sarstack.conventions import SCALES, Scale
from sarstack.errors import ScaleError, UsageError
from sarstack.readers.fill_values import FillValues, far_fill_values, find_fill_values
from sarstack.readers.image import Image
from sarstack.readers.names import find_scale_word
from sarstack.readers.problems import Problems
from sarstack.readers.radiometry import guess_scale, median_local_looks, scale_conflict
from sarstack.readers.samples import Sample, read_samples
from sarstack.readers.sentinel1.calibrated import CalibratedRaster

# The looks of amplitude, computed as if it were intensity, are four times too many (17 for 4.4).
_SUSPICIOUS_LOOKS = 12.0


@dataclass(frozen=True)
class GivenScale:
    """What the user says about the scale of images.

    Attributes
    ----------
    scale : {"linear", "amplitude", "db"} or None
        None: detected.
    option : str
        The option of the command line that gives it, for messages.
    only_undeclared : bool
        It is for images without a tag or name that declares their scale. Else it replaces what
        tags and names declare.
    """

    scale: Scale | None = None
    option: str = "--scale"
    only_undeclared: bool = False

    @property
    def advice(self) -> str:
        """What to do if the scale is unclear."""
        first, second, third = (f"{self.option} {scale}" for scale in SCALES)
        return f"give the scale: {first}, {second} or {third}"

    def declared_by(self, images: Sequence[Image]) -> Scale | None:
        """Return the scale if it holds for these images."""
        known = {scale for image in images for scale, _ in image.declared}
        return self.scale if not self.only_undeclared or known <= {self.scale} else None


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
    images: Sequence[Image], given: GivenScale, problems: Problems
) -> tuple[Scale, list[FillValues]]:
    """Decide the scale, which all images of a stack share, and the fill values of each image.

    Parameters
    ----------
    images : sequence of Image
        All images of the stack.
    given : GivenScale
        By the user. Used instead of tags and names, if it is not for undeclared images only; must
        fit the numbers too.
    problems : Problems
        Receives a ScaleError if the scale is unknown, or if tags, numbers or dates disagree.

    Returns
    -------
    scale : {"linear", "amplitude", "db"}
        If an error was added to `problems`, the value must not be used: it is ``linear``, or the
        declared scale that the numbers contradict.
    fill_values : list of FillValues
        One for each image, by its own pixels.

    Notes
    -----
    Reads some windows of 64 x 64 pixels of each image, see
    :func:`sarstack.readers.samples.read_samples`.
    """
    detected = [
        image.name
        for image in images
        if image.raster.complex_as or isinstance(image.raster, CalibratedRaster)
    ]
    if detected and given.declared_by(images) not in (None, "linear"):
        problems.add(
            ScaleError(
                f"{given.option} {given.scale} cannot be used: these images become linear "
                "intensity while they are read",
                where=detected,
                do="leave it out",
            )
        )
        return "linear", [FillValues() for _ in images]
    samples = read_samples(images, problems)
    decided, fill_values = judge_samples(images, samples, given, problems)
    if decided != "db":
        _warn_if_uncalibrated(images, samples, problems)
    return decided, fill_values


def _warn_if_uncalibrated(
    images: Sequence[Image], samples: Sequence[Sample], problems: Problems
) -> None:
    """Warn of images of whole numbers whose calibration is not known."""
    found = [
        image.name
        for image, sample in zip(images, samples, strict=True)
        if not image.metadata.calibration
        and image.raster.gain_db == 0
        and not image.raster.complex_as
        and sample.valid.size
        and np.array_equal(sample.valid, np.rint(sample.valid))
    ]
    if found:
        problems.warn(
            f"{len(found)} images hold digital numbers, and are used without calibration",
            where=found,
            do="nothing, if ratios suffice; else --gain-db with the factor of the product in dB",
        )


def judge_samples(
    images: Sequence[Image], samples: Sequence[Sample], given: GivenScale, problems: Problems
) -> tuple[Scale, list[FillValues]]:
    """Decide as :func:`decide_scale`, from samples that were read before."""
    told = given.declared_by(images)
    declared = told or _find_declared(images, given, problems)
    undecided: tuple[Scale, list[FillValues]] = ("linear", [FillValues() for _ in images])
    if problems.errors and declared is None and any(i.declared for i in images):
        return undecided  # a guess would only add a second error
    cleaned = [sample.without(far_fill_values(sample)) for sample in samples]
    decided = declared or _guess(images, cleaned, given, problems)
    if decided is None:
        return undecided
    source = given.option if told else "the tag or name"
    _check_samples(images, cleaned, decided, problems, source, given.advice)
    return decided, find_fill_values(images, samples, decided, problems)


def _find_declared(images: Sequence[Image], given: GivenScale, problems: Problems) -> Scale | None:
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
                do="move the images of each scale into a folder of their own, or " + given.advice,
            )
        )
        return None
    if not all(image.declared for image in images):
        # A tag on some images does not hold for the others: the numbers decide.
        return None
    return next(iter(sources), None)


def _guess(
    images: Sequence[Image], samples: Sequence[Sample], given: GivenScale, problems: Problems
) -> Scale | None:
    guesses = [guess_scale(sample.valid) for sample in samples]
    names: dict[Scale, list[str]] = {}
    for image, (scale, _) in zip(images, guesses, strict=True):
        if scale:
            names.setdefault(scale, []).append(image.name)
    if len(names) == 1:
        (scale,) = names
        if scale == "linear":
            _warn_if_amplitude(images, samples, given, problems)
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
        do = given.advice
    expected = "a unit or tag with the scale, or numbers that can only be of one scale"
    problems.add(ScaleError(what, expected=expected, where=sorted(where), do=do))
    return None


def _warn_if_amplitude(
    images: Sequence[Image], samples: Sequence[Sample], given: GivenScale, problems: Problems
) -> None:
    looks = [median_local_looks(np.where(s.windows == 0, np.nan, s.windows)) for s in samples]
    measured = [v for v in looks if np.isfinite(v)]
    if measured and np.median(measured) > _SUSPICIOUS_LOOKS:
        problems.warn(
            f"the numbers are used as linear intensity, but have about {np.median(measured):.0f} "
            "looks: this is usual for amplitude and for filtered images",
            where=[images[0].name],
            do=f"if they are amplitude, use {given.option} amplitude",
        )


def _check_samples(
    images: Sequence[Image],
    samples: Sequence[Sample],
    scale: Scale,
    problems: Problems,
    source: str,
    advice: str,
) -> None:
    conflicts: dict[str, str] = {}
    for image, sample in zip(images, samples, strict=True):
        conflict = scale_conflict(sample.valid, scale)
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
            do="correct the tag, keep images of one scale together, or " + advice,
        )
    )
