"""Interpolation between pixels: nearest, linear and cubic B-splines, with SciPy's boundary modes.

A signal is extended to all integers by its boundary mode, then interpolated: what the extended signal is at
``k + u``, for whole ``k`` and ``0 <= u < 1``, is a weighted sum of a few of its samples (or B-spline
coefficients), with weights that depend on ``u`` alone. Keeping ``k`` and ``u`` apart keeps the weights exact in
float32, however large the image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.typing import Array

ORDERS = (0, 1, 3)
# How NumPy's padding names the extension that SciPy's interpolation names by the key. "constant" is 0 outside
# the outermost pixel centres, sharply; the spline inside is that of the mirrored image, as in SciPy.
EXTENSIONS = {
    "constant": "reflect",
    "nearest": "edge",
    "reflect": "symmetric",
    "mirror": "reflect",
    "grid-wrap": "wrap",
    "grid-constant": "constant",
}
# The pole of the cubic B-spline's inverse filter, whose taps are sqrt(3) pole^|k| (Unser 1999, box 2).
_POLE = math.sqrt(3) - 2


def prefilter_reach(dtype: jnp.dtype) -> int:
    """Return the distance at which the taps of the inverse filter fall below the rounding of ``dtype``."""
    return math.ceil(math.log(float(jnp.finfo(dtype).eps)) / math.log(abs(_POLE)))


def spline_coefficients(image: Array, *, dimensions: int = 2, mode: str = "mirror", margin: int = 0) -> Array:
    """Return the cubic B-spline coefficients whose spline passes through every pixel.

    Parameters
    ----------
    image
        ``(..., y, x)``, or ``(..., z, y, x)`` with ``dimensions`` 3.
    dimensions
        How many of the last axes are space.
    mode
        What lies outside: a name of SciPy's ``map_coordinates`` (``"wrap"`` apart).
    margin
        Coefficients wanted outside the image on each side.

    Returns
    -------
    Coefficients, ``2 margin`` longer than the image along each axis of space.

    Raises
    ------
    ValueError
        For an unknown mode or an image with too few axes.

    Source: Unser 1999. The inverse filter is recursive there; here its taps are cut where the rounding no longer sees
    them, because a product of matrices runs in parallel and a recursion does not.
    """
    _checks.one_of("mode", mode, tuple(EXTENSIONS))
    check_space(image, dimensions)
    image = jnp.asarray(image, jnp.result_type(image, jnp.float32))
    for axis in range(-dimensions, 0):
        matrix = _inverse_filter(image.shape[axis], margin, prefilter_reach(image.dtype), mode)
        rows = jnp.moveaxis(image, axis, -1)
        product = jnp.matmul(rows, jnp.asarray(matrix.T, image.dtype), precision=jax.lax.Precision.HIGHEST)
        image = jnp.moveaxis(product, -1, axis)
    return image


@functools.lru_cache(maxsize=16)
def _inverse_filter(length: int, margin: int, reach: int, mode: str) -> np.ndarray:
    """Return the matrix ``(length + 2 margin, length)`` that extends a row by the mode and filters it.

    As a product of matrices it is faster up to some thousand pixels a side, and to compile, than as a convolution or
    a sum of slices.
    """
    extended = np.pad(np.eye(length), [(reach + margin,) * 2, (0, 0)], mode=EXTENSIONS[mode])  # type: ignore[call-overload]
    taps = math.sqrt(3) * _POLE ** np.abs(np.arange(-reach, reach + 1))
    return sum(w * extended[k : k + length + 2 * margin] for k, w in enumerate(taps))


def check_space(image: Array, dimensions: int) -> None:
    """Refuse another number of dimensions than 2 or 3, and an image with fewer axes."""
    _checks.one_of("dimensions", dimensions, (2, 3))
    if jnp.ndim(image) < dimensions or 0 in jnp.shape(image)[-dimensions:]:
        raise ValueError(
            f"expected an image of {dimensions} axes of space or more, none empty, got shape {jnp.shape(image)}"
        )


def spline_weights(fraction: Array, order: int) -> tuple[Sequence[int], Sequence[Array]]:
    """Return offsets from ``k`` and weights of the samples that make up the value at ``k + fraction``."""
    u, v = fraction, 1 - fraction
    if order == 0:
        return (0, 1), (jnp.where(u < 0.5, 1.0, 0.0), jnp.where(u < 0.5, 0.0, 1.0))
    if order == 1:
        return (0, 1), (v, u)
    near, far = (2 / 3 - a * a * (1 - a / 2) for a in (u, v))
    return (-1, 0, 1, 2), (v * v * v / 6, near, far, u * u * u / 6)


def tap_index(index: Array, length: int, mode: str) -> tuple[Array, Array | None]:
    """Bring whole numbers into ``0 .. length - 1`` by the boundary mode.

    Returns
    -------
    The indices, and where a sample is there at all (``None``: everywhere).
    """
    if mode == "grid-wrap":
        return index % length, None
    if mode == "reflect":
        folded = index % (2 * length)
        return jnp.minimum(folded, 2 * length - 1 - folded), None
    if mode in ("mirror", "constant"):
        folded = index % max(2 * length - 2, 1)
        return jnp.minimum(folded, 2 * length - 2 - folded), None
    inside = (index >= 0) & (index < length) if mode == "grid-constant" else None
    return jnp.clip(index, 0, length - 1), inside
