"""Physical constants to kernels: Bessel functions, the optical system, PSFs and OTFs.

Kernels are float32 ``(y, x)`` of odd size, centred, non-negative, with unit sum.
"""

from dps_jax.optics.bessel import j0, j1, jinc
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf, incoherent_otf, pixel_otf, radial_frequency
from dps_jax.optics.psf import airy_psf, default_size, gaussian_psf, srpsf
from dps_jax.optics.system import OpticalSystem

__all__ = [
    "Illumination",
    "OpticalSystem",
    "RadialOtf",
    "airy_psf",
    "default_size",
    "gaussian_psf",
    "incoherent_otf",
    "j0",
    "j1",
    "jinc",
    "pixel_otf",
    "radial_frequency",
    "srpsf",
]
