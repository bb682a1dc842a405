"""The scores of the paper for one result, by the names in its tables."""

import numpy as np
from numpy.typing import NDArray
from scenes import Scene

from sarstack.evaluation.image_scores import ImagePair, ReadWindow, score_image
from sarstack.speckle.laws import likelihood_looks
from sarstack.tiles import Shape

Image = NDArray[np.float32]

# Names of the paper: those of sarstack.
NAMES = {"PSNR": "psnr_db", "SSIM": "ssim", "DG": "gain_db", "EPI": "edge_index", "ENL": "enl",
         "Cx": "cx", "MoR": "ratio_mean"}  # fmt: skip


def score(scene: Scene, despeckled: Image) -> dict[str, float]:
    """Return the scores of Tables IV and V; NaN where a score needs what the scene lacks.

    ENL, Cx, MoR and VoR are those of homogeneous windows of 25 x 25 px, found in the reference.
    DG is PSNR of the result - PSNR of the input.
    """
    values = score_image(make_pair(scene, despeckled)).values
    found = {name: values[own] for name, own in NAMES.items()}
    found["VoR"] = values["ratio_variance"] / scene.statistics.looks
    found["C_NN"] = point_contrast_db(despeckled, scene.points)
    return found


def make_pair(scene: Scene, despeckled: Image) -> ImagePair:
    """Return the images as the functions of sarstack's evaluation take them."""

    def reader(image: Image) -> ReadWindow:
        return lambda window: image[window.slices]

    reference = None if scene.reference is None else reader(scene.reference)
    return ImagePair(
        reader(scene.noisy), reader(despeckled), Shape(*scene.noisy.shape),
        scene.statistics.looks, scene.statistics.correlation, reference,
    )  # fmt: skip


def point_contrast_db(image: Image, points: NDArray[np.int64]) -> float:
    """Return C_NN, equation (16): 10 log10(strong scatterer / mean of its 8 neighbours), mean."""
    contrasts = []
    for y, x in points:
        around = image[y - 1 : y + 2, x - 1 : x + 2].astype(float)
        neighbours = (around.sum() - around[1, 1]) / 8
        contrasts.append(10 * np.log10(around[1, 1] / neighbours))
    return float(np.mean(contrasts)) if contrasts else float("nan")


def fit_gamma(speckle: Image) -> float:
    """Return the looks of the gamma density, equation (2), that fits speckle of mean 1 best."""
    valid = speckle[np.isfinite(speckle) & (speckle > 0)].astype(float)
    return likelihood_looks(valid)
