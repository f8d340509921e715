"""Classical methods: one image in, one image out, nothing trained beforehand."""

from dps_jax.solvers.richardson_lucy import richardson_lucy, richardson_lucy_oracle, richardson_lucy_step
from dps_jax.solvers.rolling_ball import rolling_ball_background, subtract_background

__all__ = [
    "richardson_lucy",
    "richardson_lucy_oracle",
    "richardson_lucy_step",
    "rolling_ball_background",
    "subtract_background",
]
