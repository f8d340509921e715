"""Sparse-Hessian deconvolution: it minimises what it says, and beats Richardson-Lucy on filaments at low light."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, optimize

from dps_jax.optics import gaussian_psf
from dps_jax.solvers import richardson_lucy, sparse_continuous, sparse_hessian

_clean = jax.jit(sparse_continuous, static_argnames=("fidelity", "sparsity", "third_axis", "iterations"))


def _objective(x, image, fidelity, sparsity, third=0.0):
    """The published objective on a periodic grid, in NumPy; the third axis from the end is time."""

    def second(axis):
        return np.roll(x, 1, axis) - 2 * x + np.roll(x, -1, axis)

    def mixed(a, b):
        once = np.roll(x, -1, a) - x
        return np.roll(once, -1, b) - once

    total = np.abs(second(-1)).sum() + np.abs(second(-2)).sum() + 2 * np.abs(mixed(-1, -2)).sum()
    if third:
        total += third * np.abs(second(-3)).sum()
        total += 2 * np.sqrt(third) * (np.abs(mixed(-1, -3)).sum() + np.abs(mixed(-2, -3)).sum())
    return fidelity / 2 * ((image - x) ** 2).sum() + total + sparsity * np.abs(x).sum()


def _periodic(image, axes):
    """Mirror an image on itself: periodic without seams, as the solver's border makes it within its reach."""
    for axis in axes:
        image = np.concatenate([image, np.flip(image, axis)], axis)
    return image


@pytest.mark.parametrize(("third", "shape"), [(0.0, (8, 8)), (0.5, (4, 6, 6))])
def test_it_finds_the_minimum_of_the_published_objective(rng, third, shape):
    image = _periodic(rng.uniform(0, 1, shape), range(-len(shape), 0))
    image /= image.max()
    ours = np.asarray(
        _clean(image.astype(np.float32), fidelity=5.0, sparsity=0.4, third_axis=third, iterations=600), float
    )

    # Subgradient-free oracle: L-BFGS on |d| smoothed to sqrt(d^2 + 1e-8), which is within 1e-4 per term of it.
    def smooth(flat):
        x = jnp.asarray(flat, jnp.float32).reshape(image.shape)
        return _smooth(x, jnp.asarray(image, jnp.float32), third)

    value_and_grad = jax.jit(jax.value_and_grad(smooth))
    found = optimize.minimize(
        lambda v: tuple(np.asarray(a, float) for a in value_and_grad(v)),
        image.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000},
    )
    best = _objective(np.maximum(found.x.reshape(image.shape), 0), image, 5.0, 0.4, third)
    reached = _objective(ours, image, 5.0, 0.4, third)
    start = _objective(image, image, 5.0, 0.4, third)
    assert reached < best + 0.01 * (start - best)


def _smooth(x, image, third):
    def magnitude(d):
        return jnp.sum(jnp.sqrt(d**2 + 1e-6))

    def second(axis):
        return jnp.roll(x, 1, axis) - 2 * x + jnp.roll(x, -1, axis)

    def mixed(a, b):
        once = jnp.roll(x, -1, a) - x
        return jnp.roll(once, -1, b) - once

    total = magnitude(second(-1)) + magnitude(second(-2)) + 2 * magnitude(mixed(-1, -2))
    if third:
        total += third * magnitude(second(-3))
        total += 2 * third**0.5 * (magnitude(mixed(-1, -3)) + magnitude(mixed(-2, -3)))
    return 2.5 * jnp.sum((image - x) ** 2) + total + 0.4 * magnitude(x)


def test_the_same_deconvolution_is_better_after_it_at_low_light(rng):
    # The claim of Zhao et al. 2022: continuity and sparsity keep a long deconvolution from amplifying noise. (Against
    # Richardson-Lucy stopped by an oracle nothing was gained on these lines.)
    y, x = np.mgrid[:96, :96]
    truth = sum(
        np.exp(-((y - a * x - b) ** 2) / (1 + a**2) / 2) for a, b in ((0.3, 20), (-0.5, 80), (0.1, 55))
    )
    psf = np.asarray(gaussian_psf(sigma_px=2.0, size=13))
    plain = jax.jit(lambda i: richardson_lucy(i, psf, iterations=20, factor=1, accelerated=True))
    ours = jax.jit(
        lambda i: sparse_hessian(i, psf, fidelity=20.0, sparsity=0.05, deconvolution_iterations=20)
    )
    gains = []
    for _ in range(3):
        counts = rng.poisson(15 * ndimage.convolve(truth, psf, mode="reflect")).astype(np.float32)
        without, with_ = (np.linalg.norm(np.asarray(f(counts)) / 15 - truth) for f in (plain, ours))
        gains.append(20 * np.log10(without / with_))
    assert np.mean(gains) > 1.0  # dB


def test_light_is_kept_and_nothing_is_negative(rng):
    counts = rng.poisson(5.0, (2, 32, 32)).astype(np.float32)
    out = np.asarray(sparse_hessian(counts, gaussian_psf(sigma_px=1.0), iterations=10))
    assert out.min() >= 0
    np.testing.assert_allclose(out.sum((1, 2)), counts.sum((1, 2)), rtol=1e-4)


def test_continuity_in_time_steadies_a_movie(rng):
    movie = rng.poisson(np.full((12, 24, 24), 20.0)).astype(np.float32)
    apart = np.asarray(_clean(movie, fidelity=20.0, sparsity=0.0, iterations=60))
    together = np.asarray(_clean(movie, fidelity=20.0, sparsity=0.0, third_axis=1.0, iterations=60))
    assert together.std(0).mean() < 0.7 * apart.std(0).mean()


def test_the_unit_does_not_matter(rng):
    image = rng.poisson(30.0, (24, 24)).astype(np.float32)
    np.testing.assert_allclose(_clean(100 * image), 100 * np.asarray(_clean(image)), rtol=1e-3)
    assert not np.asarray(_clean(np.zeros((16, 16), np.float32))).any()
    assert not np.asarray(_clean(np.full((16, 16), -3.0, np.float32))).any()  # all below the background


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fidelity": 0.0}, "fidelity to be a finite number above 0"),
        ({"sparsity": -1.0}, "sparsity to be a finite number of 0 or more"),
        ({"third_axis": -1.0}, "third_axis to be a finite number of 0 or more"),
        ({"third_axis": 1.0}, r"a stack \(..., t, y, x\) with third_axis, got shape \(8, 8\)"),
        ({"iterations": 0}, "iterations"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        sparse_continuous(jnp.ones((8, 8)), **options)
