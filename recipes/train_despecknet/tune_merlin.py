"""Tune `merlin` on real single look complex images, mixed with simulated ones. See README.md."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from training_log import show
from training_options import make_parser

from sarstack.networks.card import make_card
from sarstack.networks.inference import choose_precision
from sarstack.networks.model_file import load_model, save_model
from sarstack.speckle.complex_parts import PART_LOOKS, split_parts
from sarstack.speckle.statistics import measure_scene
from sarstack.training.batch import Batch
from sarstack.training.parts import PartsObjective, PartsValidation
from sarstack.training.simulated_parts import SimulatedParts
from sarstack.training.simulated_patches import apply_symmetry, draw_sensor_input
from sarstack.training.tuning import FinetuneSettings, finetune

FloatImage = NDArray[np.float32]
HELD_OUT = 0.25
VALIDATION_SEED = 993


class RealParts:
    """Patches of complex images: one part as input, the other as target.

    Parameters
    ----------
    images : sequence of ndarray, shape (y, x), complex64
        With a centred spectrum; NaN = nodata.
    batch_size, patch_px : int
    seed : int
    """

    def __init__(
        self, images: Sequence[NDArray[np.complex64]], batch_size: int, patch_px: int, seed: int
    ) -> None:
        self.batch_size, self.patch_px, self.seed = batch_size, patch_px, seed
        self.parts = [split_parts(image) for image in images]
        self.correlation = [measure_scene((np.abs(image) ** 2)[None])[0].correlation
                            for image in images]  # fmt: skip
        sizes = np.array([image.size for image in images])
        self.chances = sizes / sizes.sum()

    def batch(self, step: int) -> Batch:
        """Return batch number `step`."""
        rng = np.random.default_rng([self.seed, 9, step])
        drawn = [self._draw(rng) for _ in range(self.batch_size)]
        first, second, sensor = (np.stack(part) for part in zip(*drawn, strict=True))
        weight = np.isfinite(first).astype(np.float32)
        return Batch(first[:, None], second[:, None], weight[:, None], sensor)

    def _draw(self, rng: np.random.Generator) -> tuple[FloatImage, FloatImage, FloatImage]:
        image = int(rng.choice(len(self.parts), p=self.chances))
        shape, symmetry = self.parts[image][0].shape, int(rng.integers(8))
        y, x = (int(rng.integers(0, n - self.patch_px + 1)) for n in shape)
        rows, columns = slice(y, y + self.patch_px), slice(x, x + self.patch_px)
        first, second = (
            apply_symmetry(part[rows, columns], symmetry)
            for part in self.parts[image][:: rng.choice([-1, 1])]
        )
        correlation = self.correlation[image][:: -1 if symmetry % 2 else 1]
        sensor = draw_sensor_input(PART_LOOKS, correlation, rng)
        sensor[-1] = 0  # as in use: what is estimated from a single date is not told
        return first, second, sensor


class MixedParts:
    """Batches of two sources, in halves."""

    def __init__(self, real: RealParts, simulated: SimulatedParts) -> None:
        self.real, self.simulated = real, simulated

    def batch(self, step: int) -> Batch:
        """Return batch number `step`."""
        pair = self.real.batch(step), self.simulated.batch(step)
        return Batch(*(np.concatenate(parts) for parts in zip(*(b[:4] for b in pair), strict=True)))


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__, steps=600, learning_rate=2e-4, data="images")
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True,
        help="complex64 arrays (.npy) with a centred spectrum; the first quarter of the columns is "
        "held out",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    images = [np.load(path) for path in options.images]
    cuts = [int(HELD_OUT * image.shape[1]) for image in images]
    sizes = (options.batch_size // 2, options.patch_px)
    training = MixedParts(
        RealParts([i[:, n:] for i, n in zip(images, cuts, strict=True)], *sizes, options.seed),
        SimulatedParts(options.seed, *sizes, target="other part"),
    )
    held_out = MixedParts(
        RealParts([i[:, :n] for i, n in zip(images, cuts, strict=True)], *sizes, VALIDATION_SEED),
        SimulatedParts(VALIDATION_SEED, *sizes, target="other part"),
    )
    validation = PartsValidation.from_batches(
        [held_out.batch(50 * i) for i in range(8)], (0.2, 0.2)
    )
    network, card = load_model(options.start)
    settings = FinetuneSettings(
        steps=options.steps, learning_rate=options.learning_rate, validate_every=100,
        checkpoint_every=100, bfloat16=choose_precision("cpu") == "bfloat16",
    )  # fmt: skip
    objective = PartsObjective(validation)
    result = finetune(network, training, objective, settings, options.folder, progress=show)
    print(result.message)
    made = make_card(
        network,
        looks=card.looks, correlation=card.correlation, licence=card.licence, scores=card.scores,
        data=f"{card.data}; tuned on {options.data}",
        command=f"{card.command}; python recipes/train_despecknet/tune_merlin.py FOLDER --start "
        f"{options.start.name} --images IMAGES --steps {options.steps} --learning-rate "
        f"{options.learning_rate} --seed {options.seed}",
    )  # fmt: skip
    kept = made if result.improved else replace(card)
    print(save_model(options.folder / "merlin.safetensors", network, kept))


if __name__ == "__main__":
    main()
