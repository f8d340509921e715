import numpy as np
import pytest
from scipy import ndimage
from skimage.restoration import ellipsoid_kernel, rolling_ball

from dps_jax.solvers.rolling_ball import rolling_ball_background, subtract_background


def cell_image(rng, size, photons=300):
    """Filaments on an uneven background, with photon noise: (image, background without noise)."""
    image = np.zeros((size, size))
    for _ in range(size // 6):
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.01, 250))
        y, x = rng.uniform(0, size, (2, 1)) + np.cumsum([np.sin(angle), np.cos(angle)], axis=1)
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        np.add.at(image, (y[inside].astype(int), x[inside].astype(int)), 1)
    image = np.minimum(ndimage.gaussian_filter(image, 2.0), 0.5)
    y, x = np.mgrid[:size, :size] / size
    background = photons * (0.15 + 0.2 * np.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) / 0.2))
    return rng.poisson(photons * image / image.max() + background).astype(np.float32), background


@pytest.mark.parametrize("radius", [1, 5, 12, 50])
@pytest.mark.parametrize(("shape", "offset"), [((60, 75), 0.0), ((33, 20), -500.0), ((1, 40), 1e4)])
def test_exact_is_scikit_image(rng, radius, shape, offset):
    image = rng.gamma(1.0, 40.0, shape) + offset
    kernel = ellipsoid_kernel((2 * radius + 1, 2 * radius + 1), np.ptp(image))
    found = rolling_ball_background(image, radius_px=radius, method="exact")
    np.testing.assert_allclose(found, rolling_ball(image, kernel=kernel), atol=1e-4 * np.ptp(image))


def test_exact_with_another_height(rng):
    image = cell_image(rng, 80)[0]
    expected = rolling_ball(image, kernel=ellipsoid_kernel((41, 41), 0.3 * np.ptp(image)))
    found = rolling_ball_background(image, radius_px=20, method="exact", height=0.3)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(image))


@pytest.mark.parametrize(("radius", "size"), [(50, 300), (100, 400), (60.5, 257)])
def test_fast_is_near_exact(rng, radius, size):
    image = cell_image(rng, size)[0]
    exact, fast = (rolling_ball_background(image, radius_px=radius, method=m) for m in ("exact", "fast"))
    # Between lattice points h = R / 25 apart, where two ball surfaces of slopes +-g meet, a line errs by at
    # most g h / 2. Balls that touch up to 0.45 R away have g = range / (2 R): 1 % of it, which is promised.
    assert np.abs(fast - exact).max() < 0.01 * np.ptp(image)
    assert not np.array_equal(fast, exact)


@pytest.mark.parametrize("method", ["fast", "exact"])
def test_never_above_the_image(rng, method):
    image = rng.normal(0, 1, (70, 90)) - 5
    background = rolling_ball_background(image, radius_px=40, method=method)
    assert np.all(background <= image.astype(np.float32))
    smooth = rolling_ball_background(image, radius_px=40, method=method, smooth_px=1.5)
    # The smoothed surface is compared in float32: one unit in the last place of 5.
    assert np.all(smooth <= ndimage.gaussian_filter(image, 1.5, mode="nearest") + 1e-6)


@pytest.mark.parametrize("method", ["fast", "exact"])
def test_intensity_unit_does_not_matter(rng, method):
    image = cell_image(rng, 96)[0].astype(float)
    expected = rolling_ball_background(image, radius_px=32, method=method)
    found = rolling_ball_background(1e-6 * image - 3e-4, radius_px=32, method=method)
    np.testing.assert_allclose((found + 3e-4) * 1e6, expected, atol=1e-4 * np.ptp(image))


def test_finds_the_background(rng):
    image, background = cell_image(rng, 300)
    _, found = subtract_background(image, radius_nm=2000, pixel_size_nm=40, smooth_px=2.0)
    # Photon noise of sqrt(100) after a blur of 2 px has 10 / (2 sqrt(pi) 2) = 1.4 counts; the lowest of some
    # thousand values under the ball is 4 of these below, and the ball gives way by some counts on a slope.
    error = found - background
    assert abs(np.median(error)) < 10
    assert np.percentile(np.abs(error), 99) < 0.1 * np.ptp(image)


def test_smoothing_lifts_the_background_out_of_the_noise(rng):
    image = rng.poisson(100, (200, 200)).astype(np.float32)
    raw, smooth = (rolling_ball_background(image, radius_px=40, smooth_px=s) for s in (0.0, 2.0))
    assert 60 < np.median(raw) < 85  # about three standard deviations of 10 below
    assert np.median(smooth) > 92


def test_foreground_and_background_make_the_image(rng):
    image = cell_image(rng, 64)[0]
    foreground, background = subtract_background(image, radius_nm=650, pixel_size_nm=65)
    np.testing.assert_allclose(foreground + background, image, atol=1e-4)
    expected = rolling_ball_background(image, radius_px=10, smooth_px=1.0)
    np.testing.assert_array_equal(background, expected)
    assert foreground.dtype == background.dtype == np.float32


def test_leading_axes_are_separate_images(rng):
    stack = np.stack([cell_image(rng, 48)[0], 7 * cell_image(rng, 48)[0]])[:, None]
    found = rolling_ball_background(stack, radius_px=20)
    assert found.shape == stack.shape
    np.testing.assert_array_equal(found[1, 0], rolling_ball_background(stack[1, 0], radius_px=20))


def test_constant_and_tiny_images():
    np.testing.assert_array_equal(rolling_ball_background(np.full((9, 9), -3.0), radius_px=50), -3)
    assert rolling_ball_background(np.array([[2.0]]), radius_px=5) == 2
    assert rolling_ball_background(np.array([[2.0, 7.0]]), radius_px=64).shape == (1, 2)


def test_a_lone_spot_is_taken_off():
    image = np.zeros((101, 101))
    image[50, 50] = 10.0
    background = rolling_ball_background(image, radius_px=20, method="exact")
    # Only the next pixel's zero can hold the ball: it rises by 10 (1 - sqrt(1 - 1 / 400)) in the spot.
    np.testing.assert_allclose(background[50, 50], 10 * (1 - np.sqrt(1 - 1 / 400)), rtol=1e-4)
    background[50, 50] = 0
    np.testing.assert_allclose(background, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.ones(5), {}, "axes"),
        (np.full((5, 5), np.nan), {}, "finite"),
        (np.ones((0, 5)), {}, "empty"),
        (np.ones((5, 5)), {"radius_px": 0.5}, "radius of 1 px"),
        (np.ones((5, 5)), {"radius_px": -2.0}, "radius_px"),
        (np.ones((5, 5)), {"method": "slow"}, "method"),
        (np.ones((5, 5)), {"smooth_px": -1.0}, "smooth_px"),
        (np.ones((5, 5)), {"height": 0.0}, "height"),
    ],
)
def test_refused(image, options, message):
    with pytest.raises(ValueError, match=message):
        rolling_ball_background(image, **({"radius_px": 3.0} | options))


def test_refused_sizes():
    with pytest.raises(ValueError, match="pixel_size_nm"):
        subtract_background(np.ones((5, 5)), radius_nm=100, pixel_size_nm=0)
