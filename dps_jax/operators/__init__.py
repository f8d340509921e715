"""Maps of images: each acts on the last axes and leaves any leading axes free.

Linear operators have an adjoint of their own or one from :func:`adjoint`; noise takes a random key first.
"""

from dps_jax.operators.adjoint import adjoint
from dps_jax.operators.convolve import convolution, convolve, convolve_adjoint
from dps_jax.operators.differences import first_difference, mixed_difference, second_difference
from dps_jax.operators.flow_fields import (
    InverseFlow,
    affine_flow,
    compose,
    exponential,
    folding_count,
    invert,
    jacobian_determinant,
    rigid_flow,
)
from dps_jax.operators.forward import camera, camera_image, camera_image_adjoint, expose
from dps_jax.operators.illumination import illumination_patterns, sim_frames
from dps_jax.operators.noise import add_poisson_noise, add_read_noise, split_photons
from dps_jax.operators.phase_correlation import estimate_shift
from dps_jax.operators.sampling import (
    bin_area,
    bin_area_adjoint,
    pixel_shuffle,
    resample,
    resample_adjoint,
    resample_region,
    space_to_depth,
)
from dps_jax.operators.splines import spline_coefficients
from dps_jax.operators.warp import sampling_grid, warp, warp_adjoint

__all__ = [
    "InverseFlow",
    "add_poisson_noise",
    "add_read_noise",
    "adjoint",
    "affine_flow",
    "bin_area",
    "bin_area_adjoint",
    "camera",
    "camera_image",
    "camera_image_adjoint",
    "compose",
    "convolution",
    "convolve",
    "convolve_adjoint",
    "estimate_shift",
    "exponential",
    "expose",
    "first_difference",
    "folding_count",
    "illumination_patterns",
    "invert",
    "jacobian_determinant",
    "mixed_difference",
    "pixel_shuffle",
    "resample",
    "resample_adjoint",
    "resample_region",
    "rigid_flow",
    "sampling_grid",
    "second_difference",
    "sim_frames",
    "space_to_depth",
    "spline_coefficients",
    "split_photons",
    "warp",
    "warp_adjoint",
]
