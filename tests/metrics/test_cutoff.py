"""The cut-off read from a spectrum, against the optics that made the image."""

import numpy as np
import pytest

from dps_jax.metrics import spectral_cutoff
from dps_jax.optics import OpticalSystem
from dps_jax.pipelines.simulate import acquire


@pytest.mark.parametrize("pixel_nm", [50.0, 65.0])
@pytest.mark.parametrize("seed", [5000, 5001])
def test_the_cutoff_is_that_of_the_optics(seed, pixel_nm):
    system = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=pixel_nm)
    made = acquire(seed, system, shape=(256, 256), photons=1000)
    # The structures' spectrum is a power law but roughly. Training varies the PSF by a standard deviation of 2.5 %: an
    # error of two of them is one that restoration is made for. Without the fit, light ends 5 to 10 % early.
    assert spectral_cutoff(made.image) == pytest.approx(1 / float(system.abbe_px), rel=0.05)


def test_no_flat_end_no_cutoff(rng):
    coarse = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=95.0)
    assert spectral_cutoff(acquire(5000, coarse, shape=(256, 256), photons=3000).image) is None
    assert spectral_cutoff(rng.poisson(100.0, (128, 128)).astype(np.float32)) is None
