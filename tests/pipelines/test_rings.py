"""What is read from the rings of an image's spectrum."""

import numpy as np
import pytest

from dps_jax.pipelines.artefacts import EXCESS, RAISED, run_network, unit_of
from dps_jax.pipelines.rings import measures, read_rings
from dps_jax.solvers.ringing import RADII
from dps_jax.synthetic.structures import WITHHELD_FAMILIES
from dps_jax.training.artefact_data import ArtefactConfig, example
from dps_jax.training.ring_reader import curves
from dps_jax.weights import load_network

ABBE_PX = 5.0
CONFIG = ArtefactConfig(clipped=0.0)


@pytest.fixture(scope="module")
def networks():
    return load_network(task="artefacts"), load_network(task="rings")


def read(image, networks):
    plane = image / np.float32(unit_of(image, abbe_px=ABBE_PX))
    return read_rings(plane, run_network(plane, networks[0], tile_px=512), networks[1], abbe_px=ABBE_PX)


def test_measures_do_not_know_the_unit(rng):
    plane, answer = rng.random((2, 80, 90)).astype(np.float32)
    one, many = (measures(g * plane, g * answer, abbe_px=ABBE_PX) for g in (1.0, 512.0))
    assert one.shape == (load_network(task="rings").module.inputs,)
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, many, atol=1e-5)


def test_an_empty_plane_has_measures():
    assert np.isfinite(measures(np.zeros((64, 64)), np.zeros((64, 64)), abbe_px=ABBE_PX)).all()


def test_ringing_of_withheld_structures_is_read_as_it_was_made(networks):
    errors, sizes, found = [], [], 0
    for seed in range(12):
        pair = example(
            np.random.default_rng([6, seed]), (128, 128), CONFIG, families=WITHHELD_FAMILIES, kind="ringing"
        )
        wanted = curves(pair.image, pair.clean, "ringing", abbe_px=ABBE_PX)[0]
        rings = read(pair.image, networks)
        found += rings.raised.max() >= RAISED
        errors.append(np.mean((rings.raised - wanted) ** 2))
        sizes.append(np.mean(wanted**2))
        if rings.raised.max() >= RAISED:
            assert abs(RADII[rings.raised.argmax()] - RADII[wanted.argmax()]) < 0.2
    assert found >= 10
    # A fifth of a filter's energy left is the aim; that of its logarithm is much alike.
    assert np.sum(errors) < 0.2 * np.sum(sizes)


def test_clean_structures_are_read_as_clean(networks):
    false = 0
    for seed in range(20):
        pair = example(
            np.random.default_rng([7, seed]), (128, 128), CONFIG, families=WITHHELD_FAMILIES, kind="none"
        )
        rings = read(pair.image, networks)
        false += rings.raised.max() >= RAISED or rings.excess.max() >= EXCESS
    # One in twenty was the aim of what is believed.
    assert false <= 3
