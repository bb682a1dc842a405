"""Speckle2Void: a network that predicts a pixel from all pixels but itself.

Its output is the prior of the pixel. The observed pixel enters afterwards, by Bayes' rule
(:mod:`sarstack.networks.inverse_gamma`). So the network can be trained on noisy images alone: it
cannot copy the pixel whose density it predicts.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sarstack.networks.half_plane import (
    MEAN_REACH_PX,
    CausalMean,
    HalfPlaneColumn,
    HalfPlaneShape,
    mean_of_rows_above,
)
from sarstack.networks.inverse_gamma import LEAST_LOG_SHAPE, MOST_LOG_SHAPE, InverseGammaPrior
from sarstack.networks.log_network import (
    BRIGHTEST_NAT,
    DARKEST_NAT,
    fade_out_correction,
    pad_to_cells,
)
from sarstack.networks.network import DeSpeckNet, Inside, Prediction
from sarstack.networks.two_scale import N_SENSOR_FEATURES

N_FEATURES = 16
"""Features of each direction."""
N_JOINED = 4 * (N_FEATURES + 2) + 2
"""Features, mean and its weight of each direction, and the blind spot."""
N_HIDDEN = 64, 32
"""Channels of the layers that join the four directions."""
N_CONDITIONS = N_SENSOR_FEATURES + 1
LARGEST_WHITE_CORRELATION = 0.1
"""Lag-1 correlation above which the neighbours along an axis belong to the blind spot."""
FIRST_LOG_SHAPE = 0.5
"""ln(alpha - 1) at the start of a training."""


LARGEST_DISTANCE_PX = 2
SURPRISE_START_NAT, SURPRISE_END_NAT = 11.0, 16.0
"""The correction of a bright pixel fades out between these values of -ln p(ln y)."""


class Spot(NamedTuple):
    """Distance of the nearest rows and columns that the network sees, 1 or 2 px.

    The pixels that are closer along both axes are the blind spot: 1 px high and wide for distance
    1, 3 px for distance 2.
    """

    y: int = 1
    x: int = 1


class BlindSpotBranch(nn.Module):
    """Four half planes, joined by 1x1 convolutions.

    Attributes
    ----------
    along_y, along_x : HalfPlaneColumn
        Of the rows above and below, and of the columns on both sides. Opposite directions share
        their weights; the speckle of SAR images is not the same along both axes.
    join : nn.Sequential
        From the features of four directions to ``ln(beta / alpha)`` relative to the mean of the
        surroundings, and ``ln(alpha - 1)``.
    """

    def __init__(self, shape: HalfPlaneShape) -> None:
        super().__init__()
        self.along_y, self.along_x = (
            HalfPlaneColumn(2, N_FEATURES, N_CONDITIONS, shape) for _ in range(2)
        )
        first, second = N_HIDDEN
        last = nn.Conv2d(second, 2, 1)
        last.bias = nn.Parameter(torch.tensor([0.0, FIRST_LOG_SHAPE]))
        with torch.no_grad():
            last.weight.mul_(0.1)  # training starts near a constant prior
        self.join = nn.Sequential(
            nn.Conv2d(N_JOINED, first, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(first, second, 1),
            nn.LeakyReLU(0.1),
            last,
        )

    def forward(
        self, log: Tensor, positive: Tensor, valid: Tensor, sensor: Tensor, spot: Spot
    ) -> Tensor:
        """Return level and ln(alpha - 1), shape (batch, 2, y, x).

        Parameters
        ----------
        log, positive, valid : Tensor, shape (batch, 1, y, x)
            ``ln y``; 1 where y is positive, and where there is data, else 0. y and x are multiples
            of 4.
        sensor : Tensor, shape (batch, 5)
        spot : Spot

        Returns
        -------
        Tensor
            The level is NaN where the network sees no positive pixel.
        """
        features, means = [], []
        for of_direction, mean in self._look((log, positive, valid), sensor, spot):
            features.append(of_direction)
            means.append(mean)
        weight = torch.stack([mean.weight for mean in means]).sum(0)
        total = torch.stack([mean.mean * mean.weight for mean in means]).sum(0)
        level = total / torch.where(weight > 0, weight, torch.nan)
        of_means = [((m.mean - level.nan_to_num(0.0)) * (m.weight > 0)) for m in means]
        distance = log.new_tensor(spot)[None, :, None, None] - 1
        joined = torch.cat(
            [*features, *of_means, *(m.weight for m in means),
             distance.expand(len(log), 2, *log.shape[-2:])], dim=1,
        )  # fmt: skip
        predicted = self.join(joined).float()
        return torch.cat([level + predicted[:, :1], predicted[:, 1:]], dim=1)

    def _look(
        self, images: Sequence[Tensor], sensor: Tensor, spot: Spot
    ) -> Iterator[tuple[Tensor, CausalMean]]:
        """Yield the features and the mean of each direction: up, down, and both sides."""
        for column, first_turn, distance in (
            (self.along_y, 0, spot.y), (self.along_x, 1, spot.x),
        ):  # fmt: skip
            turns = (first_turn, first_turn + 2)
            log, positive, valid = (
                torch.cat([image.rot90(turn, (-2, -1)) for turn in turns]) for image in images
            )
            mean = mean_of_rows_above(log, positive)
            seen = valid * (mean.weight > 0)
            u = torch.where(positive > 0, log - mean.mean, DARKEST_NAT)
            u = u.clamp(DARKEST_NAT, BRIGHTEST_NAT) * seen
            condition = functional.pad(sensor, (0, 1), value=distance - 1.0).repeat(2, 1)
            features = column(torch.cat([u, seen], dim=1), condition)
            parts = (features, *mean)
            below = [_shift_down(part, distance).chunk(2) for part in parts]
            for i, turn in enumerate(turns):
                of_features, of_mean, of_weight = (part[i].rot90(-turn, (-2, -1)) for part in below)
                yield of_features, CausalMean(of_mean, of_weight)


def choose_spot(sensor: Tensor) -> Spot:
    """Return the blind spot for the correlation of a scene.

    Parameters
    ----------
    sensor : Tensor, shape (batch, 5)
        From :func:`~sarstack.networks.two_scale.encode_sensor`. The first row is used for all.
    """
    return Spot(*(1 + int(c > LARGEST_WHITE_CORRELATION) for c in sensor[0, 3:5].tolist()))


def fade_out_surprise(observed: Tensor, prior: InverseGammaPrior) -> Tensor:
    """Return 1, or less for a bright pixel that its prior and speckle hardly explain.

    The weight of a pixel in the posterior mean is the same however bright it is, so a point
    target would lose 10 dB where the surroundings are certain. 0 where the density of ln y is
    below e**-`SURPRISE_END_NAT`. Of pixels of pure speckle, one in a million is concerned.
    """
    surprise = prior.negative_log_marginal(observed)
    kept = (SURPRISE_END_NAT - surprise) / (SURPRISE_END_NAT - SURPRISE_START_NAT)
    return torch.where(observed > prior.level, kept.clamp(0, 1), 1.0)


def _shift_down(image: Tensor, n_px: int) -> Tensor:
    """Move an image down by some rows; zeros enter at the top."""
    return functional.pad(image, (0, 0, n_px, -n_px))


class BlindSpotNetwork(DeSpeckNet):
    """Speckle2Void (Molini et al. 2020), a blind-spot network with an inverse-gamma prior.

    The published network has four times 17 convolutions of 64 channels at full resolution, 2.4
    million operations per pixel. This one has two grids (:mod:`sarstack.networks.half_plane`)
    and 70,000 operations. It has no batch norm, and its input is ln y without the mean of the half
    plane that a direction sees, so a factor on the scene is the same factor on the result.

    Parameters
    ----------
    **shape : int
        Fields of :class:`HalfPlaneShape` for each direction.

    Attributes
    ----------
    spot : Spot, optional
        Blind spot of all images. A training draws it for each step (:meth:`prepare_step`). None:
        3 px along an axis whose speckle is correlated, else 1 px; see `LARGEST_WHITE_CORRELATION`.
    """

    variant, domain, loss = "speckle2void", "log", "blind"

    def __init__(self, **shape: int) -> None:
        super().__init__()
        own_shape = HalfPlaneShape(**shape)
        self.architecture = own_shape._asdict()
        self.clean = BlindSpotBranch(own_shape)
        self.noise = nn.Identity()
        self.spot: Spot | None = None

    @property
    def has_spread(self) -> bool:
        """Whether the uncertainty is known: the posterior has a standard deviation."""
        return True

    @property
    def halo(self) -> int:
        """Receptive radius of a direction, plus that of its mean and the blind spot."""
        radius = HalfPlaneShape(**self.architecture).radius_px
        return radius + MEAN_REACH_PX + LARGEST_DISTANCE_PX

    @property
    def channels(self) -> float:
        """Activations per pixel of the layer that joins the directions."""
        return float(N_JOINED)

    def prepare_step(self, step: int) -> None:
        """Draw the blind spot of a training step: 1 or 3 px along each axis."""
        self.spot = Spot(*np.random.default_rng([11, step]).integers(1, 3, 2).tolist())

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002
        """Switch between training and evaluation; an evaluation does not draw the blind spot."""
        self.spot = self.spot if mode else None
        return super().train(mode)

    def forward(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        noise: bool = True,
        spread: bool = False,
        inside: Inside | None = None,
    ) -> Prediction:
        """Predict the mean of ln x given all pixels; see :meth:`DeSpeckNet.forward`.

        The looks of the observed pixel are those of `sensor`, one where it is unknown. A pixel
        that is not positive counts as e**-8 of the level of its prior. Where no other pixel is
        seen, the result is the observed pixel.
        """
        rows, columns = intensity.shape[-2:]
        inside = inside or (slice(0, rows), slice(0, columns))
        intensity = intensity.contiguous()  # sums in the same order for any order in memory
        valid = torch.ones_like(intensity) if valid is None else valid.contiguous()
        positive = (intensity > 0) & (valid > 0)
        log = torch.where(positive, intensity, 1.0).log()
        if sensor is None:
            sensor = intensity.new_zeros((len(intensity), N_SENSOR_FEATURES))
        spot = self.spot or choose_spot(sensor)
        images = (pad_to_cells(image) for image in (log, positive.to(log.dtype), valid))
        predicted = self.clean(*images, sensor, spot)[(..., *inside)]
        log, positive = log[(..., *inside)], positive[(..., *inside)]
        level = torch.where(predicted[:, :1].isnan(), log, predicted[:, :1])
        log_shape = predicted[:, 1:].clamp(LEAST_LOG_SHAPE, MOST_LOG_SHAPE)
        looks = sensor[:, 1, None, None, None].exp()  # ln L, 0 where unknown
        prior = InverseGammaPrior(level, log_shape, looks)
        observed = torch.where(positive, log.maximum(level + DARKEST_NAT), level + DARKEST_NAT)
        correction = observed - prior.posterior_mean(observed)
        correction = correction * fade_out_surprise(observed, prior)
        clean = observed - fade_out_correction(correction, observed - level)
        alone = predicted[:, :1].isnan()
        clean = torch.where(alone, observed, clean)
        deviation = prior.posterior_deviation().log() if spread else None
        if not noise:
            return Prediction(observed, clean, None, None, deviation, prior)
        speckle = observed - clean
        return Prediction(observed, clean, speckle, clean + speckle, deviation, prior)

    def predict_speckle(
        self,
        intensity: Tensor,
        valid: Tensor | None = None,
        *,
        sensor: Tensor | None = None,
        others: Tensor | None = None,
        inside: Inside | None = None,
    ) -> Tensor:
        """Return the observed over the predicted intensity."""
        seen = self(intensity, valid, sensor=sensor, others=others, noise=False, inside=inside)
        return self.to_intensity(seen.observed - seen.clean)

    def to_intensity(self, clean: Tensor) -> Tensor:
        """Return linear power; limited so that it is never zero and never infinite."""
        return torch.exp(clean.clamp(-80.0, 80.0))
