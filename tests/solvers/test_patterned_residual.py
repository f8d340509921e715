"""Removal of plane waves that multiply an image: known ones go, structures stay, photons and gain as they must be."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.solvers import remove_patterned_residual
from dps_jax.synthetic.structures import TRAINING_FAMILIES, scene, training_scene

ABBE_PX = 5.0
SHAPE = (128, 144)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def structure(seed, families=("filaments", "mitochondria")):
    """Return a scene as sharp as a super-resolved image: the width of a spot is that of 1.67 cycles per period."""
    drawn = scene(np.random.default_rng(seed), SHAPE, abbe_px=ABBE_PX, families=families)
    return gaussian_filter(drawn, 0.42 * ABBE_PX / 1.67).astype(np.float32)


def wave_at(cycles, angle, phase=0.7):
    """Return a wave of so many cycles per Abbe period, and its frequency along y and x."""
    frequency = cycles / ABBE_PX * np.array([np.sin(angle), np.cos(angle)])
    return np.cos(2 * np.pi * (frequency[0] * Y + frequency[1] * X) + phase), frequency


def samples_between(found, true):
    """Distance in samples of the Fourier transform; a wave and its negative are one."""
    return min(np.hypot(*((sign * found - true) * SHAPE)) for sign in (1, -1))


@pytest.mark.parametrize("cycles", [0.62, 0.8, 0.97])
@pytest.mark.parametrize("angle", [0.3, 2.1])
def test_a_known_wave_is_found_and_removed(cycles, angle):
    clean = structure(2, families=("tubule_network",))
    wave, frequency = wave_at(cycles, angle)
    image = (clean * (1 + 0.3 * wave)).astype(np.float32)
    out = remove_patterned_residual(image, abbe_px=ABBE_PX)
    assert len(out.waves) == 1
    assert samples_between(out.waves[0], frequency) < 0.1
    assert np.sum((out.image - clean) ** 2) < 0.1 * np.sum((image - clean) ** 2)
    assert out.image.dtype == np.float32


def test_a_honeycomb_is_three_waves():
    clean = structure(2)
    waves = [wave_at(0.8, 0.4 + k * np.pi / 3, phase=k) for k in range(3)]
    image = (clean * (1 + 0.2 * sum(w for w, _ in waves))).astype(np.float32)
    out = remove_patterned_residual(image, abbe_px=ABBE_PX)
    assert len(out.waves) == 3
    for _, frequency in waves:
        assert min(samples_between(found, frequency) for found in out.waves) < 0.1
    assert np.sum((out.image - clean) ** 2) < 0.1 * np.sum((image - clean) ** 2)


def test_clean_images_are_left_to_the_last_bit():
    changed = 0
    for seed in range(12):
        rng = np.random.default_rng([seed, 31])
        drawn = training_scene(rng, SHAPE, abbe_px=ABBE_PX, families=TRAINING_FAMILIES)
        image = gaussian_filter(drawn, 0.42 * ABBE_PX / 1.67).astype(np.float32)
        out = remove_patterned_residual(image, abbe_px=ABBE_PX)
        if len(out.waves):
            changed += 1
        else:
            np.testing.assert_array_equal(out.image, image)
    # Up to one in fifty may be: that it is two of twelve has a chance of two percent.
    assert changed <= 1


def test_what_is_periodic_in_patches_or_in_two_directions_is_a_structure():
    wave, frequency = wave_at(0.8, 0.3)
    patches = np.where((X + 0.5 * Y) % 110 < 60, 0.5 * (1 + wave), 0.2)
    across = np.cos(2 * np.pi * (frequency[1] * Y - frequency[0] * X))
    lattice = (1 + wave) * (1 + across)
    for clean in (patches, lattice):
        image = (clean + 0.01 * np.random.default_rng(5).normal(size=SHAPE)).astype(np.float32)
        out = remove_patterned_residual(image, abbe_px=ABBE_PX)
        # There is a peak, and a high one; it is not its height that it fails by.
        assert out.significance > 8
        assert len(out.waves) == 0
        np.testing.assert_array_equal(out.image, image)


def test_a_sinusoidal_grating_over_the_whole_field_is_taken_for_a_wave():
    # As the docstring warns: it multiplies an even signal, which is just what a pattern would do.
    wave, frequency = wave_at(0.8, 0.3)
    image = (1 + 0.4 * wave + 0.02 * np.random.default_rng(6).normal(size=SHAPE)).astype(np.float32)
    out = remove_patterned_residual(image, abbe_px=ABBE_PX)
    assert samples_between(out.waves[0], frequency) < 0.1
    assert np.std(out.image) < 0.1 * np.std(image)


def test_coarser_and_finer_periods_stay():
    clean = structure(3)
    for cycles in (0.4, 1.3):
        image = (clean * (1 + 0.3 * wave_at(cycles, 0.3)[0])).astype(np.float32)
        np.testing.assert_array_equal(remove_patterned_residual(image, abbe_px=ABBE_PX).image, image)


def striped():
    return (structure(4) * (1 + 0.3 * wave_at(0.85, 1.1)[0])).astype(np.float32)


def test_photons_are_kept():
    image = striped()
    out = remove_patterned_residual(image, abbe_px=ABBE_PX)
    assert len(out.waves) == 1
    # The sum is kept in float64; each pixel is then rounded to float32, by 6e-8 of itself.
    assert out.image.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-6)


def test_it_is_linear_in_the_gain():
    image = striped()
    one = remove_patterned_residual(image, abbe_px=ABBE_PX)
    many = remove_patterned_residual(1024 * image, abbe_px=ABBE_PX)
    # A power of two: every rounding is the same.
    np.testing.assert_array_equal(many.image, 1024 * one.image)
    np.testing.assert_array_equal(many.waves, one.waves)
    odd = remove_patterned_residual(np.float32(37.3) * image, abbe_px=ABBE_PX)
    np.testing.assert_allclose(odd.image / np.float32(37.3), one.image, atol=1e-5)


def test_lengths_follow_the_period():
    clean, (wave, frequency) = structure(5), wave_at(0.8, 0.3)
    image = np.kron(clean * (1 + 0.3 * wave), np.ones((2, 2))).astype(np.float32)
    out = remove_patterned_residual(image, abbe_px=2 * ABBE_PX)
    assert samples_between(2 * out.waves[0], frequency) < 0.1


def test_a_higher_threshold_finds_less():
    image = striped()
    found = remove_patterned_residual(image, abbe_px=ABBE_PX)
    strict = remove_patterned_residual(image, abbe_px=ABBE_PX, threshold=1.1 * found.significance)
    assert len(strict.waves) == 0
    assert strict.significance == found.significance
    np.testing.assert_array_equal(strict.image, image)


@pytest.mark.parametrize("shape", [(20, 300), (1, 1)])
def test_small_images_are_left(shape, rng):
    image = rng.random(shape).astype(np.float32)
    out = remove_patterned_residual(image, abbe_px=ABBE_PX)
    np.testing.assert_array_equal(out.image, image)
    assert out.waves.shape == (0, 2)
    assert out.significance == 0


@pytest.mark.parametrize("level", [0.0, -1.0, 3.0])
def test_even_images_are_left(level):
    image = np.full(SHAPE, level, np.float32)
    out = remove_patterned_residual(image, abbe_px=ABBE_PX)
    np.testing.assert_array_equal(out.image, image)
    assert out.image is not image


def test_refusals():
    image = np.ones((64, 64), np.float32)
    for wrong in (image[None], np.zeros((0, 4)), np.where(np.eye(64) > 0, np.nan, image)):
        with pytest.raises(ValueError, match=r"expected (one image \(y, x\)|an image of finite values)"):
            remove_patterned_residual(wrong, abbe_px=ABBE_PX)
    with pytest.raises(ValueError, match="expected abbe_px to be a finite number above 0"):
        remove_patterned_residual(image, abbe_px=0.0)
    with pytest.raises(ValueError, match="expected threshold to be a finite number above 0"):
        remove_patterned_residual(image, abbe_px=ABBE_PX, threshold=-1.0)
