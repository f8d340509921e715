"""From what physics makes of raw SIM frames to the reconstruction on the finer grid: one more up-sampling layer."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from dps_jax.models.blocks import ConvAct, PReLU, Upscale, check_images, u_net, u_net_reach
from dps_jax.operators.sampling import pixel_shuffle
from dps_jax.typing import Array


class SimUNet(nn.Module):
    """Residual U-Net on the camera's grid and an up-sampling layer, added to the likeliest classical reconstruction.

    Parameters
    ----------
    channels
        Features per level, finest first.
    blocks
        Residual blocks per level.
    inputs
        Channels of ``solvers.sim_features``: those from 1 to 4 are Richardson-Lucy's reconstruction.
    dtype
        In what the layers compute, by default float32; parameters stay float32.

    Notes
    -----
    Source: the "conventional denoise SIM reconstruction" module of Ye et al. 2024, shown classical reconstructions in
    place of the frames themselves, so that the number and the stripes of the frames are free.
    """

    channels: tuple[int, ...] = (24, 48, 96)
    blocks: int = 1
    inputs: int = 10
    dtype: str | None = None

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Map ``(b, y, x, inputs)``, sides multiples of ``grid_multiple``, to ``(b, 2y, 2x, 1)``.

        Raises
        ------
        ValueError
            For features of another number of axes or channels, or sides that are not such multiples.
        """
        check_images(features, multiple=self.grid_multiple, channels=self.inputs)
        base = pixel_shuffle(features[..., 1:5], self.scale)
        x = ConvAct(self.channels[0], dtype=self.dtype)(features)
        x = u_net(x, self.channels, blocks=self.blocks, dtype=self.dtype)
        x = PReLU()(Upscale(self.channels[0], dtype=self.dtype)(x))
        # Nothing at first: training starts from the classical reconstruction.
        head = nn.Conv(1, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype, name="head")
        return base + head(x).astype(jnp.promote_types(x.dtype, features.dtype))

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
        """Distance in px beyond which an input pixel cannot change an output pixel, a multiple of the grid's."""
        total = 3.0 + u_net_reach(len(self.channels), self.blocks)
        return int(-(-total // self.grid_multiple) * self.grid_multiple)
