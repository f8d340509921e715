"""How well a flow brings one image onto another, with its truth or without; and how smooth it is.

Images are ``(..., y, x)``, flows ``(..., 2, y, x)`` in pixels; one value per image or flow. Scores of likeness alone
are no safe guide: interpolation averages noise, so a flow of half a pixel makes noisy images more alike than none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.convolve import convolve_separable_valid
from dps_jax.operators.differences import first_difference, mixed_difference, second_difference
from dps_jax.operators.warp import check_flow
from dps_jax.typing import Array

_PIXELS = (-2, -1)


def endpoint_loss(
    flow_px: Array, truth_px: Array, *, mask: Array | None = None, softness_px: float = 0.01
) -> Array:
    """Return the mean length of the difference of two flows.

    Parameters
    ----------
    flow_px, truth_px
        ``(..., 2, y, x)`` of one shape.
    mask
        Weight ``(..., y, x)`` of every pixel; 1 by default.
    softness_px
        Errors much smaller than this count by their square: the gradient stays finite where the error is 0.

    Returns
    -------
    ``(...,)`` in pixels.

    Raises
    ------
    ValueError
        For shapes that differ or are none of a flow, or a softness that is not positive.

    Source: Otte and Nagel 1994 (the end-point error); Charbonnier et al. 1994 (softened).
    """
    check_flow(flow_px, 2)
    _checks.same_shape("flow_px", flow_px, "truth_px", truth_px)
    _checks.positive("softness_px", softness_px)
    length = jnp.sqrt(jnp.sum((flow_px - truth_px) ** 2, axis=-3) + softness_px**2) - softness_px
    return _masked_mean(length, mask)


def ncc_loss(image: Array, reference: Array, *, mask: Array | None = None, floor: float = 1e-6) -> Array:
    """Return 1 less Pearson's correlation of two images: 0 where they are alike but for brightness and offset.

    ``mask`` weighs pixels, ``(..., y, x)``; ``floor`` (in the images' unit, squared) keeps flat images finite, whose
    loss is 1. Raises ``ValueError`` for shapes that differ.
    """
    _checks.same_shape("image", image, "reference", reference)
    mean_a, mean_b = (_masked_mean(i, mask)[..., None, None] for i in (image, reference))
    a, b = image - mean_a, reference - mean_b
    covariance, variance_a, variance_b = (_masked_mean(p, mask) for p in (a * b, a * a, b * b))
    return 1 - covariance / jnp.sqrt((variance_a + floor) * (variance_b + floor))


def local_ncc_loss(
    image: Array, reference: Array, *, window_px: int = 9, mask: Array | None = None, floor: float = 1e-3
) -> Array:
    """Return 1 less the mean squared correlation in square windows, as is usual in learned registration.

    Parameters
    ----------
    image, reference
        ``(..., y, x)`` of one shape, of contrast about 1.
    window_px
        Side of the windows, an odd number; those that lie in the image count.
    mask
        ``(..., y, x)``: weight of the window about each pixel.
    floor
        Added to the product of the variances; it keeps flat windows finite, where the correlation counts as 0.

    Raises
    ------
    ValueError
        For shapes that differ, an even window, or images smaller than it.

    Source: Balakrishnan et al. 2019.
    """
    _checks.same_shape("image", image, "reference", reference)
    _checks.positive_integer("window_px", window_px)
    if window_px % 2 == 0 or min(image.shape[-2:]) < window_px:
        raise ValueError(
            f"expected window_px to be odd and at most the side of the image, got {window_px} for {image.shape}"
        )
    taps = np.full(window_px, 1 / window_px, np.float32)
    # Moments about the images' means: E[x^2] - E[x]^2 loses digits on bright images.
    a, b = (i - jax.lax.stop_gradient(jnp.mean(i, axis=_PIXELS, keepdims=True)) for i in (image, reference))
    mean_a, mean_b, aa, bb, ab = convolve_separable_valid(jnp.stack([a, b, a * a, b * b, a * b]), taps)
    covariance = ab - mean_a * mean_b
    variances = jnp.maximum(aa - mean_a**2, 0.0) * jnp.maximum(bb - mean_b**2, 0.0)
    r = window_px // 2
    inner = None if mask is None else mask[..., r : mask.shape[-2] - r, r : mask.shape[-1] - r]
    return 1 - _masked_mean(covariance**2 / (variances + floor), inner)


def flow_smoothness(flow_px: Array, *, order: int = 1) -> Array:
    """Return the mean squared change of a flow from pixel to pixel, or of that change.

    Parameters
    ----------
    flow_px
        ``(..., 2, y, x)``.
    order
        1: squared first differences, 0 for a shift. 2: squared second ones, the mixed one counted twice, 0 for any
        affine flow (bending energy).

    Returns
    -------
    ``(...,)``: the sum over components and directions, each averaged over its pixels.

    Raises
    ------
    ValueError
        For another order or shape.
    """
    check_flow(flow_px, 2)
    _checks.one_of("order", order, (1, 2))
    if order == 1:
        terms = [first_difference(flow_px, axis) for axis in ("y", "x")]
    else:
        terms = [second_difference(flow_px, axis) for axis in ("y", "x")]
        terms += 2 * [mixed_difference(flow_px, "y", "x")]
    return sum(
        (jnp.mean(t**2, axis=_PIXELS).sum(-1) for t in terms[1:]),
        jnp.mean(terms[0] ** 2, axis=_PIXELS).sum(-1),
    )


def multi_level_loss(
    term: Callable[[Array, int], Array],
    flows: Sequence[Array],
    cells_px: Sequence[int],
    *,
    weights: Sequence[float],
) -> Array:
    """Add up a loss of the flows of all levels of a pyramid.

    Parameters
    ----------
    term
        From a flow and the pixels of the full image per cell of its grid to one value per flow.
    flows
        Flows on their grids.
    cells_px
        Image pixels per cell of each.
    weights
        Of each level; they need not sum to 1. Levels of weight 0 cost nothing.

    Returns
    -------
    The weighted sum, ``(...,)``.

    Raises
    ------
    ValueError
        For lists of different lengths, or no weight that is not 0.

    Source: Dosovitskiy et al. 2015 (a loss at every resolution).
    """
    if not len(flows) == len(cells_px) == len(weights):
        raise ValueError(
            f"expected a cell size and a weight for each flow, got {len(flows)}, {len(cells_px)} and {len(weights)}"
        )
    values = [w * term(f, c) for f, c, w in zip(flows, cells_px, weights, strict=True) if w]
    if not values:
        raise ValueError("expected at least one level with a weight that is not 0, got none")
    return sum(values[1:], values[0])


def _masked_mean(values: Array, mask: Array | None) -> Array:
    if mask is None:
        return jnp.mean(values, axis=_PIXELS)
    total = jnp.sum(jnp.broadcast_to(mask, values.shape), axis=_PIXELS)
    return jnp.sum(values * mask, axis=_PIXELS) / jnp.maximum(total, 1e-6)
