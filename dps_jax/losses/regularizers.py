"""What a plausible object looks like: smooth along its structures, sparse, piecewise flat.

Each returns a sum over pixels, one value per image or stack; the leading axes stay. The absolute value's
derivative at 0 is taken as 0, so gradients are finite on constant images.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators.differences import first_difference, mixed_difference, second_difference
from dps_jax.typing import Array


def _absolute_sum(image: Array, axes: int) -> Array:
    # x sign(x) is |x|, with slope 0 at 0, where that of jnp.abs is 1: flat images are to stay as they are.
    magnitude = image * jax.lax.stop_gradient(jnp.sign(image))
    return jnp.sum(magnitude, axis=tuple(range(-axes, 0)))


def hessian_xy(image: Array) -> Array:
    """Hessian continuity ``sum |x_xx| + |x_yy| + 2 |x_xy|`` of images ``(..., y, x)``.

    Source: Huang et al. 2018; Ye et al. 2024. Differences without a neighbour are left out.

    Raises
    ------
    ValueError
        For an image without y and x axes.
    """
    _checks.at_least_2d("image", image)
    return (
        _absolute_sum(second_difference(image, "x"), 2)
        + _absolute_sum(second_difference(image, "y"), 2)
        + 2 * _absolute_sum(mixed_difference(image, "x", "y"), 2)
    )


def _hessian_with_third_axis(stack: Array, third: str, sigma: float) -> Array:
    if stack.ndim < 3:
        raise ValueError(f"expected a stack (..., {third}, y, x), got shape {stack.shape}")
    _checks.non_negative("sigma", sigma)
    cross = _absolute_sum(mixed_difference(stack, "x", third), 3) + _absolute_sum(
        mixed_difference(stack, "y", third), 3
    )
    return (
        jnp.sum(hessian_xy(stack), axis=-1)
        + sigma * _absolute_sum(second_difference(stack, third), 3)
        + 2 * jnp.sqrt(sigma) * cross
    )


def hessian_xyt(stack: Array, *, sigma: float = 1.0) -> Array:
    """Hessian continuity in space and time of movies ``(..., t, y, x)``.

    ``sum |x_xx| + |x_yy| + 2 |x_xy| + sigma |x_tt| + 2 sqrt(sigma) (|x_xt| + |x_yt|)``; ``sigma`` weighs the
    continuity in time. Source: Huang et al. 2018; Ye et al. 2024.

    Raises
    ------
    ValueError
        For fewer than three axes or a negative ``sigma``.
    """
    return _hessian_with_third_axis(stack, "t", sigma)


def hessian_xyz(stack: Array, *, sigma: float = 1.0) -> Array:
    """Hessian continuity of volumes ``(..., z, y, x)``; as :func:`hessian_xyt` with z in the place of t."""
    return _hessian_with_third_axis(stack, "z", sigma)


def l1_norm(image: Array) -> Array:
    """Sparsity ``sum |x|`` of images ``(..., y, x)``."""
    _checks.at_least_2d("image", image)
    return _absolute_sum(image, 2)


def total_variation(image: Array) -> Array:
    """Anisotropic total variation ``sum |x_x| + |x_y|`` of images ``(..., y, x)`` (Rudin et al. 1992)."""
    _checks.at_least_2d("image", image)
    return _absolute_sum(first_difference(image, "x"), 2) + _absolute_sum(first_difference(image, "y"), 2)
