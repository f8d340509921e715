"""The unsupervised objective: a weighted sum of named terms, with every term reported.

    L = w_ssim (1 - SSIM(f, t)) + w_hessian R_H(x) + w_sparsity |x|_1 + ...

``x`` is the estimate on the fine grid, ``f`` its predicted camera image, ``t`` the measured one. Truth never
enters. Regularizers are taken per pixel of the estimate, so that weights do not depend on the image's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp

from dps_jax.losses import fidelity, regularizers
from dps_jax.typing import Array, Scalars

Term = Callable[[Array, Array, Array], Array]

REGULARIZERS = ("hessian", "sparsity", "tv")


def _per_pixel(regularizer: Callable[[Array], Array]) -> Term:
    def term(x: Array, f: Array, t: Array) -> Array:
        return regularizer(x) / (x.shape[-2] * x.shape[-1])

    return term


TERMS: dict[str, Term] = {
    "ssim": lambda x, f, t: 1 - fidelity.ssim(f, t, data_range=1.0),
    "l1": lambda x, f, t: fidelity.l1_loss(f, t),
    "l2": lambda x, f, t: fidelity.l2_loss(f, t),
    "weighted_l2": lambda x, f, t: fidelity.weighted_l2_loss(f, t),
    "log_l2": lambda x, f, t: fidelity.log_l2_loss(f, t),
    "poisson": lambda x, f, t: fidelity.poisson_loss(f, t),
    "fft_l1": lambda x, f, t: fidelity.fft_l1_loss(f, t),
    "hessian": _per_pixel(regularizers.hessian_xy),
    "sparsity": _per_pixel(regularizers.l1_norm),
    "tv": _per_pixel(regularizers.total_variation),
}


def objective(
    estimate: Array,
    predicted: Array,
    measured: Array,
    *,
    weights: Mapping[str, float],
    fidelity_importance: Array | None = None,
    hessian_time: float | None = None,
) -> tuple[Array, Scalars]:
    """Weigh and add the named terms, averaged over the batch.

    Parameters
    ----------
    estimate
        ``(..., s y, s x)``: the object on the fine grid, scaled so that its bright parts are of order 1.
    predicted, measured
        ``(..., y, x)``: camera images in that unit (SSIM takes the range as 1).
    weights
        Weight of each term by name, from :data:`TERMS`.
    fidelity_importance
        One factor per image, of the leading shape, on every term that looks at the measured image: images with
        more photons deserve more trust. By default 1.
    hessian_time
        Weight ``sigma`` of the continuity in time in the term "hessian" of movies ``(..., t, y, x)``; by default
        each image is taken by itself.

    Returns
    -------
    ``(loss, diagnostics)``: the weighted sum, and every term unweighted, by name.

    Raises
    ------
    ValueError
        For an unknown term, no term at all, or images of different shapes.
    """
    unknown = sorted(set(weights) - set(TERMS))
    if unknown:
        raise ValueError(f"expected loss terms among {', '.join(TERMS)}, got {', '.join(unknown)}")
    if not weights:
        raise ValueError("expected at least one loss term, got none")
    total, diagnostics = jnp.zeros(()), {}
    for name, weight in weights.items():
        if name == "hessian" and hessian_time is not None:
            value = regularizers.hessian_xyt(estimate, sigma=hessian_time) / math.prod(estimate.shape[-3:])
        else:
            value = TERMS[name](estimate, predicted, measured)
        diagnostics[name] = jnp.mean(value)
        if fidelity_importance is not None and name not in REGULARIZERS:
            value = value * fidelity_importance
        total = total + weight * jnp.mean(value)
    return total, diagnostics
