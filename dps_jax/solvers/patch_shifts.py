"""Shifts of small patches, how far each is to be trusted, and the smooth field that they make together.

Patches are ``(..., row, column, y, x)`` on a regular grid; shifts ``(..., row, column, 2)`` = (dy, dx) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.operators.phase_correlation import (
    border_window,
    correlation_at,
    cross_spectrum,
    highest,
    matched_spectrum,
    windowed,
)
from dps_jax.typing import Array

# Distance at which the correlation is computed: it is smooth over more than a pixel, a parabola does the rest.
_STEP_PX = 0.5
# What no patch is better than, however many its photons: cells that fire and interpolation are worth this much.
_BEST_PX = 0.01
# Steps of conjugate gradients: of a frame at 8 photons, they leave 0.0001 px to go; half as many leave 0.01.
_STEPS = 30


class Matched(NamedTuple):
    """What patches of frames are compared with."""

    spectrum: Array  # (row, column, y, x // 2 + 1)
    information: Array  # (row, column, 2, 2) about the shift, in px^-2, at a noise variance of 1


def matched_patches(template: Array, *, smoothing_sigma_px: float, whitening: float) -> Matched:
    """Prepare the template's patches ``(row, column, y, x)``.

    Near its peak the correlation is a parabola, whose curvature ``A`` is known from the template; white noise of
    variance 1 tilts it by gradients of covariance ``N``. The shift then has the covariance ``A^-1 N A^-1``.
    """
    shape = (template.shape[-2], template.shape[-1])
    window = border_window(shape)
    wide = jnp.asarray(window, template.dtype)
    spectrum = matched_spectrum(template, wide, smoothing_sigma_px=smoothing_sigma_px, whitening=whitening)
    own = jnp.real(jnp.fft.rfft2(windowed(template, wide)) * spectrum)
    curvature = _second_moment(own, shape)
    noise = _second_moment(jnp.abs(spectrum) ** 2, shape) * float((window**2).mean())
    return Matched(spectrum, curvature @ _inverse(noise) @ curvature)


def found_shifts(image: Array, matched: Matched, *, largest_px: float) -> Array:
    """Return where the correlation of each patch ``(..., row, column, y, x)`` is highest, within the bound per axis."""
    shape = (image.shape[-2], image.shape[-1])
    window = jnp.asarray(border_window(shape), image.dtype)
    cross = cross_spectrum(image, matched.spectrum, window)
    reach = max(1, round(largest_px / _STEP_PX))
    at = _STEP_PX * np.arange(-reach, reach + 1)
    surface = correlation_at(cross, shape, [at, at])
    place = _STEP_PX * (_vertex(surface) - reach)
    contrast = jnp.max(jnp.abs(surface), axis=(-2, -1)) > 0
    return jnp.where(contrast[..., None], jnp.clip(place, -largest_px, largest_px), jnp.zeros_like(place))


def noise_variance(image: Array, template: Array) -> Array:
    """Return the variance of the white noise about each pixel of ``(..., y, x)``, to be averaged over many.

    From a difference of differences that smooth structure does not pass; what the template passes is taken off.
    Source: Immerkaer 1996.
    """
    seen, known = _fine(image) ** 2, _fine(template) ** 2
    return jnp.maximum(seen - jnp.broadcast_to(known, seen.shape), 0.05 * seen)


def smooth_field(shifts: Array, information: Array, *, roughness_px: float) -> Array:
    """Return the most likely field of shifts, given each patch's own and that neighbours move alike.

    Parameters
    ----------
    shifts
        ``(..., row, column, 2)``, as found.
    information
        ``(..., row, column, 2, 2)``: inverse covariance of each, in px^-2.
    roughness_px
        Standard deviation that is expected of the sum of a patch's differences from its neighbours. Fields that are
        straight lines cost nothing; where patches see much, it has no say.

    Returns
    -------
    ``(..., row, column, 2)``.
    """
    # No better than the best: W (1 + b^2 W)^-1 is the inverse of W^-1 + b^2.
    one = jnp.broadcast_to(jnp.eye(2, dtype=shifts.dtype), information.shape)
    weight = information @ _inverse(one + _BEST_PX**2 * information)
    stiffness = 1 / roughness_px**2

    def apply(field: Array) -> Array:
        own = jnp.sum(weight * field[..., None, :], axis=-1)
        return own + stiffness * _laplacian(_laplacian(field))

    # The diagonal, which makes the steps short; 20 is the middle weight of the twofold Laplacian.
    diagonal = jnp.stack([weight[..., 0, 0], weight[..., 1, 1]], axis=-1) + 20 * stiffness
    right = jnp.sum(weight * shifts[..., None, :], axis=-1)
    return _conjugate_gradients(apply, right, shifts, diagonal)


def _second_moment(power: Array, shape: tuple[int, int]) -> Array:
    """Return minus the second derivatives ``(..., 2, 2)`` at 0 of the correlation whose (real) spectrum is given."""
    fy, fx = np.meshgrid(np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1]), indexing="ij")
    twice = np.where((fx == 0) | (fx == 0.5), 1.0, 2.0) * (2 * np.pi) ** 2 / (shape[0] * shape[1])
    moments = np.stack([fy * fy, fy * fx, fy * fx, fx * fx]) * twice
    values = jnp.einsum(
        "...yx,kyx->...k", power, jnp.asarray(moments, power.dtype), precision=jax.lax.Precision.HIGHEST
    )
    return values.reshape(*values.shape[:-1], 2, 2)


def _vertex(surface: Array) -> Array:
    """Return where the parabola through the highest inner value and its eight neighbours peaks, as indices."""
    top = highest(surface[..., 1:-1, 1:-1]) + 1
    width = surface.shape[-1]
    flat = surface.reshape(*surface.shape[:-2], -1)
    middle = (top[..., 0] * width + top[..., 1]).astype(int)

    def value(dy: int, dx: int) -> Array:
        return jnp.take_along_axis(flat, (middle + dy * width + dx)[..., None], axis=-1)[..., 0]

    gy, gx = (value(1, 0) - value(-1, 0)) / 2, (value(0, 1) - value(0, -1)) / 2
    yy = value(1, 0) + value(-1, 0) - 2 * value(0, 0)
    xx = value(0, 1) + value(0, -1) - 2 * value(0, 0)
    yx = (value(1, 1) + value(-1, -1) - value(1, -1) - value(-1, 1)) / 4
    determinant = yy * xx - yx * yx
    peak = (yy < 0) & (xx < 0) & (determinant > 1e-3 * yy * xx)
    safe = jnp.where(peak, determinant, 1.0)
    step = jnp.stack([yx * gx - xx * gy, yx * gy - yy * gx], axis=-1) / safe[..., None]
    return top + jnp.where(peak[..., None], jnp.clip(step, -1.0, 1.0), jnp.zeros_like(step))


def _fine(image: Array) -> Array:
    """Return ``[1 -2 1]`` along both axes, scaled to leave the variance of white noise as it is."""
    wide = jnp.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)], mode="symmetric")
    rows = wide[..., :-2, :] - 2 * wide[..., 1:-1, :] + wide[..., 2:, :]
    return (rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:]) / 6


def _laplacian(field: Array) -> Array:
    """Return the sum of the differences from the neighbours that there are, ``(..., row, column, 2)``."""
    total = jnp.zeros_like(field)
    for axis in (-3, -2):
        step = jnp.diff(field, axis=axis)
        edge = [(0, 0)] * field.ndim
        for before, sign in ((1, 1), (0, -1)):
            edge[axis] = (before, 1 - before)
            total = total - sign * jnp.pad(step, edge)
    return total


def _inverse(matrix: Array) -> Array:
    """Invert ``(..., 2, 2)``, symmetric and not negative; one that is (nearly) singular is made a little larger."""
    a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    more = 1e-6 * (a + d) + jnp.finfo(matrix.dtype).tiny ** 0.5
    a, d = a + more, d + more
    rows = [jnp.stack([d, -b], axis=-1), jnp.stack([-b, a], axis=-1)]
    return jnp.stack(rows, axis=-2) / (a * d - b * b)[..., None, None]


def _conjugate_gradients(
    apply: Callable[[Array], Array], right: Array, start: Array, diagonal: Array
) -> Array:
    """Solve ``apply(x) = right`` for every image, by conjugate gradients from ``start`` on."""

    def product(a: Array, b: Array) -> Array:
        return jnp.sum(a * b, axis=(-3, -2, -1), keepdims=True)

    def ratio(a: Array, b: Array) -> Array:
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1.0), 0.0)

    def step(_: int, state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, residual, direction, size = state
        moved = apply(direction)
        length = ratio(size, product(direction, moved))
        x, residual = x + length * direction, residual - length * moved
        scaled = residual / diagonal
        after = product(residual, scaled)
        return x, residual, scaled + ratio(after, size) * direction, after

    residual = right - apply(start)
    direction = residual / diagonal
    state = (start, residual, direction, product(residual, direction))
    return jax.lax.fori_loop(0, _STEPS, step, state)[0]
