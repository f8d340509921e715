"""Fourier rings and shells: the frequency grid, apodisation and sums that the resolution metrics share.

Arrays are ``(..., y, x)``, or ``(..., z, y, x)`` where ``dimensions=3``. Frequencies are in cycles per pixel.
Only the half of the spectrum that ``rfftn`` returns is kept; ``multiplicity`` counts what its mirror image
adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.typing import Array, ArrayLike

_FLOOR = 1e-20


class Rings(NamedTuple):
    """Where each coefficient of the half spectrum belongs (all NumPy: static under ``jit``)."""

    member: np.ndarray  # (*half,) ring of each coefficient; `count` or more means outside the last ring
    multiplicity: np.ndarray  # (*half,) 1 where the coefficient is its own mirror image's column, else 2
    frequencies: np.ndarray  # (count,) cycles per pixel at the ring's centre line
    sizes: np.ndarray  # (count,) Fourier coefficients per ring, both halves


def rings(shape: Sequence[int], *, step_px: Sequence[float] | None = None) -> Rings:
    """Return the rings one coarsest frequency step wide, from zero to the Nyquist frequency of the x axis.

    The step is ``1 / n`` for the shortest side ``n``, so that in an oblong image every ring still holds
    coefficients from all directions; one half-way between two rings belongs to the lower. ``step_px`` is the
    sampling step of each axis, in pixels of the x axis.
    """
    steps = np.ones(len(shape)) if step_px is None else np.asarray(step_px, dtype=float)
    axes = [np.fft.fftfreq(n, d) for n, d in zip(shape[:-1], steps[:-1], strict=True)]
    axes.append(np.fft.rfftfreq(shape[-1], steps[-1]))
    radius = np.sqrt(sum(np.square(f) for f in np.meshgrid(*axes, indexing="ij", sparse=True)))
    shortest = min(n * d for n, d in zip(shape, steps, strict=True))
    # 1e-6 absorbs the rounding of n * (1 / n), which would otherwise move whole rings by one.
    index = np.floor(radius * shortest + 0.5 - 1e-6).astype(np.int32)
    count = int(np.floor(shortest / 2 + 1e-6)) + 1
    multiplicity = np.full(radius.shape, 2.0, dtype=np.float32)
    multiplicity[..., 0] = 1
    if shape[-1] % 2 == 0:
        multiplicity[..., -1] = 1
    sizes = np.bincount(index.ravel(), weights=multiplicity.ravel(), minlength=count)[:count]
    return Rings(index, multiplicity, np.arange(count) / shortest, sizes)


def ring_sums(values: Array, grid: Rings) -> Array:
    """Add up ``values`` (..., *half spectrum) over each ring, mirror images included; (..., ring)."""
    leading = values.shape[: values.ndim - grid.member.ndim]
    weighted = values * jnp.asarray(grid.multiplicity).reshape((1,) * len(leading) + grid.multiplicity.shape)
    flat = weighted.reshape((*leading, grid.member.size))
    empty = jnp.zeros((*leading, grid.frequencies.size), flat.dtype)
    return empty.at[..., grid.member.ravel()].add(flat, mode="drop")


def tukey_window(size: int, taper: float) -> np.ndarray:
    """Return a Tukey (tapered cosine) window; ``taper`` 0 is a box, 1 is a Hann window (Harris 1978)."""
    edge = np.minimum(np.arange(size) + 0.5, size - np.arange(size) - 0.5) / max(taper * size / 2, 1e-9)
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(edge, 0, 1))).astype(np.float32)


def apodise(image: Array, *, taper: float, dimensions: int = 2) -> Array:
    """Remove the mean and roll the borders off to zero, so that they do not ring through the spectrum."""
    axes = tuple(range(-dimensions, 0))
    image = image - image.mean(axes, keepdims=True)
    for axis in axes:
        shape = [1] * image.ndim
        shape[axis] = image.shape[axis]
        image = image * tukey_window(image.shape[axis], taper).reshape(shape)
    return image


def spectrum(image: ArrayLike, *, taper: float | None, dimensions: int = 2, scaled: bool = True) -> Array:
    """Return the half spectrum of the apodised image, brought to a largest value of 1 first if ``scaled``.

    No correlation depends on that scale; it keeps squares and their products inside float32.
    """
    image = jnp.asarray(image, jnp.float32)
    axes = tuple(range(-dimensions, 0))
    if taper is not None:
        image = apodise(image, taper=taper, dimensions=dimensions)
    if scaled:
        peak = jax.lax.stop_gradient(jnp.abs(image).max(axes, keepdims=True))
        image = image / jnp.where(peak > 0, peak, 1.0)
    return jnp.fft.rfftn(image, axes=axes, norm="ortho")


def power(coefficients: Array) -> Array:
    """Return ``|F|^2`` in a form whose gradient is finite at zero."""
    return jnp.square(coefficients.real) + jnp.square(coefficients.imag)


def ring_correlation(first: Array, second: Array, grid: Rings) -> Array:
    """Correlate two half spectra per ring: ``Re sum F G* / sqrt(sum |F|^2 sum |G|^2)``; 0 without power."""
    cross = ring_sums(first.real * second.real + first.imag * second.imag, grid)
    powers = [ring_sums(power(f), grid) for f in (first, second)]
    # Below this lies only the rounding of the transform (its square, times the ring's size, for a peak of 1).
    filled = (powers[0] > _FLOOR) & (powers[1] > _FLOOR)
    roots = [jnp.sqrt(jnp.where(filled, p, 1.0)) for p in powers]
    return jnp.where(filled, cross / (roots[0] * roots[1]), 0.0)


def spatial_shape(image: Any, dimensions: int) -> tuple[int, ...]:
    """Return the last ``dimensions`` sizes, refusing arrays with fewer axes or sides too short for rings."""
    shape = np.shape(image)
    if len(shape) < dimensions or min(shape[-dimensions:]) < 4:
        axes = "(..., y, x)" if dimensions == 2 else "(..., z, y, x)"
        raise ValueError(f"expected an image with axes {axes} and sides of 4 px or more, got shape {shape}")
    return shape[-dimensions:]


def shared_shape(a: Any, b: Any, dimensions: int) -> tuple[int, ...]:
    """Return the spatial shape that two images share, leading axes included in the comparison."""
    _checks.same_shape("a", a, "b", b)
    return spatial_shape(a, dimensions)
