"""Exchange of cameras: against the integral of a wave over a pixel, and against a camera that took the picture."""

import numpy as np
import pytest

from dps_jax.operators.recamera import (
    LARGEST_SCALE,
    camera_response,
    camera_taps,
    recamera_noise,
    recamera_region,
)


def _wave(n, cycles_px, phase):
    """A cosine integrated over ``n`` pixels of length 1, exactly."""
    edges = 2 * np.pi * cycles_px * np.arange(n + 1) + phase
    return np.diff(np.sin(edges)) / (2 * np.pi * cycles_px)


@pytest.mark.parametrize("scale", [0.2, 0.45, 65 / 75, 1.0])
@pytest.mark.parametrize("cycles", [0.02, 0.2, 0.4])  # per new pixel; 0.4 is the cut-off of canonical optics
def test_a_wave_is_seen_as_the_new_camera_sees_it(scale, cycles):
    n = int(120 / scale)
    rows = np.arange(30, 90)  # far from the ends, where the mirror image is no wave
    index, weights = camera_taps(n, rows, scale)
    got = (weights * _wave(n, cycles * scale, 0.7)[index]).sum(1)
    want = _wave(120, cycles, 0.7)[rows] / scale
    # A kernel of 8 pixels' reach: ripples of a thousandth.
    assert np.abs(got - want).max() * scale < 2e-3


def test_what_lies_beyond_is_dropped():
    # Half way from the old camera's Nyquist frequency to the new one's, where averaging pixels would alias.
    index, weights = camera_taps(400, np.arange(30, 70), 0.25)
    got = (weights * _wave(400, 0.8 * 0.25, 0.1)[index]).sum(1) * 0.25
    assert np.abs(got).max() < 2e-3


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.0])
def test_light_is_kept(scale, rng):
    image = rng.poisson(20.0, (90, 110)).astype(float)
    rows, columns = (np.arange(round(n * scale)) for n in image.shape)
    out = recamera_region(image, rows, columns, scale)
    # Up to what the last, partly covered pixels hold.
    assert out.sum() == pytest.approx(image.sum(), rel=0.02)
    np.testing.assert_allclose(recamera_region(np.full((90, 110), 3.0), rows, columns, scale), 3 / scale**2)


def test_the_same_camera_changes_nothing(rng):
    image = rng.poisson(20.0, (20, 30)).astype(float)
    np.testing.assert_allclose(
        recamera_region(image, np.arange(20), np.arange(30), 1.0), image, atol=1e-3 * 20
    )


def test_a_region_is_part_of_the_whole(rng):
    image = rng.random((70, 80))
    whole = recamera_region(image, np.arange(42), np.arange(48), 0.6)
    part = recamera_region(image, np.arange(5, 17), np.array([40, 3]), 0.6)
    np.testing.assert_allclose(part, whole[np.ix_(np.arange(5, 17), [40, 3])], atol=1e-12)


@pytest.mark.parametrize("scale", [0.3, 0.8])
def test_noise_is_coloured_as_an_exchange_colours_it(scale, rng):
    # White noise on old pixels, of unit density per area, exchanged; and white noise on new ones, coloured.
    n = 96
    old = rng.normal(0, 1, (round(n / scale), round(n / scale)))
    taken = recamera_region(old, np.arange(n), np.arange(n), scale) * scale
    coloured = recamera_noise(rng.normal(0, 1, (n, n)), scale)
    for shift in (0, 1, 2):
        a, b = (np.mean(i * np.roll(i, shift, 1)) for i in (taken, coloured))
        # Correlations of 9,216 numbers: a hundredth each; five standard errors of the difference.
        assert a == pytest.approx(b, abs=5 * np.sqrt(2) / n)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.2, np.nan])
def test_refuses_pixels_that_are_too_coarse(scale):
    with pytest.raises(ValueError, match=f"expected at most {LARGEST_SCALE} new pixels per old one"):
        camera_response(np.zeros(3), scale)
