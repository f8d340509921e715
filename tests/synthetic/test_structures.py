"""Every family is a lawful scene at every sampling; training never sees a withheld one; motion is slow."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.synthetic import filled, motion, structures

every_family = pytest.mark.parametrize("family", structures.FAMILIES)


def draw(family, seed, shape=(96, 80), abbe_px=5.0):
    return structures.FAMILIES[family](np.random.default_rng(seed), shape, abbe_px=abbe_px)


@every_family
def test_a_family_draws_finite_non_negative_float32(family):
    for seed in range(8):
        image = draw(family, seed)
        assert image.dtype == np.float32
        assert image.shape == (96, 80)
        assert np.isfinite(image).all()
        assert image.min() >= 0
    assert np.std([draw(family, seed).mean() for seed in range(8)]) > 0


@every_family
@pytest.mark.parametrize(
    ("shape", "abbe_px"), [((1, 1), 5.0), ((7, 50), 2.5), ((33, 31), 12.0), ((64, 64), 1.7)]
)
def test_a_family_draws_in_any_frame(family, shape, abbe_px):
    image = draw(family, 3, shape, abbe_px)
    assert image.shape == shape
    assert np.isfinite(image).all()
    assert image.min() >= 0


@every_family
def test_a_seed_draws_one_image_and_another_seed_another(family):
    first, again, other = (np.stack([draw(family, s) for s in seeds]) for seeds in ((5, 6), (5, 6), (7, 8)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@every_family
def test_one_seed_is_one_physical_scene_at_two_samplings(family):
    compared = 0
    for seed in range(10):
        coarse = draw(family, seed, (80, 80), 5.0)
        fine = draw(family, seed, (160, 160), 10.0).reshape(80, 2, 80, 2).mean(axis=(1, 3))
        # What differs is below 0.5 px (the anti-aliasing) and at the border, where the two grids' smallest
        # blurs carry different shares of light across; a structure misplaced by one pixel gives about 0.9.
        a, b = (gaussian_filter(image, 1.5)[5:-5, 5:-5].ravel() for image in (coarse, fine))
        if b.max() > 0.01:  # a sparse family may have left the frame empty
            assert np.corrcoef(a, b)[0, 1] > 0.99
            assert coarse.mean() == pytest.approx(fine.mean(), rel=0.04)
            compared += 1
    assert compared >= 5


@every_family
def test_borders_are_nothing_special(family):
    images = np.stack([draw(family, seed, (60, 60), 3.0) for seed in range(250)])
    lit = images > 0.1 * np.maximum(images.max(axis=(1, 2), keepdims=True), 1e-3)
    sides = (lit[:, :3], lit[:, -3:], lit[:, :, :3], lit[:, :, -3:])
    rim = np.mean([side.mean(axis=(1, 2)) for side in sides], axis=0)
    middle = lit[:, 20:40, 20:40].mean(axis=(1, 2))
    # As much is lit at the rim as in the middle, within four standard errors (5 to 30 % of it); without a
    # margin around the frame the rim loses half.
    error = 4 * (rim - middle).std() / np.sqrt(len(images))
    assert abs(rim.mean() - middle.mean()) < error
    assert error < 0.4 * middle.mean()


def test_families_are_split_without_overlap():
    training, withheld = set(structures.TRAINING_FAMILIES), set(structures.WITHHELD_FAMILIES)
    assert training | withheld == set(structures.FAMILIES)
    assert not training & withheld
    assert withheld == {"nuclear_pores", "mesh", "membranes"}
    assert len(structures.FAMILIES) >= 11


def test_training_never_calls_a_withheld_family(monkeypatch):
    drawn = []

    def recorder(name):
        def family(rng, shape, *, abbe_px):
            drawn.append(name)
            return np.ones(shape, np.float32)

        return family

    for name in structures.FAMILIES:
        monkeypatch.setitem(structures.FAMILIES, name, recorder(name))
    for seed in range(400):
        structures.training_scene(np.random.default_rng(seed), (4, 4))
    # 400 scenes miss one of eight families with a chance below (1 - 0.15)^400 = 1e-28.
    assert set(drawn) == set(structures.TRAINING_FAMILIES)


@pytest.mark.parametrize("name", structures.WITHHELD_FAMILIES)
def test_training_refuses_a_withheld_family_by_name(rng, name):
    with pytest.raises(ValueError, match=f"expected a training family .*got '{name}'"):
        structures.training_scene(rng, (32, 32), families=("puncta", name))
    assert structures.scene(rng, (32, 32), abbe_px=5.0, families=(name,)).max() > 0


@pytest.mark.parametrize("families", ["puncta", (), ("cells",)])
def test_scene_refuses_families_it_does_not_know(rng, families):
    with pytest.raises(ValueError, match=r"expected (a family|families)"):
        structures.scene(rng, (32, 32), abbe_px=5.0, families=families)


@pytest.mark.parametrize("abbe_px", [2.5, 5.0, 9.0])
def test_a_scene_has_a_blurred_maximum_of_one(abbe_px):
    for seed in range(15):
        image = structures.scene(
            np.random.default_rng(seed), (60, 60), abbe_px=abbe_px, families=tuple(structures.FAMILIES)
        )
        assert image.dtype == np.float32
        assert image.min() >= 0
        # The library truncates the blur's kernel at three sigma, scipy's default is four: 1 %.
        assert gaussian_filter(image, 0.2 * abbe_px).max() == pytest.approx(1.0, rel=0.01)


def test_scenes_superpose_up_to_three_different_families(monkeypatch):
    names = ("puncta", "mesh", "nuclei", "bundles")
    for index, name in enumerate(names):
        # Each family lights its own pixel, far enough from the others that the scene's blur keeps them apart.
        spot = np.zeros((16, 64), np.float32)
        spot[8, 8 + 16 * index] = 7.0
        monkeypatch.setitem(structures.FAMILIES, name, lambda rng, shape, *, abbe_px, spot=spot: spot)
    seen = []
    for seed in range(300):
        image = structures.scene(np.random.default_rng(seed), (16, 64), abbe_px=5.0, families=names)
        light = np.sort(image[8, 8::16])[::-1]
        seen.append(np.count_nonzero(light))
        # Layers differ by at most the factor of five that the relative brightness spans.
        assert light[seen[-1] - 1] > light[0] / 5.01
    # 300 draws at shares of 0.6, 0.3, 0.1: four standard errors are 0.11, 0.11 and 0.07.
    shares = np.bincount(seen, minlength=4) / 300
    np.testing.assert_allclose(shares, [0, 0.6, 0.3, 0.1], atol=0.11)
    assert shares[3] > 0.03


@pytest.mark.parametrize("abbe_px", [3.0, 5.0, 20.0])
def test_bars_have_their_pitch_and_nothing_coarser(abbe_px):
    for seed in range(20):
        bars = filled._bars(np.random.default_rng(seed), np.arange(3000) / abbe_px, abbe_px=abbe_px)
        pitch_px = abbe_px * np.exp(np.random.default_rng(seed).uniform(np.log(0.5), np.log(4.0)))
        if pitch_px < 2:
            # The grid cannot carry these bars: they melt into their mean.
            assert np.ptp(bars) < 1e-6
            continue
        spectrum = np.abs(np.fft.rfft((bars - bars.mean()) * np.hanning(3000)))
        frequency_px = np.fft.rfftfreq(3000)
        assert frequency_px[spectrum.argmax()] == pytest.approx(1 / pitch_px, abs=1 / 3000)
        # A naive square wave near the limit may show moiré half as strong as its bars; clipping the
        # series at zero brings back 3 % in 120 draws.
        assert spectrum[frequency_px < 0.8 / pitch_px].max() < 0.05 * spectrum.max()


# Families that rarely leave a frame dim, into which something far brighter could move.
OFTEN_ALL_OVER = tuple(f for f in structures.TRAINING_FAMILIES if f not in ("arrays", "dead_leaves"))


def test_the_first_frame_is_the_scene_and_the_rest_follows_slowly():
    for seed in range(4):
        movie = structures.moving_scene(
            np.random.default_rng(seed),
            (40, 56),
            frames=6,
            abbe_px=5.0,
            families=OFTEN_ALL_OVER,
        )
        assert movie.shape == (6, 40, 56)
        assert movie.dtype == np.float32
        assert np.isfinite(movie).all()
        assert movie.min() >= 0
        assert gaussian_filter(movie[0], 1.0).max() == pytest.approx(1.0, rel=0.02)
        smooth = gaussian_filter(movie, (0, 2, 2))
        near, far = (np.mean((smooth[k] - smooth[0]) ** 2) for k in (1, 5))
        assert 0 < near < far < np.mean(smooth[0] ** 2)


def test_motion_begins_at_rest_and_stays_within_its_bounds(rng):
    image = gaussian_filter(rng.random((50, 50)), 2.0).astype(np.float32)
    np.testing.assert_allclose(motion.moved(rng, image, frames=3, abbe_px=5.0)[0], image, atol=1e-5)
    for frames in (2, 30, 500):
        time = np.arange(frames)
        drift = motion._drift(rng, time)
        deformation = motion._deformation(rng, time[:40], (30, 30), abbe_px=5.0)
        assert np.abs(drift).max() <= motion.FARTHEST_DRIFT
        assert np.abs(deformation).max() <= motion.FARTHEST_DEFORMATION
        np.testing.assert_allclose(deformation[:, 0], 0.0, atol=1e-12)


def test_drift_moves_the_centroid_by_the_drift(rng, monkeypatch):
    monkeypatch.setattr(
        motion, "_deformation", lambda rng, time, shape, *, abbe_px: np.zeros((2, len(time), *shape))
    )
    monkeypatch.setattr(motion, "_gain", lambda rng, time, shape, *, abbe_px: np.ones((len(time), *shape)))
    monkeypatch.setattr(motion, "_drift", lambda rng, time: np.array([[0.11], [-0.07]]) * time)
    y, x = np.mgrid[:60, :60]
    spot = np.exp(-((y - 30) ** 2 + (x - 30) ** 2) / 18).astype(np.float32)
    movie = motion.moved(rng, spot, frames=8, abbe_px=5.0)
    centre = [(np.average(y, weights=f), np.average(x, weights=f)) for f in movie]
    np.testing.assert_allclose(centre[7], (30 + 7 * 0.55, 30 - 7 * 0.35), atol=0.01)


@pytest.mark.parametrize("frames", [0, -1, 2.5])
def test_a_sequence_has_one_frame_or_more(rng, frames):
    with pytest.raises(ValueError, match="expected frames"):
        structures.moving_scene(rng, (32, 32), frames=frames, abbe_px=5.0, families=("puncta",))


def test_drawing_does_not_import_jax():
    code = "import sys, dps_jax.synthetic; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
