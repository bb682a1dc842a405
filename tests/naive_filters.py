"""A small noisy image, and its moving windows pixel by pixel, for slow versions of filters."""

import numpy as np

from sarstack.speckle.statistics import SceneStatistics

WHITE = SceneStatistics(4.0, (0.0, 0.0), bright=np.inf)


def image(shape=(24, 30), looks=4.0, *, hole=True):
    scene = np.where(np.arange(shape[1]) < shape[1] // 2, 0.02, 0.2) * np.ones(shape)
    scene[8:11, 20:23] = 30
    noisy = scene * np.random.default_rng(21).gamma(looks, 1 / looks, shape)
    if hole:
        noisy[14:19, 5:9] = np.nan
        noisy[3, 3] = np.nan
    return noisy.astype(np.float32)


def windows(values, window_px):
    """Yield each valid pixel with the valid pixels of its clipped window."""
    half = window_px // 2
    for y, x in np.argwhere(~np.isnan(values)):
        near = values[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
        yield (y, x), near[~np.isnan(near)].astype(float)


def naive_lee(values, window_px, speckle_cv2):
    out = np.full(values.shape, np.nan)
    for place, near in windows(values, window_px):
        mean = near.mean()
        local_cv2 = near.var(ddof=1) / mean**2 if len(near) > 1 else 0
        weight = 1 - speckle_cv2 / local_cv2 if local_cv2 > speckle_cv2 else 0
        out[place] = mean + weight * (values[place] - mean)
    return out
