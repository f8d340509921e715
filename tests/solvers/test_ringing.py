"""Ringing: what is measured of a spectrum, and that dividing by what it was raised by undoes it."""

import numpy as np
import pytest

from dps_jax.solvers.ringing import RADII, is_clipped, remove_ringing, ring_powers
from dps_jax.synthetic.artefacts import ringing
from dps_jax.synthetic.structures import WITHHELD_FAMILIES
from dps_jax.training.artefact_data import ArtefactConfig, example
from dps_jax.training.ring_reader import curves

ABBE_PX = 5.0
UNCLIPPED = ArtefactConfig(clipped=0.0)


def bump(centre, strength, width=0.12):
    return np.log1p(strength * np.exp(-0.5 * ((RADII - centre) / width) ** 2))


def test_white_noise_has_power_1_in_every_ring(rng):
    powers = ring_powers(3.0 * rng.standard_normal((400, 300)), abbe_px=ABBE_PX)
    # The lowest ring holds some 80 coefficients: chi-square, five standard errors of the mean.
    np.testing.assert_allclose(powers[:1], 9.0, rtol=5 * np.sqrt(2 / 80))
    np.testing.assert_allclose(powers[5:], 9.0, rtol=0.15)


def test_a_wave_lies_in_its_ring():
    wave = np.cos(2 * np.pi * 0.2 * (np.arange(200) + 0.5))[:, None] * np.ones((1, 200))
    powers = ring_powers(wave, abbe_px=ABBE_PX)
    assert RADII[np.argmax(powers)] == pytest.approx(1.0, abs=0.025 + 1e-9)


def test_rings_that_the_pixels_do_not_reach_have_the_power_of_the_last_that_they_do(rng):
    # 1 px per Abbe period: the corner of the spectrum is at 0.71 cycles.
    powers = ring_powers(rng.standard_normal((64, 64)), abbe_px=1.0)
    assert np.isfinite(powers).all()
    assert len(set(powers[RADII > 0.75])) == 1


@pytest.mark.parametrize(("centre", "strength"), [(0.85, 1.0), (1.0, 2.5), (1.2, 0.8)])
def test_what_was_raised_is_divided_out(rng, centre, strength):
    """The generator's own filter, an oracle of its own, at known centre and strength."""
    clean = example(rng, (150, 121), UNCLIPPED, families=WITHHELD_FAMILIES, kind="none").clean

    class Fixed:
        def uniform(self, *_):
            return centre

    image = ringing(Fixed(), clean, abbe_px=ABBE_PX, strength=strength)
    out = remove_ringing(image, bump(centre, strength), abbe_px=ABBE_PX)
    # The curve is sampled every 0.05 cycles and read linearly in between: some hundredths of the factor.
    assert np.sum((out - clean) ** 2) < 0.005 * np.sum((image - clean) ** 2)
    assert out.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-5)
    assert out.dtype == np.float32


def test_what_was_set_to_0_is_filled_in():
    """Of clipped images, too, most of the artefact goes; without filling in, less would."""
    left, plain = [], []
    for seed in range(6):
        pair = example(
            np.random.default_rng([3, seed]),
            (128, 128),
            UNCLIPPED,
            families=WITHHELD_FAMILIES,
            kind="ringing",
        )
        raised = curves(pair.image, pair.clean, "ringing", abbe_px=ABBE_PX)[0]
        image, clean = np.maximum(pair.image, 0), np.maximum(pair.clean, 0)
        if not is_clipped(image):
            continue
        had = np.sum((image - clean) ** 2)
        out = remove_ringing(image, raised, abbe_px=ABBE_PX)
        assert out.min() >= 0
        assert out.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-5)
        left.append(np.sum((out - clean) ** 2) / had)
        # The same image, told not to be clipped by a value that no one sees.
        image[0, 0] = -1e-6
        plain.append(
            np.sum((np.maximum(remove_ringing(image, raised, abbe_px=ABBE_PX), 0) - clean) ** 2) / had
        )
    assert len(left) >= 3
    assert np.mean(left) < 0.1
    assert np.mean(left) < np.mean(plain)


def test_nothing_raised_is_nothing_done(rng):
    image = rng.random((40, 50)).astype(np.float32)
    np.testing.assert_allclose(remove_ringing(image, np.full(44, -0.3), abbe_px=ABBE_PX), image, atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match=r"expected one image \(y, x\)"):
        ring_powers(np.ones((3, 4, 4)), abbe_px=ABBE_PX)
    with pytest.raises(ValueError, match="expected abbe_px to be a finite number above 0"):
        remove_ringing(np.ones((4, 4)), np.zeros(44), abbe_px=-1.0)
    with pytest.raises(ValueError, match=r"expected one value for each of 44 rings, got shape \(3,\)"):
        remove_ringing(np.ones((4, 4)), np.zeros(3), abbe_px=ABBE_PX)
