"""Parts of the flow network: reading features along a flow, matching them, and the pyramid that they come from.

Features are ``(b, y, x, c)``, flows ``(b, y, x, 2)`` with components (dy, dx) in pixels of the grid they live on.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.models.blocks import ConvAct, Downscale, PReLU, ResidualBlock, Upscale
from dps_jax.operators.flow_fields import exponential
from dps_jax.typing import Array

# Steps of a single level are kept below this: where there is no structure, equations have any solution.
_LONGEST_STEP = 3.0


def warp_features(features: Array, flow: Array) -> Array:
    """Read features at ``r + flow(r)``, linearly; beyond the outermost pixel it is repeated.

    The same map as :func:`dps_jax.operators.warp` with all channels of a pixel read at once, which is several times
    faster with the channels last, its gradient in the features above all.
    """
    b, h, w, c = features.shape
    whole = jnp.floor(flow)
    part = flow - whole
    step = whole.astype(jnp.int32)
    y = jnp.broadcast_to(jnp.arange(h, dtype=jnp.int32).reshape(1, h, 1), (b, h, w)) + step[..., 0]
    x = jnp.broadcast_to(jnp.arange(w, dtype=jnp.int32).reshape(1, 1, w), (b, h, w)) + step[..., 1]
    image = jnp.broadcast_to(jnp.arange(b, dtype=jnp.int32).reshape(b, 1, 1), (b, h, w)) * (h * w)
    rows = features.reshape(b * h * w, c)
    result = jnp.zeros_like(features)
    for dy in (0, 1):
        for dx in (0, 1):
            index = image + jnp.clip(y + dy, 0, h - 1) * w + jnp.clip(x + dx, 0, w - 1)
            near_y = part[..., :1] if dy else 1 - part[..., :1]
            near_x = part[..., 1:] if dx else 1 - part[..., 1:]
            read = jnp.take(rows, index.reshape(-1), axis=0, mode="clip").reshape(b, h, w, c)
            result = result + (near_y * near_x).astype(features.dtype) * read
    return result


def enlarge_flow(flow: Array, factor: int) -> Array:
    """Bring a flow onto a grid ``factor`` times finer, where the same motion is as many times more pixels."""
    b, y, x, c = flow.shape
    return factor * jax.image.resize(flow, (b, factor * y, factor * x, c), "linear")


def shrink(features: Array) -> Array:
    """Halve the grid by the mean of 2x2 pixels."""
    b, y, x, c = features.shape
    return features.reshape(b, y // 2, 2, x // 2, 2, c).mean((2, 4))


def integrate(velocity: Array, squarings: int) -> Array:
    """Return the flow of a constant velocity by scaling and squaring; the velocity itself for 0 squarings."""
    if squarings == 0:
        return velocity
    flow = exponential(jnp.moveaxis(velocity, -1, 1), squarings=squarings)
    return jnp.moveaxis(flow, 1, -1)


def cost_volume(template: Array, frame: Array, radius: int) -> Array:
    """Return how alike the features are at every whole displacement up to ``radius`` px along each axis.

    Mean over the channels of their products; ``(b, y, x, (2 radius + 1)^2)``, displacements in row order. Outside the
    frame there is nothing: 0. Source: Dosovitskiy et al. 2015 (the correlation layer), within a window.
    """
    h, w = template.shape[1:3]
    wide = jnp.pad(frame, [(0, 0), (radius, radius), (radius, radius), (0, 0)])
    sides = range(2 * radius + 1)
    return jnp.stack(
        [jnp.mean(template * wide[:, i : i + h, j : j + w], axis=-1) for i in sides for j in sides], axis=-1
    )


@functools.lru_cache(maxsize=32)
def _window(length: int, sigma_cells: float) -> np.ndarray:
    """Return the matrix of a Gaussian mean along one axis; at the borders it is of what is there."""
    distance = np.arange(length)[:, None] - np.arange(length)
    weights = np.exp(-0.5 * (distance / sigma_cells) ** 2)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def window_mean(maps: Array, sigma_cells: float) -> Array:
    """Return the Gaussian mean of maps ``(b, y, x, c)`` around every cell."""
    rows, columns = (jnp.asarray(_window(n, sigma_cells), maps.dtype) for n in maps.shape[1:3])
    return jnp.einsum("pxbc,qx->bpqc", jnp.einsum("py,byxc->pxbc", rows, maps), columns)


def normal_equations(template: Array, frame: Array, weights: Array) -> Array:
    """Return what least squares on the linearised features needs, at every pixel: ``(b, y, x, 6)``.

    ``template(r) ~ frame(r) + gradient . step``, weighted per channel. Sums over channels of ``yy, yx, xx`` of the
    gradient, of its products with the difference, and of the squared difference. The gradient is that of the template,
    a mean of many frames: the noise of a frame's own would make every step shorter. Source: Lucas and Kanade 1981.
    """
    dy, dx = _slope(template, 1), _slope(template, 2)
    difference = weights * (template - frame)
    wy, wx = weights * dy, weights * dx
    products = (wy * dy, wy * dx, wx * dx, dy * difference, dx * difference, difference * (template - frame))
    return jnp.stack([jnp.sum(p, axis=-1) for p in products], axis=-1)


def _slope(features: Array, axis: int) -> Array:
    """Return half the difference of the two neighbours along an axis; the edge is repeated."""
    before = jnp.concatenate(
        [jax.lax.slice_in_dim(features, 0, 1, axis=axis), jax.lax.slice_in_dim(features, 0, -1, axis=axis)],
        axis,
    )
    after = jnp.concatenate(
        [
            jax.lax.slice_in_dim(features, 1, None, axis=axis),
            jax.lax.slice_in_dim(features, -1, None, axis=axis),
        ],
        axis,
    )
    return 0.5 * (after - before)


def solved(equations: Array, damping: Array) -> Array:
    """Solve the 2x2 equations ``(b, y, x, 6)`` of :func:`normal_equations`, damped, to steps ``(b, y, x, 2)``."""
    yy, yx, xx, ye, xe = (equations[..., i] for i in range(5))
    yy, xx = yy + damping, xx + damping
    determinant = yy * xx - yx * yx
    step = jnp.stack([xx * ye - yx * xe, yy * xe - yx * ye], axis=-1) / determinant[..., None]
    return _LONGEST_STEP * jnp.tanh(step / _LONGEST_STEP)


class FeaturePyramid(nn.Module):
    """A U-Net that gives its features on every grid, coarsest first (Ronneberger et al. 2015; skips are added)."""

    channels: tuple[int, ...]
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        """Map ``(b, y, x, c)`` to features ``(b, y / 2^l, x / 2^l, channels[l])``, from the largest l to 0."""
        skips = []
        x = ConvAct(self.channels[0], dtype=self.dtype)(x)
        for features in self.channels[1:]:
            skips.append(x)
            x = ResidualBlock(features, dtype=self.dtype)(PReLU()(Downscale(features, dtype=self.dtype)(x)))
        levels = [x]
        for features, skip in zip(self.channels[-2::-1], skips[::-1], strict=True):
            x = PReLU()(Upscale(features, dtype=self.dtype)(x)) + skip
            x = ResidualBlock(features, dtype=self.dtype)(x)
            levels.append(x)
        return levels


class FlowLevel(nn.Module):
    """One level: features are matched where the flow so far leads, and a residual is added to it.

    Least squares in windows of several widths propose steps, and no step is a proposal, too; a few convolutions choose
    among them, pixel by pixel, and correct the choice. They start as the mean of the proposals.
    """

    features: int
    windows: tuple[float, ...]
    cost_radius: int = 0
    dtype: str | None = None

    @nn.compact
    def __call__(
        self, template: Array, frame: Array, context: Array, flow: Array, *, squarings: int
    ) -> Array:
        """Return the flow ``(b, y, x, 2)`` on the grid of ``context`` ``(b, y, x, c)``.

        ``template`` and ``frame`` are features on a grid twice as fine as that of ``context`` and ``flow``.
        """
        warped = warp_features(frame, enlarge_flow(integrate(flow, squarings), 2))
        both = jnp.concatenate([template, warped, (template - warped) ** 2], axis=-1)
        # What cannot be trusted, such as a cell that fires, is given less weight; at first everything has the same.
        doubt = nn.Conv(
            template.shape[-1], (1, 1), kernel_init=nn.initializers.zeros, dtype=self.dtype, name="trust"
        )(both)
        equations = shrink(normal_equations(template, warped, 2 * nn.sigmoid(doubt)))
        damping = nn.softplus(self.param("damping", nn.initializers.constant(-4.0), ()))
        means = [window_mean(equations, sigma) for sigma in self.windows]
        # Steps between pixels of the finer grid; the flow counts coarser ones.
        steps = jnp.stack([solved(mean, damping) for mean in means], axis=-2) / 2
        told = [context, flow, steps.reshape(*flow.shape[:-1], -1)]
        told += [jnp.log1p(mean[..., i : i + 1]) for mean in means for i in (0, 2, 5)]
        if self.cost_radius:
            told.append(cost_volume(shrink(template), shrink(warped), self.cost_radius))
        x = ConvAct(self.features, dtype=self.dtype)(jnp.concatenate(told, axis=-1))
        x = ConvAct(self.features, dtype=self.dtype)(x)
        steps = jnp.concatenate([jnp.zeros_like(flow)[..., None, :], steps], axis=-2)
        count = len(self.windows) + 1
        head = nn.Conv(2 + count, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype, name="head")(x)
        choice = nn.softmax(head[..., 2:], axis=-1)
        return flow + jnp.sum(choice[..., None] * steps, axis=-2) + head[..., :2]
