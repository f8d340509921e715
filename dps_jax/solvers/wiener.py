"""Linear deconvolution in one pass: the Wiener filter and Tikhonov regularisation.

Images are ``(..., y, x)`` with a kernel ``(ky, kx)``, or volumes ``(..., z, y, x)`` with ``(kz, ky, kx)``, on one
grid. The result has the sum of the image. Linear methods ring: it may be negative beside bright structures.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import scipy.fft

from dps_jax import _checks
from dps_jax.operators.convolve import BOUNDARIES, check_psf
from dps_jax.typing import Array


def wiener(image: Array, psf: Array, *, noise_to_signal: float = 0.01, boundary: str = "reflect") -> Array:
    """Deconvolve by ``conj(H) / (|H|^2 + k)`` with ``k`` the ratio of the powers of noise and object.

    Parameters
    ----------
    image
        ``(..., y, x)`` or ``(..., z, y, x)``.
    psf
        Kernel on the image's grid, odd sides, unit sum.
    noise_to_signal
        ``k``, the same at every frequency (Wiener 1949): less sharpens more.
    boundary
        What lies outside the image, to a distance of the kernel's side.

    Returns
    -------
    Array of the shape of ``image``.

    Raises
    ------
    ValueError
        For ``noise_to_signal`` that is not above 0, or a kernel with an even side, NaN, negative values or another sum.
    """
    _checks.positive("noise_to_signal", noise_to_signal)
    return _filtered(image, psf, boundary, lambda laplacian: noise_to_signal)


def tikhonov(image: Array, psf: Array, *, weight: float = 0.01, boundary: str = "reflect") -> Array:
    """Minimise ``|y - h (*) x|^2 + weight |laplacian x|^2`` (Tikhonov 1963), in closed form.

    Fine detail is held back and coarse structure left alone, where :func:`wiener` holds back both alike. Parameters,
    result and errors are those of :func:`wiener`, with ``weight`` in place of ``noise_to_signal``.
    """
    _checks.positive("weight", weight)
    return _filtered(image, psf, boundary, lambda laplacian: weight * laplacian**2)


def _filtered(image: Array, psf: Array, boundary: str, penalty: Callable[[Array], Array | float]) -> Array:
    check_psf(psf)
    _checks.one_of("boundary", boundary, tuple(BOUNDARIES))
    image = jnp.asarray(image, jnp.result_type(image, jnp.float32))
    axes = tuple(range(-jnp.ndim(psf), 0))
    if image.ndim < jnp.ndim(psf):
        raise ValueError(f"expected an image of at least {jnp.ndim(psf)} axes, got shape {image.shape}")
    # The inverse reaches farther than the kernel; the periodic FFT sees a mirrored border of the kernel's whole side.
    margins = [min(k, n) for k, n in zip(psf.shape, image.shape[-jnp.ndim(psf) :], strict=True)]
    lead = [(0, 0)] * (image.ndim - len(axes))
    sides = [
        scipy.fft.next_fast_len(max(n + 2 * m, k), real=True)
        for n, m, k in zip(image.shape[-len(axes) :], margins, psf.shape, strict=True)
    ]
    ends = [(m, s - n - m) for n, m, s in zip(image.shape[-len(axes) :], margins, sides, strict=True)]
    padded = jnp.pad(image, [*lead, *ends], mode=BOUNDARIES[boundary])
    grid = jnp.zeros(sides, image.dtype).at[tuple(slice(0, k) for k in psf.shape)].set(psf)
    otf = jnp.fft.rfftn(jnp.roll(grid, [-(k // 2) for k in psf.shape], axis=axes))
    inverse = jnp.conj(otf) / (jnp.abs(otf) ** 2 + penalty(_laplacian(sides, image.dtype)))
    # Brought to 1 at frequency 0, where the sum of the image is.
    inverse = inverse / jnp.real(inverse[(0,) * len(axes)])
    transform = jnp.fft.rfftn(padded, axes=axes) * inverse.reshape((1,) * len(lead) + inverse.shape)
    result = jnp.fft.irfftn(transform, s=sides, axes=axes)
    inner = (slice(m, m + n) for m, n in zip(margins, image.shape[-len(axes) :], strict=True))
    return result[(..., *inner)]


def _laplacian(sides: list[int], dtype: jnp.dtype) -> Array:
    """Return the eigenvalues (0 or negative) of the periodic Laplacian of a grid, on the frequencies of ``rfftn``."""
    frequencies = [np.fft.fftfreq(n) for n in sides[:-1]] + [np.fft.rfftfreq(sides[-1])]
    waves = [2 * np.cos(2 * np.pi * f) - 2 for f in frequencies]
    return jnp.asarray(sum(np.ix_(*waves)), dtype)
