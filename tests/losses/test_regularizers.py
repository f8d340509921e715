"""Regularizers against the published sums, written out with NumPy differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.losses import hessian_xy, hessian_xyt, hessian_xyz, l1_norm, total_variation


def _second(a, i, j):
    """Sum of |second difference| along axes i and j (equal or not)."""
    return np.abs(np.diff(a, 2, axis=i) if i == j else np.diff(np.diff(a, axis=i), axis=j)).sum()


def _hessian_xy(a):
    return _second(a, 1, 1) + _second(a, 0, 0) + 2 * _second(a, 0, 1)


def _hessian_stack(a, sigma):
    plane = _second(a, 2, 2) + _second(a, 1, 1) + 2 * _second(a, 2, 1)
    return plane + sigma * _second(a, 0, 0) + 2 * np.sqrt(sigma) * (_second(a, 2, 0) + _second(a, 1, 0))


def _hessian_by_loops(a):
    """The same sum for one image, pixel by pixel, with no library at all."""
    ny, nx = a.shape
    total = 0.0
    for i in range(ny):
        for j in range(nx):
            if 0 < j < nx - 1:
                total += abs(a[i, j - 1] - 2 * a[i, j] + a[i, j + 1])
            if 0 < i < ny - 1:
                total += abs(a[i - 1, j] - 2 * a[i, j] + a[i + 1, j])
            if i < ny - 1 and j < nx - 1:
                total += 2 * abs(a[i + 1, j + 1] - a[i + 1, j] - a[i, j + 1] + a[i, j])
    return total


def test_hessian_xy(rng):
    images = rng.normal(size=(3, 8, 11)).astype(np.float32)
    ours = hessian_xy(jnp.asarray(images))
    # Sums of some 250 float32 terms of order 1.
    np.testing.assert_allclose(ours, [_hessian_xy(a) for a in images.astype(float)], rtol=1e-5)
    np.testing.assert_allclose(ours, [_hessian_by_loops(a) for a in images.astype(float)], rtol=1e-5)


@pytest.mark.parametrize("hessian", [hessian_xyt, hessian_xyz])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0, 4.0])
def test_hessian_of_stacks(hessian, sigma, rng):
    stacks = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    expected = [_hessian_stack(a, sigma) for a in stacks.astype(float)]
    np.testing.assert_allclose(hessian(jnp.asarray(stacks), sigma=sigma), expected, rtol=1e-5)


def test_planes_and_ramps_cost_nothing():
    t, y, x = np.meshgrid(np.arange(5), np.arange(6), np.arange(7), indexing="ij")
    ramp = jnp.asarray(2 * x - 3 * y + t + 5, jnp.float32)
    assert float(hessian_xyt(ramp)) == 0
    assert float(hessian_xy(ramp[0])) == 0
    assert float(total_variation(ramp[0])) == 2 * 6 * 6 + 3 * 5 * 7


def test_l1_and_total_variation(rng):
    images = rng.normal(size=(2, 6, 9)).astype(np.float32)
    np.testing.assert_allclose(l1_norm(jnp.asarray(images)), np.abs(images).sum((1, 2)), rtol=1e-5)
    tv = np.abs(np.diff(images, axis=1)).sum((1, 2)) + np.abs(np.diff(images, axis=2)).sum((1, 2))
    np.testing.assert_allclose(total_variation(jnp.asarray(images)), tv, rtol=1e-5)


REGULARIZERS = [hessian_xy, hessian_xyt, hessian_xyz, l1_norm, total_variation]


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_gradients_on_constant_images(regularizer, value):
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(regularizer(x))))(jnp.full((4, 8, 8), value))
    # A flat image is at the minimum of all but the sparsity, which is there at 0; ``jnp.abs`` has slope 1 at 0.
    expected = float(regularizer is l1_norm and value > 0)
    np.testing.assert_array_equal(gradient, np.full((4, 8, 8), expected))


def test_gradient_with_respect_to_the_image(rng):
    stack = rng.normal(size=(4, 5, 6))
    direction = rng.normal(size=stack.shape)
    gradient = jax.jit(jax.grad(lambda a: hessian_xyt(a, sigma=0.5)))(jnp.asarray(stack, jnp.float32))
    slope = np.vdot(gradient, direction)
    # Piecewise linear: a step small enough to cross few kinks gives the slope up to those and float64 rounding.
    step = 1e-6
    finite = (
        (_hessian_stack(stack + step * direction, 0.5) - _hessian_stack(stack - step * direction, 0.5))
        / step
        / 2
    )
    assert slope == pytest.approx(finite, rel=1e-3)


REFUSED = [
    (lambda: hessian_xy(jnp.ones(5)), r"expected image with axes \(\.\.\., y, x\), got shape \(5,\)"),
    (lambda: hessian_xyt(jnp.ones((5, 5))), r"expected a stack \(\.\.\., t, y, x\), got shape \(5, 5\)"),
    (lambda: hessian_xyz(jnp.ones((5, 5))), r"expected a stack \(\.\.\., z, y, x\), got shape \(5, 5\)"),
    (
        lambda: hessian_xyt(jnp.ones((3, 5, 5)), sigma=-1.0),
        "expected sigma to be a finite number of 0 or more",
    ),
    (lambda: l1_norm(jnp.ones(5)), r"expected image with axes \(\.\.\., y, x\), got shape \(5,\)"),
    (lambda: total_variation(jnp.ones(5)), r"expected image with axes \(\.\.\., y, x\), got shape \(5,\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
