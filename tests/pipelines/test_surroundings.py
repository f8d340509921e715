"""A plane in its surroundings: the plane untouched, the margin one function of it, and better answers at the edge."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.metrics.scores import at_promised_resolution
from dps_jax.pipelines import surroundings
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.pipelines.surroundings import Surroundings
from dps_jax.solvers import continue_image


def _around(plane):
    return Surroundings(lambda rows, columns: plane[np.ix_(rows, columns)], plane.shape, abbe_px=2.5)


@pytest.fixture(scope="module")
def plane():
    return np.random.default_rng(0).poisson(40, (70, 300)).astype(np.float32) / 40


def test_the_plane_is_as_it_is_and_its_margin_the_same_from_everywhere(plane):
    around = _around(plane)
    m, (height, width) = around.margin, plane.shape
    whole = around.look(np.arange(-m, height + m), np.arange(-m, width + m))
    assert np.array_equal(whole[m:-m, m:-m], plane)
    rows, columns = np.arange(height - 5, height + m), np.arange(190, 230)  # over the end of a stretch
    assert np.array_equal(_around(plane).look(rows, columns), whole[m + height - 5 :, m + 190 : m + 230])
    corner = _around(plane).look(np.arange(-m, 3), np.arange(width - 2, width + m))
    assert np.array_equal(corner, whole[: m + 3, m + width - 2 :])


def test_beyond_the_margin_the_wider_image_is_mirrored(plane):
    around = _around(plane)
    m = around.margin
    assert around.indices(-m - 2, -m + 2, 0).tolist() == [-m + 1, -m, -m, -m + 1]
    assert around.indices(300 + m - 1, 300 + m + 2, 1).tolist() == [300 + m - 1, 300 + m - 1, 300 + m - 2]


def test_light_from_outside_is_not_taken_for_structure_inside(released, monkeypatch):
    made = acquire(3002, DEMO_SYSTEM, shape=(64, 64), photons=1000.0, families=("nuclear_pores",))
    abbe_px = 2 * float(DEMO_SYSTEM.abbe_px)
    edge = round(2 * abbe_px)

    def error_at_the_edge():
        image = restore(made.image, DEMO_SYSTEM, released, background=0.0).image
        both = np.stack([image / image.sum(), made.truth / made.truth.sum()])
        a, b = np.asarray(at_promised_resolution(jnp.asarray(both), abbe_px=abbe_px))
        difference = (a - b) ** 2
        return difference.sum() - difference[edge:-edge, edge:-edge].sum()

    found = error_at_the_edge()
    mirrored = surroundings.mirrored
    monkeypatch.setattr(Surroundings, "indices", lambda self, a, b, axis: mirrored(a, b, self.shape[axis]))
    assert found < 0.8 * error_at_the_edge()


def test_a_margin_as_noisy_as_the_plane_serves_the_network_better(released, monkeypatch):
    """Mean squared error of all pixels within two Abbe periods of the edge, twelve dim scenes of a withheld family."""
    abbe_px = 2 * float(DEMO_SYSTEM.abbe_px)
    edge = round(2 * abbe_px)
    scenes = [
        acquire(7000 + seed, DEMO_SYSTEM, shape=(64, 64), photons=30.0, families=("membranes",))
        for seed in range(12)
    ]

    def errors():
        found = []
        for made in scenes:
            image = restore(made.image, DEMO_SYSTEM, released, background=0.0).image
            both = np.stack([image, made.truth]) / made.truth.max()
            a, b = np.asarray(at_promised_resolution(jnp.asarray(both), abbe_px=abbe_px))
            difference = (a - b) ** 2
            found.append(difference.sum() - difference[edge:-edge, edge:-edge].sum())
        return np.array(found)

    noisy = errors()

    @partial(jax.jit, static_argnames="abbe_px")
    def expected_alone(image, measured, mirror, abbe_px):
        return continue_image(image, measured, abbe_px=abbe_px, dark=surroundings.DARK)

    monkeypatch.setattr(surroundings, "_continued", expected_alone)
    gain = 10 * np.log10(errors() / noisy)
    assert gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain))
