"""Tune a network on the noisy images of a stack, without any label."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from sarstack.config import FinetuneConfig
from sarstack.errors import UsageError
from sarstack.inference import choose_device
from sarstack.networks.card import ModelCard, load_model, save_model
from sarstack.patches import StackPatches
from sarstack.readers.grid import Grid
from sarstack.readers.stack import Date, Stack
from sarstack.runlog import show_progress
from sarstack.tiles import Shape, Window
from sarstack.workflows.adapt import (
    FIRST_VALIDATION_BATCH,
    N_VALIDATION_BATCHES,
    AdaptedModel,
    describe,
    draw_patches,
    free_output,
    measure,
    model_path,
    pooled,
)
from sarstack.workflows.plan import select_stack

if TYPE_CHECKING:
    from sarstack.finetuning import PaperSignal
    from sarstack.networks.network import DeSpeckNet
    from sarstack.noise_to_noise import NoiseToNoise

LOGGER = logging.getLogger("sarstack")

MIN_DATES_BETWEEN = 4
DATES_PER_PLACE = 4
"""In a batch of noise-to-noise tuning: each is input once, the others its target."""

JUDGED_PLACES, JUDGED_PATCHES = 32, 128
JUDGING_DATES = 8
"""Of a long stack, evenly spread: where nothing grows, neighbouring dates share speckle."""

FLAT_FACTOR = 2.0
"""In windows of more texture a good network cannot take out the speckle and nothing else."""

LEARNING_RATES = {"noise2noise": 1e-4, "paper": 1e-5}


def finetune_on_stack(config: FinetuneConfig, *, overwrite: bool = False) -> AdaptedModel:
    """Tune a network on the noisy images of a stack, without any label.

    Parameters
    ----------
    config : FinetuneConfig
        Stack, model, mode, length; see its fields.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    AdaptedModel
        With ``improved`` False when no iterate was better at held-out places: the file then
        holds the untouched weights.

    Raises
    ------
    UsageError
        If the mode does not fit the network or the number of dates.
    """
    output = free_output(config.output, overwrite=overwrite)
    return finetune_index(config, select_stack(config), output)


def finetune_index(config: FinetuneConfig, stack: Stack, output: Path) -> AdaptedModel:
    """Do the work of :func:`finetune_on_stack` on a stack that is already indexed."""
    from sarstack.finetuning import FinetuneSettings, finetune

    network, card = load_model(model_path(config.model, "despecknet"))
    mode = _choose_mode(config.mode, card, stack)
    statistics = measure(stack, config.looks)
    patches, held_out = draw_patches(config, card.variant, stack, None, statistics)
    speckle = pooled(statistics)
    signal: Any
    if mode == "noise2noise":
        n_dates = min(DATES_PER_PLACE, _fewest_dates(stack), max(2, config.batch_size))
        patches = replace(patches, n_dates=n_dates)
        signal = _other_dates(network, held_out, n_dates, *speckle)
    else:
        signal = _itself(held_out, *speckle)
    settings = FinetuneSettings(
        steps=config.steps, learning_rate=config.learning_rate or LEARNING_RATES[mode],
        device=choose_device(),
    )  # fmt: skip
    with show_progress("tuning", config.steps, "step", 1) as shown:
        result = finetune(
            network, patches, signal, settings,
            progress=lambda _, score: _show_score(shown, settings.probe_every, score.row()),
        )  # fmt: skip
    network.to("cpu")
    if result.improved:
        card = describe(network, stack, statistics, f"tuned ({mode})", result.message)
    save_model(output, network, card)
    return AdaptedModel(output, result.improved, result.message, result.history)


def _itself(
    held_out: StackPatches, looks: float, correlation: tuple[float, float]
) -> "PaperSignal":
    """Make the signal of the paper's mode, with its judge."""
    from sarstack.finetuning import PaperSignal
    from sarstack.ratio_probe import find_homogeneous

    noisy = [held_out.batch(FIRST_VALIDATION_BATCH + i) for i in range(N_VALIDATION_BATCHES)]
    return PaperSignal(find_homogeneous(noisy, looks, correlation))


def _choose_mode(wanted: str, card: ModelCard, stack: Stack) -> str:
    """Return the mode that fits network and stack, or say why the one wanted does not."""
    if card.variant == "despecknet-mt":
        raise UsageError(
            "despecknet-mt cannot be tuned: it has seen the other dates that would judge it",
            expected="a network that sees one date",
            do="tune despecknet or despecknet-lite",
        )
    fewest = _fewest_dates(stack)
    fits = card.domain == "log" and fewest >= MIN_DATES_BETWEEN
    if wanted == "noise2noise" and not fits:
        raise UsageError(
            f"mode = 'noise2noise' with {card.variant} and {fewest} dates",
            expected=f"a network on log intensity and {MIN_DATES_BETWEEN} dates or more of each "
            "polarisation",
            where=stack.path,
            do="use --mode paper, or " + ("add dates" if card.domain == "log" else "despecknet"),
        )
    return "noise2noise" if fits and wanted != "paper" else "paper"


def _fewest_dates(stack: Stack) -> int:
    return min(sum(raster is not None for raster in stack.rasters[p]) for p in stack.polarisations)


def _other_dates(
    network: "DeSpeckNet",
    held_out: StackPatches,
    n_dates: int,
    looks: float,
    correlation: tuple[float, float],
) -> "NoiseToNoise":
    """Make the signal between dates, with its judge: held-out places on a few dates each."""
    from sarstack.noise_to_noise import DateProbe, NoiseToNoise
    from sarstack.ratio_probe import RatioProbe, mark_homogeneous

    batches, series, n_others = [], [], JUDGING_DATES
    cells = held_out.cells[:JUDGED_PLACES]
    for number, (polarisation, window) in enumerate(cells):
        dates = _spread(held_out.dates_of(polarisation), JUDGING_DATES)
        # Each place shows other dates than the last, so that all dates are judged somewhere.
        turn = number % len(dates)
        shown = _spread(dates[turn:] + dates[:turn], JUDGED_PATCHES // len(cells))
        batches.append(held_out.read_with_others(polarisation, window, dates, shown))
        layer = held_out.stack.polarisations.index(polarisation)
        series.append([layer * len(held_out.stack.dates) + date for date in shown])
        n_others = min(n_others, len(dates) - 1)
    # Homogeneous in the mean of the others: there texture shows that speckle hides.
    means = [batch.target for batch in batches]
    flat = mark_homogeneous(means, looks * n_others, correlation, largest_factor=FLAT_FACTOR)
    probe = DateProbe(tuple(batches), tuple(series), RatioProbe(tuple(batches), flat, looks))
    return NoiseToNoise.of(network, probe, n_dates, looks)


def _spread(dates: list[int], at_most: int) -> list[int]:
    """Choose some of the dates, evenly spread."""
    chosen = np.linspace(0, len(dates) - 1, min(len(dates), at_most)).round().astype(int)
    return [dates[i] for i in chosen]


def _show_score(shown: object, steps: int, row: dict[str, float]) -> None:
    shown.advance(steps)  # type: ignore[attr-defined]
    LOGGER.info("held out: %s", ", ".join(f"{key} {value:.4f}" for key, value in row.items()))


@dataclass(frozen=True)
class CubeRaster:
    """One date and polarisation of a cube in memory or of Dask, read like a file."""

    image: xr.DataArray
    shape: Shape

    def read(self, window: Window) -> NDArray[np.float32]:
        """Compute one window, shape (y, x)."""
        return np.asarray(self.image[window.slices].values, dtype=np.float32)


def index_cube(cube: xr.Dataset) -> Stack:
    """Make a stack of a checked cube, so that patches are drawn from it as from files."""
    shape = Shape(cube.sizes["y"], cube.sizes["x"])
    rasters: dict[str, Any] = {
        str(name): tuple(CubeRaster(date, shape) for date in cube[name]) for name in cube.data_vars
    }
    dates = tuple(Date(time) for time in cube["time"].values)
    return Stack("cube", Grid(shape), dates, rasters)
