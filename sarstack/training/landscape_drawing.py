"""Landscapes for training, drawn with NumPy.

This file does not import torch, so that processes that only draw landscapes start quickly.
"""

import os
import threading
from collections.abc import Sequence
from multiprocessing import connection, parent_process
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sarstack.speckle.landscapes import (
    Reflectivity,
    draw_surface,
    reflect_image,
    simulate_reflectivity,
)
from sarstack.speckle.sensor import draw_blob
from sarstack.speckle.stacks import draw_gains

FloatImage = NDArray[np.float32]

REFERENCE_FRACTION = 0.25
ROUGH_FRACTION, CONTINUOUS_FRACTION = 0.12, 0.15
"""Fractions of the scenes with texture from pixel to pixel, as in data at 30 m, and with texture
whose spectrum is that of real land."""

NEGATIVE_FRACTION = 0.25
"""Fraction of the clean images that are used as negatives: dark lines become bright ones."""

STEADY_FRACTION = 0.95
"""Fraction of strong scatterers without speckle. One look of a speckled scatterer is 2.5 dB too
dark on average. With half of them speckled, a network made all of them 1 dB too bright."""

POINT_DENSITY = 2.5
"""Factor on the number of point scatterers outside towns: a network must learn from many."""

NO_POINT_NAT = -60.0
"""Logarithm of the power of a pixel without a point scatterer."""


def draw_training_landscape(
    side_px: int,
    rng: np.random.Generator,
    references: Sequence[FloatImage] = (),
    reference_fraction: float = REFERENCE_FRACTION,
) -> Reflectivity:
    """Draw a landscape, some of them cut from clean images.

    Parameters
    ----------
    side_px : int
        Height and width.
    rng : numpy.random.Generator
        Random numbers.
    references : sequence of ndarray, shape (y, x), float32
        Clean images in dB.
    reference_fraction : float
        Fraction of the landscapes that are cut from `references`, if there are any.
    """
    shape = (side_px, side_px)
    if references and rng.random() < reference_fraction:
        chosen = references[int(rng.integers(len(references)))]
        if rng.random() < NEGATIVE_FRACTION:
            chosen = -chosen
        scene = reflect_image(chosen, shape, rng, STEADY_FRACTION, POINT_DENSITY)
    else:
        scene = simulate_reflectivity(shape, rng, None, STEADY_FRACTION, POINT_DENSITY)
    return add_texture(scene, rng)


def add_texture(scene: Reflectivity, rng: np.random.Generator) -> Reflectivity:
    """Add texture to some scenes: without spatial correlation, or continuous."""
    kind, shape = rng.random(), scene.diffuse.shape
    if kind < ROUGH_FRACTION:
        texture_db = rng.uniform(0.3, 2.5) * rng.standard_normal(shape)
    elif kind < ROUGH_FRACTION + CONTINUOUS_FRACTION:
        texture_db = draw_continuous_texture(shape, rng)
    else:
        return scene
    return Reflectivity((scene.diffuse * 10 ** (texture_db / 10)).astype(np.float32), scene.points)


def draw_continuous_texture(
    shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw texture in dB with the spectrum of real land.

    Its amplitude falls with frequency**-0.5 to frequency**-1, as measured on temporal means of
    terrain corrected stacks. Its strength changes over the scene. Half of the textures are skewed:
    bright spots are stronger than dark ones.
    """
    texture = draw_surface(shape, rng, rng.uniform(0.5, 1.0))
    if rng.random() < 0.5:
        texture = np.exp(rng.uniform(0.2, 0.7) * texture)
        texture = (texture - texture.mean()) / max(float(texture.std()), 1e-12)
    uneven = rng.uniform(0, 0.6) * draw_surface(shape, rng, 1.5)
    return np.asarray(rng.uniform(0.5, 2.6) * np.clip(1 + uneven, 0, 3) * texture)


def draw_brightness_changes(
    n_dates: int, side_px: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the changes of a landscape over time in dB, shape (time, y, x).

    Events of :func:`sarstack.speckle.stacks.draw_gains`, areas that change by 1 to 10 dB on
    single dates, seasons of fields, brightness of whole dates, and points on single dates.
    """
    shape = (side_px, side_px)
    gain_db = (
        draw_gains(n_dates, side_px, rng) if rng.random() < 0.8 else np.zeros((n_dates, *shape))
    )
    gain_db += rng.normal(0, rng.choice([0.1, 0.3, 1.0]), (n_dates, 1, 1))
    for date_db in gain_db:
        for _ in range(int(rng.integers(0, 4))):
            date_db[draw_blob(shape, rng)] += rng.choice([-1.0, 1.0]) * rng.uniform(1, 10)
        if rng.random() < 0.5:
            new = rng.random(shape) < rng.choice([0.0002, 0.001])
            date_db[new] += rng.uniform(5, 25)
    phase = 2 * np.pi * (np.arange(n_dates) / n_dates + rng.random())
    for _ in range(int(rng.integers(0, 4))):
        field = draw_blob(shape, rng)
        gain_db[:, field] += rng.uniform(0.5, 4) * np.sin(phase)[:, None]
    return gain_db


def draw_packed_landscape(
    seed: int,
    index: int,
    side_px: int,
    n_dates: int,
    references: Sequence[FloatImage],
    reference_fraction: float,
) -> NDArray[np.float16]:
    """Draw landscape number `index`, packed for the transfer to another process.

    Returns
    -------
    ndarray, shape (2 or 2 + n_dates, y, x), float16
        In nat: diffuse power; power of the point scatterers (`NO_POINT_NAT`: none); with more
        than one date, the gain of each date. Phases of points are not kept.
    """
    rng = np.random.default_rng([seed, 4, index])
    scene = draw_training_landscape(side_px, rng, references, reference_fraction)
    power = np.abs(scene.points).astype(np.float64) ** 2
    points = np.where(power > 0, np.log(np.maximum(power, np.exp(NO_POINT_NAT))), NO_POINT_NAT)
    planes = [np.log(scene.diffuse), points]
    if n_dates > 1:
        planes += [*draw_brightness_changes(n_dates, side_px, rng) * (np.log(10) / 10)]
    return np.stack(planes).astype(np.float16)


_DRAWING: dict[str, Any] = {}


def remember_settings(settings: dict[str, Any], references: Sequence[str]) -> None:
    """Keep the arguments of all landscapes in a process that draws them.

    Parameters
    ----------
    settings : dict
        Arguments of :func:`draw_packed_landscape`, without `references`.
    references : sequence of str
        Paths of the clean images, written by :func:`numpy.save`.
    """
    _DRAWING.update(settings, references=[np.load(path, mmap_mode="r") for path in references])
    parent = parent_process()

    def end_with_parent() -> None:
        # Without this, a parent that is killed would leave its processes behind.
        connection.wait([parent.sentinel])  # type: ignore[union-attr]
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def draw_remembered(index: int) -> NDArray[np.float16]:
    """Draw landscape number `index` with the settings that this process keeps."""
    return draw_packed_landscape(index=index, **_DRAWING)
