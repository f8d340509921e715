"""Photon statistics: bounds are five standard errors of the estimate, so that a right draw passes always."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators import add_poisson_noise, add_read_noise, split_photons

# One shape for all: the samplers compile once per shape.
SHAPE = (500, 400)
N = 200_000


def _assert_poisson(counts, mean):
    counts = np.asarray(counts, np.float64)
    # Variance of the sample mean m/n; of the sample variance (m + 2 m^2)/n, from the Poisson fourth moment.
    assert abs(counts.mean() - mean) < 5 * np.sqrt(mean / N)
    assert abs(counts.var() - mean) < 5 * np.sqrt((mean + 2 * mean**2) / N)


@pytest.mark.parametrize("mean", [0.3, 5.0, 300.0])
def test_poisson_mean_and_variance(key, mean):
    counts = add_poisson_noise(key, jnp.full(SHAPE, mean))
    assert counts.dtype == jnp.float32
    assert np.all(np.asarray(counts) == np.round(counts))
    _assert_poisson(counts, mean)


def test_poisson_of_darkness_and_of_negative_values(key):
    image = jnp.zeros(SHAPE).at[0].set(-3.0)
    np.testing.assert_array_equal(add_poisson_noise(key, image), np.zeros(SHAPE))


def test_poisson_counts_are_constants_to_the_gradient(key):
    image = jnp.full((4, 4), 20.0)
    np.testing.assert_array_equal(
        jax.grad(lambda x: add_poisson_noise(key, x).sum())(image), np.zeros((4, 4))
    )


@pytest.mark.parametrize("sigma_photons", [0.5, 3.0])
def test_read_noise(key, sigma_photons):
    noise = np.asarray(add_read_noise(key, jnp.full(SHAPE, 7.0), sigma_photons=sigma_photons), np.float64)
    assert abs(noise.mean() - 7) < 5 * sigma_photons / np.sqrt(N)
    # The standard deviation of n normal numbers is known to 1 / sqrt(2 n) of itself.
    assert abs(noise.std() - sigma_photons) < 5 * sigma_photons / np.sqrt(2 * N)


def test_no_read_noise_changes_nothing(key):
    image = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(add_read_noise(key, image, sigma_photons=0.0), image)


@pytest.mark.parametrize("share", [0.5, 0.2, 0.8])
def test_split_photons(key, share):
    mean = 8.0
    photon_key, split_key = jax.random.split(key)
    counts = add_poisson_noise(photon_key, jnp.full(SHAPE, mean))
    kept, rest = split_photons(split_key, counts, share=share)
    np.testing.assert_array_equal(kept + rest, counts)
    assert min(float(kept.min()), float(rest.min())) >= 0
    assert np.all(np.asarray(rest) == np.round(rest))
    _assert_poisson(rest, share * mean)
    _assert_poisson(kept, (1 - share) * mean)
    # The correlation of n independent pairs is known to 1 / sqrt(n).
    assert abs(np.corrcoef(np.ravel(kept), np.ravel(rest))[0, 1]) < 5 / np.sqrt(N)


def test_split_of_no_photons(key):
    kept, rest = split_photons(key, jnp.zeros(SHAPE))
    np.testing.assert_array_equal(kept, np.zeros(SHAPE))
    np.testing.assert_array_equal(rest, np.zeros(SHAPE))


def test_the_key_decides(key):
    image = jnp.full(SHAPE, 10.0)
    other = jax.random.key(1)
    for draw in (add_poisson_noise, add_read_noise, lambda k, x: split_photons(k, x)[0]):
        np.testing.assert_array_equal(draw(key, image), draw(key, image))
        assert np.any(np.asarray(draw(key, image)) != np.asarray(draw(other, image)))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_refused_shares(key, share):
    with pytest.raises(ValueError, match=f"expected share to be between 0 and 1, got {share}"):
        split_photons(key, jnp.ones((2, 2)), share=share)


@pytest.mark.parametrize("sigma_photons", [-1.0, float("inf")])
def test_refused_read_noise(key, sigma_photons):
    with pytest.raises(ValueError, match="expected sigma_photons to be a finite number of 0 or more"):
        add_read_noise(key, jnp.ones((2, 2)), sigma_photons=sigma_photons)
