"""Res-U-DBPN: a residual U-Net whose features are back-projected to a grid twice as fine.

The published network (Ye et al. 2024) is described as a residual U-Net encoder-decoder followed by deep
back-projection units, with (leaky) ReLU. This one differs where a measurement or the physics asked for it:

- no batch normalisation: statistics of a batch would tie a pixel to its neighbours in the tile and break both
  the linearity in gain and "tiled equals whole";
- PReLU in place of ReLU, as in the DBPN paper;
- pixel shuffle in place of transposed convolution (see ``blocks``);
- sizes for a CPU: 16/32/64 channels by default; the width is configuration;
- the physics inside the network, before it (``iterates``): Richardson-Lucy estimates stopped early and late are
  features on both grids, and the answer is their mixture, chosen pixel by pixel, times a correction. So the
  network starts from what a patient user of Richardson-Lucy gets, is dark where the data are dark, and learns
  the rest; without iterates the answer is a softplus, whose gradient does not die in the dark;
- and after it (``consistency_steps``): the estimate is multiplied by the Richardson-Lucy correction
  ``A^T(y / A x)`` to a power between 0 and 1 that the network chooses pixel by pixel, so that it can follow the
  data where there are photons and its own judgement where there is noise.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from dps_jax.models.blocks import (
    ConvAct,
    DownProjection,
    UpProjection,
    check_images,
    u_net,
    u_net_reach,
)
from dps_jax.models.physics import follow_data, reach_px, richardson_lucy_iterates
from dps_jax.operators.sampling import space_to_depth
from dps_jax.typing import Array

# The correction of the mixture stays within a factor of exp(3) = 20 either way, and no iterate's share within it
# falls to less than exp(-8).
_LARGEST_LOG = 3.0
_LARGEST_LOGIT = 8.0
# Abbe periods beyond which the physics carries less than 1e-4 of the range.
_NEAR_ABBE = 16.0


class ResUDBPN(nn.Module):
    """Residual U-Net with back-projection to twice the grid and a non-negative output.

    Parameters
    ----------
    channels
        Features per U-Net level, finest first; each further level halves the grid.
    blocks
        Residual blocks per level.
    projections
        Back-projection stages: 1 is one up-projection; each further one adds a down- and an up-projection,
        whose outputs are concatenated.
    projection_features
        Features of the back-projection units; by default ``channels[0]``.
    consistency_steps
        Gated Richardson-Lucy steps after the last layer; 0 as published.
    iterates
        Numbers of accelerated Richardson-Lucy steps whose estimates the network mixes; none as published.
    abbe_px
        Abbe period in input pixels at which the network is used; the physics needs it.
    dtype
        In what the layers compute, by default float32; parameters and physics stay float32.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    projections: int = 1
    projection_features: int | None = None
    consistency_steps: int = 0
    iterates: tuple[int, ...] = ()
    abbe_px: float = 2.5
    dtype: str | None = None

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Map ``(b, y, x, c)``, sides multiples of ``grid_multiple``, to ``(b, 2y, 2x, 1)``.

        Raises
        ------
        ValueError
            For an image that is not 4-D or whose sides are not multiples of ``grid_multiple``.
        """
        check_images(image, multiple=self.grid_multiple)
        camera, known = image[..., 0], None
        if self.iterates:
            known = richardson_lucy_iterates(
                camera, after=self.iterates, abbe_px=self.abbe_px, factor=self.scale
            )
            image = jnp.concatenate([image, space_to_depth(_compressed(known), self.scale)], -1)
        features = self._back_project(self._u_net(image))
        estimate, gates = self._answer(features, known)
        for step in range(self.consistency_steps):
            trust = nn.sigmoid(gates[..., step])
            estimate = follow_data(estimate, camera, trust, abbe_px=self.abbe_px, factor=self.scale)
        return estimate[..., None]

    def _answer(self, features: Array, known: Array | None) -> tuple[Array, Array]:
        """Return the estimate ``(b, 2y, 2x)`` and the logits of the gates, from features on the fine grid."""
        if known is None:
            # Starting dark (softplus(-2) = 0.13) keeps the first steps from paying for a bright empty field.
            start = nn.initializers.constant(-2.0)
            head = nn.Conv(1 + self.consistency_steps, (3, 3), bias_init=start, dtype=self.dtype, name="head")
            logits = _at_least_float32(head(features))
            return nn.softplus(logits[..., 0]), logits[..., 1:]
        features = ConvAct(self.channels[0], dtype=self.dtype)(
            jnp.concatenate([features, _compressed(known)], -1)
        )
        count = known.shape[-1]
        # Small at first: training starts from a plain mean of the iterates.
        small = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        head = nn.Conv(
            count + 1 + self.consistency_steps, (3, 3), kernel_init=small, dtype=self.dtype, name="head"
        )
        logits = _at_least_float32(head(features))
        shares = nn.softmax(_bounded(logits[..., :count], _LARGEST_LOGIT))
        mixture = jnp.sum(shares * known, axis=-1) / self.scale**2
        correction = _bounded(logits[..., count], _LARGEST_LOG)
        return mixture * jnp.exp(correction), logits[..., count + 1 :]

    def _u_net(self, image: Array) -> Array:
        low = ConvAct(self.channels[0], dtype=self.dtype)(image)
        return u_net(low, self.channels, blocks=self.blocks, dtype=self.dtype)

    def _back_project(self, low: Array) -> Array:
        features = self.projection_features or self.channels[0]
        highs = [UpProjection(features, dtype=self.dtype)(low)]
        lows = [low]
        for _ in range(self.projections - 1):
            lows.append(DownProjection(features, dtype=self.dtype)(jnp.concatenate(highs, -1)))
            highs.append(UpProjection(features, dtype=self.dtype)(jnp.concatenate(lows, -1)))
        return jnp.concatenate(highs, -1)

    @property
    def grid_multiple(self) -> int:
        """Number that the sides of an input must be multiples of: 2 per level below the finest."""
        return 2 ** (len(self.channels) - 1)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each axis."""
        return 2

    @property
    def reach(self) -> int:
        """Distance in input pixels beyond which an input pixel cannot change an output pixel (an upper bound).

        Summed from the arithmetic of the layers, 3x3 convolutions on every grid, and of the physics, where it is
        the distance beyond which nothing that counts is carried (``physics.reach_px``); rounded up to a multiple of
        ``grid_multiple`` so that a tile's halo keeps the phase of the coarse grids.
        """
        return self._whole_steps(self._layers_reach() + self._physics_reach())

    @property
    def near_reach(self) -> int:
        """Distance in input pixels beyond which no change moves an output pixel by 1e-4 of the image's range.

        What the layers see last is faint, and so is what the physics carries far; the longer of the two distances
        counts, and not their sum. Measured on the released network: 3e-4 at 32 px, 2e-5 at 40 px, which this is, and
        rounding from 56 px on, where 88 px are needed to be sure (``experiments/reach.py``).
        """
        faint = _NEAR_ABBE * self.abbe_px if self.iterates or self.consistency_steps else 0.0
        return min(self.reach, self._whole_steps(max(self._layers_reach() - 1, faint)))

    def _layers_reach(self) -> float:
        # Projections on the input grid, head on the fine one.
        return 1.0 + u_net_reach(len(self.channels), self.blocks) + 4 + (self.projections - 1) * 8 + 1

    def _physics_reach(self) -> float:
        return reach_px(iterates=bool(self.iterates), steps=self.consistency_steps, abbe_px=self.abbe_px)

    def _whole_steps(self, distance: float) -> int:
        return int(-(-distance // self.grid_multiple) * self.grid_multiple)


def _at_least_float32(x: Array) -> Array:
    """Leave low precision, where a network computes in it, before the physics."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _bounded(x: Array, limit: float) -> Array:
    """Keep ``x`` within ``limit`` either way, with a slope that never quite dies.

    With tanh and a free softmax, one unlucky step early in a training can leave a network without gradient.
    """
    return x / (1 + jnp.abs(x) / limit)


def _compressed(known: Array) -> Array:
    """Bring iterates, whose bright points may be tens of times the image, to the range of a network's input."""
    return jnp.sqrt(known)
