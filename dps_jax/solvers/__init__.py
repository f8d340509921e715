"""Classical methods: one image in, one image out, nothing trained beforehand."""

from dps_jax.solvers.mssr import mean_shift, mssr
from dps_jax.solvers.richardson_lucy import (
    make_richardson_lucy_step,
    poisson_deviance,
    richardson_lucy,
    richardson_lucy_oracle,
    richardson_lucy_step,
    richardson_lucy_until_explained,
)
from dps_jax.solvers.rolling_ball import rolling_ball_background, subtract_background
from dps_jax.solvers.sparse_hessian import sparse_continuous, sparse_hessian
from dps_jax.solvers.variation import variation_divergence
from dps_jax.solvers.wiener import tikhonov, wiener

__all__ = [
    "make_richardson_lucy_step",
    "mean_shift",
    "mssr",
    "poisson_deviance",
    "richardson_lucy",
    "richardson_lucy_oracle",
    "richardson_lucy_step",
    "richardson_lucy_until_explained",
    "rolling_ball_background",
    "sparse_continuous",
    "sparse_hessian",
    "subtract_background",
    "tikhonov",
    "variation_divergence",
    "wiener",
]
