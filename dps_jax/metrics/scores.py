"""The headline scores of a restoration whose truth is known, one definition for every table of the project."""

from __future__ import annotations

import jax.numpy as jnp

from dps_jax.losses.fidelity import ssim
from dps_jax.metrics.out_of_band import out_of_band_correlation
from dps_jax.operators.convolve import convolve
from dps_jax.optics.psf import gaussian_psf
from dps_jax.typing import Array

# Everything is looked at with the resolution that is promised: a Gaussian of 0.3 Abbe periods (FWHM 0.7) on
# the estimate and on the truth. Without it, the pixel-wide truth of a thin filament decides every score.
VIEW_ABBE = 0.3


def at_promised_resolution(image: Array, *, abbe_px: float) -> Array:
    """Blur ``(..., y, x)`` by a Gaussian of 0.3 Abbe periods (``abbe_px`` in px of this grid)."""
    return convolve(image, gaussian_psf(sigma_px=VIEW_ABBE * abbe_px), boundary="reflect")


def psnr_at_promised_resolution(image: Array, truth: Array, *, abbe_px: float) -> Array:
    """PSNR in dB per image, both blurred to the promised resolution, after one least-squares scale.

    The peak is the truth's maximum at that resolution.
    """
    a, b = (at_promised_resolution(i, abbe_px=abbe_px) for i in (image, truth))
    axes = (-2, -1)
    scale = jnp.sum(a * b, axis=axes) / jnp.maximum(jnp.sum(a * a, axis=axes), 1e-12)
    error = jnp.mean((scale[..., None, None] * a - b) ** 2, axis=axes)
    return 20 * jnp.log10(jnp.max(b, axis=axes)) - 10 * jnp.log10(jnp.maximum(error, 1e-20))


def scores_against_truth(image: Array, truth: Array, *, abbe_px: float) -> dict[str, Array]:
    """Return ``psnr_db``, ``ssim`` and ``out_of_band`` of estimates ``(..., y, x)`` against the truth.

    Parameters
    ----------
    image, truth
        On one grid; one least-squares scale per image is allowed for.
    abbe_px
        Abbe period in pixels of that grid.

    Returns
    -------
    PSNR and SSIM at the promised resolution, and the Fourier correlation with the truth between the cut-off and
    1.67 times it (of the images as they are).
    """
    a, b = (at_promised_resolution(i, abbe_px=abbe_px) for i in (image, truth))
    axes = (-2, -1)
    top = jnp.max(b, axis=axes, keepdims=True)
    scale = jnp.sum(a * b, axis=axes, keepdims=True) / jnp.maximum(
        jnp.sum(a * a, axis=axes, keepdims=True), 1e-12
    )
    return {
        "psnr_db": psnr_at_promised_resolution(image, truth, abbe_px=abbe_px),
        "ssim": ssim(scale * a / top, b / top, data_range=1.0),
        "out_of_band": out_of_band_correlation(image, truth, cutoff_cycles_px=1 / abbe_px),
    }
