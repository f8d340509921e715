"""The flow network trained on for one movie: nearer to its motion than before, on the movie's own frames alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.metrics import endpoint_error
from dps_jax.models.registry import build
from dps_jax.pipelines.flow_network import FlowNetwork, network_flow
from dps_jax.pipelines.flow_refine import _photons, _states, refined_network
from dps_jax.pipelines.register import RegisterSettings
from dps_jax.pipelines.register_template import Template
from dps_jax.synthetic import deformations, two_photon
from dps_jax.training.flow_data import MARGIN_PX, SLACK_PX, GivenScenes

SIDE, MARGIN, FRAMES, PHOTONS = 64, 12, 12, 60


@pytest.fixture(scope="module")
def movie():
    """Return frames, their template and the true flows: half of the frames do not move."""
    rng = np.random.default_rng(21)
    side = SIDE + 2 * MARGIN
    clean = two_photon.movie(rng, (side, side), frames=2 * FRAMES)[0]
    flows = np.stack([deformations.bump_flow(rng, (SIDE, SIDE), shift_px=6.0) for _ in range(FRAMES)])
    wide = np.pad(flows, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)], mode="edge")
    moved = deformations.displaced(clean[:FRAMES], deformations.invert_flow(wide, iterations=12))
    inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    frames = two_photon.count_photons(rng, np.concatenate([moved, clean[FRAMES:]])[inner], photons=PHOTONS)
    frames = np.asarray(frames, np.float32)
    return frames, Template(frames[FRAMES:].mean(0), np.ones(2 * FRAMES, bool)), flows


@pytest.fixture(scope="module")
def novice():
    """Return a network that was taught nothing."""
    module = build("flow_unet", {"channels": [4, 6], "flow_features": 6, "windows": [4.0], "repeats": 1})
    params = jax.jit(lambda key: module.init(key, jnp.zeros((1, 16, 16, 3)))["params"])(jax.random.key(3))
    return FlowNetwork(module, params)


@pytest.fixture(scope="module")
def refined(movie, novice):
    """Return the refined network, what was told, and the steps that were reported."""
    frames, template, _ = movie
    first, seen = jax.tree.map(np.array, novice.params), []
    network, told = refined_network(
        novice,
        frames,
        template,
        iterations=40,
        learning_rate=1e-2,
        progress=lambda done, steps: seen.append((done, steps)),
    )
    # The given network is as it was.
    jax.tree.map(np.testing.assert_array_equal, first, jax.tree.map(np.asarray, novice.params))
    assert seen == [(step, 40) for step in range(1, 41)]
    return network, told


def test_a_network_learns_the_motion_of_the_movie_from_its_frames_alone(movie, novice, refined):
    frames, template, flows = movie
    network, told = refined
    before, after = (
        endpoint_error(np.asarray(network_flow(frames[:FRAMES], template.image, n)), flows).mean()
        for n in (novice, network)
    )
    assert after < 0.8 * before
    assert told.kept == (told.after_px < told.before_px)
    assert told.kept
    # The photons of what is bright, the movie's own: a bright resting cell is 60, bright pixels are of firing ones.
    assert PHOTONS / 2 < told.photons < 6 * PHOTONS


def test_stillness_is_learned_as_well(movie, refined):
    frames, template, _ = movie
    found = np.asarray(network_flow(frames[FRAMES:], template.image, refined[0]))
    assert np.hypot(*found.mean((0, 2, 3))) < 0.05


def test_states_keep_what_fires_and_lose_the_noise(movie):
    frames, template, _ = movie
    still = dataclasses.replace(template, kept=np.arange(2 * FRAMES) >= FRAMES)
    flash = np.zeros((SIDE, SIDE), np.float32)
    flash[28:37, 28:37] = 400
    lit = frames.copy()
    lit[-2:] += flash
    states = _states(lit, still, RegisterSettings())
    assert states.shape == (8, SIDE, SIDE)
    lit_mean, dark_mean = states[-1][31:34, 31:34].mean(), states[0][31:34, 31:34].mean()
    assert lit_mean - dark_mean > 0.5 * 400
    # Away from it, states differ by less than one frame's photon noise.
    away = np.s_[:, :20, :20]
    assert states[away].std(0).mean() < 0.5 * frames[FRAMES:][away].std(0).mean()


def test_photons_follow_from_the_noise(rng):
    y, x = np.indices((256, 256))
    light = 50 + 40 * np.sin(y / 12) * np.sin(x / 15)
    frame = 7.0 * rng.poisson(light) + 100
    np.testing.assert_allclose(_photons(7 * light[None] + 100, frame)[0].mean(), 50, rtol=0.2)
    # Without noise there is nothing to tell: bright is as bright as training knew.
    flat = _photons(light[None], np.full((64, 64), 3.0))
    assert np.isfinite(flat).all()
    assert flat.min() == 0


def test_scenes_reach_all_of_a_field_and_fill_up_a_small_one(rng):
    side = 32
    wide = side + 2 * MARGIN_PX + SLACK_PX
    field = rng.random((3, wide + 50, wide))
    scenes = GivenScenes(field, side)
    reached = np.zeros(field.shape[1:], bool)
    for index in range(scenes.count):
        scene = scenes[index]
        assert scene.shape == (3, wide, wide)
        start = int(np.flatnonzero(field[0, :, 0] == scene[0, 0, 0])[0])
        np.testing.assert_array_equal(scene, field[:, start : start + wide])
        reached[start : start + wide] = True
    assert reached.all()
    assert GivenScenes(field[:, :40, :30], side)[0].shape == (3, wide, wide)


def test_refusals(movie, novice):
    frames, template, _ = movie
    with pytest.raises(ValueError, match="iterations"):
        refined_network(novice, frames, template, iterations=0)
    with pytest.raises(ValueError, match="learning_rate"):
        refined_network(novice, frames, template, iterations=1, learning_rate=0)
