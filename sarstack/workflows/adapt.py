"""What training and tuning on a stack share: the file, the statistics, the patches, the card."""

import logging
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sarstack import tasks
from sarstack.calibration import calibrate
from sarstack.config import FinetuneConfig, TrainConfig
from sarstack.errors import ResumeMismatchError, UsageError
from sarstack.networks.card import ModelCard, make_card, read_card, shipped_model
from sarstack.patches import Labels, StackPatches, split_cells
from sarstack.readers.stack import Stack
from sarstack.speckle import SceneStatistics, combine_samples
from sarstack.workflows.plan import make_folder

if TYPE_CHECKING:
    from sarstack.networks.network import DeSpeckNet

LOGGER = logging.getLogger("sarstack")
Statistics = dict[str, dict[int, SceneStatistics]]
N_VALIDATION_BATCHES = 8
# Batch numbers of the held-out patches, far from any step of a training.
FIRST_VALIDATION_BATCH = 2**30


@dataclass(frozen=True)
class AdaptedModel:
    """A model made for a stack.

    Attributes
    ----------
    model : Path
        The file written.
    improved : bool
        False: the file holds the weights one started from, nothing was better.
    message : str
        What happened, with the numbers.
    history : list of dict
        Rows of the learning curve.
    """

    model: Path
    improved: bool
    message: str
    history: list[dict[str, float]] = field(default_factory=list)


def free_output(name: str, *, overwrite: bool) -> Path:
    """Return the path of the model to write, its folder made.

    Raises
    ------
    UsageError
        If the name is not that of a model file.
    ResumeMismatchError
        If there is one already.
    """
    output = Path(name).absolute()
    if output.suffix != ".safetensors":
        raise UsageError(f"output = {name!r}", expected="a name that ends in .safetensors",
                         do=f"use {output.stem}.safetensors")  # fmt: skip
    if output.exists() and not overwrite:
        raise ResumeMismatchError(
            "the model exists already", where=str(output), do="name another -o, or --overwrite"
        )
    make_folder(output.parent)
    return output


def model_path(name: str, variant: str) -> Path:
    """Return the model to start from: ``shipped``, or a file that holds a card."""
    path = shipped_model(variant) if name == "shipped" else Path(name)
    read_card(path)
    return path


def measure(stack: Stack, looks: float | None) -> Statistics:
    """Find the scene statistics of every image, in this process."""
    found = {}
    for polarisation in stack.polarisations:
        rasters = stack.rasters[polarisation]
        layers = [i for i, raster in enumerate(rasters) if raster is not None]
        samples = [tasks.sample_image(rasters[i], stack.grid.shape) for i in layers]  # type: ignore[arg-type]
        known = combine_samples(samples, looks=looks)
        found[polarisation] = dict(zip(layers, known, strict=True))
    return found


def pooled(
    statistics: Statistics,
) -> tuple[float, tuple[float, float]]:
    """Return looks whose variance is the mean of all images', and the mean correlation."""
    known = [k for dates in statistics.values() for k in dates.values()]
    looks = 1 / float(np.mean([1 / k.looks for k in known]))
    y, x = np.mean([k.correlation for k in known], axis=0)
    return looks, (float(y), float(x))


def draw_patches(
    config: TrainConfig | FinetuneConfig,
    variant: str,
    stack: Stack,
    labels: Labels | None,
    statistics: Statistics,
) -> tuple[StackPatches, StackPatches]:
    """Return the sources of training and of held-out patches."""
    linear = variant == "despecknet-paper"
    cells = split_cells(stack, labels, config.patch_px, seed=config.seed)
    training, held_out = (
        StackPatches(stack, labels, part, config.batch_size, config.seed, statistics, linear)
        for part in cells
    )
    return training, held_out


def describe(
    network: "DeSpeckNet",
    stack: Stack,
    statistics: Statistics,
    verb: str,
    message: str,
) -> ModelCard:
    """Describe an adapted network, with the bias it has now."""
    known = [k for dates in statistics.values() for k in dates.values()]
    shared = [c for k in known for c in k.correlation]
    looks = (min(k.looks for k in known), max(k.looks for k in known))
    correlation = (max(0.0, min(shared)), max(0.0, *shared))
    card = make_card(
        network,
        polarisations=stack.polarisations,
        looks=looks,
        correlation=correlation,
        data=f"{verb} on {len(stack.dates)} dates of {Path(stack.path).name}: {message}",
        licence="as the data it was trained on",
        command=" ".join(["sarstack", *sys.argv[1:]]),
    )
    LOGGER.info("measuring the flat-field bias of the network")
    around = np.geomspace(0.7 * looks[0], 1.4 * looks[1], 3)
    shares = np.linspace(max(0.0, correlation[0] - 0.15), min(0.85, correlation[1] + 0.15), 2)
    table = calibrate(network, card, tuple(around.tolist()), tuple(shares.tolist()))
    return replace(card, calibration=table)
