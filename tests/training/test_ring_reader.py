"""Training of the reader of rings: curves from pairs, and a small training that learns to read them."""

import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.models import RingReader
from dps_jax.solvers.ringing import RADII
from dps_jax.synthetic.artefacts import ringing
from dps_jax.training.artefact_data import ArtefactConfig, example
from dps_jax.training.config import OptimizerConfig
from dps_jax.training.ring_reader import RingConfig, curves, train_reader

ABBE_PX = 5.0


def test_the_curve_of_ringing_is_the_filter_that_made_it(rng):
    clean = example(rng, (140, 150), ArtefactConfig(clipped=0.0), kind="none").clean

    class Fixed:
        def uniform(self, *_):
            return 1.05

    image = ringing(Fixed(), clean, abbe_px=ABBE_PX, strength=1.7)
    raised, excess = curves(image, clean, "ringing", abbe_px=ABBE_PX)
    expected = np.log1p(1.7 * np.exp(-0.5 * ((RADII - 1.05) / 0.12) ** 2))
    # A ring is 0.05 wide, within which the factor is not one number; the image adds its mean, which no ring holds.
    np.testing.assert_allclose(raised, expected, atol=0.08)
    np.testing.assert_array_equal(excess, 0)


def test_the_curve_of_hammer_stroke_lies_in_its_ring():
    for seed in range(4):
        rng = np.random.default_rng([5, seed])
        pair = example(rng, (160, 160), ArtefactConfig(clipped=0.0), kind="hammer_stroke")
        raised, excess = curves(pair.image, pair.clean, "hammer_stroke", abbe_px=ABBE_PX)
        np.testing.assert_array_equal(raised, 0)
        # A pattern has 0.6 to 1 cycles per period.
        assert 0.5 < RADII[excess.argmax()] < 1.1
        assert excess.max() > 0.3


@pytest.mark.parametrize("kind", ["none", "stripes", "seams"])
def test_others_have_no_curve(kind, rng):
    pair = example(rng, (64, 64), ArtefactConfig(clipped=0.0), kind=kind)
    np.testing.assert_array_equal(curves(pair.image, pair.clean, kind, abbe_px=ABBE_PX), 0)


def test_a_small_training_learns_to_read(tmp_path, rng):
    """Measures that hold the curve, mixed and with noise: what is left is a small part of it, and a rerun equals it."""
    wanted = np.zeros((400, 2, 10), np.float32)
    wanted[:200, 0] = np.exp(-0.5 * (np.arange(10) - rng.uniform(2, 8, (200, 1))) ** 2)
    mixing = rng.standard_normal((20, 30)) / np.sqrt(20)
    measures = (wanted.reshape(400, 20) @ mixing + 0.02 * rng.standard_normal((400, 30))).astype(np.float32)
    module = RingReader(inputs=30, rings=10, features=(32,))
    config = RingConfig(
        optimizer=OptimizerConfig(name="adam", learning_rate=1e-2, warmup_steps=10),
        shaken=0.01,
        steps=300,
        batch=64,
    )
    bank = {"measures": measures[:360], "curves": wanted[:360]}
    first, again = (train_reader(config, tmp_path / name, module, bank) for name in ("first", "again"))
    answers = np.asarray(module.apply({"params": first}, jnp.asarray(measures)))
    np.testing.assert_array_equal(answers, module.apply({"params": again}, jnp.asarray(measures)))
    assert np.mean((answers - wanted) ** 2) < 0.1 * np.mean(wanted**2)


def test_refusals():
    with pytest.raises(ValueError, match="expected steps to be"):
        RingConfig(steps=0)
    with pytest.raises(ValueError, match="expected shaken to be"):
        RingConfig(shaken=-1.0)
    with pytest.raises(ValueError, match=r"expected measures \(batch, 264\), got shape \(3, 5\)"):
        RingReader().apply({"params": {}}, jnp.zeros((3, 5)))
