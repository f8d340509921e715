"""Maps of images: each acts on the last axes and leaves any leading axes free.

Linear operators have an adjoint of their own or one from :func:`adjoint`; noise takes a random key first.
"""

from dps_jax.operators.adjoint import adjoint
from dps_jax.operators.convolve import convolution, convolve, convolve_adjoint
from dps_jax.operators.differences import first_difference, mixed_difference, second_difference
from dps_jax.operators.forward import camera, camera_image, camera_image_adjoint, expose
from dps_jax.operators.noise import add_poisson_noise, add_read_noise, split_photons
from dps_jax.operators.sampling import (
    bin_area,
    bin_area_adjoint,
    pixel_shuffle,
    resample,
    resample_adjoint,
    resample_region,
    space_to_depth,
)

__all__ = [
    "add_poisson_noise",
    "add_read_noise",
    "adjoint",
    "bin_area",
    "bin_area_adjoint",
    "camera",
    "camera_image",
    "camera_image_adjoint",
    "convolution",
    "convolve",
    "convolve_adjoint",
    "expose",
    "first_difference",
    "mixed_difference",
    "pixel_shuffle",
    "resample",
    "resample_adjoint",
    "resample_region",
    "second_difference",
    "space_to_depth",
    "split_photons",
]
