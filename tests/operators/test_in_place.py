"""Pointwise maps in strips are the maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators.in_place import in_place


def scaled(a, b, c):
    return jnp.maximum(a * b - c, 0.0)


@pytest.mark.parametrize("shape", [(6, 5), (7, 5), (1, 4), (2, 8, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("other", ["number", "one row", "same"])
def test_it_is_the_map(shape, other, rng):
    target, factor = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    shift = {"number": 0.5, "one row": factor.mean((-2, -1), keepdims=True), "same": 2 * factor}[other]
    found = jax.jit(lambda *a: in_place(scaled, *a))(target, factor, shift)
    np.testing.assert_array_equal(found, jax.jit(scaled)(target, factor, shift))


@pytest.mark.parametrize("rows", [6, 7])
def test_of_the_targets_type(rows):
    with jax.enable_x64(True):
        found = in_place(jnp.multiply, jnp.ones((rows, 3), jnp.float32), jnp.full((rows, 3), 2.0))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, 2.0)


def test_batched_and_differentiated(rng):
    target, factor = (jnp.asarray(rng.normal(size=(3, 6, 5)), jnp.float32) for _ in range(2))
    found = jax.vmap(lambda a, b: in_place(scaled, a, b, 0.1))(target, factor)
    np.testing.assert_allclose(found, scaled(target, factor, 0.1), rtol=1e-6)
    gradient = jax.grad(lambda a: jnp.sum(in_place(scaled, a, factor, 0.1)))(target)
    np.testing.assert_allclose(gradient, jnp.where(target * factor > 0.1, factor, 0.0), rtol=1e-6)
