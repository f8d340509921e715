"""Convolution by padded FFT, ``O(N log N)`` whatever the kernel's size.

Images are ``(..., y, x)``, kernels ``(ky, kx)`` of odd size with their origin at the middle pixel; or, for volumes,
``(..., z, y, x)`` and ``(kz, ky, kx)``. The output has the shape of the image. Boundary modes are named as in
SciPy: what lies outside is 0 (``"constant"``), the mirror image with the edge pixel repeated (``"reflect"``), the
edge pixel (``"nearest"``), or the other side (``"wrap"``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from dps_jax import _checks
from dps_jax.operators.adjoint import adjoint
from dps_jax.typing import Array

BOUNDARIES = {"constant": "constant", "reflect": "symmetric", "nearest": "edge", "wrap": "wrap"}


def check_kernel(kernel: Array) -> None:
    """Refuse a kernel that is not two- or three-dimensional with odd sides."""
    if jnp.ndim(kernel) not in (2, 3) or any(n % 2 == 0 for n in jnp.shape(kernel)):
        raise ValueError(
            f"expected a kernel (y, x) or (z, y, x) with odd sides, got shape {jnp.shape(kernel)}"
        )


def check_psf(psf: Array) -> None:
    """Refuse a kernel that is no PSF: with NaN, negative light, or a sum other than 1, by a twentieth or more.

    Under ``jit`` only its shape is known, and looked at.
    """
    check_kernel(psf)
    if isinstance(psf, jax.core.Tracer):
        return
    values = np.asarray(psf, np.float64)
    if not np.all(np.isfinite(values)):
        raise ValueError("expected a PSF without NaN or infinity, got one that holds some")
    if values.min() < -1e-6 * np.abs(values).max():
        raise ValueError(
            f"expected a PSF that is nowhere negative, got {values.min():.3g} beside {values.max():.3g}: take its "
            "background off and set what is still below 0 to 0"
        )
    if abs(values.sum() - 1) > 0.05:
        raise ValueError(f"expected a PSF that sums to 1, got {values.sum():.4g}: divide it by its sum")


def _as_float(image: Array) -> Array:
    # Counts as a camera gives them: a result cast back to whole numbers would lose its fractions silently.
    image = jnp.asarray(image)
    return image if jnp.issubdtype(image.dtype, jnp.floating) else image.astype(jnp.float32)


def convolution(
    kernel: Array, shape: Sequence[int], *, boundary: str = "constant"
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Return a convolution with ``kernel`` and its adjoint, with the kernel's transform computed once.

    Parameters
    ----------
    kernel
        Real array ``(ky, kx)`` or ``(kz, ky, kx)``, odd sides, origin in the middle.
    shape
        Last two or three sides, as many as the kernel has, of the images it will be applied to.
    boundary
        ``"constant"`` (zeros), ``"reflect"``, ``"nearest"`` or ``"wrap"`` (periodic), as in SciPy.

    Returns
    -------
    Two maps of real images ``(..., *shape)`` to the same shape; float32 where an image holds integers.

    Raises
    ------
    ValueError
        For a kernel with an even side, a shape of another number of axes, or an unknown boundary.
    """
    _checks.one_of("boundary", boundary, tuple(BOUNDARIES))
    check_kernel(kernel)
    kernel, shape = _as_float(kernel), tuple(shape)
    if len(shape) != kernel.ndim:
        raise ValueError(f"expected a shape of {kernel.ndim} sides, as the kernel has, got {shape}")
    axes = tuple(range(-kernel.ndim, 0))
    reach = tuple(k // 2 for k in kernel.shape)
    # Outside pixels are laid down in full only where they are not zero; the FFT's own zeros serve otherwise.
    margins = (0,) * kernel.ndim if boundary == "constant" else reach
    # What the FFT brings round from the other side reaches ``reach`` pixels in: it ends in the margins, where there are
    # any, and these are cut off.
    needed = [n + max(2 * m, r) for n, m, r in zip(shape, margins, reach, strict=True)]
    sides = [scipy.fft.next_fast_len(n, real=True) for n in needed]
    sides = [max(s, k) for s, k in zip(sides, kernel.shape, strict=True)]
    # The kernel's middle goes to index 0 so that no shift of the result is needed.
    grid = jnp.zeros(sides, kernel.dtype).at[tuple(slice(0, k) for k in kernel.shape)].set(kernel)
    spectrum = jnp.fft.rfftn(jnp.roll(grid, [-r for r in reach], axis=axes))
    inner = (..., *(slice(m, m + n) for m, n in zip(margins, shape, strict=True)))

    def apply(image: Array) -> Array:
        image = _as_float(image)
        lead = [(0, 0)] * (image.ndim - len(shape))
        wide = image
        if boundary != "constant":
            wide = jnp.pad(image, [*lead, *((m, m) for m in margins)], mode=BOUNDARIES[boundary])
        transform = jnp.fft.rfftn(wide, s=sides, axes=axes)
        full = jnp.fft.irfftn(
            transform * spectrum.reshape((1,) * len(lead) + spectrum.shape), s=sides, axes=axes
        )
        return full[inner].astype(image.dtype)

    def transposed(image: Array) -> Array:
        image = _as_float(image)
        return adjoint(apply, image.shape, dtype=image.dtype)(image)

    return apply, transposed


def convolve(image: Array, kernel: Array, *, boundary: str = "constant") -> Array:
    """Convolve the last axes of ``image``, as many as ``kernel`` has, with ``kernel``.

    Parameters
    ----------
    image
        Real array ``(..., y, x)`` or ``(..., z, y, x)``.
    kernel, boundary
        As :func:`convolution`, which is the faster choice where one kernel serves many times.

    Returns
    -------
    Array of the shape of ``image``, float32 where that holds integers; linear in both arguments.

    Raises
    ------
    ValueError
        For a kernel with an even side, an image with fewer axes than the kernel, or an unknown boundary.
    """
    check_kernel(kernel)
    _checks.at_least_2d("image", image)
    if jnp.ndim(image) < jnp.ndim(kernel):
        raise ValueError(f"expected an image (..., z, y, x) for a kernel (z, y, x), got shape {image.shape}")
    return convolution(kernel, image.shape[-jnp.ndim(kernel) :], boundary=boundary)[0](image)


def convolve_adjoint(image: Array, kernel: Array, *, boundary: str = "constant") -> Array:
    """Apply the adjoint of :func:`convolve` with respect to its image; for ``"constant"`` a correlation."""
    check_kernel(kernel)
    return convolution(kernel, image.shape[-jnp.ndim(kernel) :], boundary=boundary)[1](image)


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
