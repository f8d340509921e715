"""Waves over an image: found where they are, taken out, and not found where there are none."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.solvers.stripes import find_waves
from dps_jax.solvers.waves import Wave, modulation, remove_waves
from dps_jax.synthetic.artefacts import honeycomb
from dps_jax.synthetic.structures import TRAINING_FAMILIES, WITHHELD_FAMILIES
from dps_jax.training.artefact_data import ArtefactConfig, example

ABBE_PX, SIDE = 5.0, 200


def spots(rng, shape=(SIDE, SIDE)):
    """Irregular structure: blurred points of many brightnesses."""
    points = np.where(rng.random(shape) < 0.1, rng.exponential(1.0, shape), 0.0)
    image = gaussian_filter(points, 1.2)
    return (image / image.max()).astype(np.float32)


def wave(ky, kx, depth, phase, shape):
    y, x = np.indices(shape)
    return depth * np.cos(2 * np.pi * (ky * y + kx * x) - phase)


@pytest.mark.parametrize("shape", [(200, 200), (190, 243)])
@pytest.mark.parametrize(
    ("period_px", "angle", "depth"), [(6.1, 0.3, 0.25), (7.7, 2.2, 0.4), (5.3, -1.2, 0.3)]
)
def test_one_wave_is_found_and_divided_out(rng, shape, period_px, angle, depth):
    clean = spots(rng, shape)
    ky, kx = np.sin(angle) / period_px, np.cos(angle) / period_px
    striped = clean * (1 + wave(ky, kx, depth, 0.7, shape))
    (found,) = find_waves(striped, abbe_px=ABBE_PX)
    if found.kx * kx + found.ky * ky < 0:  # the same wave
        ky, kx = -ky, -kx
    # A tenth of what separates two waves in such an image.
    assert abs(found.ky - ky) * shape[0] < 0.1
    assert abs(found.kx - kx) * shape[1] < 0.1
    # Structure of the wave's own period is in the fit; 0.2 of the depth is 4 % of the artefact's energy.
    assert found.depth == pytest.approx(depth, rel=0.2)
    assert found.period_px == pytest.approx(period_px, rel=0.01)
    cleaned = remove_waves(striped, [found])
    assert np.sum((cleaned - clean) ** 2) < 0.1 * np.sum((striped - clean) ** 2)


def test_a_modulation_is_its_own_formula():
    clean = np.ones((30, 41), np.float32)
    (found,) = find_waves_of(0.11, -0.07, 0.3, 0.4)
    expected = wave(0.11, -0.07, 0.3, 0.4, clean.shape)
    np.testing.assert_allclose(modulation([found], clean.shape), expected, atol=1e-6)
    # Divided by what it was multiplied by: equal up to the sum, which is kept.
    restored = remove_waves(1 + expected, [found])
    np.testing.assert_allclose(restored, np.mean(1 + expected), rtol=1e-5)


def find_waves_of(ky, kx, depth, phase):
    return [Wave(ky, kx, depth * np.cos(phase), depth * np.sin(phase), 1e3)]


def test_the_three_waves_of_a_honeycomb(rng):
    clean = gaussian_filter(spots(rng), 2.0)
    image = honeycomb(rng, clean, abbe_px=ABBE_PX, strength=0.3)
    found = find_waves(image, abbe_px=ABBE_PX)
    assert len(found) == 3
    angles = np.sort([np.degrees(np.arctan2(w.ky, w.kx)) % 180 for w in found])
    np.testing.assert_allclose(np.diff(angles), 60, atol=2)
    left = remove_waves(image, found)
    assert np.sum((left - clean) ** 2) < 0.3 * np.sum((image - clean) ** 2)


@pytest.mark.parametrize("families", [TRAINING_FAMILIES, WITHHELD_FAMILIES])
def test_clean_images_hold_none(families):
    """One in twenty may: some samples are gratings, which nothing tells apart surely in so small a field."""
    config, wrong = ArtefactConfig(), 0
    for seed in range(8010, 8030):
        rng = np.random.default_rng(seed)
        image = example(rng, (128, 128), config, families=families, kind="none").image
        wrong += bool(find_waves(image, abbe_px=ABBE_PX))
    assert wrong <= 1


@pytest.mark.parametrize("kind", ["grating", "lattice"])
def test_a_regular_sample_is_no_artefact(rng, kind):
    y, x = np.indices((SIDE, SIDE))
    k = 1 / 6.3
    waves = [np.cos(2 * np.pi * k * (np.sin(a) * y + np.cos(a) * x)) for a in 0.2 + np.arange(3) * np.pi / 3]
    regular = waves[0] if kind == "grating" else sum(waves)
    image = np.maximum(0.3 + regular, 0) * (1 + 0.2 * gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3))
    assert find_waves(image.astype(np.float32), abbe_px=ABBE_PX) == []


def test_gain_and_orientation_do_not_matter(rng):
    image = spots(rng) * (1 + wave(0.05, 0.13, 0.3, 1.0, (SIDE, SIDE)))
    (found,) = find_waves(image, abbe_px=ABBE_PX)
    for scale in (1e-3, 1e5):
        (other,) = find_waves(scale * image, abbe_px=ABBE_PX)
        assert (other.ky, other.kx) == (found.ky, found.kx)
        assert other.depth == pytest.approx(found.depth, rel=1e-6)
    (turned,) = find_waves(image.T, abbe_px=ABBE_PX)
    # To a thousandth of a resolution element, which is how far the climb goes.
    assert turned.ky == pytest.approx(found.kx, abs=2e-3 / SIDE)
    assert turned.kx == pytest.approx(found.ky, abs=2e-3 / SIDE)


def test_photons_are_kept(rng):
    image = spots(rng) * (1 + wave(0.05, 0.13, 0.3, 1.0, (SIDE, SIDE)))
    cleaned = remove_waves(image, find_waves(image, abbe_px=ABBE_PX))
    assert cleaned.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-6)
    assert cleaned.dtype == np.float32


def test_nothing_is_looked_for_where_there_is_too_little(rng):
    small = spots(rng, (100, 160)) * (1 + wave(0.05, 0.13, 0.3, 1.0, (100, 160)))
    assert find_waves(small, abbe_px=ABBE_PX) == []
    dark = np.zeros((SIDE, SIDE), np.float32)
    assert find_waves(dark, abbe_px=ABBE_PX) == []
    dark[80, 80] = 1.0
    assert find_waves(dark, abbe_px=ABBE_PX) == []
    np.testing.assert_array_equal(remove_waves(dark, []), dark)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.ones(5), {}, r"expected one image \(y, x\), got shape \(5,\)"),
        (np.full((200, 200), np.nan), {}, "finite values"),
        (np.ones((200, 200)), {"abbe_px": 0.0}, "expected abbe_px to be"),
        (np.ones((200, 200)), {"most": 0}, "expected most to be"),
        (np.ones((200, 200)), {"believed": -1.0}, "expected believed to be"),
    ],
)
def test_refusals(image, options, message):
    with pytest.raises(ValueError, match=message):
        find_waves(image, **({"abbe_px": ABBE_PX} | options))
