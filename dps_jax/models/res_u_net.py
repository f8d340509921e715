"""A residual U-Net from image to image on one grid: denoising and the removal of artefacts."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from dps_jax.models.blocks import ConvAct, check_images, u_net, u_net_reach
from dps_jax.typing import Array


class ResUNet(nn.Module):
    """What is to be added to the first channel of an image: the negative of its noise, or of its artefacts.

    Nothing in it ties a pixel to the statistics of its batch or tile, so tiled equals whole.

    Parameters
    ----------
    channels
        Features per level, finest first.
    blocks
        Residual blocks per level.
    inputs
        Channels of the input; those after the first are told to the network and not added to.
    dtype
        In what the layers compute, by default float32; parameters stay float32.

    Notes
    -----
    Source: Zhang et al. 2017 (the residual), Ronneberger et al. 2015 (the U).
    """

    channels: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    inputs: int = 1
    dtype: str | None = None

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """Map ``(b, y, x, inputs)``, sides multiples of ``grid_multiple``, to ``(b, y, x, 1)``.

        Raises
        ------
        ValueError
            For an image of another number of axes or channels, or sides that are not such multiples.
        """
        check_images(image, multiple=self.grid_multiple, channels=self.inputs)
        x = u_net(
            ConvAct(self.channels[0], dtype=self.dtype)(image),
            self.channels,
            blocks=self.blocks,
            dtype=self.dtype,
        )
        # Nothing at first: training starts from the image as it is.
        head = nn.Conv(1, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype, name="head")
        return image[..., :1] + head(x).astype(jnp.promote_types(x.dtype, image.dtype))

    @property
    def grid_multiple(self) -> int:
        """Number that the sides of an input must be multiples of: 2 per level below the finest."""
        return 2 ** (len(self.channels) - 1)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along each axis."""
        return 1

    @property
    def reach(self) -> int:
        """Distance in px beyond which an input pixel cannot change an output pixel, a multiple of the grid's."""
        total = 2.0 + u_net_reach(len(self.channels), self.blocks)
        return int(-(-total // self.grid_multiple) * self.grid_multiple)
