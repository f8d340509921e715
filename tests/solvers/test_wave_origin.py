"""Whose a wave is: what was laid over the sample is taken for that, and the sample's own order is not."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.solvers.stripes import find_waves
from dps_jax.solvers.wave_origin import crests_meet, dependence
from dps_jax.solvers.waves import Wave, remove_waves

ABBE_PX, SIDE, BLOCKS = 5.0, 256, [8, 8]
# Chi squared of two degrees: 1 in 1000 lie above.
CHANCE = 13.8


def spots(rng, places):
    """Blurred points of many brightnesses at places ``(2, n)``."""
    image = np.zeros((SIDE, SIDE))
    y, x = np.round(places).astype(int)
    inside = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
    np.add.at(image, (y[inside], x[inside]), rng.exponential(1.0, inside.sum()))
    return gaussian_filter(image, 1.2)


def irregular(rng):
    return spots(rng, rng.uniform(0, SIDE, (2, 4000)))


def lattice(rng, spacing, *, jitter=0.15, stretch=1.0, angle=0.3):
    row, column = np.indices((120, 120)).reshape(2, -1)
    sites = spacing * np.stack([np.sqrt(0.75) * row * stretch, column + 0.5 * (row % 2)]) - 100
    sites = sites + rng.normal(0, jitter * spacing, sites.shape)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return spots(rng, turn @ sites)


def honeycomb_waves(depth, *, period_px=6.3, smoothing_px=0.0):
    """Three waves whose crests do not meet."""
    angles, phases = 0.4 + np.arange(3) * np.pi / 3, (0.3, 1.1, 2.9)
    return [
        Wave(
            np.sin(a) / period_px,
            np.cos(a) / period_px,
            depth * np.cos(p),
            depth * np.sin(p),
            1e3,
            smoothing_px,
        )
        for a, p in zip(angles, phases, strict=True)
    ]


def laid_over(image, waves):
    y, x = np.indices(image.shape)
    out = image.copy()
    for w in waves:
        phase = 2 * np.pi * (w.ky * y + w.kx * x)
        light = gaussian_filter(image, w.smoothing_px) if w.smoothing_px else image
        out += light * (w.cosine * np.cos(phase) + w.sine * np.sin(phase))
    return out


@pytest.mark.parametrize("smoothing_px", [0.0, 1.5])
def test_what_was_laid_over_is_taken_out_as_it_was_laid(rng, smoothing_px):
    clean = irregular(rng)
    waves = honeycomb_waves(0.15, smoothing_px=smoothing_px)
    image = laid_over(clean, waves)
    left = remove_waves(image, waves)
    left *= np.sum(clean) / np.sum(left)
    # To a millionth of its norm, and to single precision.
    np.testing.assert_allclose(left, clean, atol=1e-5 * clean.max())


@pytest.mark.parametrize("smoothing_px", [0.0, 2.1])
def test_contrast_knows_nothing_of_waves_that_were_laid_over(smoothing_px):
    """With the smoothing that they were laid over with; with the other one it does."""
    right, wrong = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        waves = honeycomb_waves(0.2, smoothing_px=smoothing_px)
        image = laid_over(irregular(rng), waves)
        other = [dataclasses.replace(w, smoothing_px=2.1 - smoothing_px) for w in waves]
        for trial, scores in ((waves, right), (other, wrong)):
            scores.append(dependence(remove_waves(image, trial), trial, abbe_px=ABBE_PX, blocks=BLOCKS))
    assert max(right) < CHANCE
    assert np.mean(right) < 4.0  # 2 expected of chi squared, give or take 0.63; power and third power are kin
    assert np.median(wrong) > CHANCE


@pytest.mark.parametrize("stretch", [1.0, 1.3])
@pytest.mark.parametrize("jitter", [0.08, 0.12, 0.16])
@pytest.mark.parametrize("spacing", [7.0, 8.5])
def test_a_lattice_of_spots_is_the_samples_own(rng, spacing, jitter, stretch):
    assert find_waves(lattice(rng, spacing, jitter=jitter, stretch=stretch), abbe_px=ABBE_PX) == []


def test_a_honeycomb_over_a_sample_in_order_is_told_from_it():
    """At most one of four is left for lack of certainty; what is found is never the lattice, of 7.8 px."""
    seen = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        clean = irregular(rng) + 0.5 * lattice(rng, 9.0, jitter=0.1)
        found = find_waves(laid_over(clean, honeycomb_waves(0.2)), abbe_px=ABBE_PX)
        seen += len(found) == 3
        for wave in found:
            assert wave.period_px == pytest.approx(6.3, rel=0.01)
    assert seen >= 3


def test_crests_meet_on_the_sites_of_a_lattice_and_nowhere_else():
    def three(*phases):
        k = [(0.1, 0.0), (-0.05, 0.0866), (-0.05, -0.0866)]
        return [Wave(ky, kx, np.cos(p), np.sin(p), 1.0) for (ky, kx), p in zip(k, phases, strict=True)]

    shape = (301, 199)

    # Wherever the origin lies: phases of a lattice add up to 0, of its negative to 180 degrees.
    assert crests_meet(three(0.0, 0.0, 0.0), shape)
    assert crests_meet(three(1.0, 2.2, -3.2), shape)
    assert crests_meet(three(1.0, 2.2, np.pi - 3.2), shape)
    assert not crests_meet(three(1.0, 2.2, np.pi / 2 - 3.2), shape)
    # The sign of a vector is of no matter.
    first, *rest = three(1.0, 2.2, -3.2)
    turned = dataclasses.replace(first, ky=-first.ky, kx=-first.kx, sine=-first.sine)
    assert crests_meet([turned, *rest], shape)


def test_nothing_is_sure_in_the_dark():
    dark = np.zeros((SIDE, SIDE))
    assert dependence(dark, [Wave(0.1, 0.1, 0.1, 0.0, 100.0)], abbe_px=ABBE_PX, blocks=BLOCKS) == np.inf


def test_waves_as_deep_as_the_image_are_refused(rng):
    deep = honeycomb_waves(0.35, smoothing_px=1.5)
    with pytest.raises(ValueError, match=r"less than 1 deep together, got 1\.05"):
        remove_waves(irregular(rng), deep)


def test_three_waves_of_unequal_depth_are_one_pattern():
    """In a large field each is found by itself."""
    rng = np.random.default_rng(1)
    clean = spots_of_field(rng, 512)
    waves = [
        dataclasses.replace(w, cosine=s * w.cosine, sine=s * w.sine)
        for w, s in zip(honeycomb_waves(0.25), (1.0, 0.7, 0.5), strict=True)
    ]
    found = find_waves(laid_over(clean, waves), abbe_px=ABBE_PX)
    # As for one wave: 0.2 of the depth is 4 % of the energy.
    assert sorted(w.depth / 0.25 for w in found) == pytest.approx([0.5, 0.7, 1.0], rel=0.2)
    assert {w.smoothing_px for w in found} == {0.0}


def spots_of_field(rng, side):
    points = np.where(rng.random((side, side)) < 0.06, rng.exponential(1.0, (side, side)), 0.0)
    return gaussian_filter(points, 1.2)
