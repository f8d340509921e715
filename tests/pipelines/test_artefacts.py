"""Removal of artefacts: photons, gain and tiles as they must be, clean images left alone, artefacts gone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import models
from dps_jax.operators.sampling import resample
from dps_jax.pipelines.artefacts import TOLERANCE, gate, remove_artefacts, run_network
from dps_jax.synthetic.structures import WITHHELD_FAMILIES
from dps_jax.training.artefact_data import KINDS, ArtefactConfig, example
from dps_jax.weights import Network, load_network

ABBE_PX = 5.0
CONFIG = ArtefactConfig()


@pytest.fixture(scope="module")
def released():
    return load_network(task="artefacts")


@pytest.fixture(scope="module")
def reader():
    return load_network(task="rings")


@pytest.fixture(scope="module")
def random_network():
    """An untrained network: its geometry is that of a trained one, its answers are not tame."""
    module = models.build("res_u_net", {"channels": (4, 8)})
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    rng = np.random.default_rng(4)

    def weights(shape):
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

    return Network(module, jax.tree.map(lambda s: weights(s.shape), shapes), ABBE_PX, {})


@dataclasses.dataclass(frozen=True)
class Dimmer:
    """A stand-in for a network that is known exactly: it takes a share of the light from every pixel."""

    share: float
    grid_multiple = 2
    scale = 1
    reach = 2

    def apply(self, variables, image):
        return (1 - self.share) * image


def dimmer(share):
    return Network(Dimmer(share), {}, ABBE_PX, {})


def pair(seed, kind, side=96):
    """A withheld structure with an artefact of a kind."""
    return example(np.random.default_rng(seed), (side, side), CONFIG, families=WITHHELD_FAMILIES, kind=kind)


def test_after_hammer_stroke_the_networks_change_is_made_everywhere(released, reader, monkeypatch):
    """It is everywhere: no place is left alone for its change being small."""
    made = pair(1, "hammer_stroke", side=128)

    def shut(change, image, *, abbe_px):
        return np.zeros(image.shape, np.float32)

    free = remove_artefacts(made.image, released, abbe_px=ABBE_PX, reader=reader)
    monkeypatch.setattr("dps_jax.pipelines.artefacts.gate", shut)
    held = remove_artefacts(made.image, released, abbe_px=ABBE_PX, reader=reader)
    assert any("noise of" in note for note in held.notes)
    np.testing.assert_array_equal(held.image, free.image)
    # Without the reader, the same gate leaves the image alone.
    np.testing.assert_array_equal(remove_artefacts(made.image, released, abbe_px=ABBE_PX).image, made.image)


def test_stripes_are_taken_out_and_said(released):
    """Of a wave that is found nine tenths go: what its phase and depth are off by is a tenth of it or less."""
    found = 0
    for seed in range(1, 7):
        made = pair(seed, "stripes", side=256)
        cleaned = remove_artefacts(made.image, released, abbe_px=ABBE_PX)
        if any("taken out" in note for note in cleaned.notes):
            found += 1
            left = np.sum((cleaned.image - made.clean) ** 2) / np.sum((made.image - made.clean) ** 2)
            assert left < 0.1
            assert cleaned.image.sum(dtype=float) == pytest.approx(made.image.sum(dtype=float), rel=1e-5)
    assert found >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_photons_are_kept(kind, random_network, released):
    image = pair(1, kind).image
    for network in (random_network, released):
        out = remove_artefacts(image, network, abbe_px=ABBE_PX).image
        assert out.dtype == np.float32
        assert out.shape == image.shape
        # float32 rounding of the pixels, in a sum of float64.
        assert out.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-5)


def test_tiled_equals_whole(random_network, rng):
    plane = rng.random((150, 203)).astype(np.float32)
    whole = run_network(plane, random_network, tile_px=256)
    assert np.abs(whole - plane).max() > 0.1
    for tile_px in (48, 64):
        tiled = run_network(plane, random_network, tile_px=tile_px)
        # Convolutions of other sizes may sum in another order: float32 rounding of values of order 1.
        np.testing.assert_allclose(tiled, whole, atol=1e-5)
    outs = [remove_artefacts(plane, random_network, abbe_px=ABBE_PX, tile_px=t).image for t in (48, 512)]
    np.testing.assert_allclose(*outs, atol=1e-5)


@pytest.mark.parametrize("kind", ["honeycomb", "ringing", "hammer_stroke", "seams"])
def test_it_is_linear_in_the_gain(kind, released, reader):
    image = pair(2, kind).image
    one, many = (
        remove_artefacts(gain * image, released, abbe_px=ABBE_PX, reader=reader) for gain in (1.0, 1024.0)
    )
    # A power of two: every rounding is the same, but of constants that keep from dividing by nothing.
    np.testing.assert_allclose(many.image, 1024 * one.image, atol=1e-5 * many.image.max())
    assert many.strength == pytest.approx(one.strength, rel=1e-6)
    odd = remove_artefacts(np.float32(37.3) * image, released, abbe_px=ABBE_PX, reader=reader)
    np.testing.assert_allclose(odd.image / np.float32(37.3), one.image, atol=1e-4)


def test_clean_images_are_left_within_one_percent_in_the_mean(released, reader):
    changes = []
    for seed in range(6):
        clean = pair(seed, "none").image
        cleaned = remove_artefacts(clean, released, abbe_px=ABBE_PX, reader=reader)
        changes.append(np.linalg.norm(cleaned.image - clean) / np.linalg.norm(clean))
        assert cleaned.strength == pytest.approx(changes[-1], rel=1e-5, abs=1e-9)
    assert np.mean(changes) < 0.01


@pytest.mark.parametrize("kind", KINDS[1:])
def test_artefacts_fall(kind, released, reader):
    shares = []
    for seed in range(100, 106):
        made = pair(seed, kind, side=128)
        cleaned = remove_artefacts(made.image, released, abbe_px=ABBE_PX, reader=reader)
        shares.append(np.sum((cleaned.image - made.clean) ** 2) / np.sum((made.image - made.clean) ** 2))
    # The aim, a fifth left in the mean, is met by four kinds over 20 images with a standard error of 0.04
    # (experiments/train_artefacts.py); of six images the mean may lie 0.15 above it. The others fall by less.
    met = ("speckle", "hot_pixels", "ringing", "seams")
    assert np.mean(shares) < (0.35 if kind in met else 1.0)


@pytest.mark.parametrize("kind", ["ringing", "hammer_stroke", "seams", "none"])
def test_light_goes_only_where_setting_to_0_had_added_it(kind, released, reader):
    errors = []
    for seed in range(200, 208):
        made = pair(seed, kind, side=128)
        cleaned = remove_artefacts(made.image, released, abbe_px=ABBE_PX, reader=reader)
        before, after = made.image.sum(dtype=float), cleaned.image.sum(dtype=float)
        if not any(note.startswith("the light is") for note in cleaned.notes):
            assert after == pytest.approx(before, rel=2e-4)
            continue
        assert kind in ("hammer_stroke", "seams")
        assert made.image.min() == 0
        true = made.clean.sum(dtype=float)
        errors.append((abs(after - true), abs(before - true)))
    # Not in every image, but in the sum the light comes closer to the true one.
    assert bool(errors) == (kind in ("hammer_stroke", "seams"))
    assert not errors or np.sum(errors, axis=0)[0] < np.sum(errors, axis=0)[1]


def test_what_was_read_and_found_is_said(released, reader):
    words = {
        "seams": "gains and offsets of tiles of",
        "ringing": "ringing was undone",
        "hammer_stroke": "noise of",
    }
    for kind, expected in words.items():
        notes = remove_artefacts(
            pair(101, kind, side=128).image, released, abbe_px=ABBE_PX, reader=reader
        ).notes
        assert any(note.startswith(expected) for note in notes), notes


def test_strength_and_notes_tell_what_was_done(released):
    made = pair(3, "stripes")
    cleaned = remove_artefacts(made.image, released, abbe_px=ABBE_PX)
    change = np.linalg.norm(cleaned.image - made.image) / np.linalg.norm(made.image)
    assert cleaned.strength == pytest.approx(change, rel=1e-5)
    assert cleaned.notes == (f"{100 * change:.1f} % of the image was taken for artefacts and changed",)


def test_what_a_quiet_network_answers_is_the_image_itself():
    image = pair(4, "none").image
    quiet = remove_artefacts(image, dimmer(0.02), abbe_px=ABBE_PX)
    np.testing.assert_array_equal(quiet.image, image)
    assert quiet.strength == 0
    assert quiet.notes == ("no artefact found; the image is left as it is",)


def test_the_gate_opens_from_4_to_6_percent(rng):
    image = 1 + rng.random((64, 64)).astype(np.float32)
    for share, expected in ((0.03, 0.0), (0.05, 0.5), (0.08, 1.0)):
        # To the local light 1 % of the whole image's is added, which makes 5 % to 4.975 %: 0.4875 in place of 0.5.
        out = gate(share * image, image, abbe_px=ABBE_PX)
        assert out.shape == image.shape
        np.testing.assert_allclose(out, expected, atol=0.015)


def test_the_gate_is_local():
    image = np.ones((600, 60), np.float32)
    change = np.zeros_like(image)
    change[:60] = 0.2
    out = gate(0.01 * image + change, image, abbe_px=ABBE_PX)
    np.testing.assert_array_equal(out[:60], 1.0)
    # scipy's Gaussian ends at four standard deviations: 160 px from there on.
    np.testing.assert_array_equal(out[220:], 0.0)


def test_light_in_the_dark_does_not_make_structures_brighter(monkeypatch):
    image = np.zeros((64, 64), np.float32)
    image[:8] = 1.0
    image[8:] = 0.5 * (np.arange(64) % 2)  # an artefact that holds most of the light
    truth = np.where(np.arange(64)[:, None] < 8, image, 0)
    # All but the structure, which begins where the tile's border of 2 px ends.
    monkeypatch.setattr(Dimmer, "apply", lambda self, variables, i: i.at[:, 10:].multiply(0.0))
    out = remove_artefacts(image, dimmer(0.0), abbe_px=ABBE_PX).image
    assert out.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-5)
    # Half of the pixels at 0.5 become all at about 0.25: half of the energy, and the structure stays as it is.
    assert np.abs(out[:8] - 1).max() < 0.25
    assert np.sum((out - truth) ** 2) < 0.6 * np.sum((image - truth) ** 2)


def test_darkness_is_left_alone(released):
    for level in (0.0, -1.0):
        dark = np.full((40, 50), level, np.float32)
        cleaned = remove_artefacts(dark, released, abbe_px=ABBE_PX)
        np.testing.assert_array_equal(cleaned.image, dark)
        assert cleaned.strength == 0
        assert "no light" in cleaned.notes[0]


def test_other_samplings_are_brought_to_the_network_s(released):
    made = pair(5, "speckle")
    twice = np.asarray(resample(jnp.asarray(made.image), 2.0))
    cleaned = remove_artefacts(twice, released, abbe_px=2 * ABBE_PX)
    truth = np.asarray(resample(jnp.asarray(made.clean), 2.0))
    assert np.sum((cleaned.image - truth) ** 2) < 0.5 * np.sum((twice - truth) ** 2)
    assert cleaned.image.shape == twice.shape
    assert cleaned.image.sum(dtype=float) == pytest.approx(twice.sum(dtype=float), rel=1e-5)
    assert "on pixels 2.00 times as long as the image's" in cleaned.notes[1]


@pytest.mark.parametrize("off", [1 / (1 + TOLERANCE) + 0.01, 1 / (1 - TOLERANCE) - 0.01])
def test_nearly_the_network_s_sampling_is_taken_as_it_is(off, released):
    cleaned = remove_artefacts(pair(6, "stripes").image, released, abbe_px=off * ABBE_PX)
    assert len(cleaned.notes) == 1


def test_refusals(released):
    image = np.ones((16, 16), np.float32)
    for wrong in (image[None], np.zeros((0, 4), np.float32), np.where(np.eye(16) > 0, np.nan, image)):
        with pytest.raises(ValueError, match=r"expected (one image \(y, x\)|an image of finite values)"):
            remove_artefacts(wrong, released, abbe_px=ABBE_PX)
    with pytest.raises(ValueError, match="expected abbe_px to be a finite number above 0"):
        remove_artefacts(image, released, abbe_px=0.0)
