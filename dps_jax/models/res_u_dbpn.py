"""Res-U-DBPN: a residual U-Net whose features are back-projected to a grid twice as fine.

The published network (Ye et al. 2024) is described as a residual U-Net encoder-decoder followed by deep
back-projection units, with (leaky) ReLU. This one differs where a measurement or the physics asked for it:

- no batch normalisation: statistics of a batch would tie a pixel to its neighbours in the tile and break both
  the linearity in gain and "tiled equals whole";
- PReLU in place of ReLU, as in the DBPN paper;
- pixel shuffle in place of transposed convolution (see ``blocks``);
- sizes for a CPU: 16/32/64 channels by default; the width is configuration;
- a softplus at the end: emitters are not negative, and its gradient does not die in the dark;
- the physics once more inside the network (``consistency_steps``): the estimate is multiplied by the
  Richardson-Lucy correction ``A^T(y / A x)`` to a power between 0 and 1 that the network chooses pixel by
  pixel, so that it can follow the data where there are photons and its own judgement where there is noise.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from dps_jax.models.blocks import (
    ConvAct,
    DownProjection,
    Downscale,
    PReLU,
    ResidualBlock,
    UpProjection,
    Upscale,
)
from dps_jax.operators.convolve import convolve
from dps_jax.operators.forward import camera_image
from dps_jax.operators.sampling import bin_area_adjoint
from dps_jax.optics.psf import airy_psf
from dps_jax.typing import Array

# Intensity, relative to the brightest structures, below which the data count as dark.
_DARK = 0.02


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
        Gated Richardson-Lucy steps after the last layer; 0 is the published network.
    abbe_px
        Abbe period in input pixels at which the network is used; the consistency steps need it.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    projections: int = 1
    projection_features: int | None = None
    consistency_steps: int = 0
    abbe_px: float = 2.5

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Map ``(b, y, x, c)``, sides multiples of ``grid_multiple``, to ``(b, 2y, 2x, 1)``.

        Raises
        ------
        ValueError
            For an image that is not 4-D or whose sides are not multiples of ``grid_multiple``.
        """
        multiple = self.grid_multiple
        if image.ndim != 4 or image.shape[1] % multiple or image.shape[2] % multiple:
            raise ValueError(
                f"expected images (batch, y, x, channel) with sides that are multiples of {multiple}, "
                f"got shape {image.shape}"
            )
        features = self._back_project(self._u_net(ConvAct(self.channels[0])(image)))
        # Starting dark (softplus(-2) = 0.13) keeps the first steps from paying for a bright empty field.
        outputs = 1 + self.consistency_steps
        logits = nn.Conv(outputs, (3, 3), bias_init=nn.initializers.constant(-2.0), name="head")(features)
        logits = logits.astype(jnp.float32)
        estimate = nn.softplus(logits[..., 0])
        for step in range(self.consistency_steps):
            estimate = self._follow_data(estimate, image[..., 0], nn.sigmoid(logits[..., 1 + step]))
        return estimate[..., None]

    def _follow_data(self, estimate: Array, image: Array, trust: Array) -> Array:
        """Multiply by the Richardson-Lucy correction to the power of ``trust``; all ``(b, y, x)``."""
        psf = airy_psf(abbe_px=self.scale * self.abbe_px, size=2 * self._psf_reach + 1)
        predicted = camera_image(estimate, psf, factor=self.scale, boundary="reflect")
        ratio = (jnp.maximum(image, 0.0) + _DARK) / (predicted + _DARK)
        # The kernel is symmetric: blurring the repeated ratio is the adjoint of blur and bin, inside the border.
        correction = convolve(bin_area_adjoint(ratio, self.scale), psf, boundary="reflect")
        return estimate * jnp.exp(trust * jnp.log(jnp.maximum(correction, _DARK)))

    @property
    def _psf_reach(self) -> int:
        # Two Abbe periods hold nine tenths of the light; the rest would double the overlap of tiles.
        return int(2 * self.scale * self.abbe_px)

    def _level(self, x: Array, features: int) -> Array:
        for _ in range(self.blocks):
            x = ResidualBlock(features)(x)
        return x

    def _u_net(self, x: Array) -> Array:
        skips = []
        for features in self.channels[:-1]:
            x = self._level(x, features)
            skips.append(x)
            x = PReLU()(Downscale(2 * features)(x))
        x = self._level(x, self.channels[-1])
        for features, skip in zip(self.channels[-2::-1], skips[::-1], strict=True):
            x = PReLU()(Upscale(features)(x)) + skip
            x = self._level(x, features)
        return x

    def _back_project(self, low: Array) -> Array:
        features = self.projection_features or self.channels[0]
        highs = [UpProjection(features)(low)]
        lows = [low]
        for _ in range(self.projections - 1):
            lows.append(DownProjection(features)(jnp.concatenate(highs, -1)))
            highs.append(UpProjection(features)(jnp.concatenate(lows, -1)))
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

        Summed from the arithmetic of the layers, 3x3 convolutions on every grid; rounded up to a multiple of
        ``grid_multiple`` so that a tile's halo keeps the phase of the coarse grids.
        """
        total = 1.0
        for level in range(len(self.channels)):
            passes = 1 if level == len(self.channels) - 1 else 2
            total += passes * 2 * self.blocks * 2**level
            if level:  # one convolution down to this grid and one up from it; 1 for the uneven halving
                total += 2 * 2**level + 1
        total += 4 * 1 + (self.projections - 1) * 8 + 1  # projections on the input grid, head on the fine one
        total += self.consistency_steps * (2 * self._psf_reach / self.scale + 1)
        return int(-(-total // self.grid_multiple) * self.grid_multiple)
