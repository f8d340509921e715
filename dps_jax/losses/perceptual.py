"""How alike two images look to a network: losses on its features, whatever network it is.

Features are arrays ``(..., y, x, c)``, one per layer, of the two images by the same network. Both losses give one
value per image (the leading axes stay).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.typing import Array


def feature_loss(
    features: Sequence[Array], reference: Sequence[Array], *, weights: Sequence[float] | None = None
) -> Array:
    """Feature reconstruction: ``sum_j w_j ||phi_j(x) - phi_j(y)||^2 / (C_j H_j W_j)`` per image.

    Parameters
    ----------
    features, reference
        ``(..., H_j, W_j, C_j)`` for each layer j.
    weights
        One per layer, by default 1.

    Raises
    ------
    ValueError
        For no layer at all, another number of them or of weights, or features of different shapes.

    Notes
    -----
    Source: Johnson et al. 2016, equation 2.
    """
    terms = [jnp.mean((a - b) ** 2, axis=(-3, -2, -1)) for a, b in _pairs(features, reference)]
    return _weighted(terms, weights)


def style_loss(
    features: Sequence[Array], reference: Sequence[Array], *, weights: Sequence[float] | None = None
) -> Array:
    """Style reconstruction: ``sum_j w_j ||G_j(x) - G_j(y)||_F^2`` with G of :func:`gram_matrix`; see above.

    It asks that the images be of one texture, wherever in them that is; see :func:`feature_loss`, Johnson et al. 2016,
    equation 4.
    """
    terms = [
        jnp.sum((gram_matrix(a) - gram_matrix(b)) ** 2, axis=(-2, -1)) for a, b in _pairs(features, reference)
    ]
    return _weighted(terms, weights)


def gram_matrix(features: Array) -> Array:
    """Return ``(..., c, c)``: which features of ``(..., y, x, c)`` occur together, over ``C H W``.

    Source: Johnson et al. 2016, equation 3.

    Raises
    ------
    ValueError
        For features of fewer than three axes.
    """
    if features.ndim < 3:
        raise ValueError(f"expected features (..., y, x, c), got shape {features.shape}")
    y, x, c = features.shape[-3:]
    return jnp.einsum("...yxi,...yxj->...ij", features, features) / (c * y * x)


def _pairs(features: Sequence[Array], reference: Sequence[Array]) -> list[tuple[Array, Array]]:
    if len(features) == 0 or len(features) != len(reference):
        raise ValueError(
            f"expected the features of one or more layers of both images, got {len(features)} and {len(reference)}"
        )
    for j, (a, b) in enumerate(zip(features, reference, strict=True)):
        _checks.same_shape(f"features[{j}]", a, f"reference[{j}]", b)
        if a.ndim < 3:
            raise ValueError(f"expected features (..., y, x, c), got shape {a.shape}")
    return list(zip(features, reference, strict=True))


def _weighted(terms: list[Array], weights: Sequence[float] | None) -> Array:
    factors = [1.0] * len(terms) if weights is None else list(weights)
    if len(factors) != len(terms):
        raise ValueError(f"expected one weight for each of {len(terms)} layers, got {len(factors)}")
    first, *rest = (w * term for w, term in zip(factors, terms, strict=True))
    return sum(rest, start=first)
