import jax
import numpy as np
import pytest
from scipy import ndimage
from skimage import metrics as reference

from dps_jax import metrics


@pytest.fixture
def pair(rng):
    truth = ndimage.gaussian_filter(rng.normal(size=(2, 192, 180)), (0, 2, 2)) * [[[400.0]], [[90.0]]] + 500
    return (truth + rng.normal(0, 8, truth.shape)).astype(np.float32), truth.astype(np.float32)


def each(score, image, truth, **options):
    return np.array(
        [score(t.astype(float), i.astype(float), **options) for i, t in zip(image, truth, strict=True)]
    )


def ranges(truth):
    return np.ptp(truth, axis=(1, 2))


def test_psnr(pair):
    image, truth = pair
    expected = [
        each(reference.peak_signal_noise_ratio, image[k : k + 1], truth[k : k + 1], data_range=r)[0]
        for k, r in enumerate(ranges(truth))
    ]
    np.testing.assert_allclose(metrics.psnr(image, truth), expected, rtol=1e-5)
    expected = each(reference.peak_signal_noise_ratio, image, truth, data_range=300.0)
    np.testing.assert_allclose(metrics.psnr(image, truth, data_range=300.0), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["psnr", "nrmse", "mae", "ssim", "ms_ssim"])
def test_with_scale_the_unit_of_the_image_is_nothing(pair, name):
    image, truth = pair
    score = getattr(metrics, name)
    slopes = [(i * t).sum() / (i * i).sum() for i, t in zip(image.astype(float), truth, strict=True)]
    expected = score((image * np.reshape(slopes, (2, 1, 1))).astype(np.float32), truth)
    np.testing.assert_allclose(score(image, truth, scale=True), expected, rtol=1e-4)
    np.testing.assert_allclose(score(0.01 * image, truth, scale=True), expected, rtol=1e-4)
    assert np.all(np.abs(score(0.01 * image, truth) - expected) > 0.05 * np.abs(expected))


def test_the_best_scale_is_no_worse_than_none(pair):
    image, truth = pair
    assert np.all(metrics.psnr(image, truth, scale=True) >= metrics.psnr(image, truth) - 1e-3)


@pytest.mark.parametrize("normalisation", ["euclidean", "min-max", "mean"])
def test_nrmse(pair, normalisation):
    image, truth = pair
    expected = each(reference.normalized_root_mse, image, truth, normalization=normalisation)
    np.testing.assert_allclose(metrics.nrmse(image, truth, normalisation=normalisation), expected, rtol=1e-5)


def test_mae(pair):
    image, truth = pair
    expected = np.abs(image.astype(float) - truth).mean((1, 2))
    np.testing.assert_allclose(metrics.mae(image, truth), expected, rtol=1e-5)


def test_ssim(pair):
    image, truth = pair
    options = {"gaussian_weights": True, "use_sample_covariance": False}
    expected = [
        reference.structural_similarity(t.astype(float), i.astype(float), data_range=r, **options)
        for i, t, r in zip(image, truth, ranges(truth), strict=True)
    ]
    np.testing.assert_allclose(metrics.ssim(image, truth), expected, atol=1e-5)
    np.testing.assert_allclose(metrics.ssim(image, truth, data_range=ranges(truth)), expected, atol=1e-5)


def ms_ssim_in_float64(x, y, span):
    """Wang et al. 2003 by scipy filters: exponents of section 3.2, windows inside the image."""
    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):

        def mean(a):
            return ndimage.gaussian_filter(a, 1.5, truncate=3.5)[5:-5, 5:-5]

        mx, my = mean(x), mean(y)
        vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
        value = (2 * cov + (0.03 * span) ** 2) / (vx + vy + (0.03 * span) ** 2)
        if scale == 4:
            value = value * (2 * mx * my + (0.01 * span) ** 2) / (mx**2 + my**2 + (0.01 * span) ** 2)
        product *= value.mean() ** weight
        ny, nx = (n // 2 for n in x.shape)
        x, y = (a[: 2 * ny, : 2 * nx].reshape(ny, 2, nx, 2).mean((1, 3)) for a in (x, y))
    return product


def test_ms_ssim(pair):
    image, truth = pair
    expected = [
        ms_ssim_in_float64(i.astype(float), t.astype(float), float(r))
        for i, t, r in zip(image, truth, ranges(truth), strict=True)
    ]
    ms_ssim = jax.jit(metrics.ms_ssim)
    np.testing.assert_allclose(ms_ssim(image, truth), expected, atol=1e-5)
    np.testing.assert_allclose(ms_ssim(truth, truth), 1, atol=1e-5)


def test_ms_ssim_of_the_negative_is_zero_with_a_finite_gradient(pair, monkeypatch):
    monkeypatch.setattr(
        "dps_jax.metrics.image._MS_WEIGHTS", (0.5, 0.5)
    )  # two scales compile faster than five
    truth = pair[1][0, :48, :48] - 500
    assert float(metrics.ms_ssim(-truth, truth)) == 0.0
    assert np.all(np.isfinite(jax.jit(jax.grad(lambda i: metrics.ms_ssim(i, truth)))(-truth)))


def test_least_squares(pair):
    image, truth = pair
    for k in range(2):
        x, t = image[k].ravel().astype(float), truth[k].ravel().astype(float)
        slope, shift = np.polyfit(x, t, 1)
        found = metrics.least_squares_scale(image, truth, offset=True)
        np.testing.assert_allclose([found[0][k], found[1][k]], [slope, shift], rtol=1e-3)
        scale, none = metrics.least_squares_scale(image, truth)
        np.testing.assert_allclose(scale[k], (x @ t) / (x @ x), rtol=1e-5)
        assert float(none[k]) == 0
    zero, _ = metrics.least_squares_scale(np.zeros_like(truth), truth)
    np.testing.assert_array_equal(zero, 0)


def test_percentile_normalise(pair):
    image = pair[0]
    bottom, top = np.percentile(image, [2, 98], axis=(1, 2), keepdims=True)
    found = metrics.percentile_normalise(image, low=2, high=98)
    np.testing.assert_allclose(found, (image - bottom) / (top - bottom), atol=1e-4)
    np.testing.assert_array_equal(metrics.percentile_normalise(np.full((8, 8), 3.0)), 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: metrics.psnr(a, a[1:]), "one shape"),
        (lambda a: metrics.mae(a[0], a[0]), "axes"),
        (lambda a: metrics.psnr(a, a, data_range=-1.0), "data_range"),
        (lambda a: metrics.nrmse(a, a, normalisation="max"), "normalisation"),
        (lambda a: metrics.ms_ssim(a, a), "176 px"),
        (lambda a: metrics.percentile_normalise(a, low=60, high=40), "low < high"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((20, 20), np.float32))
