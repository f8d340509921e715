"""Algebra of flows: closed forms (shifts, turns, matrix exponentials) and the maps' own laws are the oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import linalg, ndimage

from dps_jax import operators

SHAPE = (48, 56)
# Compiled: one by one, operations take longer to compile than together.
compose = jax.jit(operators.compose, static_argnames="dimensions")
invert = jax.jit(operators.invert, static_argnames=("iterations", "dimensions"))
exponential = jax.jit(operators.exponential, static_argnames="squarings")
warp = jax.jit(operators.warp, static_argnames="order")


def smooth_flow(rng, shape=SHAPE, *, size_px=1.5, sigma_px=8.0):
    """Return a random flow of ``size_px`` root mean square whose slopes are about ``size_px / sigma_px``."""
    noise = rng.normal(size=(len(shape), *shape))
    flow = np.stack([ndimage.gaussian_filter(n, sigma_px, mode="wrap") for n in noise])
    return jnp.asarray(size_px * flow / flow.std(), jnp.float32)


def inner(array, border, dimensions=2):
    return np.asarray(array)[(..., *[slice(border, -border)] * dimensions)]


def affine(matrix, points):
    return np.einsum("ij,j...->i...", matrix, points)


@pytest.mark.parametrize("shape", [(48, 56), (7, 8, 9)], ids=str)
def test_affine_flow_is_the_matrix_at_every_pixel(shape, rng):
    size = len(shape)
    matrix, shift = np.eye(size) + 0.1 * rng.normal(size=(size, size)), rng.normal(size=size)
    flow = operators.affine_flow(np.concatenate([matrix, shift[:, None]], 1).astype(np.float32), shape)
    points = np.indices(shape) - (np.array(shape) - 1).reshape(-1, *[1] * size) / 2
    expected = affine(matrix - np.eye(size), points) + shift.reshape(-1, *[1] * size)
    np.testing.assert_allclose(flow, expected, rtol=0, atol=1e-5)


def test_affine_flow_compiled_equals_numpy_beyond_40_000_points(rng):
    matrix = (np.eye(2, 3) + 0.01 * rng.normal(size=(5, 2, 3))).astype(np.float32)
    compiled = jax.jit(lambda m: operators.affine_flow(m, (208, 200)))(matrix)
    points = np.indices((208, 200)) - np.array([103.5, 99.5])[:, None, None]
    for flow, m in zip(compiled, matrix.astype(float), strict=True):
        expected = affine(m[:, :2] - np.eye(2), points) + m[:, 2, None, None]
        np.testing.assert_allclose(flow, expected, rtol=0, atol=1e-4)


def test_rigid_flow_shifts_and_turns():
    shifts = jnp.asarray([[1.5, -2.0], [0.0, 3.0]])
    flow = operators.rigid_flow(SHAPE, shifts)
    assert flow.shape == (2, 2, *SHAPE)
    np.testing.assert_array_equal(flow, jnp.broadcast_to(shifts[:, :, None, None], flow.shape))
    # A quarter turn reads the pixel r = c + (y, x) at c + (-x, y): NumPy's rotation by 90 degrees.
    image = jnp.asarray(np.random.default_rng(0).normal(size=(15, 15)), jnp.float32)
    turned = warp(image, operators.rigid_flow((15, 15), [0.0, 0.0], angle_rad=np.pi / 2), order=3)
    np.testing.assert_allclose(inner(turned, 1), inner(np.rot90(image, -1), 1), rtol=0, atol=1e-4)
    assert operators.rigid_flow((3, 4, 5), [1.0, 2.0, 3.0]).shape == (3, 3, 4, 5)


def test_compose_warps_at_once(rng):
    first, second = smooth_flow(rng), smooth_flow(rng)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), 4.0)
    image = jnp.asarray(smooth / smooth.std(), jnp.float32)
    twice = warp(warp(image, first, order=3), second, order=3)
    once = warp(image, compose(first, second), order=3)
    wrong = warp(image, compose(second, first), order=3)
    # Linear interpolation of a flow of 1.5 px over 8 px errs by 1.5 / 8^2 / 8 = 3e-3 px of slopes of 0.25 per px.
    assert np.abs(inner(once - twice, 6)).max() < 0.01
    assert np.abs(inner(wrong - twice, 6)).max() > 0.05


def test_compose_of_shifts_is_their_sum():
    a, b = operators.rigid_flow(SHAPE, [1.2, -3.4]), operators.rigid_flow(SHAPE, [0.3, 2.0])
    np.testing.assert_allclose(compose(a, b), a + b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [SHAPE, (20, 22, 24)], ids=str)
def test_invert_undoes(shape, rng):
    size = len(shape)
    flow = jnp.stack([smooth_flow(rng, shape), smooth_flow(rng, shape)])
    inverse, error = invert(flow, dimensions=size)
    assert inverse.shape == flow.shape
    assert error.shape == (2,)
    # Slopes of about 0.2 shrink the error by 5 each time: 30 iterations leave float32 rounding of some pixels.
    assert float(error.max()) < 1e-4
    back = compose(flow, inverse, dimensions=size)
    np.testing.assert_allclose(back, jnp.zeros_like(back), rtol=0, atol=1e-4)
    assert float(jnp.abs(inverse + flow).max()) > 0.1  # not merely the flow without its sign
    # The other order is the same map only in the continuum, and inside: the linear interpolation of both.
    other = compose(inverse, flow, dimensions=size)
    assert np.abs(inner(other, 6, size)).max() < 0.05


def test_invert_says_where_it_fails():
    # A tear of 6 px: no point is mapped to between its lips, and the iteration leaps from one to the other.
    torn = np.zeros((2, 2, *SHAPE), np.float32)
    torn[1, 1, :, 28:] = 6.0
    error = invert(jnp.asarray(torn)).error_px
    assert float(error[0]) == 0
    assert float(error[1]) > 3


@pytest.mark.parametrize("size", [2, 3])
def test_jacobian_determinant_of_an_affine_map_is_that_of_its_matrix(size, rng):
    matrix = np.eye(size) + 0.3 * rng.normal(size=(size, size))
    flow = operators.affine_flow(
        np.eye(size, size + 1) + np.pad(matrix - np.eye(size), ((0, 0), (0, 1))), (6, 7, 8)[:size]
    )
    determinant = operators.jacobian_determinant(flow, dimensions=size)
    np.testing.assert_allclose(determinant, np.full((6, 7, 8)[:size], np.linalg.det(matrix)), rtol=1e-5)


def test_jacobian_determinant_is_numpys(rng):
    flow = smooth_flow(rng)
    a, b = np.gradient(np.asarray(flow[0], float)), np.gradient(np.asarray(flow[1], float))
    expected = (1 + a[0]) * (1 + b[1]) - a[1] * b[0]
    np.testing.assert_allclose(operators.jacobian_determinant(flow), expected, rtol=0, atol=1e-5)


def test_folding_is_counted_per_flow():
    mirror = operators.affine_flow(np.array([[1.0, 0, 0], [0, -1.0, 0]], np.float32), (9, 11))
    both = jnp.stack([mirror, jnp.zeros_like(mirror)])
    np.testing.assert_array_equal(operators.folding_count(both), [99, 0])


def test_exponential_of_a_constant_is_the_shift_itself():
    shift = operators.rigid_flow(SHAPE, [2.5, -4.0])
    np.testing.assert_allclose(exponential(shift), shift, rtol=0, atol=1e-5)


def test_exponential_of_a_linear_velocity_is_the_matrix_exponential(rng):
    generator = 0.1 * rng.normal(size=(2, 2))
    velocity = operators.affine_flow(np.eye(2, 3) + np.pad(generator, ((0, 0), (0, 1))), SHAPE)
    flow = exponential(velocity, squarings=8)
    expected = operators.affine_flow(np.pad(linalg.expm(generator), ((0, 0), (0, 1))), SHAPE)
    # The step 2^-8 is linear: exp(G) differs from (1 + G/256)^256 by |G|^2/512, 1e-4 of some 20 px.
    np.testing.assert_allclose(inner(flow, 12), inner(expected, 12), rtol=0, atol=5e-3)


def followed(velocity, steps=100):
    """Carry every pixel along a velocity by the classical Runge-Kutta method."""
    grid = np.indices(velocity.shape[1:], float)

    def read(at):
        return np.stack([ndimage.map_coordinates(v, at, order=1, mode="nearest") for v in velocity]) / steps

    at = grid
    for _ in range(steps):
        a = read(at)
        b = read(at + a / 2)
        c = read(at + b / 2)
        at = at + (a + 2 * b + 2 * c + read(at + c)) / 6
    return at - grid


def test_exponential_follows_the_velocity_without_folding(rng):
    # Nothing leaves the frame, outside which velocities are not known.
    window = jnp.asarray(np.outer(np.hanning(SHAPE[0]), np.hanning(SHAPE[1])), jnp.float32)
    velocity = smooth_flow(rng, size_px=2.0) * window[None]
    flow, opposite = exponential(velocity), exponential(-velocity)
    assert int(operators.folding_count(flow)) == 0
    assert int(operators.folding_count(8 * velocity)) > 0  # the velocity itself, taken as a flow, would
    # Linear interpolation of 5 px (the largest) over 8 px errs by 5 / 8^2 / 8 px in each of 6 squarings, which slopes
    # of 0.5 enlarge by exp(0.5).
    tolerance = 6 * 5 / 8**3 * 1.65
    assert np.abs(np.asarray(flow) - followed(np.asarray(velocity, float))).max() < tolerance
    assert float(jnp.abs(compose(flow, opposite)).max()) < tolerance
    assert float(jnp.abs(flow - velocity).max()) > 2 * tolerance


def test_gradients_pass_through(rng):
    velocity = smooth_flow(rng, (12, 13), sigma_px=3.0)
    with jax.enable_x64(True):
        check_grads(
            lambda v: compose(exponential(v, squarings=3), invert(v, iterations=4)[0]),
            (jnp.asarray(np.asarray(velocity), jnp.float64) * 0.5,),
            1,
            modes=["rev"],
            eps=1e-6,
            atol=1e-3,
            rtol=1e-3,
        )


FLOW = jnp.zeros((2, 6, 7))
REFUSED = {
    "matrix": (lambda: operators.affine_flow(jnp.eye(2), (6, 7)), r"expected a matrix \(..., 2, 3\)"),
    "one side": (lambda: operators.affine_flow(jnp.ones((1, 2)), (6,)), "expected the number of sides"),
    "shift of three": (lambda: operators.rigid_flow((6, 7), [1.0, 2.0, 3.0]), r"expected a shift \(..., 2\)"),
    "a turned volume": (
        lambda: operators.rigid_flow((4, 6, 7), [1.0, 2.0, 3.0], angle_rad=0.1),
        r"expected a shape \(y, x\) to turn",
    ),
    "components": (lambda: operators.compose(FLOW, jnp.zeros((3, 6, 7))), "expected a flow"),
    "iterations": (lambda: operators.invert(FLOW, iterations=0), "expected iterations"),
    "squarings": (lambda: operators.exponential(FLOW, squarings=-1), "expected squarings"),
    "one row": (lambda: operators.jacobian_determinant(FLOW[:, :1]), "expected sides of 2 px or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
