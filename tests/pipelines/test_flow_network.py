"""The released flow network on movies of known motion: small, nearer than a shift, still where nothing moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.metrics import endpoint_error, folding_fraction
from dps_jax.pipelines.flow_choice import Rivalry
from dps_jax.pipelines.flow_network import FlowNetwork, flow_network, network_flow, shifted, without_folds
from dps_jax.synthetic import deformations, two_photon
from dps_jax.weights import load_network, released_path

SIDE, MARGIN, FRAMES = 88, 16, 3  # no multiple of the network's grid


@pytest.fixture(scope="module")
def network():
    return flow_network(load_network(task="flow"))


@functools.cache
def movie():
    """Return clean frames for a template, moved ones and their flows, and still ones."""
    rng = np.random.default_rng(8)
    side = SIDE + 2 * MARGIN
    clean = two_photon.movie(rng, (side, side), frames=20 + 2 * FRAMES)[0]
    flows = np.stack(
        [deformations.bump_flow(rng, (SIDE, SIDE)) + rng.normal(0, 3, (2, 1, 1)) for _ in range(FRAMES)]
    )
    # What moves in lies beyond the frame; there the motion goes on as at its edge.
    wide = np.pad(flows, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)], mode="edge")
    moved = deformations.displaced(clean[20 : 20 + FRAMES], deformations.invert_flow(wide, iterations=12))
    inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return clean[:20][inner], moved[inner], flows, clean[20 + FRAMES :][inner]


def seen(photons):
    """Return template, moved and still frames as so many photons show them."""
    rng = np.random.default_rng(photons)
    parts = [
        two_photon.count_photons(rng, clean, photons=photons) for clean in (movie()[i] for i in (0, 1, 3))
    ]
    return parts[0].mean(0), parts[1], parts[2]


def test_the_released_file_is_small_and_says_how_it_was_made():
    assert released_path(task="flow").stat().st_size < 3e6
    released = load_network(task="flow")
    assert released.header["model"] == "flow_unet"
    assert {stage["loss"]["objective"] for stage in released.header["config"]} == {"endpoint"}
    assert isinstance(released.header["seed"], int)
    assert released.header["command"].startswith("python experiments/train_flow.py")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(released.params))
    # The field's requirement, on twenty movies that it was not trained on.
    numbers = released.header["numbers"]
    for kind, bar in {"100 error": 0.20, "8 error": 0.38, "30 still": 0.08, "8 still": 0.15}.items():
        assert numbers[kind] < bar
    assert max(numbers[f"{p} bias"] for p in (100, 30, 8)) < 0.05
    assert max(numbers[f"{p} folded"] for p in (100, 30, 8)) == 0


# The requirements are stated at 100 and 8 photons for motion, at 30 and 8 for stillness; 30 is held to those of 100.
@pytest.mark.parametrize(
    ("photons", "bar_px", "still_px"), [(100, 0.20, 0.08), (30, 0.20, 0.08), (8, 0.38, 0.15)]
)
def test_deformations_are_found_and_stillness_is_kept(network, photons, bar_px, still_px):
    template, moved, still = seen(photons)
    flows = movie()[2]
    found = np.asarray(network_flow(moved, template, network))
    error = endpoint_error(found, flows).mean()
    # The best that any shift of whole frames could do.
    rigid = endpoint_error(np.broadcast_to(flows.mean((-2, -1), keepdims=True), flows.shape), flows).mean()
    assert error < min(bar_px, 0.5 * rigid)
    assert not folding_fraction(found).any()
    invented = np.asarray(network_flow(still, template, network))
    assert endpoint_error(invented, 0 * flows).mean() < still_px
    assert np.hypot(*invented.mean((0, 2, 3))) < 0.05


def test_brightness_and_offset_do_not_move_a_frame(network):
    template, moved, _ = seen(30)
    plain, changed = (np.asarray(network_flow(m, template, network)) for m in (moved, 40 + 3 * moved))
    np.testing.assert_allclose(changed, plain, rtol=0, atol=2e-3)


def test_a_cell_that_fires_is_not_moved(network):
    template, _, still = seen(100)
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    flash = 300 * np.exp(-(y**2 + x**2) / (2 * 4.0**2))  # three times as bright as any cell at rest
    lit = np.random.default_rng(1).poisson(np.maximum(still, 0) + flash).astype(np.float32)
    found = np.asarray(network_flow(lit, template, network))
    there = np.hypot(y, x) < 8
    # At its place no more motion is found than noise makes anywhere.
    assert endpoint_error(found, 0 * found, mask=there).mean() < 0.15


def test_a_flow_too_steep_is_drawn_in_until_it_does_not_fold(rng):
    mild = deformations.bump_flow(rng, (40, 40)).astype(np.float32)
    np.testing.assert_allclose(without_folds(jnp.asarray(mild)), mild, rtol=1e-5, atol=1e-6)
    steep = 40 * deformations.bump_flow(rng, (40, 40), sigma_px=4).astype(np.float32)
    assert folding_fraction(steep) > 0.01
    made = np.asarray(without_folds(jnp.asarray(steep)))
    assert folding_fraction(made) == 0
    np.testing.assert_allclose(made.mean((1, 2)), steep.mean((1, 2)), atol=1e-4)


def test_whole_pixels_are_read_and_what_is_outside_is_unknown(rng):
    frame = jnp.asarray(rng.random((6, 7)), jnp.float32)
    moved, known = shifted(frame, jnp.array([2, -3]))
    np.testing.assert_array_equal(moved[:4, 3:], frame[2:, :4])
    np.testing.assert_array_equal(known, np.pad(np.ones((4, 4)), [(0, 2), (3, 0)]))


def test_the_nearer_is_chosen():
    assert Rivalry(patches_px=0.3, network_px=0.2).network_is_nearer
    assert not Rivalry(patches_px=0.2, network_px=0.3).network_is_nearer


def test_refusals():
    nobody = FlowNetwork(None, None)
    with pytest.raises(ValueError, match=r"expected frames \(t, y, x\) and a template"):
        network_flow(np.zeros((8, 8)), np.zeros((8, 8)), nobody)
    with pytest.raises(ValueError, match="of one size"):
        network_flow(np.zeros((1, 8, 8)), np.zeros((8, 9)), nobody)
    with pytest.raises(ValueError, match="largest_shift_px"):
        network_flow(np.zeros((1, 8, 8)), np.zeros((8, 8)), nobody, largest_shift_px=0)
