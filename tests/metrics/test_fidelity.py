import numpy as np
import pytest
from scipy import ndimage, optimize

from dps_jax import metrics


@pytest.fixture
def fine(rng):
    image = np.zeros((120, 96))
    image[tuple(rng.integers(0, (120, 96), (150, 2)).T)] = rng.uniform(0.3, 1, 150)
    return ndimage.gaussian_filter(image, 0.8)


def test_recovers_blur_scale_and_offset(fine):
    measured = 40 * ndimage.gaussian_filter(fine, 2.3, mode="reflect", truncate=8) + 12
    found = metrics.squirrel(fine, measured)
    np.testing.assert_allclose([found.sigma_px, found.alpha, found.beta], [2.3, 40, 12], rtol=5e-3)
    np.testing.assert_allclose(found.rsp, 1, atol=1e-4)
    assert found.rse < 1e-2 * measured.std()
    np.testing.assert_allclose(found.rescaled, measured, atol=1e-2 * np.ptp(measured))


def test_no_fit_is_better(fine, rng):
    measured = rng.poisson(300 * ndimage.gaussian_filter(fine, 1.7) + 5).astype(float)

    def error(p):
        return np.mean((p[1] * ndimage.gaussian_filter(fine, abs(p[0]), truncate=8) + p[2] - measured) ** 2)

    rival = optimize.minimize(error, (1.0, 100.0, 0.0), method="Nelder-Mead", options={"maxiter": 600})
    found = metrics.squirrel(fine, measured)
    # scipy samples the Gaussian, the cosine domain integrates it: they differ by a thousandth for sigma > 1.
    assert found.rse <= np.sqrt(rival.fun) * 1.002
    np.testing.assert_allclose(found.sigma_px, abs(rival.x[0]), rtol=0.03)


def test_finer_grid_is_binned(fine):
    measured = ndimage.gaussian_filter(fine, 4.0, mode="reflect").reshape(40, 3, 32, 3).mean((1, 3))
    found = metrics.squirrel(fine, measured)
    assert found.error_map.shape == measured.shape
    assert found.rsp > 0.99
    np.testing.assert_allclose(found.sigma_px, 4.0 / 3, rtol=0.1)


def test_error_map_points_at_what_is_missing(fine):
    measured = ndimage.gaussian_filter(fine, 2.0)
    with_spot = measured.copy()
    with_spot[58:63, 38:43] += 3 * measured.max()
    error = metrics.error_map(fine, with_spot)
    y, x = np.unravel_index(np.argmax(error), error.shape)
    assert abs(y - 60) <= 2
    assert abs(x - 40) <= 2
    assert metrics.rsp(fine, with_spot) < metrics.rsp(fine, measured)
    assert metrics.rse(fine, with_spot) > metrics.rse(fine, measured)


def test_scores_are_their_definitions(fine, rng):
    measured = ndimage.gaussian_filter(fine, 2.0) + rng.normal(0, 0.002, fine.shape)
    found = metrics.squirrel(fine, measured)
    np.testing.assert_allclose(
        found.rsp, np.corrcoef(found.rescaled.ravel(), measured.ravel())[0, 1], atol=1e-5
    )
    np.testing.assert_allclose(found.rse, np.sqrt(np.mean((found.rescaled - measured) ** 2)), rtol=1e-4)
    np.testing.assert_allclose(found.error_map, np.abs(found.rescaled - measured), atol=1e-6)


def test_anticorrelated_and_flat_images_score_nothing(fine):
    measured = -ndimage.gaussian_filter(fine, 2.0)
    assert metrics.rsp(fine, measured, max_sigma_px=3.0) <= 0.5  # the scale may not turn negative
    assert metrics.squirrel(fine, measured).alpha >= 0
    assert metrics.rsp(np.ones_like(fine), measured) == 0


def test_sharpening_costs_nothing_here(fine, rng):
    # What the module warns of: texture finer than the blur hardly changes the score.
    measured = ndimage.gaussian_filter(fine, 3.0)
    checker = 0.2 * fine.max() * (np.indices(fine.shape).sum(0) % 2 - 0.5)
    np.testing.assert_allclose(metrics.rsp(fine + checker, measured), metrics.rsp(fine, measured), atol=1e-3)


@pytest.mark.parametrize(
    ("image", "measured", "message"),
    [
        (np.ones((2, 8, 8)), np.ones((8, 8)), "two images"),
        (np.ones((12, 12)), np.ones((8, 8)), "whole number finer"),
        (np.ones((16, 8)), np.ones((8, 8)), "whole number finer"),
        (np.full((8, 8), np.nan), np.ones((8, 8)), "finite"),
    ],
)
def test_refused(image, measured, message):
    with pytest.raises(ValueError, match=message):
        metrics.squirrel(image, measured)
