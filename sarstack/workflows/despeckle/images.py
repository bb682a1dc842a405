"""The output images of a despeckling run: their inputs, names and fingerprints."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sarstack.conventions import EXTRAS, Extra
from sarstack.despecklers import Despeckler
from sarstack.despecklers.extras import check_extras, choose_extras
from sarstack.errors import StackError
from sarstack.readers.grid import Grid
from sarstack.readers.raster import Raster
from sarstack.readers.stack import Stack
from sarstack.workflows.despeckle.seen_dates import DateMark, StackDates, mark_date
from sarstack.workflows.fingerprint import fingerprint, identity, settings_of
from sarstack.workflows.settings import DespeckleConfig

_NOISE_ENDING = "_noise"


@dataclass(frozen=True)
class Image:
    """One output image of a run: despeckled intensity, or estimated speckle.

    Attributes
    ----------
    polarisation : str
    layer : int
        Index of the date.
    raster : Raster
        The input image.
    output : Path
    fingerprint : str
    grid : Grid
    despeckler : Despeckler
        The method that computes the pixels.
    extras : tuple of (Extra, Path)
        Further outputs, made together with the first.
    dates : StackDates
        What the pixels depend on beside the input: settings, and other dates.
    """

    polarisation: str
    layer: int
    raster: Raster
    output: Path
    fingerprint: str
    grid: Grid
    despeckler: Despeckler
    extras: tuple[tuple[Extra, Path], ...] = ()
    dates: StackDates = field(default=StackDates(), compare=False, repr=False)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The COGs of the image; all of them are complete, or the image is not finished."""
        return self.output, *(path for _, path in self.extras)

    @property
    def second_names(self) -> list[str]:
        """Names of all files that a run can write beside the image: speckle and extras."""
        endings = (_NOISE_ENDING, *(extra.ending for extra in EXTRAS))
        return [f"{self.output.stem}{ending}.tif" for ending in endings]

    @property
    def is_noise(self) -> bool:
        """Whether the image is the estimated speckle."""
        return self.despeckler.returns_speckle

    def describe(self, calibration: str) -> str:
        """Return the description of the band."""
        content = "speckle" if self.is_noise else calibration
        return f"{content} {self.polarisation}".strip()

    def describe_extra(self, extra: Extra) -> str:
        """Return the description of the band of a further output."""
        return f"{extra.content} {self.polarisation} {extra.unit.removeprefix('1')}".strip()


def list_images(
    config: DespeckleConfig, stack: Stack, despeckler: Despeckler, output: Path
) -> tuple[Image, ...]:
    """List the images that a run makes, in order of date and polarisation.

    Raises
    ------
    StackError
        If two results would have the same name.
    UsageError
        If the speckle or a further image is wanted, and the method does not have it.
    """
    methods = [("", despeckler, settings_of(config, despeckler))]
    if config.output_noise:
        noise = despeckler.estimate_noise()
        methods.append((_NOISE_ENDING, noise, settings_of(config, noise)))
    wanted = choose_extras(uncertainty=config.output_uncertainty, support=config.output_support)
    check_extras(despeckler, wanted)

    def name(raster: Raster, ending: str) -> Path:
        return (output / f"{raster.stem}_{despeckler.name}{ending}.tif").absolute()

    images = [
        Image(polarisation, layer, raster, name(raster, ending),
              fingerprint(settings, stack.grid_at(layer), *inputs),
              stack.grid_at(layer), method,
              () if ending else tuple((extra, name(raster, extra.ending)) for extra in wanted),
              StackDates(fingerprint(settings, stack.grid_at(layer)), layer, marks))
        for polarisation, layer, raster, inputs, marks in _list_inputs(stack, despeckler)
        for ending, method, settings in methods
    ]  # fmt: skip
    counts = Counter(path.name for image in images for path in image.outputs)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise StackError(
            "several results would have the same name",
            where=twice,
            do="give the input files different names",
        )
    return tuple(images)


def _list_inputs(
    stack: Stack, despeckler: Despeckler
) -> Iterator[tuple[str, int, Raster, list[dict[str, object]], tuple[DateMark, ...]]]:
    """Yield polarisation, date, input image, what identifies all images that it depends on, marks.

    Marks are of the dates of a multi-temporal method.
    """
    # Once for each image: a multi-temporal method needs those of all dates for each result.
    identities = {r: identity(r) for own in stack.rasters.values() for r in own}
    marks = {
        polarisation: tuple(
            mark_date(layer, stack.dates[layer], raster, identities[raster])
            for layer, raster in enumerate(own)
            if raster is not None and despeckler.n_summary
        )
        for polarisation, own in stack.rasters.items()
    }
    for layer in range(len(stack.dates)):
        for polarisation in stack.polarisations:
            raster = stack.rasters[polarisation][layer]
            if raster is not None:
                others = stack.rasters[polarisation] if despeckler.n_summary else (raster,)
                inputs = [identities[r] for r in others]
                yield polarisation, layer, raster, inputs, marks[polarisation]
