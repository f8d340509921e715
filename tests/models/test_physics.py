"""The microscope inside a network, against SciPy, against plain Richardson-Lucy, and against its own edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, signal

from dps_jax.models.physics import DARK, follow_data, reach_px, richardson_lucy_iterates
from dps_jax.operators.forward import camera_image
from dps_jax.optics.psf import airy_psf
from dps_jax.solvers import richardson_lucy

ABBE = 2.5
PSF = np.asarray(airy_psf(abbe_px=2 * ABBE, size=33), np.float64)


@pytest.fixture(scope="module")
def iterates():
    return jax.jit(richardson_lucy_iterates, static_argnames=("after", "abbe_px"))


@pytest.fixture
def scene(rng):
    """Points and a patch on a fine grid, and the camera's image of them, at most about 1."""
    thing = (rng.random((64, 64)) < 0.02) * rng.uniform(0.5, 2, (64, 64))
    thing[20:30, 35:50] += 0.15
    seen = np.asarray(camera_image(jnp.asarray(thing, jnp.float32), jnp.asarray(PSF, jnp.float32)))
    return seen / seen.max()


def _blur(fine):
    return signal.fftconvolve(np.pad(fine, 16, mode="symmetric"), PSF, mode="same")[16:-16, 16:-16]


def _fill(camera):
    return camera.repeat(2, 0).repeat(2, 1)


def _step(estimate, image):
    """One Richardson-Lucy step in float64 with SciPy, with the dark level on both sides."""
    seen = _blur(estimate).reshape(32, 2, 32, 2).sum((1, 3))
    return estimate * _blur(_fill((image + DARK) / (seen + DARK)))


def test_the_first_steps_by_hand(iterates, scene):
    first, second = np.moveaxis(np.asarray(iterates(scene[None], after=(1, 2), abbe_px=ABBE))[0], -1, 0)
    start = _blur(_fill(scene)) / 4
    by_hand = _step(start, scene)  # the momentum of the first step is (1 - 1) / (1 + 2) = 0
    ahead = by_hand + (by_hand - start) / 4  # that of the second (2 - 1) / (2 + 2)
    assert ahead.min() > 0.1 * by_hand.min()  # so that the guard against zero has nothing to do
    # float32 FFTs of values of order 1.
    np.testing.assert_allclose(first, 4 * by_hand, atol=2e-5 * first.max())
    np.testing.assert_allclose(second, 4 * _step(ahead, scene), atol=2e-5 * second.max())


def test_few_accelerated_steps_reach_what_many_plain_ones_do(iterates, scene):
    def misfit(estimate):
        """Poisson deviance of the data, with the dark level that both versions may use."""
        seen = _blur(np.asarray(estimate, np.float64)).reshape(32, 2, 32, 2).sum((1, 3)) + DARK
        data = scene + DARK
        return (seen - data + data * np.log(data / seen)).mean()

    early, late = np.moveaxis(np.asarray(iterates(scene[None], after=(12, 24), abbe_px=ABBE))[0], -1, 0) / 4
    image, psf = jnp.asarray(scene, jnp.float32), jnp.asarray(PSF, jnp.float32)
    plain = [misfit(richardson_lucy(image, psf, iterations=n)) for n in (12, 24, 48)]
    assert misfit(early) < plain[1]  # twice the steps
    assert misfit(late) < plain[2]
    assert misfit(late) < misfit(early)


@pytest.mark.parametrize("kind", ["scene", "noise"])
def test_far_away_does_not_count(iterates, scene, rng, kind):
    # Bright structure, or noise, appears on the left; beyond the stated reach nothing moves by 1e-5 of the range.
    long = np.tile(scene, (1, 3)) if kind == "scene" else rng.poisson(5.0, (32, 96)) / 10.0
    other = long.copy()
    other[:, :8] = rng.permutation(long[:, :8])
    a, b = (np.asarray(iterates(i[None], after=(3, 48), abbe_px=ABBE))[0] for i in (long, other))
    change = np.abs(a - b).max(axis=(0, 2)) / a.max()
    reach = reach_px(iterates=True, steps=0, abbe_px=ABBE)
    assert change[:16].max() > 0.1
    assert change[2 * (8 + reach) :].max() < 1e-5
    assert change[2 * (8 + reach // 2) :].max() > 1e-5  # nor is the reach stated much too large


def test_a_flat_image_stays_flat(iterates):
    flat = np.full((2, 16, 24), 0.7, np.float32)
    out = iterates(flat, after=(1, 9), abbe_px=ABBE)
    assert out.shape == (2, 32, 48, 2)
    np.testing.assert_allclose(out, 0.7, rtol=1e-4)


def test_noise_below_zero_is_borne(iterates, rng):
    out = np.asarray(iterates(rng.normal(0, 1, (1, 32, 32)), after=(2, 24), abbe_px=ABBE))
    assert np.isfinite(out).all()
    assert out.min() >= 0


def test_images_of_a_batch_are_apart(iterates, scene, rng):
    pair = np.stack([scene, rng.random(scene.shape)])
    both = np.asarray(iterates(pair, after=(4,), abbe_px=ABBE))
    np.testing.assert_allclose(both[:1], iterates(pair[:1], after=(4,), abbe_px=ABBE), atol=1e-5)


def test_gradients_pass_through(scene):
    def total(image):
        return jnp.sum(richardson_lucy_iterates(image[None], after=(3,), abbe_px=ABBE) ** 2)

    image = jnp.asarray(scene, jnp.float32)
    direction = jnp.asarray(ndimage.gaussian_filter(scene, 1.0), jnp.float32)
    slope = float(jnp.vdot(jax.jit(jax.grad(total))(image), direction))
    numeric = (float(total(image + 1e-2 * direction)) - float(total(image - 1e-2 * direction))) / 2e-2
    assert slope == pytest.approx(numeric, rel=1e-2)  # central difference of a smooth function in float32


@pytest.mark.parametrize("after", [(), (0, 3), (3, 3), (5, 2)])
def test_numbers_of_steps_must_ascend(after):
    with pytest.raises(ValueError, match="expected numbers of steps in ascending order from 1"):
        richardson_lucy_iterates(jnp.ones((1, 8, 8)), after=after, abbe_px=ABBE)


def test_a_gate_chooses_between_estimate_and_data(scene):
    estimate = jnp.full((1, 64, 64), 0.25)
    image = jnp.asarray(scene[None], jnp.float32)
    for trust in (0.0, 0.5, 1.0):
        out = follow_data(estimate, image, jnp.full((1, 64, 64), trust), abbe_px=ABBE)
        full = _step(np.full((64, 64), 0.25), scene) / 0.25
        np.testing.assert_allclose(out[0], 0.25 * full**trust, rtol=1e-4)
