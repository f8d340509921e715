"""The flow network: its parts against the operators, its start, and how it adds its levels up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dps_jax.models import FlowUNet, build
from dps_jax.models.flow_blocks import cost_volume, enlarge_flow, integrate, warp_features
from dps_jax.models.flow_unet import flow_grids, normalised
from dps_jax.operators import exponential, warp

SIZES = {"channels": (4, 6, 8), "flow_features": 6, "windows": (1.5, 4.0), "cost_radius": 1}
SIDE = 48


@pytest.fixture(scope="module")
def network():
    module = build("flow_unet", SIZES)
    return module, jax.jit(module.init)(jax.random.key(3), jnp.zeros((1, 8, 8, 3)))["params"]


@pytest.fixture(scope="module")
def flows(network):
    """Return the flows of every step, by one compiled program."""
    module, _ = network

    @jax.jit
    def run(params, template, frame):
        known = jnp.ones_like(template)
        features = [module.apply({"params": params}, i, known, method="features") for i in (template, frame)]
        return module.apply({"params": params}, *features, method="match")

    return run


def scene(rng):
    image = gaussian_filter(rng.normal(size=(SIDE + 16, SIDE + 16)), 2.5)
    return image / image.std()


@pytest.mark.parametrize("flow_sd", [0.4, 30.0])
def test_features_are_read_as_the_operator_reads_images(rng, flow_sd):
    features = rng.normal(size=(2, 9, 7, 3)).astype(np.float32)
    flow = rng.normal(0, flow_sd, (2, 9, 7, 2)).astype(np.float32)
    wanted = warp(np.moveaxis(features, -1, 1), np.moveaxis(flow, -1, 1)[:, None])
    found = jax.jit(warp_features)(jnp.asarray(features), jnp.asarray(flow))
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), wanted, rtol=0, atol=1e-5)


def test_a_flow_on_a_finer_grid_is_the_same_motion(rng):
    # A flow that grows linearly, seen on grids of 8 and of 2 px: the middle of a cell is where its pixels' mean lies.
    centres = [(np.arange(n) + 0.5) * c for n, c in ((6, 8.0), (24, 2.0))]
    coarse, fine = (
        np.broadcast_to((0.1 * c / cell).reshape(1, -1, 1, 1), (1, c.size, c.size, 2)).astype(np.float32)
        for c, cell in zip(centres, (8.0, 2.0), strict=True)
    )
    found = enlarge_flow(jnp.asarray(coarse), 4)
    np.testing.assert_allclose(found[:, 2:-2], fine[:, 2:-2], rtol=1e-5)  # beyond the last centres it is kept


def test_a_velocity_is_integrated_by_the_operator(rng):
    velocity = gaussian_filter(rng.normal(size=(1, 16, 16, 2)), (0, 3, 3, 0)).astype(np.float32) * 5
    wanted = exponential(np.moveaxis(velocity, -1, 1), squarings=4)
    np.testing.assert_allclose(np.moveaxis(integrate(velocity, 4), -1, 1), wanted, rtol=1e-6)
    assert integrate(velocity, 0) is velocity


def test_the_cost_volume_peaks_where_the_frame_went(rng):
    template = rng.normal(size=(1, 12, 12, 32)).astype(np.float32)
    frame = np.roll(template, (1, -2), (1, 2))
    volume = cost_volume(template, frame, 2)
    assert volume.shape == (1, 12, 12, 25)
    best = np.asarray(volume).argmax(-1)[0, 3:-3, 3:-3]
    assert (best == (2 + 1) * 5 + (2 - 2)).all()


def test_brightness_offset_and_hidden_pixels_do_not_matter(rng):
    image, known = rng.random((1, 24, 20)).astype(np.float32), np.ones((1, 24, 20), np.float32)
    known[:, :5] = 0
    hidden = np.where(known > 0, image, 1000.0).astype(np.float32)
    first, other = normalised(image, known), normalised(50 + 3 * hidden * known, known)
    np.testing.assert_allclose(first, other, rtol=0, atol=1e-3)  # float32 of a value of 50 with contrast 0.2
    np.testing.assert_allclose(first[:, 5:, :, 0].mean(), 0, atol=1e-5)
    assert np.isfinite(normalised(0 * image, known)).all()


def test_equal_images_have_no_motion_at_the_start(network, flows, rng):
    image = scene(rng)[None, 8:-8, 8:-8].astype(np.float32)
    for flow in flows(network[1], image, image):
        np.testing.assert_array_equal(flow, 0)
    for flow in flows(network[1], 0 * image, 0 * image):
        np.testing.assert_array_equal(flow, 0)


def test_untrained_levels_follow_a_shift_coarse_to_fine(network, flows, rng):
    # Least squares on any smooth features sees where a shift leads: no training is in this.
    image = scene(rng)
    inner = (slice(8, -8), slice(8, -8))
    template, frame = image[inner], np.roll(image, (1, -1), (0, 1))[inner]
    found = flows(network[1], *(i[None].astype(np.float32) for i in (template, frame)))
    assert [f.shape for f in found] == [(1, n, n, 2) for n in (6, 12, 12, SIDE)]
    assert flow_grids(network[0]) == [8, 4, 4, 1]
    truth = np.array([1.0, -1.0])
    errors = [np.abs(np.asarray(f)[0, 1:-1, 1:-1].mean((0, 1)) - truth).max() for f in found]
    # In pixels of the image on every grid; each level leaves less, and so does the finest when it is repeated.
    assert errors[0] < 0.9
    assert errors[2] < errors[1] < errors[0]
    np.testing.assert_allclose(found[3].mean((1, 2)), found[2].mean((1, 2)), rtol=1e-4)


def test_refusals(key):
    with pytest.raises(ValueError, match="multiples of 16"):
        FlowUNet().init(key, jnp.zeros((1, 24, 32, 3)))
    with pytest.raises(ValueError, match=r"x, 3\)"):
        FlowUNet().init(key, jnp.zeros((1, 32, 32, 2)))
