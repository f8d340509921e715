"""The SIM network: shapes, its start, and how far it reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.models import ResUNet, SimUNet
from dps_jax.operators import pixel_shuffle


def test_it_starts_from_the_classical_reconstruction(key, rng):
    module = SimUNet(channels=(4, 8))
    features = jnp.asarray(rng.normal(size=(2, 8, 12, 10)), jnp.float32)
    answer, _ = jax.jit(module.init_with_output)(key, features)
    assert answer.shape == (2, 16, 24, 1)
    np.testing.assert_array_equal(answer, pixel_shuffle(features[..., 1:5], 2))


def test_the_residual_network_starts_from_the_image(key, rng):
    module = ResUNet(channels=(4, 8), inputs=2)
    image = jnp.asarray(rng.normal(size=(1, 8, 8, 2)), jnp.float32)
    np.testing.assert_array_equal(jax.jit(module.init_with_output)(key, image)[0], image[..., :1])


@pytest.mark.parametrize("module", [SimUNet(channels=(3, 4, 4)), ResUNet(channels=(3, 4, 4), inputs=10)])
def test_nothing_comes_from_beyond_the_reach(module, key):
    side = 2 * module.reach + 8
    side += -side % module.grid_multiple
    features = jnp.zeros((1, side, side, 10))
    params = jax.jit(module.init)(key, features)
    # Every layer passes something on, the last one included, which starts with nothing.
    params = jax.tree.map(lambda a: jnp.full_like(a, 0.1), params)
    middle = side // 2

    def at_the_middle(x):
        return module.apply(params, x)[0, module.scale * middle, module.scale * middle, 0]

    seen = np.abs(np.asarray(jax.jit(jax.grad(at_the_middle))(features + 0.5)))[0].sum(-1)
    y, x = np.nonzero(seen)
    far = max(middle - y.min(), y.max() - middle, middle - x.min(), x.max() - middle)
    assert 4 < far <= module.reach


@pytest.mark.parametrize("module", [SimUNet(), ResUNet(inputs=10)])
def test_refusals(module, key):
    with pytest.raises(ValueError, match="multiples of 4"):
        module.init(key, jnp.zeros((1, 6, 8, 10)))
    with pytest.raises(ValueError, match="10"):
        module.init(key, jnp.zeros((1, 8, 8, 3)))
