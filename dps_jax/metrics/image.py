"""Scores of an image against the truth, per image over the last two axes.

Images are ``(..., y, x)``, any intensity unit, leading axes free; every score is ``(...,)`` and
differentiable in the image. For reporting: what is trained on lives in ``dps_jax.losses``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.losses import fidelity
from dps_jax.operators.convolve import convolve_separable_valid, gaussian_taps
from dps_jax.operators.sampling import bin_area
from dps_jax.typing import Array, ArrayLike

_PIXELS = (-2, -1)
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # finest scale first, Wang et al. 2003, section 3.2


def least_squares_scale(image: ArrayLike, truth: ArrayLike, *, offset: bool = False) -> tuple[Array, Array]:
    """Return ``scale`` and ``shift`` (...,) that bring ``scale * image + shift`` nearest to the truth.

    ``shift`` is 0 unless ``offset``. An image without signal (all zero, or constant with ``offset``) has
    scale 0. Raises ``ValueError`` for shapes that differ.
    """
    image, truth = _pair(image, truth)
    mean_i, mean_t = (a.mean(_PIXELS, keepdims=True) if offset else jnp.float32(0) for a in (image, truth))
    x, t = (image - mean_i, truth - mean_t) if offset else (image, truth)
    energy = jnp.square(x).sum(_PIXELS)
    scale = jnp.where(energy > 0, (x * t).sum(_PIXELS) / jnp.where(energy > 0, energy, 1.0), 0.0)
    if not offset:
        return scale, jnp.zeros_like(scale)
    return scale, mean_t[..., 0, 0] - scale * mean_i[..., 0, 0]


def psnr(
    image: ArrayLike, truth: ArrayLike, *, data_range: ArrayLike | None = None, scale: bool = False
) -> Array:
    """Return the peak signal-to-noise ratio in dB: ``10 log10(data_range^2 / mean squared error)``.

    Parameters
    ----------
    data_range
        A number or ``(...,)``; the truth's maximum minus its minimum if ``None``.
    scale
        Multiply the image by its one least-squares scale to the truth first: for images in an arbitrary unit, here and
        in every score below. Where their zero is arbitrary too, both go through :func:`percentile_normalise` before.

    Raises
    ------
    ValueError
        For shapes that differ, or a range that is not positive.
    """
    image, truth = _pair(image, truth, scale=scale)
    span = _span(truth, data_range)
    return 20 * jnp.log10(span) - 10 * jnp.log10(jnp.square(image - truth).mean(_PIXELS))


def nrmse(
    image: ArrayLike, truth: ArrayLike, *, normalisation: str = "euclidean", scale: bool = False
) -> Array:
    """Return the root-mean-square error as a share of the truth; ``scale`` as in :func:`psnr`.

    ``normalisation`` is what counts as 1: ``"euclidean"`` the truth's root mean square, ``"min-max"`` its
    range, ``"mean"`` its mean. Raises ``ValueError`` for another name or for shapes that differ.
    """
    _checks.one_of("normalisation", normalisation, ("euclidean", "min-max", "mean"))
    image, truth = _pair(image, truth, scale=scale)
    error = jnp.sqrt(jnp.square(image - truth).mean(_PIXELS))
    if normalisation == "euclidean":
        return error / jnp.sqrt(jnp.square(truth).mean(_PIXELS))
    return error / (_span(truth, None) if normalisation == "min-max" else truth.mean(_PIXELS))


def mae(image: ArrayLike, truth: ArrayLike, *, scale: bool = False) -> Array:
    """Return the mean absolute error, in the truth's unit; ``scale`` as in :func:`psnr`.

    Raises ``ValueError`` for shapes that differ.
    """
    image, truth = _pair(image, truth, scale=scale)
    return jnp.abs(image - truth).mean(_PIXELS)


def ssim(
    image: ArrayLike, truth: ArrayLike, *, data_range: ArrayLike | None = None, scale: bool = False
) -> Array:
    """Return the structural similarity of Wang et al. 2004 (Gaussian window of 1.5 px).

    ``data_range`` and ``scale`` as in :func:`psnr`. Raises ``ValueError`` for shapes that differ or images below 11 px
    a side.
    """
    image, truth = _pair(image, truth, scale=scale)
    return _per_image(lambda i, t, span: fidelity.ssim(i, t, data_range=span), image, truth, data_range)


def ms_ssim(
    image: ArrayLike, truth: ArrayLike, *, data_range: ArrayLike | None = None, scale: bool = False
) -> Array:
    """Return the multi-scale structural similarity of Wang, Simoncelli and Bovik 2003 (five scales).

    Contrast and structure are compared at every scale, luminance at the coarsest; a scale is the average of
    2x2 pixels of the one before. A negative correlation at any scale gives 0. Arguments as in :func:`ssim`;
    raises ``ValueError`` for shapes that differ or images below 176 px a side (11 px at the coarsest scale).
    """
    image, truth = _pair(image, truth, scale=scale)
    least = 11 * 2 ** (len(_MS_WEIGHTS) - 1)
    if min(image.shape[-2:]) < least:
        raise ValueError(f"expected images of {least} px a side or more, got shape {image.shape}")
    return _per_image(_ms_ssim, image, truth, data_range)


def percentile_normalise(image: ArrayLike, *, low: float = 0.1, high: float = 99.9) -> Array:
    """Map the ``low`` percentile of each image to 0 and the ``high`` one to 1, without clipping.

    An image whose two percentiles are equal maps to zero. Raises ``ValueError`` unless ``0 <= low < high <=
    100``.
    """
    _checks.at_least_2d("image", image)
    if not 0 <= low < high <= 100:
        raise ValueError(f"expected 0 <= low < high <= 100, got low {low!r} and high {high!r}")
    image = jnp.asarray(image, jnp.float32)
    bottom, top = (jnp.percentile(image, q, axis=_PIXELS, keepdims=True) for q in (low, high))
    # Interpolated percentiles of a constant image may differ in their last digits.
    spread = top - bottom > 1e-6 * jnp.maximum(jnp.abs(top), jnp.abs(bottom))
    return jnp.where(spread, (image - bottom) / jnp.where(spread, top - bottom, 1.0), 0.0)


def _pair(image: ArrayLike, truth: ArrayLike, *, scale: bool = False) -> tuple[Array, Array]:
    _checks.at_least_2d("image", image)
    _checks.same_shape("image", image, "truth", truth)
    image, truth = jnp.asarray(image, jnp.float32), jnp.asarray(truth, jnp.float32)
    if scale:
        image = image * least_squares_scale(image, truth)[0][..., None, None]
    return image, truth


def _span(truth: Array, data_range: ArrayLike | None) -> Array:
    if data_range is None:
        return truth.max(_PIXELS) - truth.min(_PIXELS)
    _checks.positive("data_range", data_range)
    return jnp.broadcast_to(jnp.asarray(data_range, jnp.float32), truth.shape[:-2])


def _per_image(
    score: Callable[[Array, Array, Any], Array], image: Array, truth: Array, data_range: ArrayLike | None
) -> Array:
    """Apply ``score(image, truth, span)`` to each image with its own range."""
    span, size = _span(truth, data_range), image.shape[-2:]
    values = jax.vmap(score)(image.reshape((-1, *size)), truth.reshape((-1, *size)), span.reshape(-1))
    return values.reshape(span.shape)


def _ms_ssim(image: Array, truth: Array, span: Any) -> Array:
    product = jnp.float32(1)
    for scale, weight in enumerate(_MS_WEIGHTS):
        last = scale == len(_MS_WEIGHTS) - 1
        value = _similarity(image, truth, span, luminance=last)
        # Guarded twice: the gradient of a root is infinite at 0.
        product = product * jnp.where(value > 0, jnp.where(value > 0, value, 1.0) ** weight, 0.0)
        ny, nx = (n // 2 * 2 for n in image.shape)
        image, truth = (bin_area(a[:ny, :nx], 2) / 4 for a in (image, truth))
    return product


def _similarity(image: Array, truth: Array, span: Any, *, luminance: bool) -> Array:
    """Mean of contrast times structure, times luminance if asked."""
    if luminance:
        return fidelity.ssim(image, truth, data_range=span)
    centre = truth.mean()
    x, t = image - centre, truth - centre
    taps = gaussian_taps(1.5, 5)
    mean_x, mean_t, xx, tt, xt = convolve_separable_valid(jnp.stack([x, t, x * x, t * t, x * t]), taps)
    constant = (0.03 * span) ** 2
    contrast = xx - mean_x**2 + tt - mean_t**2 + constant
    return ((2 * (xt - mean_x * mean_t) + constant) / contrast).mean()
