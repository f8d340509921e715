"""j0, j1 and jinc against scipy.special in float64, and their derivatives of every order that is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from dps_jax.optics import j0, j1, jinc

# The bounds. float32 rounds values of order 1 to 6e-8 and the two dozen operations of a Chebyshev sum
# add up to some 1e-6; the gradients go through one more recurrence.
VALUE_TOLERANCE, GRADIENT_TOLERANCE = 3e-6, 1e-5


def _jinc(v):
    safe = np.where(v == 0, 1.0, v)
    return np.where(v == 0, 1.0, 2 * special.j1(safe) / safe)


def _jinc_slope(v):
    # d/dv [2 J1(v)/v] = -2 J2(v)/v
    safe = np.where(v == 0, 1.0, v)
    return np.where(v == 0, 0.0, -2 * special.jv(2, safe) / safe)


# name: (ours, oracle, oracle of the slope, (value, slope, second, third derivative) at 0 from the power series)
FUNCTIONS = {
    "j0": (j0, special.j0, lambda v: -special.j1(v), (1.0, 0.0, -0.5, 0.0)),
    "j1": (j1, special.j1, lambda v: special.jvp(1, v), (0.0, 0.5, 0.0, -0.375)),
    "jinc": (jinc, _jinc, _jinc_slope, (1.0, 0.0, -0.25, 0.0)),
}
EVERY = pytest.mark.parametrize("name", FUNCTIONS)


def _points(rng):
    dense = np.linspace(-1000, 1000, 100_001)
    anywhere, near = rng.uniform(-1000, 1000, 100_000), rng.uniform(-20, 20, 50_000)
    # Chebyshev series, recurrences and power series take turns at these.
    seams = np.float32([0.0, 1.0, 2.0, 3.0, 4.0, 12.0])
    around = [np.nextafter(seams, np.float32(np.inf)), seams, np.nextafter(seams, np.float32(-np.inf))]
    tiny = np.geomspace(1e-38, 1e3, 2000)
    return np.concatenate([dense, anywhere, near, *around, tiny, -tiny, [-0.0]]).astype(np.float32)


@EVERY
def test_values_and_gradients_equal_scipy(name, rng):
    ours, oracle, slope, _ = FUNCTIONS[name]
    v = _points(rng)
    exact = v.astype(np.float64)
    # vmap of grad under jit: all three transformations at once, over more than 32,768 points.
    gradient = jax.jit(jax.vmap(jax.grad(ours)))(v)
    np.testing.assert_allclose(jax.jit(ours)(v), oracle(exact), rtol=0, atol=VALUE_TOLERANCE)
    np.testing.assert_allclose(gradient, slope(exact), rtol=0, atol=GRADIENT_TOLERANCE)


@EVERY
def test_derivatives_at_the_origin(name):
    derivative = FUNCTIONS[name][0]
    for expected in FUNCTIONS[name][3]:
        np.testing.assert_allclose(jax.jit(derivative)(0.0), expected, rtol=0, atol=1e-6)
        derivative = jax.grad(derivative)


@pytest.mark.parametrize(("name", "order"), [("j0", 0), ("j1", 1)])
@pytest.mark.parametrize("times", [2, 3])
def test_higher_derivatives_equal_scipy(name, order, times, rng):
    v = rng.uniform(-200, 200, 5000).astype(np.float32)
    derivative = FUNCTIONS[name][0]
    for _ in range(times):
        derivative = jax.grad(derivative)
    exact = special.jvp(order, v.astype(np.float64), times)
    np.testing.assert_allclose(jax.jit(jax.vmap(derivative))(v), exact, rtol=0, atol=GRADIENT_TOLERANCE)


@EVERY
def test_forward_and_reverse_mode_agree(name, rng):
    ours = FUNCTIONS[name][0]
    v, direction, weight = (rng.uniform(-50, 50, 400).astype(np.float32) for _ in range(3))
    tangent = jax.jit(lambda: jax.jvp(ours, (v,), (direction,))[1])()
    cotangent = jax.jit(lambda: jax.vjp(ours, v)[1](jnp.asarray(weight))[0])()
    # Both dot products sum 400 rounded terms; the scale of the sum without cancellation sets the tolerance.
    scale = np.sum(np.abs(weight * tangent))
    np.testing.assert_allclose(np.vdot(weight, tangent), np.vdot(cotangent, direction), atol=1e-6 * scale)


@EVERY
def test_transformations_change_nothing(name, rng):
    ours = FUNCTIONS[name][0]
    v = rng.uniform(-60, 60, (8, 50)).astype(np.float32)
    eager = ours(v)
    assert eager.dtype == jnp.float32
    assert eager.shape == v.shape
    # XLA may fuse multiplications and additions: a few roundings of order-1 intermediates.
    np.testing.assert_allclose(jax.jit(ours)(v), eager, rtol=0, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.vmap(ours))(v), eager, rtol=0, atol=1e-6)


def test_integers_are_read_as_numbers():
    np.testing.assert_allclose(j1(3), special.j1(3), atol=VALUE_TOLERANCE)
    np.testing.assert_allclose(jinc(np.arange(4)), _jinc(np.arange(4.0)), atol=VALUE_TOLERANCE)
