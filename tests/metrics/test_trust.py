"""Maps of trust: the resolution is read where it is, and noise that is explained has variance one."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dps_jax.metrics import frc_resolution, residual_in_noise, rolling_frc


@pytest.fixture
def halves(rng):
    """Two noisy images of one scene, sharp on the left and blurred on the right."""
    scene = rng.exponential(1.0, (96, 192))
    left, right = ndimage.gaussian_filter(scene, 1.2), ndimage.gaussian_filter(scene, 4.0)
    object_ = np.where(np.arange(192) < 96, left, right)
    return [object_ + rng.normal(0, 0.02, object_.shape) for _ in range(2)]


def test_resolution_is_read_where_it_is(halves):
    centres, resolution = rolling_frc(*halves, pixel_size_nm=10.0, window_px=64, step_px=32)
    assert centres.shape == (2, 5, 2)
    assert resolution.shape == (2, 5)
    np.testing.assert_array_equal(centres[0, 0], [31.5, 31.5])
    np.testing.assert_array_equal(centres[1, 4], [63.5, 159.5])
    # Blurs of 1.2 and 4 px differ by a factor of 3.3; windows that hold both are in between or like one of them.
    assert np.median(resolution[:, 4] / resolution[:, 0]) > 2
    alone = frc_resolution(*(h[:64, 128:192] for h in halves), pixel_size_nm=10.0)
    assert float(resolution[0, 4]) == pytest.approx(float(alone), rel=1e-4)


def test_residual_of_the_truth_is_noise_of_variance_one(rng):
    expected = rng.uniform(20, 200, (128, 128))
    measured = rng.poisson(expected) + rng.normal(0, 3.0, expected.shape)
    residual = np.asarray(
        residual_in_noise(
            jnp.asarray(measured, jnp.float32), jnp.asarray(expected, jnp.float32), read_noise_photons=3.0
        )
    )
    # 16384 pixels: five standard errors of a mean are 0.04, of a variance 0.06.
    assert abs(residual.mean()) < 0.04
    assert abs(residual.var() - 1) < 0.06


def test_refusals(rng):
    image = rng.random((32, 32))
    with pytest.raises(ValueError, match=r"at least window_px \(64\) a side, got shape \(32, 32\)"):
        rolling_frc(image, image, pixel_size_nm=10.0)
    with pytest.raises(ValueError, match="of one shape"):
        rolling_frc(image, image[1:], pixel_size_nm=10.0, window_px=16)
    with pytest.raises(ValueError, match="step_px"):
        rolling_frc(image, image, pixel_size_nm=10.0, window_px=16, step_px=0)
    with pytest.raises(ValueError, match="of one shape"):
        residual_in_noise(image, image[1:])
    with pytest.raises(ValueError, match="read_noise_photons"):
        residual_in_noise(image, image, read_noise_photons=-1.0)
