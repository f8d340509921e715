"""Scalars to minimise: fidelity to the measured image, regularity of the estimate, and their weighted sum.

Images are ``(..., y, x)``; a function named a *loss term* gives one value per image (the leading axes stay), so
that the caller chooses how a batch is reduced. Everything is differentiable and finite on constant images.
"""

from dps_jax.losses.fidelity import (
    fft_l1_loss,
    l1_loss,
    l2_loss,
    log_l2_loss,
    poisson_loss,
    ssim,
    ssim_map,
    weighted_l2_loss,
)
from dps_jax.losses.objective import TERMS, objective
from dps_jax.losses.perceptual import feature_loss, gram_matrix, style_loss
from dps_jax.losses.registration import (
    endpoint_loss,
    flow_smoothness,
    local_ncc_loss,
    multi_level_loss,
    ncc_loss,
)
from dps_jax.losses.regularizers import hessian_xy, hessian_xyt, hessian_xyz, l1_norm, total_variation

__all__ = [
    "TERMS",
    "endpoint_loss",
    "feature_loss",
    "fft_l1_loss",
    "flow_smoothness",
    "gram_matrix",
    "hessian_xy",
    "hessian_xyt",
    "hessian_xyz",
    "l1_loss",
    "l1_norm",
    "l2_loss",
    "local_ncc_loss",
    "log_l2_loss",
    "multi_level_loss",
    "ncc_loss",
    "objective",
    "poisson_loss",
    "ssim",
    "ssim_map",
    "style_loss",
    "total_variation",
    "weighted_l2_loss",
]
