"""Classical methods: one image in, one image out, nothing trained beforehand."""

from dps_jax.solvers.hammer_stroke import dark_powers, remove_hammer_stroke
from dps_jax.solvers.mssr import mean_shift, mssr
from dps_jax.solvers.piecewise_rigid import piecewise_rigid
from dps_jax.solvers.richardson_lucy import (
    RichardsonLucyUpdate,
    iterate,
    make_richardson_lucy_step,
    richardson_lucy,
    richardson_lucy_step,
    richardson_lucy_update,
)
from dps_jax.solvers.richardson_lucy_stops import (
    poisson_deviance,
    richardson_lucy_oracle,
    richardson_lucy_until_explained,
)
from dps_jax.solvers.ringing import remove_ringing, ring_powers
from dps_jax.solvers.rolling_ball import rolling_ball_background, subtract_background
from dps_jax.solvers.seams import find_seams, fit_tiles, remove_seams
from dps_jax.solvers.sim_estimation import Stripes, estimate_illumination, noise_to_signal
from dps_jax.solvers.sim_orders import separate_orders
from dps_jax.solvers.sim_reconstruction import sim_wiener
from dps_jax.solvers.sim_refinement import make_misfit
from dps_jax.solvers.sim_richardson_lucy import sim_richardson_lucy
from dps_jax.solvers.sparse_hessian import sparse_continuous, sparse_hessian
from dps_jax.solvers.stripes import find_waves
from dps_jax.solvers.surroundings import continue_image
from dps_jax.solvers.variation import variation_divergence
from dps_jax.solvers.waves import Wave, remove_waves
from dps_jax.solvers.wiener import tikhonov, wiener

__all__ = [
    "RichardsonLucyUpdate",
    "Stripes",
    "Wave",
    "continue_image",
    "dark_powers",
    "estimate_illumination",
    "find_seams",
    "find_waves",
    "fit_tiles",
    "iterate",
    "make_misfit",
    "make_richardson_lucy_step",
    "mean_shift",
    "mssr",
    "noise_to_signal",
    "piecewise_rigid",
    "poisson_deviance",
    "remove_hammer_stroke",
    "remove_ringing",
    "remove_seams",
    "remove_waves",
    "richardson_lucy",
    "richardson_lucy_oracle",
    "richardson_lucy_step",
    "richardson_lucy_until_explained",
    "richardson_lucy_update",
    "ring_powers",
    "rolling_ball_background",
    "separate_orders",
    "sim_richardson_lucy",
    "sim_wiener",
    "sparse_continuous",
    "sparse_hessian",
    "subtract_background",
    "tikhonov",
    "variation_divergence",
    "wiener",
]
