"""Artefacts look as the literature describes them, keep the photons, and scale with the image."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.synthetic import artefacts

ABBE_PX = 5.0
SIDE = 120
KEEPING = sorted(set(artefacts.ARTEFACTS) - {"hot_pixels"})


@pytest.fixture
def image(rng):
    """Blobs on darkness, brightest 1."""
    drawn = gaussian_filter(rng.random((96, 80)) ** 60, 2.0)
    return (drawn / drawn.max()).astype(np.float32)


@pytest.fixture
def flat():
    return np.ones((SIDE, SIDE), np.float32)


def power_and_radius(residual):
    """Power of a windowed image, and the frequencies in cycles per Abbe period."""
    window = np.hanning(SIDE)[:, None] * np.hanning(SIDE)[None]
    power = np.abs(np.fft.fft2(residual * window)) ** 2
    f = np.fft.fftfreq(SIDE) * ABBE_PX
    return power / power.sum(), f[:, None], f[None]


@pytest.mark.parametrize("kind", sorted(artefacts.ARTEFACTS))
def test_every_kind_is_repeatable_float32_and_homogeneous(kind, image):
    def made(gain):
        return artefacts.add_artefact(np.random.default_rng(3), gain * image, kind, abbe_px=ABBE_PX)

    assert made(1).dtype == np.float32
    assert made(1).shape == image.shape
    assert np.linalg.norm(made(1) - image) > 0.01 * np.linalg.norm(image)
    np.testing.assert_array_equal(made(1), made(1))
    # A power of two, so that rounding is the same for both.
    np.testing.assert_array_equal(made(4), 4 * made(1))


@pytest.mark.parametrize("kind", KEEPING)
def test_photons_are_kept(kind, image):
    for seed in range(5):
        made = artefacts.add_artefact(np.random.default_rng(seed), image, kind, abbe_px=ABBE_PX)
        # float32 rounding of values about 1 in a sum of float64.
        assert made.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-5)


@pytest.mark.parametrize("kind", KEEPING)
def test_no_strength_is_no_artefact(kind, rng, image):
    made = artefacts.ARTEFACTS[kind](rng, image, abbe_px=ABBE_PX, strength=0.0)
    np.testing.assert_allclose(made, image, rtol=1e-6)


@pytest.mark.parametrize(("kind", "directions"), [("stripes", 1), ("honeycomb", 3)])
def test_patterns_are_plane_waves_60_degrees_apart(kind, directions, flat):
    for seed in range(6):
        made = artefacts.ARTEFACTS[kind](np.random.default_rng(seed), flat, abbe_px=ABBE_PX, strength=0.2)
        power, fy, fx = power_and_radius(made - flat)
        peak = np.unravel_index(np.argmax(power), power.shape)
        radius, angle = np.hypot(fy[peak[0], 0], fx[0, peak[1]]), np.arctan2(fy[peak[0], 0], fx[0, peak[1]])
        # A Hann window of 120 px spreads a line by 2 samples, 2 * 5 / 120 cycles per period.
        assert 0.6 - 0.09 < radius < 1.0 + 0.09
        near = sum(
            power[np.hypot(fy - radius * np.sin(a), fx - radius * np.cos(a)) < 0.13].sum()
            for a in angle + np.pi / directions * np.arange(2 * directions)
        )
        assert near > 0.95
        # Cosines of random frequency over 120 px: their mean square is off by less than a period's share.
        assert (made - flat).std() == pytest.approx(0.2, rel=0.08)


def test_honeycomb_and_stripes_stay_with_the_signal(rng, image):
    image[:, 40:] = 0
    far = np.s_[:, 48:]  # the signal is smoothed by 1.5 px, out to 4 times that
    for kind in ("honeycomb", "stripes", "speckle"):
        made = artefacts.ARTEFACTS[kind](rng, image, abbe_px=ABBE_PX, strength=0.3)
        assert np.abs(made[far]).max() == 0
        assert np.abs(made - image).max() > 0.01


def test_hammer_stroke_is_noise_in_a_ring(flat):
    for seed in range(4):
        made = artefacts.hammer_stroke(np.random.default_rng(seed), flat, abbe_px=ABBE_PX, strength=0.06)
        power, fy, fx = power_and_radius(made - flat)
        radius = np.hypot(fy, fx)
        mean = (power * radius).sum()
        assert 0.55 < mean < 1.1
        # Gaussian amplitude of width 0.08: power within 0.06, the window's two samples aside.
        assert power[np.abs(radius - mean) < 0.3].sum() > 0.98
        directions = [power[np.abs(np.arctan2(fy, fx) - a) < np.pi / 6].sum() for a in (-1.0, 0.0, 1.0)]
        assert min(directions) > 0.03  # from all sides, not one wave
        # Some 120^2 pi 2 * 0.7 * 0.1 / 25 = 250 independent waves.
        assert (made - flat).std() == pytest.approx(0.06, rel=0.25)


def test_ringing_surrounds_a_point_by_sidelobes_a_period_apart():
    point = np.zeros((SIDE, SIDE), np.float32)
    point[60, 60] = 1.0
    for seed in range(5):
        made = artefacts.ringing(np.random.default_rng(seed), point, abbe_px=ABBE_PX, strength=2.0)
        line = made[60, 61:]
        assert made[60, 60] > 1
        assert line.min() < 0
        first_dark, first_bright = int(np.argmin(line)) + 1, int(np.argmax(line[3:])) + 4
        # J0's first minimum and maximum lie at 0.61 and 1.12 wavelengths, of 1/1.2 to 1/0.8 periods.
        assert 0.61 / 1.2 * ABBE_PX - 1 < first_dark < 0.61 / 0.8 * ABBE_PX + 1
        assert 1.12 / 1.2 * ABBE_PX - 1 < first_bright < 1.12 / 0.8 * ABBE_PX + 1


def test_speckle_is_finer_than_the_resolution_and_has_no_negative_light(flat, image):
    for seed in range(4):
        made = artefacts.speckle(np.random.default_rng(seed), flat, abbe_px=ABBE_PX, strength=0.2)
        power, fy, fx = power_and_radius(made - flat)
        assert power[np.hypot(fy, fx) > 1.0].sum() > 0.98
        assert made.std() == pytest.approx(0.2, rel=0.1)
        assert artefacts.speckle(np.random.default_rng(seed), image, abbe_px=ABBE_PX, strength=1.0).min() >= 0


def test_hot_pixels_are_single_and_add_light(image):
    counts = []
    for seed in range(20):
        added = (
            artefacts.hot_pixels(np.random.default_rng(seed), image, abbe_px=ABBE_PX, strength=0.004) - image
        )
        hot = added > 0
        counts.append(hot.sum())
        np.testing.assert_array_equal(added[~hot], 0)
        # Rounding of the sum aside.
        assert added[hot].min() > 0.2 - 1e-5
        assert added[hot].max() < 1 + 1e-5
    # Binomial with mean 30.7: the mean of 20 has a standard error of 1.2.
    assert np.mean(counts) == pytest.approx(0.004 * image.size, abs=5)
    one = artefacts.hot_pixels(np.random.default_rng(0), image, abbe_px=ABBE_PX, strength=0.0) - image
    assert (one > 0).sum() == 1


def test_seams_are_tiles_of_one_gain_and_offset_each(flat):
    for seed in range(5):
        made = artefacts.seams(np.random.default_rng(seed), flat, abbe_px=ABBE_PX, strength=0.1)
        steps = [np.abs(np.diff(made, axis=axis)).max(axis=1 - axis) > 1e-6 for axis in (0, 1)]
        for cuts in map(np.flatnonzero, steps):
            # Tiles of 15 to 50 px, whose edges are rounded to pixels.
            assert np.all(np.diff(cuts) >= 14)
            assert 120 / 50 - 1 <= len(cuts) <= 120 / 15 + 1
        assert len(np.unique(made)) == np.prod([cuts.sum() + 1 for cuts in steps])


@pytest.mark.parametrize("kind", sorted(artefacts.ARTEFACTS))
def test_darkness_stays_dark(kind, rng):
    dark = np.zeros((32, 32), np.float32)
    np.testing.assert_array_equal(artefacts.add_artefact(rng, dark, kind, abbe_px=ABBE_PX), dark)


def test_refusals(rng, image):
    with pytest.raises(ValueError, match=r"expected kind to be one of 'honeycomb', .*got 'moire'"):
        artefacts.add_artefact(rng, image, "moire", abbe_px=ABBE_PX)
    for draw in artefacts.ARTEFACTS.values():
        with pytest.raises(ValueError, match=r"expected shape as \(y, x\)"):
            draw(rng, image[None], abbe_px=ABBE_PX)
        with pytest.raises(ValueError, match="expected abbe_px to be a finite number above 0"):
            draw(rng, image, abbe_px=0.0)
        with pytest.raises(ValueError, match="expected strength to be a finite number of 0 or more, got -1"):
            draw(rng, image, abbe_px=ABBE_PX, strength=-1)


def test_every_kind_has_its_strengths():
    assert set(artefacts.STRENGTHS) == set(artefacts.ARTEFACTS)
