"""Convolution by padded FFT, ``O(N log N)`` whatever the kernel's size.

Images are ``(..., y, x)``, kernels ``(ky, kx)`` of odd size with their origin at the middle pixel; the output
has the shape of the image. Boundary modes are named as in SciPy: what lies outside is 0 (``"constant"``),
the mirror image with the edge pixel repeated (``"reflect"``), the edge pixel (``"nearest"``), or the other
side (``"wrap"``).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import scipy.fft

from dps_jax import _checks
from dps_jax.operators.adjoint import adjoint
from dps_jax.typing import Array

BOUNDARIES = {"constant": "constant", "reflect": "symmetric", "nearest": "edge", "wrap": "wrap"}


def check_kernel(kernel: Array) -> None:
    """Refuse a kernel that is not two-dimensional with odd sides."""
    if jnp.ndim(kernel) != 2 or any(n % 2 == 0 for n in jnp.shape(kernel)):
        raise ValueError(f"expected a kernel (y, x) with odd sides, got shape {jnp.shape(kernel)}")


def _pad(image: Array, reach: tuple[int, int], boundary: str) -> Array:
    lead = [(0, 0)] * (image.ndim - 2)
    return jnp.pad(image, [*lead, (reach[0], reach[0]), (reach[1], reach[1])], mode=BOUNDARIES[boundary])


def _as_float(image: Array) -> Array:
    # Counts as a camera gives them: a result cast back to whole numbers would lose its fractions silently.
    image = jnp.asarray(image)
    return image if jnp.issubdtype(image.dtype, jnp.floating) else image.astype(jnp.float32)


def convolve(image: Array, kernel: Array, *, boundary: str = "constant") -> Array:
    """Convolve the last two axes of ``image`` with ``kernel``.

    Parameters
    ----------
    image
        Real array ``(..., y, x)``.
    kernel
        Real array ``(ky, kx)``, odd sides, origin in the middle.
    boundary
        ``"constant"`` (zeros), ``"reflect"``, ``"nearest"`` or ``"wrap"`` (periodic), as in SciPy.

    Returns
    -------
    Array of the shape of ``image``, float32 where that holds integers; linear in both arguments.

    Raises
    ------
    ValueError
        For a kernel with an even side, an image without y and x, or an unknown boundary.
    """
    _checks.at_least_2d("image", image)
    _checks.one_of("boundary", boundary, tuple(BOUNDARIES))
    check_kernel(kernel)
    image, kernel = _as_float(image), _as_float(kernel)
    reach = (kernel.shape[0] // 2, kernel.shape[1] // 2)
    shape = image.shape[-2:]
    # Outside pixels are laid down in full only where they are not zero; the FFT's own zeros serve otherwise.
    margin = (0, 0) if boundary == "constant" else reach
    padded = image if boundary == "constant" else _pad(image, reach, boundary)
    sides = [scipy.fft.next_fast_len(n + r, real=True) for n, r in zip(padded.shape[-2:], reach, strict=True)]
    sides = [max(s, k) for s, k in zip(sides, kernel.shape, strict=True)]
    # The kernel's middle goes to index 0 so that no shift of the result is needed.
    grid = jnp.zeros(sides, kernel.dtype).at[: kernel.shape[0], : kernel.shape[1]].set(kernel)
    spectrum = jnp.fft.rfft2(jnp.roll(grid, (-reach[0], -reach[1]), axis=(0, 1)))
    spectrum = spectrum.reshape((1,) * (image.ndim - 2) + spectrum.shape)
    full = jnp.fft.irfft2(jnp.fft.rfft2(padded, s=sides) * spectrum, s=sides)
    return full[..., margin[0] : margin[0] + shape[0], margin[1] : margin[1] + shape[1]].astype(image.dtype)


def convolve_adjoint(image: Array, kernel: Array, *, boundary: str = "constant") -> Array:
    """Apply the adjoint of :func:`convolve` with respect to its image; for ``"constant"`` a correlation."""
    if boundary == "constant":
        return convolve(image, jnp.flip(kernel, (0, 1)))
    return adjoint(lambda x: convolve(x, kernel, boundary=boundary), image.shape, dtype=image.dtype)(image)


def gaussian_taps(sigma_px: float, reach: int) -> np.ndarray:
    """Return the ``2 reach + 1`` samples of a Gaussian, unit sum, float32."""
    axis = np.arange(-reach, reach + 1)
    taps = np.exp(-0.5 * (axis / sigma_px) ** 2)
    return (taps / taps.sum()).astype(np.float32)


def convolve_separable_valid(image: Array, taps: np.ndarray) -> Array:
    """Convolve y and x with the same short symmetric ``taps``, keeping only pixels that see no boundary.

    The sum over shifted slices is faster than an FFT or a convolution primitive for kernels of a dozen taps.
    """
    for axis in (-2, -1):
        length = image.shape[axis] - taps.size + 1
        image = sum(
            (float(w) * slice_axis(image, i, i + length, axis) for i, w in enumerate(taps[1:], start=1)),
            start=float(taps[0]) * slice_axis(image, 0, length, axis),
        )
    return image


def slice_axis(image: Array, start: int, stop: int, axis: int) -> Array:
    """Return ``image[start:stop]`` along one axis."""
    index = [slice(None)] * image.ndim
    index[axis] = slice(start, stop)
    return image[tuple(index)]
