"""SSIM against scikit-image's implementation of Wang et al. 2004 (Gaussian window, population statistics)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from dps_jax.losses import ssim, ssim_map

_ssim = jax.jit(ssim, static_argnames=("data_range", "sigma_px"))
OPTIONS = {"gaussian_weights": True, "use_sample_covariance": False}


@pytest.mark.parametrize("data_range", [1.0, 255.0, 4000.0])
@pytest.mark.parametrize("shape", [(11, 11), (24, 37), (64, 50)])
@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_equals_scikit_image(data_range, shape, noise, rng):
    reference = data_range * rng.uniform(size=shape)
    image = reference + noise * data_range * rng.normal(size=shape)
    expected = structural_similarity(image, reference, data_range=data_range, **OPTIONS)
    ours = _ssim(jnp.asarray(image, jnp.float32), jnp.asarray(reference, jnp.float32), data_range=data_range)
    assert float(ours) == pytest.approx(expected, abs=1e-5)


def test_equals_scikit_image_on_a_dim_structure_on_a_bright_field(rng):
    # Variances are a millionth of the squared mean here: E[x^2] - E[x]^2 in float32 would be lost in rounding.
    reference = 1000 + rng.normal(size=(32, 32))
    image = reference + 0.3 * rng.normal(size=(32, 32))
    expected = structural_similarity(image, reference, data_range=10.0, **OPTIONS)
    ours = _ssim(jnp.asarray(image, jnp.float32), jnp.asarray(reference, jnp.float32), data_range=10.0)
    # Pixels of 1000 round to 6e-5, a few 1e-5 of the noise of 0.3 to 1 that the score is made of.
    assert float(ours) == pytest.approx(expected, abs=1e-4)


def test_other_windows(rng):
    reference, image = rng.uniform(size=(2, 40, 40))
    expected = structural_similarity(image, reference, data_range=1.0, sigma=2.5, **OPTIONS)
    ours = _ssim(
        jnp.asarray(image, jnp.float32), jnp.asarray(reference, jnp.float32), data_range=1.0, sigma_px=2.5
    )
    assert float(ours) == pytest.approx(expected, abs=1e-5)


def test_map_equals_scikit_image_inside(rng):
    reference, image = rng.uniform(size=(2, 30, 25))
    _, whole = structural_similarity(image, reference, data_range=1.0, full=True, **OPTIONS)
    ours = ssim_map(jnp.asarray(image, jnp.float32), jnp.asarray(reference, jnp.float32), data_range=1.0)
    assert ours.shape == (20, 15)
    np.testing.assert_allclose(ours, whole[5:-5, 5:-5], atol=1e-5)


def test_one_value_per_image(rng):
    reference, image = (jnp.asarray(rng.uniform(size=(2, 3, 16, 16)), jnp.float32) for _ in range(2))
    together = _ssim(image, reference, data_range=1.0)
    assert together.shape == (2, 3)
    np.testing.assert_allclose(together[1, 2], _ssim(image[1, 2], reference[1, 2], data_range=1.0), atol=1e-6)
    np.testing.assert_allclose(_ssim(image, image, data_range=1.0), np.ones((2, 3)), atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_gradient_is_finite_on_constant_images(value):
    flat = jnp.full((16, 16), value)
    gradient = jax.jit(jax.grad(lambda x: ssim(x, flat, data_range=1.0)))
    assert np.all(np.isfinite(gradient(flat)))
    assert np.all(np.isfinite(gradient(flat + 0.1)))


IMAGE = np.ones((16, 16), np.float32)
REFUSED = [
    (lambda: ssim(IMAGE, IMAGE[:-1], data_range=1.0), r"of one shape, got \(16, 16\) and \(15, 16\)"),
    (
        lambda: ssim(IMAGE, IMAGE, data_range=0.0),
        r"expected data_range to be a finite number above 0, got 0\.0",
    ),
    (
        lambda: ssim(IMAGE, IMAGE, data_range=-1.0),
        r"expected data_range to be a finite number above 0, got -1\.0",
    ),
    (lambda: ssim(IMAGE[:10], IMAGE[:10], data_range=1.0), r"at least 11 px a side, got shape \(10, 16\)"),
    (lambda: ssim(IMAGE[0], IMAGE[0], data_range=1.0), r"expected image with axes \(\.\.\., y, x\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
