"""What a result is worth: one number for each question, and how numbers of scenes are pooled."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarstack.evaluation import metrics
from sarstack.evaluation.suites import Case
from sarstack.speckle.laws import log_speckle_variance

Cube = NDArray[np.float32]
Despeckle = Callable[[Cube], Cube]
Scores = dict[str, float]

NAN = float("nan")


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _root_mean_square(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _worst(values: NDArray[np.float64]) -> float:
    return float(values[np.argmax(np.abs(values))])


def _harmonic_mean(values: NDArray[np.float64]) -> float:
    # Looks are inverse variances: variances are what can be averaged.
    if not (values > 0).all():
        return NAN
    mean = float(np.mean(1 / values))
    return 1 / mean if mean else float("inf")


class Score(NamedTuple):
    """How a score is shown and pooled over scenes.

    Attributes
    ----------
    heading : str
        Of its column, unit included.
    meaning : str
        One line for people, with the ideal value.
    decimals : int
    pool : callable
        From the values of scenes, ndarray of float64 without NaN, to one value.
    """

    heading: str
    meaning: str
    decimals: int
    pool: Callable[[NDArray[np.float64]], float] = _mean


SCORES: dict[str, Score] = {
    "rmse_db": Score("RMSE dB", "of 10 log10(result / truth); the score to look at", 3,
                     _root_mean_square),
    "of_lee": Score("of Lee", "RMSE over that of Lee in the same table; below 1", 3),
    "rmse_changed_db": Score("changed dB", "the same where a date differs from the others", 3,
                             _root_mean_square),
    "rmse_unchanged_db": Score("unchanged dB", "the same elsewhere", 3, _root_mean_square),
    "change_kept": Score("change kept", "share of the changes, in dB, that is left; 1", 2),
    "spread": Score("spread", "of ln(result / mean of all other dates)", 4, _root_mean_square),
    "spread_half": Score("spread/2", "the same with half of the dates seen and the other half as "
                         "reference", 4, _root_mean_square),
    "bias_db": Score("bias dB", "of the mean against that of the input; 0", 3),
    "flat_bias_db": Score("flat bias dB", "of the worst flat field against its input; 0",
                          3, _worst),
    "enl": Score("ENL", "mean^2 / variance of flat fields; never to be read alone", 0,
                 _harmonic_mean),
    "psnr_db": Score("PSNR dB", "of the amplitude, peak = 99 % quantile of the truth", 2),
    "point_loss_db": Score("point loss dB", "true peak of point targets over theirs; 0", 2),
    "line_kept": Score("lines", "share of the contrast of lines of 1 to 5 px that is left; 1", 2),
    "thin_line_kept": Score("1 px lines", "the same of the thinnest; 1", 2),
    "ratio_mean": Score("ratio", "mean of input / result; 1", 3),
    "ratio_variance": Score("ratio var", "variance of its logarithm over that of speckle; 1", 2),
    "ratio_structure": Score("structure", "correlation of the ratio with detail of the scene; 0",
                             3),
    "cpu_s_per_mpx": Score("CPU s/Mpx", "processor seconds per megapixel, all threads", 2),
}  # fmt: skip


def measure_cost(despeckle: Despeckle, noisy: Cube) -> float:
    """Return CPU seconds per megapixel of one date, all threads of this process together.

    The second call is timed: what is done once for a scene (a library loaded, a bias
    calibrated) would count many times on scenes as small as these. Two dates are enough.
    """
    few = noisy[:2]
    despeckle(few)
    started = time.process_time()
    despeckle(few)
    return (time.process_time() - started) / (few.size / 1e6)


def score_case(case: Case, despeckled: Cube) -> Scores:
    """Score what a method made of a case.

    Parameters
    ----------
    case : Case
    despeckled : ndarray, shape (time, y, x), float32
        Linear power.

    Returns
    -------
    dict of float
        By the names in `SCORES`; NaN where the case does not ask the question.

    Notes
    -----
    Bias is against the mean of the input, not of the truth: both hold the same chance of the
    speckle, which at one look would hide a bias of 0.1 dB.
    """
    image, truth, noisy = despeckled[0], case.truth[0], case.noisy[0]
    scene = case.scene
    kept = [metrics.contrast_kept(image, truth, line.inside, line.beside) for line in scene.lines]
    thin = [k for k, line in zip(kept, scene.lines, strict=True) if line.width_px == 1]
    flat = [metrics.bias_db(image[field], noisy[field]) for field in scene.flats]
    peaks = metrics.point_peak_loss_db
    return {
        "rmse_db": metrics.rmse_db(despeckled, case.truth),
        **_split_by_change(case, despeckled),
        "bias_db": metrics.bias_db(despeckled, case.noisy),
        "flat_bias_db": pool(flat, _worst),
        "enl": pool([metrics.enl(image[field]) for field in scene.flats], _harmonic_mean),
        "psnr_db": metrics.psnr_amplitude_db(despeckled, case.truth),
        "point_loss_db": peaks(truth, image, scene.points, reach_px=0) if scene.points else NAN,
        "line_kept": pool(kept, _mean),
        "thin_line_kept": pool(thin, _mean),
        **score_ratio(case.noisy, despeckled, case.truth, case.looks),
    }


def _split_by_change(case: Case, despeckled: Cube) -> Scores:
    if case.changed is None or case.usual is None:
        return {"rmse_changed_db": NAN, "rmse_unchanged_db": NAN, "change_kept": NAN}
    changed, rest = case.changed, ~case.changed
    usual = case.usual[changed]
    return {
        "rmse_changed_db": metrics.rmse_db(despeckled[changed], case.truth[changed]),
        "rmse_unchanged_db": metrics.rmse_db(despeckled[rest], case.truth[rest]),
        "change_kept": metrics.change_kept(despeckled[changed], case.truth[changed], usual),
    }


def score_ratio(
    noisy: Cube,
    despeckled: Cube,
    reference: Cube,
    looks: float,
    where: NDArray[np.bool_] | None = None,
) -> Scores:
    """Score the ratio image, which should be speckle and nothing else.

    Parameters
    ----------
    noisy, despeckled, reference : ndarray, shape (time, y, x), float32
        Linear power; `reference` shows the scene without the speckle of `noisy`.
    looks : float
        Of the speckle.
    where : ndarray, shape (y, x), bool, optional
        Mean and variance are those of these pixels; structure is sought everywhere.
    """
    chosen = np.ones(noisy.shape[1:], dtype=bool) if where is None else where
    ratio = metrics.ratio_statistics(noisy[:, chosen], despeckled[:, chosen])
    structure = [metrics.ratio_structure(*images)
                 for images in zip(noisy, despeckled, reference, strict=True)]  # fmt: skip
    return {
        "ratio_mean": ratio.mean,
        "ratio_variance": ratio.log_variance / float(log_speckle_variance(looks)),
        "ratio_structure": pool(structure, _mean),
    }


def pool(values: Iterable[float], rule: Callable[[NDArray[np.float64]], float]) -> float:
    """Pool the values that are there; NaN if there is none."""
    known = np.array([value for value in values if not np.isnan(value)])
    return rule(known) if known.size else NAN


def pool_scores(scores: Sequence[Mapping[str, float]]) -> Scores:
    """Pool the scores of scenes, each score by its own rule, in the order of `SCORES`."""
    return {
        name: pool([s[name] for s in scores if name in s], score.pool)
        for name, score in SCORES.items()
        if any(name in s for s in scores)
    }
