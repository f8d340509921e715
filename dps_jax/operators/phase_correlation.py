"""Shifts between images by Fourier correlation, to a small part of a pixel, down to a few photons per pixel.

Images are ``(..., y, x)``. A shift ``(..., 2)`` = (dy, dx) px says where to read: ``image(r + shift)`` lies on
``template(r)``; it is the constant flow that :func:`dps_jax.operators.warp` takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.flow_fields import rigid_flow
from dps_jax.operators.warp import warp
from dps_jax.typing import Array

# Positions per pixel at which the correlation is computed around its peak; a parabola does the rest.
_UPSAMPLING = 8


def estimate_shift(
    image: Array,
    template: Array,
    *,
    largest_shift_px: float = 15.0,
    smoothing_sigma_px: float = 1.0,
    whitening: float = 0.5,
    passes: int = 2,
) -> Array:
    """Return the shift of each image against the template.

    Parameters
    ----------
    image
        ``(..., y, x)``, frames.
    template
        ``(y, x)`` for all, or with leading axes that broadcast against those of ``image``. The mean of some twenty
        frames or more is nearly as good as one without noise.
    largest_shift_px
        Largest shift looked for, along each axis.
    smoothing_sigma_px
        Gaussian low-pass that stops noise finer than the structures, as a width in pixels; 0 for none.
    whitening
        Exponent from 0 to 1: the correlation's spectrum is divided by the template's amplitude to this power. 0 is
        plain correlation, best against white noise alone; 1 is phase correlation, whose peak is sharp although the
        image is dominated by coarse structure.
    passes
        The window that hides the image's borders draws shifts to 0, by a few per cent of what is left to find: in each
        pass the image is moved by the shift found so far, and the rest is looked for.

    Returns
    -------
    ``(..., 2)`` in pixels, 0 for images without contrast.

    Raises
    ------
    ValueError
        For options out of range or shapes that do not fit.

    Source: Kuglin and Hines 1975 (phase correlation); the refinement by a matrix product that computes the Fourier
    series on a fine grid about the peak is that of Guizar-Sicairos et al. 2008.
    """
    _check(image, template, largest_shift_px, smoothing_sigma_px, whitening)
    _checks.positive_integer("passes", passes)
    image, template = (jnp.asarray(a, jnp.result_type(a, jnp.float32)) for a in (image, template))
    shape = (image.shape[-2], image.shape[-1])
    window = jnp.asarray(border_window(shape), image.dtype)
    spectrum = matched_spectrum(template, window, smoothing_sigma_px=smoothing_sigma_px, whitening=whitening)
    shift = jnp.zeros((*jnp.broadcast_shapes(image.shape, template.shape)[:-2], 2), image.dtype)
    for index in range(passes):
        moved = warp(image, rigid_flow(shape, shift)) if index else image
        # What is left after the first pass is small, unless that was misled: it may then not go astray again.
        largest = largest_shift_px if index == 0 else min(largest_shift_px, 2.0)
        shift = shift + _peak(cross_spectrum(moved, spectrum, window), shape, largest)
    return jnp.clip(shift, -largest_shift_px, largest_shift_px)


def border_window(shape: tuple[int, int]) -> np.ndarray:
    """Return a window ``(y, x)`` that falls to 0 by a half cosine over the outer eighth at each side."""

    def along(n: int) -> np.ndarray:
        distance = np.minimum(np.arange(n) + 0.5, n - 0.5 - np.arange(n))
        return 0.5 - 0.5 * np.cos(np.pi * np.minimum(distance / (n / 8), 1.0))

    return np.outer(along(shape[0]), along(shape[1]))


def _check(
    image: Array, template: Array, largest_shift_px: float, smoothing_sigma_px: float, whitening: float
) -> None:
    _checks.at_least_2d("image", image)
    _checks.at_least_2d("template", template)
    if jnp.shape(image)[-2:] != jnp.shape(template)[-2:]:
        raise ValueError(
            f"expected image and template of one size, got {jnp.shape(image)} and {jnp.shape(template)}"
        )
    _checks.positive("largest_shift_px", largest_shift_px)
    _checks.non_negative("smoothing_sigma_px", smoothing_sigma_px)
    if not 0 <= whitening <= 1:
        raise ValueError(f"expected whitening from 0 to 1, got {whitening!r}")


def matched_spectrum(
    template: Array, window: Array, *, smoothing_sigma_px: float = 1.0, whitening: float = 0.5
) -> Array:
    """Return the conjugate spectrum ``(..., y, x // 2 + 1)`` that images are multiplied by to be correlated.

    That of the windowed template, on the frequencies of ``rfft2``, smoothed and whitened as :func:`estimate_shift`
    says.
    """
    spectrum = jnp.fft.rfft2(windowed(template, window))
    amplitude = jnp.abs(spectrum)
    # Where the template has hardly any power, its phase is noise's: it is not raised above a hundredth.
    floor = 0.01 * jnp.max(amplitude, axis=(-2, -1), keepdims=True)
    amplitude = jnp.maximum(amplitude, jnp.maximum(floor, jnp.finfo(amplitude.dtype).tiny))
    fy, fx = np.fft.fftfreq(template.shape[-2]), np.fft.rfftfreq(template.shape[-1])
    low_pass = np.exp(-2 * (np.pi * smoothing_sigma_px) ** 2 * (fy[:, None] ** 2 + fx[None, :] ** 2))
    gain = jnp.broadcast_to(jnp.asarray(low_pass, amplitude.dtype), amplitude.shape)
    return jnp.conj(spectrum) * gain * amplitude**-whitening


def cross_spectrum(image: Array, spectrum: Array, window: Array) -> Array:
    """Return the spectrum ``(..., y, x // 2 + 1)`` of the correlation of windowed images with a template's."""
    transform = jnp.fft.rfft2(windowed(image, window))
    shape = jnp.broadcast_shapes(transform.shape, spectrum.shape)
    return jnp.broadcast_to(transform, shape) * jnp.broadcast_to(spectrum, shape)


def correlation_at(cross: Array, shape: tuple[int, int], positions_px: Sequence[np.ndarray]) -> Array:
    """Return the correlation ``(..., row, column)`` at given rows and columns, of its Fourier series.

    ``cross`` is the spectrum ``(..., y, x // 2 + 1)`` of images of ``shape`` (y, x). Two matrix products, which for
    few positions are faster than a transform of them all.
    """
    frequencies = (np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1]))
    rows, columns = (
        jnp.asarray(np.exp(2j * np.pi * np.outer(p, f)), cross.dtype)
        for p, f in zip(positions_px, frequencies, strict=True)
    )
    # Of a real correlation, the other half of the spectrum is the mirror image of this one.
    twice = np.full(cross.shape[-1], 2.0)
    twice[0] = 1.0
    if shape[1] % 2 == 0:
        twice[-1] = 1.0
    weighted = columns * jnp.asarray(twice[None] / (shape[0] * shape[1]), cross.dtype)
    high = jax.lax.Precision.HIGHEST
    return jnp.real(jnp.einsum("py,...yx,qx->...pq", rows, cross, weighted, precision=high))


def windowed(image: Array, window: Array) -> Array:
    """Return the image less its mean under the window, times that: no step at the border, nothing at frequency 0."""
    wide = jnp.broadcast_to(window, image.shape)
    mean = jnp.sum(image * wide, axis=(-2, -1), keepdims=True) / jnp.sum(window)
    return (image - mean) * wide


def _peak(cross: Array, shape: tuple[int, int], largest_px: float) -> Array:
    """Return the position ``(..., 2)`` of the highest correlation within the largest shift."""
    reach = [min(int(largest_px), (n - 1) // 2) for n in shape]
    near = correlation_at(cross, shape, [np.arange(-r, r + 1) for r in reach])
    whole = highest(near) - jnp.broadcast_to(jnp.asarray(reach, near.dtype), (*near.shape[:-2], 2))
    fine = np.arange(-_UPSAMPLING, _UPSAMPLING + 1) / _UPSAMPLING
    values = correlation_at(_moved(cross, shape, -whole), shape, [fine, fine])
    top = highest(values)
    part = (top + _vertex(values, top) - _UPSAMPLING) / _UPSAMPLING
    contrast = jnp.max(jnp.abs(near), axis=(-2, -1)) > 0
    return jnp.where(contrast[..., None], whole + part, jnp.zeros_like(part))


def _moved(cross: Array, shape: tuple[int, int], shift_px: Array) -> Array:
    """Move the correlation by a shift ``(..., 2)``."""
    for axis, frequency in enumerate((np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1]))):
        size = (*shift_px.shape[:-1], len(frequency))
        along = jnp.broadcast_to(jnp.asarray(frequency, shift_px.dtype), size)
        wave = jnp.exp(-2j * jnp.pi * jnp.broadcast_to(shift_px[..., axis, None], size) * along)
        cross = cross * jnp.expand_dims(wave, -1 if axis == 0 else -2)
    return cross


def highest(values: Array) -> Array:
    """Return the index (row, column) of the highest value of ``(..., y, x)``, as numbers ``(..., 2)``."""
    width = values.shape[-1]
    at = jnp.argmax(values.reshape(*values.shape[:-2], -1), axis=-1)
    return jnp.stack([at // width, at % width], axis=-1).astype(values.dtype)


def _vertex(values: Array, top: Array) -> Array:
    """Return how far from the highest value the parabola through it and its neighbours peaks, per axis."""
    flat = values.reshape(*values.shape[:-2], -1)
    row, column = top[..., 0].astype(int), top[..., 1].astype(int)
    height, width = values.shape[-2:]
    parts = []
    for at, side, step in ((row, height, width), (column, width, 1)):
        inner = jnp.clip(at, 1, side - 2)
        centre = row * width + column + (inner - at) * step
        low, middle, high = (
            jnp.take_along_axis(flat, (centre + k * step)[..., None], axis=-1)[..., 0] for k in (-1, 0, 1)
        )
        bend = low - 2 * middle + high
        part = 0.5 * (low - high) / jnp.where(bend < 0, bend, -1.0)
        parts.append(jnp.where((bend < 0) & (inner == at), jnp.clip(part, -1.0, 1.0), 0.0))
    return jnp.stack(parts, axis=-1)
