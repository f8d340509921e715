"""How well an image agrees with a reference. Images are ``(..., y, x)``, one value per image."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators.convolve import convolve_separable_valid, gaussian_taps
from dps_jax.typing import Array

_PIXELS = (-2, -1)


def ssim_map(image: Array, reference: Array, *, data_range: float, sigma_px: float = 1.5) -> Array:
    """Structural similarity at every pixel whose window lies inside the image.

    Parameters
    ----------
    image, reference
        ``(..., y, x)`` of one shape.
    data_range
        Range L of the values; the constants are ``(0.01 L)^2`` and ``(0.03 L)^2``.
    sigma_px
        Standard deviation of the Gaussian window, which reaches 3.5 of them (11 px for 1.5).

    Returns
    -------
    ``(..., y - 2r, x - 2r)`` with r the reach of the window.

    Raises
    ------
    ValueError
        For different shapes, a range that is not positive, or an image smaller than the window.

    Notes
    -----
    Source: Wang et al. 2004 (population statistics, as they define them).
    """
    _checks.at_least_2d("image", image)
    _checks.same_shape("image", image, "reference", reference)
    _checks.positive("data_range", data_range)
    reach = int(3.5 * sigma_px + 0.5)
    if min(image.shape[-2:]) < 2 * reach + 1:
        raise ValueError(f"expected an image of at least {2 * reach + 1} px a side, got shape {image.shape}")
    taps = gaussian_taps(sigma_px, reach)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    # Moments about a constant near the images' mean: E[x^2] - E[x]^2 loses digits on bright, flat images.
    centre = jax.lax.stop_gradient(jnp.mean(reference, axis=_PIXELS, keepdims=True))
    x, y = image - centre, reference - centre
    stack = convolve_separable_valid(jnp.stack([x, y, x * x, y * y, x * y]), taps)
    mean_x, mean_y, xx, yy, xy = stack
    variance_x, variance_y = xx - mean_x * mean_x, yy - mean_y * mean_y
    covariance = xy - mean_x * mean_y
    mean_x, mean_y = mean_x + centre, mean_y + centre
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


def ssim(image: Array, reference: Array, *, data_range: float, sigma_px: float = 1.5) -> Array:
    """Mean structural similarity per image, 1 for equal images; see :func:`ssim_map`."""
    return jnp.mean(ssim_map(image, reference, data_range=data_range, sigma_px=sigma_px), axis=_PIXELS)


def l1_loss(image: Array, reference: Array) -> Array:
    """Mean absolute difference per image."""
    _checks.same_shape("image", image, "reference", reference)
    return jnp.mean(jnp.abs(image - reference), axis=_PIXELS)


def l2_loss(image: Array, reference: Array) -> Array:
    """Mean squared difference per image."""
    _checks.same_shape("image", image, "reference", reference)
    return jnp.mean((image - reference) ** 2, axis=_PIXELS)


def log_l2_loss(image: Array, reference: Array, *, floor: float = 1e-6) -> Array:
    """Logarithm of ``floor`` plus the mean squared difference per image: but for a factor, minus the PSNR.

    Where some images have much more noise than others, their squared errors would leave the others unheard; this
    hears each by the fraction that its error falls by.

    Raises
    ------
    ValueError
        For different shapes or a floor that is not positive.
    """
    _checks.positive("floor", floor)
    return jnp.log(floor + l2_loss(image, reference))


def weighted_l2_loss(image: Array, reference: Array, *, floor: float = 0.03) -> Array:
    """Mean of ``(f - t)^2 / (floor + f)``, the squared error in units of the photon noise of ``f``.

    The weight is held fixed under differentiation: otherwise a brighter ``f`` would buy a smaller loss. The
    floor (in units of the images) stands for background and read noise and keeps dark pixels finite.

    Raises
    ------
    ValueError
        For different shapes or a floor that is not positive.
    """
    _checks.same_shape("image", image, "reference", reference)
    _checks.positive("floor", floor)
    weight = 1 / (floor + jax.lax.stop_gradient(jnp.maximum(image, 0.0)))
    return jnp.mean(weight * (image - reference) ** 2, axis=_PIXELS)


def poisson_loss(image: Array, reference: Array, *, floor: float = 1e-3) -> Array:
    """Mean Poisson deviance ``f - t + t log(t / f)`` per image: 0 where equal, never below.

    Parameters
    ----------
    image
        Expected values, ``(..., y, x)``; ``floor`` is added to both images, a known background.
    reference
        Measured counts in the same unit; values below 0 count as 0.

    Raises
    ------
    ValueError
        For different shapes or a floor that is not positive.
    """
    _checks.same_shape("image", image, "reference", reference)
    _checks.positive("floor", floor)
    f = jnp.maximum(image, 0.0) + floor
    t = jnp.maximum(reference, 0.0) + floor
    return jnp.mean(f - t + t * (jnp.log(t) - jnp.log(f)), axis=_PIXELS)


def fft_l1_loss(image: Array, reference: Array, *, magnitude: bool = False) -> Array:
    """Mean absolute difference of the orthonormal 2D spectra per image.

    ``magnitude=False`` takes the complex difference, as published; ``True`` compares magnitudes only, which
    forgives shifts. A tiny constant under the root keeps the gradient finite where a sample is zero.
    """
    _checks.same_shape("image", image, "reference", reference)
    if not magnitude:
        spectrum = jnp.fft.fft2(image - reference, norm="ortho")
        return jnp.mean(_modulus(spectrum), axis=_PIXELS)
    a, b = (_modulus(jnp.fft.fft2(i, norm="ortho")) for i in (image, reference))
    return jnp.mean(jnp.abs(a - b), axis=_PIXELS)


def _modulus(z: Array) -> Array:
    return jnp.sqrt(z.real**2 + z.imag**2 + 1e-20)
