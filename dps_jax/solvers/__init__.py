"""Classical methods: one image in, one image out, nothing trained beforehand."""

from dps_jax.solvers.richardson_lucy import richardson_lucy, richardson_lucy_oracle, richardson_lucy_step

__all__ = ["richardson_lucy", "richardson_lucy_oracle", "richardson_lucy_step"]
