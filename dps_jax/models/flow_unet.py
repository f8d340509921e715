"""From a template and a frame to the flow that brings the frame onto it, coarse to fine."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from dps_jax.models.blocks import check_images
from dps_jax.models.flow_blocks import FeaturePyramid, FlowLevel, enlarge_flow, integrate, window_mean
from dps_jax.operators.sampling import space_to_depth
from dps_jax.typing import Array

# Width in px of the Gaussian that the network is shown a smoothed copy by, and that tells contrast from noise.
_SMOOTH_PX = 1.5
Features = list[Array]


class FlowUNet(nn.Module):
    """Shared U-Net features of both images, matched on finer and finer grids; flows of the levels are summed.

    The coarsest level predicts a whole flow; each finer one reads the frame's features where the flow of the level
    above leads and predicts what is left. The finest grid of the flow is a quarter of the image's: tissue deforms
    smoothly. Rigid motion is to be taken out beforehand, by whole pixels, so that no interpolation touches the noise.

    Parameters
    ----------
    channels
        Features per level, finest first, on grids 2, 4, 8, ... times coarser than the image.
    flow_features
        Features of the layers that predict a level's residual.
    windows
        Widths of the Gaussian windows of the least squares, in cells of each level's grid.
    cost_radius
        Reach of the local cost volume of every level, in cells; 0 for none.
    repeats
        How often the finest level, where most is decided, is applied with the same weights.
    squarings
        0: the network predicts displacements. More: it predicts a stationary velocity, integrated by scaling and
        squaring in so many steps, whose flow does not fold.
    dtype
        In what the layers compute, by default float32; parameters stay float32.

    Notes
    -----
    Source: Hui et al. 2018 (features warped, residual flows); Lucas and Kanade 1981 (the least squares, here on
    learned features); Arsigny et al. 2006 (velocities).
    """

    channels: tuple[int, ...] = (16, 24, 32, 48)
    flow_features: int = 32
    windows: tuple[float, ...] = (1.5, 4.0, 10.0)
    cost_radius: int = 0
    repeats: int = 2
    squarings: int = 0
    dtype: str | None = None

    def setup(self) -> None:
        """Make the layers."""
        self.pyramid = FeaturePyramid(self.channels, dtype=self.dtype)
        self.levels = [
            FlowLevel(
                self.flow_features,
                self.windows,
                cost_radius=self.cost_radius,
                dtype=self.dtype,
                name=f"level_{i}",
            )
            for i in range(len(self.channels) - 1)
        ]

    def __call__(self, images: Array) -> Array:
        """Map ``(b, y, x, 3)``, a template, a frame and where the frame is known (1, else 0), to the flow in px.

        Returns
        -------
        ``(b, y, x, 2)`` in components (dy, dx): ``frame(r + flow(r))`` lies on ``template(r)``.

        Raises
        ------
        ValueError
            For images of another number of axes or channels, or sides that are not multiples of ``grid_multiple``.
        """
        check_images(images, multiple=self.grid_multiple, channels=self.inputs)
        known = jnp.ones_like(images[..., 2])
        template = self.features(images[..., 0], known)
        return self.match(template, self.features(images[..., 1], images[..., 2]))[-1]

    def features(self, image: Array, known: Array) -> Features:
        """Return features of images ``(b, y, x)``, coarsest first, whatever their brightness and offset."""
        return self.pyramid(space_to_depth(normalised(image, known), 2))

    def match(self, template: Features, frame: Features) -> list[Array]:
        """Return flows ``(b, y, x, 2)`` in image px, one per step and the last on the image's own grid.

        A template of batch 1 serves all frames. Flows of the levels, coarsest first, are on grids ``flow_grids`` times
        coarser than the image; the last is the finest, brought onto the image's.
        """
        count = frame[0].shape[0]
        template = [jnp.broadcast_to(f, (count, *f.shape[1:])) for f in template]
        flow = jnp.zeros((*frame[0].shape[:3], 2), frame[0].dtype)
        flows = []
        for i, level in enumerate(self.levels):
            if i:
                flow = enlarge_flow(flow, 2)
            for _ in range(self.repeats if i == len(self.levels) - 1 else 1):
                flow = level(template[i + 1], frame[i + 1], template[i], flow, squarings=self.squarings)
                flows.append(2 ** (len(self.levels) + 1 - i) * integrate(flow, self.squarings))
        return [*flows, enlarge_flow(integrate(flow, self.squarings), 4)]

    @property
    def inputs(self) -> int:
        """Channels of the input: template, frame, and where the frame is known."""
        return 3

    @property
    def grid_multiple(self) -> int:
        """Number that the sides of an image must be multiples of."""
        return 2 ** len(self.channels)


def normalised(image: Array, known: Array) -> Array:
    """Return images of mean 0 and contrast 1, as they are and smoothed, and where they are known: ``(b, y, x, 3)``.

    The contrast is the mean deviation of the smoothed image: that of the raw one is its noise, where photons are few.
    What is not known is 0.
    """
    share = jnp.maximum(known.mean((1, 2), keepdims=True), 1e-6)
    mean = (image * known).mean((1, 2), keepdims=True) / share
    image = (image - mean) * known
    smooth = window_mean(image[..., None], _SMOOTH_PX)[..., 0] * known
    contrast = jnp.abs(smooth).mean((1, 2), keepdims=True) / share
    # An image without contrast stays 0.
    scale = jnp.where(contrast > 0, 1 / jnp.where(contrast > 0, contrast, 1.0), 0.0)
    return jnp.stack([image * scale, smooth * scale, known], axis=-1)


def flow_grids(module: Any) -> list[int]:
    """Return the image pixels per cell of every flow that ``match`` returns, coarsest first."""
    count = len(module.channels) - 1
    return [2 ** (count + 1 - i) for i in range(count)] + [4] * (module.repeats - 1) + [1]
