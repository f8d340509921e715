"""The weighted sum of terms: arithmetic, refusals, trust in bright images, and gradients that stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.losses import TERMS, hessian_xy, hessian_xyt, l1_norm, objective, ssim, total_variation
from dps_jax.losses.objective import REGULARIZERS

# Compiled as a whole, which is faster than op by op.
_objective = jax.jit(objective)
FIDELITY = sorted(set(TERMS) - set(REGULARIZERS))


@pytest.fixture
def images(rng):
    """Estimate on the fine grid, prediction and measurement of three images."""
    shapes = ((3, 32, 32), (3, 16, 16), (3, 16, 16))
    return tuple(jnp.asarray(rng.uniform(0, 1, s), jnp.float32) for s in shapes)


def test_names_of_terms():
    assert set(TERMS) == {
        *("ssim", "l1", "l2", "log_l2", "weighted_l2", "poisson", "fft_l1"),
        *("hessian", "sparsity", "tv"),
    }
    assert set(REGULARIZERS) == {"hessian", "sparsity", "tv"}


def test_sum_of_weights_times_terms(images):
    weights = {name: 0.1 * (i + 1) for i, name in enumerate(sorted(TERMS))}
    loss, diagnostics = _objective(*images, weights=weights)
    assert set(diagnostics) == set(TERMS)
    # Diagnostics are unweighted: each alone is the objective with weight 1.
    for name, value in diagnostics.items():
        np.testing.assert_allclose(_objective(*images, weights={name: 1.0})[0], value, rtol=1e-6)
    assert float(loss) == pytest.approx(sum(w * float(diagnostics[n]) for n, w in weights.items()), rel=1e-5)


def test_terms_are_the_library_s_own_means(images):
    x, f, t = images
    _, diagnostics = _objective(x, f, t, weights=dict.fromkeys(TERMS, 1.0))
    np.testing.assert_allclose(diagnostics["ssim"], np.mean(1 - ssim(f, t, data_range=1.0)), rtol=1e-5)
    for name, regularizer in {"hessian": hessian_xy, "sparsity": l1_norm, "tv": total_variation}.items():
        # Per pixel of the estimate.
        np.testing.assert_allclose(diagnostics[name], np.mean(regularizer(x)) / 32**2, rtol=1e-5)


def test_regularizers_do_not_depend_on_the_image_s_size(images):
    tiled = jnp.tile(images[0], (1, 3, 3))
    for name in ("sparsity", "tv", "hessian"):
        small, large = (_objective(x, *images[1:], weights={name: 1.0})[0] for x in (images[0], tiled))
        # Differences across the seams, one row in 32, are drawn from the same noise: within a few percent.
        assert float(large) == pytest.approx(float(small), rel=0.06)


def test_movies_are_asked_for_continuity_in_time(rng):
    movie = jnp.asarray(rng.uniform(0, 1, (2, 4, 16, 16)), jnp.float32)
    seen = jnp.asarray(rng.uniform(0, 1, (2, 4, 16, 16)), jnp.float32)
    weights = {"hessian": 1.0, "sparsity": 0.5, "l2": 2.0}
    for sigma in (0.0, 3.0):
        loss, diagnostics = objective(movie, seen, seen[::-1], weights=weights, hessian_time=sigma)
        in_time = np.mean(hessian_xyt(movie, sigma=sigma)) / (4 * 16 * 16)
        np.testing.assert_allclose(diagnostics["hessian"], in_time, rtol=1e-5)
        others = objective(movie, seen, seen[::-1], weights={"sparsity": 0.5, "l2": 2.0})[0]
        np.testing.assert_allclose(loss, in_time + others, rtol=1e-5)
    frame_by_frame = objective(movie, seen, seen[::-1], weights={"hessian": 1.0})[0]
    np.testing.assert_allclose(
        frame_by_frame, objective(movie, seen, seen, weights={"hessian": 1.0}, hessian_time=0.0)[0], rtol=1e-5
    )


@pytest.mark.parametrize("name", sorted(TERMS))
def test_importance_scales_fidelity_only(name, images):
    importance = jnp.asarray([0.5, 2.0, 7.0])
    loss, diagnostics = _objective(*images, weights={name: 1.0}, fidelity_importance=importance)
    plain, plain_diagnostics = _objective(*images, weights={name: 1.0})
    np.testing.assert_allclose(diagnostics[name], plain_diagnostics[name], rtol=1e-6)
    if name in REGULARIZERS:
        np.testing.assert_allclose(loss, plain, rtol=1e-6)
    else:
        each = [float(_objective(*(a[i] for a in images), weights={name: 1.0})[0]) for i in range(3)]
        np.testing.assert_allclose(loss, np.mean(np.asarray(importance) * each), rtol=1e-5)
        assert abs(float(loss) - float(plain)) > 0.1 * float(plain)


@pytest.mark.parametrize("name", sorted(TERMS))
def test_gradients_are_finite_on_flat_images(name):
    @jax.jit
    def gradients(value, measured):
        x, f, t = jnp.full((2, 32, 32), value), jnp.full((2, 16, 16), value), jnp.full((2, 16, 16), measured)
        return jax.grad(lambda x, f: objective(x, f, t, weights={name: 1.0})[0], argnums=(0, 1))(x, f)

    for value, measured in [(0.0, 0.0), (0.4, 0.4), (0.0, 0.4), (0.4, 0.0)]:
        for gradient in gradients(value, measured):
            assert np.all(np.isfinite(gradient))


def test_truth_never_enters_the_gradient_of_regularizers(images):
    x, f, t = images
    weights = dict.fromkeys(REGULARIZERS, 1.0)
    towards = jax.grad(lambda f, t: objective(x, f, t, weights=weights)[0], argnums=(0, 1))(f, t)
    assert not np.any(towards[0])
    assert not np.any(towards[1])


def test_refused_weights(images):
    with pytest.raises(ValueError, match=r"expected loss terms among ssim, l1, .*tv, got L1, hesian"):
        objective(*images, weights={"ssim": 1.0, "hesian": 1.0, "L1": 0.1})
    with pytest.raises(ValueError, match="expected at least one loss term, got none"):
        objective(*images, weights={})


@pytest.mark.parametrize("name", FIDELITY)
def test_refused_shapes(name, images):
    x, f, t = images
    message = r"expected image and reference of one shape, got \(3, 16, 16\) and \(3, 15, 16\)"
    with pytest.raises(ValueError, match=message):
        objective(x, f, t[:, :-1], weights={name: 1.0})
