"""Differences with their adjoints on one grid, as the solvers with sparse gradients need them."""

from __future__ import annotations

import jax.numpy as jnp

from dps_jax.typing import Array


def _forward(image: Array, axis: int) -> Array:
    """Forward difference of the same shape; 0 at the last pixel, beyond which the image goes on as it is."""
    ends = [(0, 0)] * image.ndim
    ends[axis] = (0, 1)
    return jnp.diff(jnp.pad(image, ends, mode="edge"), axis=axis)


def _backward(field: Array, axis: int) -> Array:
    """Minus the adjoint of :func:`_forward`."""
    length = field.shape[axis]
    ends = [(0, 0)] * field.ndim
    ends[axis] = (1, 1)
    inner = jnp.take(field, jnp.arange(length - 1), axis=axis)
    return jnp.diff(jnp.pad(inner, ends), axis=axis)


def variation_divergence(image: Array, *, axes: int = 2) -> Array:
    """Return ``div(grad x / |grad x|)`` over the last ``axes`` axes: minus the gradient of the total variation.

    Source: Rudin, Osher and Fatemi 1992. Where the image is flat to a millionth of its mean the direction of its
    gradient is rounding, and counts as none.
    """
    along = tuple(range(-axes, 0))
    gradient = [_forward(image, axis) for axis in along]
    flat = 1e-6 * jnp.mean(jnp.abs(image), axis=along, keepdims=True) + 1e-30
    length = jnp.sqrt(sum((g**2 for g in gradient), start=jnp.square(flat)))
    terms = [_backward(g / length, axis) for g, axis in zip(gradient, along, strict=True)]
    return sum(terms[1:], start=terms[0])
