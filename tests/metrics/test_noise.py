"""Gain and offset of simulated cameras, known by construction (NumPy and SciPy scenes)."""

import numpy as np
import pytest
from scipy import ndimage

from dps_jax.metrics.noise import PhotonScale, estimate_photon_scale, out_of_band_noise

CUTOFF = 0.36  # cycles per px: NA 1.4, 525 nm, 67 nm pixels


def scene(seed, *, peak=100.0, ground=5.0, size=192):
    """Blobs and a cloud that hold nothing beyond the cut-off, in expected photons."""
    rng = np.random.default_rng(seed)
    points = (rng.random((size, size)) < 0.004) * rng.uniform(0.2, 1, (size, size))
    # A Gaussian of 2 px passes exp(-2 (pi 2 0.36)^2) = 4e-5 at the cut-off.
    blobs = ndimage.gaussian_filter(points, 2.0, mode="reflect")
    cloud = ndimage.gaussian_filter(rng.normal(size=(size, size)), 20.0, mode="reflect")
    image = blobs / blobs.max() + 0.3 * (cloud - cloud.min()) / np.ptp(cloud)
    return ground + peak * image / image.max()


def camera(seed, gain, offset, read_noise=0.0, **options):
    rng = np.random.default_rng([seed, 99])
    expected = scene(seed, **options)
    return gain * (rng.poisson(expected) + read_noise * rng.normal(size=expected.shape)) + offset


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.2, 8.0])
@pytest.mark.parametrize("offset", [0.0, 100.0, 300.0])
def test_recovers_gain_and_offset(gain, offset):
    found = [estimate_photon_scale(camera(s, gain, offset), cutoff_cycles_px=CUTOFF) for s in range(4)]
    # Repeated over 40 seeds the estimated gain is 0.98 of the true one with a standard deviation of 0.04, the
    # offset is off by 0.8 photons of the peak's 105: 15 % and 5 photons are 3 standard deviations and more.
    for scale in found:
        assert scale.gain == pytest.approx(gain, rel=0.15)
        assert abs(scale.offset - offset) / gain < 5
    assert np.mean([scale.gain for scale in found]) == pytest.approx(gain, rel=0.08)


def test_photons_of_a_bright_scene():
    for seed in range(4):
        image = camera(seed, 2.0, 100.0, peak=1000.0, ground=20.0)
        scale = estimate_photon_scale(image, cutoff_cycles_px=CUTOFF)
        photons = (image - scale.offset) / scale.gain
        assert photons.mean() == pytest.approx(scene(seed, peak=1000.0, ground=20.0).mean(), rel=0.15)


def test_read_noise_lowers_the_offset_and_not_the_gain():
    # Variance gain^2 (photons + read^2): the line crosses zero read^2 photons below the true offset.
    read = 4.0
    for seed in range(3):
        scale = estimate_photon_scale(camera(seed, 2.0, 200.0, read_noise=read), cutoff_cycles_px=CUTOFF)
        # Over 20 seeds: a gain of 1.96 with a standard deviation of 0.16, -16.5 photons with one of 3.
        assert scale.gain == pytest.approx(2.0, rel=0.25)
        assert (scale.offset - 200.0) / 2.0 == pytest.approx(-(read**2), abs=9)


@pytest.mark.parametrize("factor", [1e-3, 0.37, 64.0])
def test_scaling_the_image_scales_gain_and_offset(factor):
    image = camera(0, 2.0, 100.0)
    one, other = (estimate_photon_scale(a * image, cutoff_cycles_px=CUTOFF) for a in (1.0, factor))
    # float64 throughout; only bin edges may round to the other side.
    assert other.gain == pytest.approx(factor * one.gain, rel=1e-6)
    assert other.offset == pytest.approx(factor * one.offset, rel=1e-6)


def test_adding_a_constant_moves_the_offset_only():
    image = camera(0, 2.0, 100.0)
    one, other = (estimate_photon_scale(image + c, cutoff_cycles_px=CUTOFF) for c in (0.0, 50.0))
    assert other.gain == pytest.approx(one.gain, rel=1e-6)
    assert other.offset == pytest.approx(one.offset + 50, abs=1e-5)


def test_the_offset_leaves_no_region_negative():
    for seed in range(4):
        image = camera(seed, 3.0, 100.0, ground=0.0)
        scale = estimate_photon_scale(image, cutoff_cycles_px=CUTOFF)
        assert scale.offset <= ndimage.gaussian_filter(image, 6.0).mean()
        darkest = np.quantile(ndimage.gaussian_filter(image, 6.0), 1 / 24)
        assert scale.offset <= darkest


def test_without_contrast_the_offset_is_zero_or_darkest():
    image = np.random.default_rng(0).poisson(50.0, (128, 128)).astype(float)
    scale = estimate_photon_scale(image, cutoff_cycles_px=CUTOFF)
    assert isinstance(scale, PhotonScale)
    assert np.isfinite([scale.gain, scale.offset]).all()
    assert scale.gain > 0


def test_noise_variance_of_white_noise():
    rng = np.random.default_rng(3)
    image = 1000 + rng.normal(0, 7.0, (160, 140))
    found = out_of_band_noise(image, cutoff_cycles_px=CUTOFF)
    assert found.shape == image.shape
    # 22400 pixels, of whose spectrum about half is used: a standard error of sqrt(2 / 11200) = 1.3 %.
    assert found.mean() == pytest.approx(49.0, rel=0.07)
    assert found.min() > 0


def test_a_band_limited_image_without_noise_counts_as_noiseless():
    image = scene(1, peak=1000.0)
    assert out_of_band_noise(image, cutoff_cycles_px=CUTOFF).max() < 1e-3 * image.mean()


@pytest.mark.parametrize(
    ("image", "cutoff", "message"),
    [
        (np.ones((4, 32, 32)), 0.3, r"an image \(y, x\), got shape \(4, 32, 32\)"),
        (np.ones(32), 0.3, r"an image \(y, x\), got shape \(32,\)"),
        (np.ones((32, 32)), 0.0, "cutoff_cycles_px to be a finite number above 0"),
        (np.ones((32, 32)), float("nan"), "cutoff_cycles_px to be a finite number above 0"),
        (np.ones((32, 32)), 0.61, "an optical cut-off of at most 0.6 cycles per px.*got 0.61"),
        (np.zeros((64, 64)), 0.3, "an image with photon noise"),
        (np.full((64, 64), 3.7), 0.3, "an image with photon noise"),
    ],
)
def test_refuses(image, cutoff, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        estimate_photon_scale(image, cutoff_cycles_px=cutoff)
