"""The camera of ``operators.forward`` for iterations: images stay in the frame of its FFT, without a crop and a pad.

The frame is the object with its margins; what a camera sees there is known inside only. A method that works with
ratios or residuals sets them to 0 outside, and the adjoint needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import scipy.fft

from dps_jax import _checks
from dps_jax.operators.adjoint import adjoint
from dps_jax.operators.convolve import BOUNDARIES, check_kernel
from dps_jax.operators.sampling import bin_area, bin_area_adjoint
from dps_jax.typing import Array


class CameraFrame(NamedTuple):
    """Maps between objects ``(..., s y, s x)`` and camera images in the frame.

    ``forward`` gives the image of an object, right inside alone; ``place`` puts an image of the camera's own shape
    there, 0 outside; ``backward`` is the adjoint of ``forward`` for images that are 0 outside.
    """

    forward: Callable[[Array], Array]
    backward: Callable[[Array], Array]
    place: Callable[[Array], Array]


def camera_frame(
    psf: Array, shape: Sequence[int], *, factor: int = 2, boundary: str = "constant"
) -> CameraFrame:
    """Return the camera of ``psf`` for objects whose last sides are ``shape``; parameters as ``camera``.

    Raises
    ------
    ValueError
        For a kernel with an even side, a shape of another number of axes or that ``factor`` does not divide, or an
        unknown boundary.
    """
    _checks.one_of("boundary", boundary, tuple(BOUNDARIES))
    _checks.positive_integer("factor", factor)
    check_kernel(psf)
    psf, shape, dimensions = jnp.asarray(psf), tuple(shape), jnp.ndim(psf)
    steps = (1,) * (dimensions - 2) + (factor, factor)  # planes of a volume are binned one by one
    if len(shape) != dimensions or any(n % s for n, s in zip(shape, steps, strict=True)):
        raise ValueError(f"expected {dimensions} sides, y and x multiples of {factor}, got shape {shape}")
    reach = [k // 2 for k in psf.shape]
    # Whole camera pixels, so that those of the frame are those of the image.
    margins = [0 if boundary == "constant" else -(-r // s) * s for r, s in zip(reach, steps, strict=True)]
    needed = [n + max(2 * m, r) for n, m, r in zip(shape, margins, reach, strict=True)]
    sides = [_fast(max(n, k), s) for n, k, s in zip(needed, psf.shape, steps, strict=True)]
    axes = tuple(range(-dimensions, 0))
    grid = jnp.zeros(sides, psf.dtype).at[tuple(slice(0, k) for k in psf.shape)].set(psf)
    spectrum = jnp.fft.rfftn(jnp.roll(grid, [-r for r in reach], axis=axes))
    outer = [(m, side - n - m) for m, n, side in zip(margins, shape, sides, strict=True)]

    def extend(image: Array) -> Array:
        lead = [(0, 0)] * (image.ndim - dimensions)
        if boundary == "constant":
            return jnp.pad(image, [*lead, *outer])
        wide = jnp.pad(image, [*lead, *((m, m) for m in margins)], mode=BOUNDARIES[boundary])
        return jnp.pad(wide, [*lead, *((0, b - m) for (m, b) in outer)])

    def multiplied(image: Array, by: Array) -> Array:
        transform = jnp.fft.rfftn(image, axes=axes)
        by = by.reshape((1,) * (image.ndim - dimensions) + by.shape)
        return jnp.fft.irfftn(transform * by, s=sides, axes=axes).astype(image.dtype)

    def forward(image: Array) -> Array:
        return bin_area(multiplied(extend(image), spectrum), factor)

    def backward(image: Array) -> Array:
        blurred = multiplied(bin_area_adjoint(image, factor), jnp.conj(spectrum))
        return adjoint(extend, (*image.shape[:-dimensions], *shape), dtype=image.dtype)(blurred)

    def place(image: Array) -> Array:
        lead = [(0, 0)] * (image.ndim - dimensions)
        return jnp.pad(image, [*lead, *((a // s, b // s) for (a, b), s in zip(outer, steps, strict=True))])

    return CameraFrame(forward, backward, place)


def _fast(length: int, multiple: int) -> int:
    """Return the next length that the FFT is fast for and ``multiple`` divides."""
    side = scipy.fft.next_fast_len(length, real=True)
    while side % multiple:
        side = scipy.fft.next_fast_len(side + 1, real=True)
    return int(side)
