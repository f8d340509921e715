"""Linear deconvolution: equal to the formulas in NumPy, exact without noise, and as bright as the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage import restoration

from dps_jax.optics import gaussian_psf
from dps_jax.solvers import tikhonov, wiener

PSF = np.asarray(gaussian_psf(sigma_px=1.3, size=9))
_wiener = jax.jit(wiener, static_argnames=("noise_to_signal", "boundary"))
_tikhonov = jax.jit(tikhonov, static_argnames=("weight", "boundary"))


@pytest.fixture
def scene(rng):
    """Blobs far from the border, on nothing."""
    points = np.zeros((64, 72))
    points[24:40, 24:48] = (rng.random((16, 24)) < 0.1) * rng.uniform(1, 5, (16, 24))
    return ndimage.gaussian_filter(points, 1.0)


def _by_hand(image, penalty_of):
    """Solve on the image's own periodic grid, float64."""
    grid = np.zeros(image.shape)
    grid[:9, :9] = PSF
    otf = np.fft.fft2(np.roll(grid, (-4, -4), (0, 1)))
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    laplacian = (2 * np.cos(2 * np.pi * fy) - 2)[:, None] + (2 * np.cos(2 * np.pi * fx) - 2)
    inverse = np.conj(otf) / (np.abs(otf) ** 2 + penalty_of(laplacian))
    return np.fft.ifft2(np.fft.fft2(image) * inverse / inverse[0, 0].real).real


@pytest.mark.parametrize(
    ("solve", "penalty"),
    [
        (lambda i: _wiener(i, PSF, noise_to_signal=0.02), lambda laplacian: 0.02),
        (lambda i: _tikhonov(i, PSF, weight=0.05), lambda laplacian: 0.05 * laplacian**2),
    ],
    ids=["wiener", "tikhonov"],
)
def test_equals_the_formula_where_the_border_is_dark(solve, penalty, scene):
    image = ndimage.convolve(scene, PSF, mode="constant")
    expected = _by_hand(image, penalty)
    # The tails of the inverse see another border: they fall below 1e-3 within the margin of a dozen pixels.
    np.testing.assert_allclose(solve(image.astype(np.float32)), expected, atol=2e-3 * expected.max())


def test_wiener_equals_scikit_image(scene):
    image = ndimage.convolve(scene, PSF, mode="wrap")
    # With a regulariser of ones scikit-image's is the same filter; it works on the periodic image.
    expected = restoration.wiener(image, PSF, 0.02, reg=np.ones((1, 1)), is_real=True, clip=False)
    scale = 1 / (1 + 0.02)  # ours keeps the sum
    np.testing.assert_allclose(
        scale * np.asarray(_wiener(image.astype(np.float32), PSF, noise_to_signal=0.02)),
        expected,
        atol=2e-3 * expected.max(),
    )


@pytest.mark.parametrize("solve", [_wiener, _tikhonov])
def test_without_noise_detail_comes_back(solve, scene):
    image = ndimage.convolve(scene, PSF, mode="constant").astype(np.float32)
    options = {"noise_to_signal": 1e-4} if solve is _wiener else {"weight": 1e-4}
    error = np.abs(solve(image, PSF, **options) - scene).max()
    assert error < 0.3 * np.abs(image - scene).max()


@pytest.mark.parametrize("solve", [_wiener, _tikhonov])
@pytest.mark.parametrize("boundary", ["reflect", "constant", "nearest", "wrap"])
def test_a_flat_image_is_left_alone_and_light_is_kept(solve, boundary, rng):
    noise = rng.poisson(20.0, (40, 40)).astype(np.float32)
    out = solve(noise, PSF, boundary="wrap")
    # The sum over the padded, periodic frame is kept exactly; within the image, up to what moves over its border.
    assert float(out.sum()) == pytest.approx(float(noise.sum()), rel=5e-3)
    if boundary != "constant":
        flat = np.full((2, 24, 30), 0.7, np.float32)
        np.testing.assert_allclose(solve(flat, PSF, boundary=boundary), flat, rtol=1e-4)


@pytest.mark.parametrize("solve", [wiener, tikhonov])
def test_volumes(solve, rng):
    kernel = np.einsum("i,j,k->ijk", *([np.array([0.15, 0.7, 0.15])] * 3)).astype(np.float32)
    points = np.zeros((12, 20, 22))
    points[6, 10, 11] = points[5, 8, 8] = 1.0
    image = ndimage.convolve(points, kernel, mode="constant").astype(np.float32)
    option = {"noise_to_signal": 1e-4} if solve is wiener else {"weight": 1e-5}
    out = np.asarray(jax.jit(lambda i: solve(i, kernel, **option))(image))
    assert out.shape == image.shape
    # The kernel's smallest response is 0.4^3 = 0.064, far above the square root of the regularisers.
    assert np.linalg.norm(out - points) < 0.2 * np.linalg.norm(image - points)


def test_refusals():
    image = jnp.ones((8, 8))
    with pytest.raises(ValueError, match="noise_to_signal to be a finite number above 0, got 0"):
        wiener(image, PSF, noise_to_signal=0.0)
    with pytest.raises(ValueError, match="weight to be a finite number above 0"):
        tikhonov(image, PSF, weight=-1.0)
    with pytest.raises(ValueError, match=r"odd sides, got shape \(4, 4\)"):
        wiener(image, jnp.ones((4, 4)))
    with pytest.raises(ValueError, match="boundary to be one of"):
        wiener(image, PSF, boundary="mirror")
    with pytest.raises(ValueError, match="at least 3 axes"):
        wiener(image, jnp.full((3, 3, 3), 1 / 27))
