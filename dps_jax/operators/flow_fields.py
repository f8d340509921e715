"""Algebra of flows: build, compose, invert, integrate, and see where they fold.

A flow ``(..., 2, y, x)`` in pixels, components (dy, dx), stands for the map ``r -> r + flow(r)``; with
``dimensions=3`` it is ``(..., 3, z, y, x)``. Between pixels flows are linear, outside they keep their edge values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators.warp import check_flow, sampling_grid, warp
from dps_jax.typing import Array, ArrayLike


class InverseFlow(NamedTuple):
    """Result of :func:`invert`."""

    flow_px: Array  # (..., 2, y, x)
    error_px: Array  # (...,) the largest distance by which the flow and its inverse miss the starting point


def _as_float(numbers: ArrayLike | Sequence[float]) -> Array:
    array = jnp.asarray(numbers)
    return array.astype(jnp.result_type(array, jnp.float32))


def affine_flow(matrix: ArrayLike, shape: Sequence[int]) -> Array:
    """Return the flow of ``r -> A (r - c) + c + t`` about the middle ``c`` of the image.

    Parameters
    ----------
    matrix
        ``[A | t]``, ``(..., 2, 3)`` for images and ``(..., 3, 4)`` for volumes; ``t`` in pixels.
    shape
        ``(y, x)`` or ``(z, y, x)``.

    Returns
    -------
    ``(..., 2, y, x)`` or ``(..., 3, z, y, x)``.

    Raises
    ------
    ValueError
        For a matrix that does not fit the shape.
    """
    matrix = _as_float(matrix)
    size = len(shape)
    _checks.one_of("the number of sides", size, (2, 3))
    if matrix.ndim < 2 or matrix.shape[-2:] != (size, size + 1):
        raise ValueError(f"expected a matrix (..., {size}, {size + 1}), got shape {matrix.shape}")
    lead = matrix.shape[:-2]
    middle = jnp.asarray([(n - 1) / 2 for n in shape], jnp.float32).reshape(size, *[1] * size)
    grid = sampling_grid(shape) - jnp.broadcast_to(middle, (size, *shape))

    def number(i: int, j: int) -> Array:
        return jnp.broadcast_to(matrix[..., i, j].reshape(*lead, *[1] * size), (*lead, *shape))

    # Sums of products by broadcasting: jaxlib 0.10.2 is wrong for mapped matrix products (jax issue 39103).
    components = []
    for i in range(size):
        component = number(i, size)
        for j in range(size):
            component = component + (number(i, j) - float(i == j)) * jnp.broadcast_to(
                grid[j], component.shape
            )
        components.append(component)
    return jnp.stack(components, axis=-size - 1)


def rigid_flow(
    shape: Sequence[int], shift_px: ArrayLike | Sequence[float], *, angle_rad: ArrayLike = 0.0
) -> Array:
    """Return the flow of a shift after a turn about the middle of the image.

    Parameters
    ----------
    shape
        ``(y, x)``, or ``(z, y, x)`` for a shift alone.
    shift_px
        ``(..., 2)`` as (dy, dx), or ``(..., 3)`` as (dz, dy, dx): what is read lies this far away.
    angle_rad
        A number or ``(...,)``: the coordinates turn by this angle from y towards x. Images only.

    Returns
    -------
    ``(..., 2, y, x)`` or ``(..., 3, z, y, x)``.

    Raises
    ------
    ValueError
        For a shift of another number of components than the shape, or a volume that is to turn.
    """
    shift = _as_float(shift_px)
    size = len(shape)
    if shift.ndim < 1 or shift.shape[-1] != size:
        raise ValueError(f"expected a shift (..., {size}) for the shape {tuple(shape)}, got {shift.shape}")
    unturned = isinstance(angle_rad, (int, float)) and angle_rad == 0
    if unturned:
        wide = shift.reshape(*shift.shape, *[1] * size)
        return jnp.broadcast_to(wide, (*shift.shape, *shape))
    if size != 2:
        raise ValueError(f"expected a shape (y, x) to turn, got {tuple(shape)}")
    angle = jnp.broadcast_to(jnp.asarray(angle_rad, shift.dtype), shift.shape[:-1])
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    rows = [jnp.stack([cosine, -sine, shift[..., 0]], -1), jnp.stack([sine, cosine, shift[..., 1]], -1)]
    return affine_flow(jnp.stack(rows, -2), shape)


def compose(first: Array, second: Array, *, dimensions: int = 2) -> Array:
    """Return the flow that warps at once as warping by ``first`` and then the result by ``second`` does.

    ``second(r) + first(r + second(r))``. Leading axes are broadcast; raises ``ValueError`` for shapes that do not fit.
    """
    check_flow(first, dimensions)
    check_flow(second, dimensions)
    # The components of the first are images to be read, all along one flow.
    read = warp(first, jnp.expand_dims(second, -dimensions - 2), mode="nearest", dimensions=dimensions)
    lead = jnp.broadcast_shapes(first.shape[: -dimensions - 1], second.shape[: -dimensions - 1])
    return jnp.broadcast_to(second, (*lead, *second.shape[-dimensions - 1 :])) + read


def invert(flow_px: Array, *, iterations: int = 30, dimensions: int = 2) -> InverseFlow:
    """Return the flow ``v`` with ``v(r) = -flow(r + v(r))``, by fixed-point iteration, and its error.

    Parameters
    ----------
    flow_px
        ``(..., 2, y, x)``. Each iteration divides the error by the inverse of the flow's steepest slope: a flow that
        changes by a pixel per pixel, which may fold, is not inverted.
    iterations
        Of the fixed point; the flow without its sign is where it starts.
    dimensions
        2 for images, 3 for volumes.

    Returns
    -------
    The inverse, and per flow the largest ``|v(r) + flow(r + v(r))|`` over the pixels.

    Raises
    ------
    ValueError
        For a flow of another shape, or less than one iteration.

    Source: Chen et al. 2008 (a simple fixed-point approach to invert a deformation field).
    """
    _checks.positive_integer("iterations", iterations)
    check_flow(flow_px, dimensions)
    flow = _as_float(flow_px)

    def read(inverse: Array) -> Array:
        return warp(flow, jnp.expand_dims(inverse, -dimensions - 2), mode="nearest", dimensions=dimensions)

    inverse = jax.lax.fori_loop(0, iterations, lambda _, v: -read(v), -flow)
    miss = jnp.sqrt(jnp.sum((inverse + read(inverse)) ** 2, axis=-dimensions - 1))
    return InverseFlow(inverse, jnp.max(miss, axis=tuple(range(-dimensions, 0))))


def jacobian_determinant(flow_px: Array, *, dimensions: int = 2) -> Array:
    """Return by how much ``r -> r + flow(r)`` enlarges area (or volume) at each pixel; 0 or less where it folds.

    Central differences, one-sided at the borders. ``(..., 2, y, x)`` becomes ``(..., y, x)``; raises ``ValueError``
    for a flow of another shape or with a side of one pixel.
    """
    check_flow(flow_px, dimensions)
    if min(jnp.shape(flow_px)[-dimensions:]) < 2:
        raise ValueError(f"expected sides of 2 px or more, got a flow of shape {jnp.shape(flow_px)}")
    flow = _as_float(flow_px)
    parts = [jnp.take(flow, i, axis=-dimensions - 1) for i in range(dimensions)]
    slopes = [list(jnp.gradient(part, axis=tuple(range(-dimensions, 0)))) for part in parts]
    m = [[slopes[i][j] + float(i == j) for j in range(dimensions)] for i in range(dimensions)]
    if dimensions == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )


def folding_count(flow_px: Array, *, dimensions: int = 2) -> Array:
    """Return at how many pixels of each flow the determinant is 0 or less: whole numbers ``(...,)``."""
    folded = jacobian_determinant(flow_px, dimensions=dimensions) <= 0
    return jnp.sum(folded, axis=tuple(range(-dimensions, 0)))


def exponential(velocity_px: Array, *, squarings: int = 6, dimensions: int = 2) -> Array:
    """Return the flow reached by following a constant velocity for a time of 1: invertible where it is smooth.

    ``velocity_px`` is ``(..., 2, y, x)``. The flow of time ``2^-squarings`` is taken to be the velocity times that,
    then composed with itself ``squarings`` times. Raises ``ValueError`` for another shape or a negative number.

    Source: scaling and squaring, Arsigny et al. 2006.
    """
    if isinstance(squarings, bool) or not isinstance(squarings, int) or squarings < 0:
        raise ValueError(f"expected squarings to be a whole number of 0 or more, got {squarings!r}")
    check_flow(velocity_px, dimensions)
    flow = _as_float(velocity_px) / 2**squarings
    for _ in range(squarings):
        flow = compose(flow, flow, dimensions=dimensions)
    return flow
