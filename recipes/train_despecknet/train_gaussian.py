"""Train the denoiser of `mulog-cnn` and of `mulog-cnn-sar`. See README.md."""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from references import FloatImage, load_references
from scipy import fft
from training_log import show
from training_options import add_references, make_parser

from sarstack.networks.card import make_card
from sarstack.networks.inference import choose_precision
from sarstack.networks.model_file import save_model
from sarstack.networks.variants import build_network
from sarstack.speckle.landscapes import reflect_image
from sarstack.speckle.sensor import MARGIN_PX, SpeckleSimulator
from sarstack.training.checkpoint import plot_curve
from sarstack.training.landscape_drawing import draw_training_landscape
from sarstack.training.simulated_patches import (
    SCENE_PX,
    ObservedScene,
    SimulatedPatches,
    draw_simulator,
)
from sarstack.training.supervised import TrainingSettings, train

VALIDATION_SEED = 991
# Standard deviation of the noise in nat. MuLoG needs 0.2 (20 looks) to 0.75 (one look).
LEAST_NOISE, MOST_NOISE = 0.15, 1.4


class GaussianPatches(SimulatedPatches):
    """A source of patches ``x exp(noise)`` with Gaussian noise, white or correlated.

    Parameters
    ----------
    seed, batch_size, patch_px, references
        See :class:`SimulatedPatches`.
    optical : bool
        Cut all scenes from `references`, without points and without the response of a sensor.
    """

    def __init__(
        self, seed: int, batch_size: int, patch_px: int, references: Sequence[FloatImage],
        *, optical: bool,
    ) -> None:  # fmt: skip
        super().__init__(seed, batch_size, patch_px, references=references)
        self.optical = optical

    def _observe_scene(self, index: int) -> ObservedScene:
        rng = np.random.default_rng([self.seed, 1, index])
        sensor, side = draw_simulator(rng), SCENE_PX + 2 * MARGIN_PX
        if self.optical:
            chosen = self.references[int(rng.integers(len(self.references)))]
            clean = reflect_image(chosen, (SCENE_PX, SCENE_PX), rng, points=0.0).diffuse
        else:
            scene = draw_training_landscape(side, rng, self.references)
            _, clean = sensor.observe_inside(scene, rng)
        deviation = np.exp(rng.uniform(np.log(LEAST_NOISE), np.log(MOST_NOISE)))
        looks = float(deviation**-2)  # what the network is told of Gaussian noise
        noisy = clean * np.exp(np.float32(deviation) * draw_noise(clean.shape, sensor, rng))
        weight = np.full_like(clean, looks**0.5)
        return ObservedScene(noisy, clean, weight, weight, looks, sensor.correlation)


def draw_noise(
    shape: tuple[int, int], sensor: SpeckleSimulator, rng: np.random.Generator
) -> FloatImage:
    """Draw Gaussian noise of unit variance with the correlation of the intensity of a sensor.

    The correlation of intensity is the square of that of the complex field. So a field filter for
    the squared correlation gives noise with the correlation itself.
    """
    white = rng.standard_normal(shape, dtype=np.float32)
    if sensor.correlation == (0.0, 0.0):
        return white
    squared = (sensor.correlation[0] ** 2, sensor.correlation[1] ** 2)
    field = SpeckleSimulator(1.0, squared, sensor.taper, sensor.band_limited)
    filtered = fft.ifft2(fft.fft2(white) * field.transfer(shape)).real
    return np.asarray(filtered, np.float32)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__, steps=12000, learning_rate=2e-3, data="references")
    add_references(parser)
    parser.add_argument("--optical", action="store_true", help="optical images only: mulog-cnn")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    references = load_references(options.references) if options.references else []
    if options.optical and not references:
        raise SystemExit("--optical needs --references")
    sizes = (options.batch_size, options.patch_px)
    patches = GaussianPatches(options.seed, *sizes, references, optical=options.optical)
    held_back = GaussianPatches(VALIDATION_SEED, *sizes, references, optical=options.optical)
    validation = [held_back.batch(i * 50) for i in range(8)]
    network = build_network("gaussian-cnn")
    settings = TrainingSettings(
        steps=options.steps,
        decay_steps=options.steps * 2 // 3,
        learning_rate=options.learning_rate,
        xi=0.0,
        bfloat16=choose_precision("cpu") == "bfloat16",
    )
    result = train(network, patches, validation, settings, options.folder, progress=show)
    plot_curve(result.history, options.folder / "curve.png")
    simulated = "" if options.optical else "simulated landscapes"
    card = make_card(
        network,
        data="; ".join(filter(None, [simulated, options.data])) + "; simulated Gaussian noise",
        licence="Apache-2.0",
        command=f"python recipes/train_despecknet/train_gaussian.py FOLDER"
        f"{' --optical' if options.optical else ''} --references REFERENCES"
        f" --steps {options.steps} --learning-rate {options.learning_rate} --seed {options.seed}",
        scores={"validation": round(result.history[-1]["rmse_db"], 3)},
    )
    name = "mulog-cnn" if options.optical else "mulog-cnn-sar"
    print(save_model(options.folder / f"{name}.safetensors", network, card))


if __name__ == "__main__":
    main()
