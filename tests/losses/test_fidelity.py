"""Pixel losses against NumPy, and what each promises of its minimum and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from dps_jax.losses import fft_l1_loss, l1_loss, l2_loss, log_l2_loss, poisson_loss, weighted_l2_loss


def _pair(rng, shape=(2, 9, 12)):
    return (rng.uniform(0.1, 3, shape).astype(np.float32) for _ in range(2))


def _numpy_fft_l1(f, t):
    return np.abs(np.fft.fft2(f, norm="ortho") - np.fft.fft2(t, norm="ortho")).mean((-2, -1))


def _numpy_fft_magnitude(f, t):
    return np.abs(np.abs(np.fft.fft2(f, norm="ortho")) - np.abs(np.fft.fft2(t, norm="ortho"))).mean((-2, -1))


def _numpy_poisson(f, t):
    f, t = f.astype(float) + 1e-3, t.astype(float) + 1e-3
    return special.kl_div(t, f).mean((-2, -1))  # t log(t / f) - t + f


LOSSES = {
    "l1": (l1_loss, lambda f, t: np.abs(f - t).mean((-2, -1))),
    "l2": (l2_loss, lambda f, t: ((f - t) ** 2).mean((-2, -1))),
    "log_l2": (log_l2_loss, lambda f, t: np.log(1e-6 + ((f - t) ** 2).mean((-2, -1)))),
    "weighted_l2": (weighted_l2_loss, lambda f, t: ((f - t) ** 2 / (0.03 + f)).mean((-2, -1))),
    "poisson": (poisson_loss, _numpy_poisson),
    "fft_l1": (fft_l1_loss, _numpy_fft_l1),
    "fft_l1 magnitude": (lambda f, t: fft_l1_loss(f, t, magnitude=True), _numpy_fft_magnitude),
}
EVERY = pytest.mark.parametrize("name", LOSSES)


@EVERY
def test_equals_numpy(name, rng):
    ours, oracle = LOSSES[name]
    f, t = _pair(rng)
    value = ours(jnp.asarray(f), jnp.asarray(t))
    assert value.shape == (2,)
    # Means of 108 float32 terms of order 1.
    np.testing.assert_allclose(value, oracle(f, t), rtol=1e-5)


@EVERY
def test_least_where_equal_and_more_elsewhere(name, rng):
    f, t = (jnp.asarray(a) for a in _pair(rng))
    # The modulus of a spectrum holds 1e-10 under its root where it is 0.
    least = np.log(1e-6) if name == "log_l2" else 0.0
    np.testing.assert_allclose(LOSSES[name][0](t, t), np.full(2, least), rtol=1e-6, atol=1e-7)
    assert np.all(np.asarray(LOSSES[name][0](f, t)) > least + 1e-3)


@EVERY
def test_gradients_are_finite_on_constant_images(name):
    @jax.jit
    def gradients(f, t):
        return jax.grad(LOSSES[name][0], argnums=(0, 1))(jnp.full((8, 8), f), jnp.full((8, 8), t))

    for f, t in [(0.0, 0.0), (0.5, 0.5), (0.0, 0.5), (0.5, 0.0), (-0.1, 0.0)]:
        for gradient in gradients(f, t):
            assert np.all(np.isfinite(gradient))


@EVERY
def test_shapes_must_agree(name):
    with pytest.raises(
        ValueError, match=r"expected image and reference of one shape, got \(8, 8\) and \(1, 8, 8\)"
    ):
        LOSSES[name][0](jnp.ones((8, 8)), jnp.ones((1, 8, 8)))


def test_poisson_is_least_at_the_data(rng):
    counts = rng.poisson(3.0, (6, 7)).astype(np.float32)
    gradient = jax.grad(lambda f: poisson_loss(f, jnp.asarray(counts)))
    # d/df = (1 - (t + floor) / (f + floor)) / n: 0 at the data (where they are not at the edge of the clip) and
    # of the sign of f - t around it.
    np.testing.assert_allclose(gradient(jnp.asarray(counts))[counts > 0], 0, atol=1e-8)
    assert np.all(np.asarray(gradient(jnp.asarray(counts + 0.1))) > 0)
    assert np.all(np.asarray(gradient(jnp.asarray(counts - 0.1)))[counts > 0] < 0)
    here = float(poisson_loss(jnp.asarray(counts), jnp.asarray(counts)))
    for change in rng.normal(size=(10, 6, 7)):
        moved = np.abs(counts + 0.5 * change).astype(np.float32)
        assert float(poisson_loss(jnp.asarray(moved), jnp.asarray(counts))) > here


def test_weight_of_weighted_l2_carries_no_gradient(rng):
    f, t = _pair(rng, (5, 6))
    gradient = jax.grad(weighted_l2_loss)(jnp.asarray(f), jnp.asarray(t), floor=0.1)
    np.testing.assert_allclose(gradient, 2 * (f - t) / (0.1 + f) / f.size, rtol=1e-5, atol=1e-8)


def test_negative_predictions_weigh_as_darkness():
    value = weighted_l2_loss(jnp.full((4, 4), -0.5), jnp.zeros((4, 4)), floor=0.1)
    assert float(value) == pytest.approx(0.25 / 0.1)


def test_magnitudes_are_blind_to_a_periodic_shift(rng):
    image = rng.uniform(size=(12, 10)).astype(np.float32)
    shifted = np.roll(image, (3, -2), axis=(0, 1))
    # Spectra of order 1, rounded by a float32 FFT.
    assert float(fft_l1_loss(jnp.asarray(shifted), jnp.asarray(image), magnitude=True)) < 1e-6
    assert float(fft_l1_loss(jnp.asarray(shifted), jnp.asarray(image))) > 0.1


@pytest.mark.parametrize("loss", [log_l2_loss, weighted_l2_loss, poisson_loss])
@pytest.mark.parametrize("floor", [0.0, -1.0, float("nan")])
def test_refused_floors(loss, floor):
    with pytest.raises(ValueError, match=f"expected floor to be a finite number above 0, got {floor}"):
        loss(jnp.ones((4, 4)), jnp.ones((4, 4)), floor=floor)
