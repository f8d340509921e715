"""The headline scores against SciPy and scikit-image, and what they must be blind to."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import metrics

from dps_jax.metrics.out_of_band import out_of_band_correlation
from dps_jax.metrics.scores import (
    at_promised_resolution,
    psnr_at_promised_resolution,
    scores_against_truth,
)

ABBE_PX = 5.0
SIGMA = 0.3 * ABBE_PX


@pytest.fixture(scope="module")
def pair():
    """Thin random curves, and a blurred and noisy estimate of them."""
    rng = np.random.default_rng(11)
    truth = np.zeros((96, 96))
    for _ in range(12):
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.02, 200))
        y, x = (
            s + 0.5 * np.cumsum(f(angle))
            for s, f in zip(rng.uniform(20, 76, 2), (np.sin, np.cos), strict=True)
        )
        inside = (y >= 0) & (y < 96) & (x >= 0) & (x < 96)
        np.add.at(truth, (y[inside].astype(int), x[inside].astype(int)), 1.0)
    estimate = ndimage.gaussian_filter(truth, 1.0) + 0.02 * rng.random(truth.shape)
    return estimate.astype(np.float32), truth.astype(np.float32)


def viewed(image):
    # SciPy samples the Gaussian, the library integrates it over the pixel: as if sigma^2 were 1/12 larger.
    sigma = np.sqrt(SIGMA**2 + 1 / 12)
    return ndimage.gaussian_filter(np.asarray(image, np.float64), sigma, mode="reflect", truncate=4)


def scaled(image, truth):
    a, b = viewed(image), viewed(truth)
    return a * (a * b).sum() / (a * a).sum(), b


def test_the_view_is_a_gaussian_blur(pair):
    expected = viewed(pair[1])
    found = np.asarray(at_promised_resolution(pair[1], abbe_px=ABBE_PX))
    # Away from the border, where the two libraries may mirror differently. Truncated at 4 sigma: 1e-3.
    inner = (slice(8, -8),) * 2
    assert np.abs(found - expected)[inner].max() < 3e-3 * expected.max()
    assert found.sum() == pytest.approx(pair[1].sum(), rel=1e-3)


def test_psnr_is_that_of_scikit_image(pair):
    a, b = scaled(*pair)
    expected = metrics.peak_signal_noise_ratio(b, a, data_range=b.max())
    # 1 % of the error's size is 0.1 dB: the two blurs differ by that much.
    assert float(psnr_at_promised_resolution(*pair, abbe_px=ABBE_PX)) == pytest.approx(expected, abs=0.15)


def test_ssim_is_that_of_scikit_image(pair):
    a, b = scaled(*pair)
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = metrics.structural_similarity(b / b.max(), a / b.max(), **options)
    assert float(scores_against_truth(*pair, abbe_px=ABBE_PX)["ssim"]) == pytest.approx(expected, abs=0.005)


def test_scores_are_those_of_their_own_functions(pair):
    found = scores_against_truth(*pair, abbe_px=ABBE_PX)
    assert set(found) == {"psnr_db", "ssim", "out_of_band"}
    assert float(found["psnr_db"]) == float(psnr_at_promised_resolution(*pair, abbe_px=ABBE_PX))
    assert float(found["out_of_band"]) == float(out_of_band_correlation(*pair, cutoff_cycles_px=1 / ABBE_PX))


def test_the_truth_scores_best(pair):
    _, truth = pair
    found = scores_against_truth(truth, truth, abbe_px=ABBE_PX)
    assert float(found["psnr_db"]) > 100  # float32 rounding
    assert float(found["ssim"]) == pytest.approx(1, abs=1e-5)
    assert float(found["out_of_band"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("factor", [1e-3, 40.0])
def test_one_scale_is_allowed_for(pair, factor):
    image, truth = pair
    one, other = (
        scores_against_truth(a * image, truth, abbe_px=ABBE_PX) for a in (np.float32(1), np.float32(factor))
    )
    for name in one:
        assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-3)


def test_a_worse_estimate_scores_worse(pair):
    estimate, truth = pair
    good, bad = (
        scores_against_truth(ndimage.gaussian_filter(estimate, s), truth, abbe_px=ABBE_PX) for s in (0.0, 3.0)
    )
    assert all(float(bad[name]) < float(good[name]) for name in good)


def test_leading_axes_are_images(pair):
    estimate, truth = pair
    stack = np.stack([estimate, truth, estimate[::-1].copy()])
    truths = np.stack([truth, truth, truth])
    found = scores_against_truth(stack, truths, abbe_px=ABBE_PX)
    assert all(v.shape == (3,) for v in found.values())
    alone = scores_against_truth(estimate, truth, abbe_px=ABBE_PX)
    for name in found:
        assert float(found[name][0]) == pytest.approx(float(alone[name]), rel=1e-4)
    assert float(found["psnr_db"][1]) > float(found["psnr_db"][0]) > float(found["psnr_db"][2])


def test_an_empty_estimate_is_no_division_by_zero(pair):
    assert np.isfinite(float(psnr_at_promised_resolution(np.zeros_like(pair[0]), pair[1], abbe_px=ABBE_PX)))
