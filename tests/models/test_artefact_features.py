"""The feature extractor is a small VGG: nine layers, each on the grid of its stage, and two answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.models import build, config_of

SIZES = {"channels": (3, 4, 5, 6), "families": 10, "kinds": 8}


@pytest.fixture(scope="module")
def module():
    return build("artefact_features", SIZES)


@pytest.fixture(scope="module")
def params(module):
    return jax.jit(module.init)(jax.random.key(1), jnp.zeros((1, 16, 16, 1)))["params"]


def test_layers_and_their_grids(module, params, rng):
    features = jax.jit(module.apply)({"params": params}, jnp.asarray(rng.random((2, 32, 24, 1)), jnp.float32))
    assert len(module.layers) == 9
    assert set(features) == {*module.layers, "families", "kinds"}
    for name in module.layers:
        stage = int(name[4])
        assert features[name].shape == (2, 32 >> (stage - 1), 24 >> (stage - 1), SIZES["channels"][stage - 1])
        assert float(features[name].min()) >= 0
    assert (features["families"].shape, features["kinds"].shape) == ((2, 10), (2, 8))


def test_layers_do_not_lose_the_signal(module, params, rng):
    # He's initial weights keep the mean square in the mean; twelve features of a small net scatter by a few times.
    features = jax.jit(module.apply)(
        {"params": params}, jnp.asarray(rng.standard_normal((2, 64, 64, 1)), jnp.float32)
    )
    squares = [float(jnp.mean(features[name] ** 2)) for name in module.layers]
    assert 0.03 < squares[-1] < 30


def test_round_trip_through_the_registry(module):
    name, sizes = config_of(module)
    assert build(name, sizes) == module


@pytest.mark.parametrize("shape", [(16, 16, 1), (1, 16, 16, 3), (1, 16, 7, 1)])
def test_images_of_other_axes_are_refused(module, params, shape):
    with pytest.raises(ValueError, match=r"expected images \(batch, y, x, 1\) of at least 8 px a side, got"):
        module.apply({"params": params}, np.zeros(shape, np.float32))
