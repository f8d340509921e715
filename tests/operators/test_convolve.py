"""Convolution against scipy.ndimage, which sums directly and knows the boundaries by the same names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

from dps_jax.operators import convolution, convolve, convolve_adjoint
from dps_jax.operators.convolve import convolve_separable_valid, gaussian_taps

BOUNDARIES = ("constant", "reflect", "nearest", "wrap")
_convolve = jax.jit(convolve, static_argnames="boundary")


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("kernel_shape", [(1, 1), (3, 3), (1, 9), (21, 13)])
def test_equals_scipy(boundary, kernel_shape, rng):
    image, kernel = rng.normal(size=(2, 11, 14)), rng.normal(size=kernel_shape)
    expected = np.stack([ndimage.convolve(plane, kernel, mode=boundary) for plane in image])
    ours = _convolve(jnp.asarray(image, jnp.float32), jnp.asarray(kernel, jnp.float32), boundary=boundary)
    # Each sum of kernel.size products rounds to 6e-8 of its norm; the FFT adds a factor log2(n), about 10.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * np.linalg.norm(kernel) * 4)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_kernel_that_reaches_over_a_small_image(boundary, rng):
    image, kernel = rng.normal(size=(4, 3)), rng.normal(size=(13, 9))
    expected = ndimage.convolve(image, kernel, mode=boundary)
    ours = _convolve(jnp.asarray(image, jnp.float32), jnp.asarray(kernel, jnp.float32), boundary=boundary)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


def test_a_point_is_drawn_as_the_kernel():
    kernel = jnp.asarray(np.arange(15).reshape(3, 5), jnp.float32)
    point = jnp.zeros((9, 11)).at[4, 6].set(1.0)
    np.testing.assert_allclose(convolve(point, kernel)[3:6, 4:9], kernel, atol=1e-5)


def test_leading_axes_are_free(rng):
    images = rng.normal(size=(2, 3, 10, 8)).astype(np.float32)
    kernel = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    together = convolve(jnp.asarray(images), kernel, boundary="reflect")
    for i in range(2):
        for j in range(3):
            alone = convolve(jnp.asarray(images[i, j]), kernel, boundary="reflect")
            np.testing.assert_allclose(together[i, j], alone, atol=1e-5)


def test_gradient_with_respect_to_the_kernel(rng):
    image, residual = (rng.normal(size=(12, 12)).astype(np.float32) for _ in range(2))
    kernel = rng.normal(size=(3, 3)).astype(np.float32)
    gradient = jax.grad(lambda k: jnp.sum(convolve(jnp.asarray(image), k) * residual))(jnp.asarray(kernel))
    # d/dk[a] sum r (image * k) = sum_i r[i] image[i - a], the correlation of residual and image at shift a.
    expected = signal.correlate(residual, image, mode="full")[10:13, 10:13]
    np.testing.assert_allclose(gradient, expected, atol=1e-4)


@pytest.mark.parametrize(("sigma_px", "reach"), [(1.5, 5), (0.7, 2)])
def test_separable_valid_equals_scipy(sigma_px, reach, rng):
    image = rng.normal(size=(2, 15, 13))
    taps = gaussian_taps(sigma_px, reach)
    assert taps.sum() == pytest.approx(1, abs=1e-6)
    # ndimage.gaussian_filter1d makes its own taps from the same definition.
    expected = ndimage.gaussian_filter(image, (0, sigma_px, sigma_px), radius=(0, reach, reach))
    inner = expected[:, reach:-reach, reach:-reach]
    ours = convolve_separable_valid(jnp.asarray(image, jnp.float32), taps)
    np.testing.assert_allclose(ours, inner, atol=2e-6)


def test_counts_keep_their_fractions(rng):
    counts = rng.integers(0, 100, (8, 9)).astype(np.uint16)
    kernel = np.full((3, 3), 1 / 9)  # float64, as NumPy makes it
    blurred = convolve(counts, kernel)
    assert blurred.dtype == jnp.float32
    np.testing.assert_allclose(
        blurred, ndimage.convolve(counts.astype(float), kernel, mode="constant"), atol=1e-4
    )


IMAGE, KERNEL = np.ones((6, 6), np.float32), np.ones((3, 3), np.float32)
REFUSED = [
    (
        lambda: convolve(IMAGE, np.ones((2, 3))),
        r"expected a kernel \(y, x\) or \(z, y, x\) with odd sides, got shape \(2, 3\)",
    ),
    (lambda: convolve(IMAGE, np.ones((3, 4))), r"odd sides, got shape \(3, 4\)"),
    (lambda: convolve(IMAGE, np.ones(3)), r"odd sides, got shape \(3,\)"),
    (lambda: convolve(IMAGE, np.ones((1, 3, 3))), r"an image \(..., z, y, x\) for a kernel \(z, y, x\)"),
    (
        lambda: convolution(np.ones((3, 3)), (4, 4, 4)),
        r"a shape of 2 sides, as the kernel has, got \(4, 4, 4\)",
    ),
    (lambda: convolve(np.ones(6), KERNEL), r"expected image with axes \(\.\.\., y, x\), got shape \(6,\)"),
    (
        lambda: convolve(IMAGE, KERNEL, boundary="mirror"),
        "expected boundary to be one of 'constant', .*got 'mirror'",
    ),
    (lambda: convolve_adjoint(IMAGE, np.ones((2, 2))), r"odd sides, got shape \(2, 2\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("boundary", ["constant", "reflect", "nearest", "wrap"])
def test_volumes_equal_scipy_and_their_adjoint_is_one(boundary, rng):
    volume, kernel = rng.normal(size=(2, 7, 10, 11)), rng.normal(size=(3, 5, 3))
    expected = np.stack([ndimage.convolve(v, kernel, mode=boundary) for v in volume])
    forward, backward = convolution(jnp.asarray(kernel, jnp.float32), volume.shape[1:], boundary=boundary)
    found = np.asarray(jax.jit(forward)(jnp.asarray(volume, jnp.float32)))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    other = rng.normal(size=volume.shape)
    back = np.asarray(jax.jit(backward)(jnp.asarray(other, jnp.float32)))
    assert np.vdot(found, other) == pytest.approx(np.vdot(volume, back), rel=1e-4)
