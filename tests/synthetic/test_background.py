"""Backgrounds are smooth, lawful and repeatable."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.synthetic import background


def fine_share(image, period_px):
    """Share of the windowed variance at periods below ``period_px``."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])[None]
    power = np.abs(np.fft.fft2((image - np.average(image, weights=window)) * window)) ** 2
    fy, fx = (np.fft.fftfreq(n) for n in image.shape)
    return power[np.hypot(fy[:, None], fx[None]) > 1 / period_px].sum() / power.sum()


@pytest.mark.parametrize("abbe_px", [2.5, 5.0])
def test_haze_lies_between_0_and_1_and_is_coarser_than_six_periods(abbe_px):
    levels = []
    for seed in range(10):
        image = background.haze(np.random.default_rng(seed), (200, 200), abbe_px=abbe_px)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        # B-splines with knots six periods apart fall off as sinc^4: beyond one cycle per knot interval lies
        # less than 0.1 % of the variance; the logistic adds harmonics, the Hann window a little leakage.
        assert fine_share(image, 6 * abbe_px) < 0.01
        levels.append(image.mean())
    assert np.std(levels) > 0.05


def test_out_of_focus_light_keeps_the_mean_and_loses_the_detail(rng):
    scene = gaussian_filter(rng.random((96, 80)) ** 20, 0.7).astype(np.float32)
    seen = [background.out_of_focus(rng, scene, abbe_px=5.0) for _ in range(12)]
    for image in seen:
        assert image.dtype == np.float32
        assert image.min() >= 0
        # Mirrored borders lose no light; float32 sums of 7680 pixels are good to 1e-5.
        assert image.mean() == pytest.approx(scene.mean(), rel=1e-4)
        # A Gaussian of 5 px passes exp(-(2 pi 5 / 10)^2) = 5e-5 of the power at periods of 10 px.
        assert fine_share(image, 10.0) < 0.02
        assert image.std() < 0.5 * scene.std()


def test_the_reflecting_blur_is_scipys(rng):
    image = rng.random((60, 50))
    ours = background._reflecting_blur(image, 4.0)
    # The kernels differ beyond scipy's truncation at six sigma (2e-9) and by the sampling of the Gaussian.
    np.testing.assert_allclose(ours, gaussian_filter(image, 4.0, mode="reflect", truncate=6), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (64, 48), (200, 150)])
def test_illumination_is_a_smooth_positive_gain_of_mean_1(shape):
    for seed in range(10):
        gain = background.illumination(np.random.default_rng(seed), shape)
        assert gain.shape == shape
        assert gain.dtype == np.float32
        assert gain.min() > 0
        assert gain.mean() == pytest.approx(1.0, abs=1e-5)
        if min(shape) > 1:
            # A gain of this kind changes by less than 3 over the frame, so by less than 3/40 per pixel.
            assert np.abs(np.diff(gain, axis=0)).max() < 3 / 40
            assert gain.std() > 1e-3


def test_a_seed_draws_one_background():
    def draw(seed):
        rng = np.random.default_rng(seed)
        scene = rng.random((20, 20)).astype(np.float32)
        return (
            background.haze(rng, (20, 20), abbe_px=5.0),
            background.illumination(rng, (20, 20)),
            background.out_of_focus(rng, scene, abbe_px=5.0),
        )

    for first, again, other in zip(draw(1), draw(1), draw(2), strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)


def test_backgrounds_refuse_impossible_frames(rng):
    with pytest.raises(ValueError, match="expected abbe_px"):
        background.haze(rng, (8, 8), abbe_px=0.0)
    with pytest.raises(ValueError, match="expected shape"):
        background.illumination(rng, (0, 8))
    with pytest.raises(ValueError, match="expected shape"):
        background.out_of_focus(rng, np.ones(8, np.float32), abbe_px=5.0)
