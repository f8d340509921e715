"""Untrained networks fitted to one image: the kernel they find, what guides them, and that they repeat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import data

from dps_jax.models.deep_prior import KernelNetwork, SkipNetwork
from dps_jax.operators import convolve
from dps_jax.optics import gaussian_psf
from dps_jax.pipelines.deep_prior import fit_deep_prior
from dps_jax.training.deep_prior import DeepPrior, _Guide, make_fit

SIDE, RIM = 64, 10


@pytest.fixture(scope="module")
def streaked():
    """Part of a photograph, which has edges of every kind, and its blur by a streak: (sharp, blurred, kernel)."""
    part = data.camera()[50 : 50 + 2 * SIDE, 180 : 180 + 2 * SIDE].astype(np.float32) / 255
    sharp = part.reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    kernel = np.zeros((9, 9), np.float32)
    kernel[np.arange(1, 8), [2, 2, 3, 4, 5, 6, 6]] = 1 / 7
    return sharp, np.asarray(convolve(jnp.asarray(sharp), jnp.asarray(kernel), boundary="reflect")), kernel


def similarity(found, kernel):
    """Largest normalised correlation over shifts (Hu and Yang 2012), and the shift of ``found``."""
    reach = kernel.shape[0] // 2
    shifts = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    wide, fixed = np.pad(found, reach), np.pad(kernel, reach)
    scores = [np.vdot(np.roll(wide, s, (0, 1)), fixed) for s in shifts]
    best = int(np.argmax(scores))
    return scores[best] / np.sqrt(np.vdot(found, found) * np.vdot(kernel, kernel)), shifts[best]


def psnr(image, truth):
    inner = (slice(RIM, -RIM),) * 2
    return float(-10 * np.log10(np.mean((image[inner] - truth[inner]) ** 2)))


@pytest.mark.parametrize("guided", [False, True])
def test_a_kernel_and_an_image_are_found_blindly(streaked, guided):
    sharp, blurred, kernel = streaked
    prior = DeepPrior(kernel_px=9, iterations=1000, features=16, levels=3, guided=guided)
    found = fit_deep_prior(blurred, prior, white=1.0)
    assert np.all(np.asarray(found.kernel) >= 0)
    np.testing.assert_allclose(float(jnp.sum(found.kernel)), 1, rtol=1e-5)
    alike, shift = similarity(np.asarray(found.kernel), kernel)
    # A spot of one pixel scores 0.38, a flat square 0.29; no round spot of any width has the streak's direction.
    widths = np.linspace(0.3, 4, 30)
    round_spots = [np.asarray(gaussian_psf(sigma_px=w, size=9)) for w in widths]
    assert alike > max(similarity(spot, kernel)[0] for spot in round_spots) + 0.1
    # The error that is stated (``pipelines.deep_prior``): with both of unit norm they differ by 0.63 at the most.
    assert alike > 0.8
    # Image and kernel share the shift that no camera can tell.
    moved = np.roll(np.asarray(found.image), [-s for s in shift], (0, 1))
    # Doing nothing gains 0. How much a fit gains varies by some dB with the seed, as Bredell et al. report of it.
    assert psnr(moved, sharp) > psnr(blurred, sharp) + 0.5


def test_a_known_kernel_is_kept_and_sharpens(streaked):
    sharp, blurred, kernel = streaked
    prior = DeepPrior(kernel_px=9, iterations=400, features=16, levels=3)
    found = fit_deep_prior(100 * blurred, prior, white=100.0, psf=kernel)
    np.testing.assert_array_equal(found.kernel, kernel)
    assert psnr(np.asarray(found.image) / 100, sharp) > psnr(blurred, sharp) + 6


def test_the_guide_finds_the_shift_of_two_kernels_and_moves_its_image_along(streaked, rng):
    sharp, _, _ = streaked
    kernel = np.zeros((9, 9), np.float32)
    kernel[3:6, 3:6] = rng.random((3, 3))
    kernel /= kernel.sum()
    guide, seen = _Guide(9, 5000), jnp.asarray(sharp)
    drawn = np.roll(kernel, (2, -1), (0, 1))  # moved by -d with d = (-2, 1)
    shift, apart = guide._best_shift(jnp.asarray(kernel), jnp.asarray(drawn))
    np.testing.assert_array_equal(shift, (-2, 1))
    np.testing.assert_allclose(apart, 0, atol=1e-12)
    # The same camera image with that kernel needs the object moved by d; then guide and networks agree.
    from dps_jax.solvers import wiener

    sharpened = np.abs(wiener(jnp.asarray(sharp), jnp.asarray(kernel), noise_to_signal=0.025))
    late = jnp.asarray(False)
    here, there = (
        float(guide.agreement(jnp.asarray(kernel), seen, (jnp.asarray(image), jnp.asarray(drawn)), late))
        for image in (np.roll(sharpened, (-2, 1), (0, 1)), np.roll(sharpened, (2, -1), (0, 1)))
    )
    assert here < 1e-9
    assert there > 1e-6


def test_a_fit_repeats_and_counts(streaked):
    _, blurred, _ = streaked
    prior = DeepPrior(kernel_px=5, iterations=3, features=4, levels=1)
    told = []
    first, again, other = (
        fit_deep_prior(blurred, prior, seed=seed, progress=lambda *a: told.append(a)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.image, again.image)
    assert np.any(np.asarray(first.image) != np.asarray(other.image))
    assert told[:3] == [(1, 3), (2, 3), (3, 3)]


def test_networks_keep_their_promises():
    code = jax.random.normal(jax.random.key(0), (1, 16, 24, 8))
    painter = SkipNetwork(features=6, levels=3, skips=2)
    params = jax.jit(painter.init)(jax.random.key(1), code)
    image = jax.jit(painter.apply)(params, code)
    assert image.shape == (1, 16, 24, 1)
    assert np.all((np.asarray(image) > 0) & (np.asarray(image) < 1))
    with pytest.raises(ValueError, match="multiples of 8"):
        painter.init(jax.random.key(1), code[:, :12])
    kernel, _ = jax.jit(KernelNetwork((5, 7), hidden=10).init_with_output)(jax.random.key(2), jnp.ones(3))
    assert kernel.shape == (5, 7)
    np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeepPrior(kernel_px=4), "kernel_px to be odd"),
        (lambda: DeepPrior(kernel_px=5, iterations=0), "iterations"),
        (lambda: make_fit((2, 32, 32), DeepPrior(kernel_px=5)), "image \\(y, x\\)"),
        (lambda: make_fit((16, 32), DeepPrior(kernel_px=9)), "at least 18 px a side"),
        (lambda: make_fit((32, 32), DeepPrior(kernel_px=5), psf_shape=(4, 4)), "odd sides"),
        (lambda: fit_deep_prior(np.zeros((32, 32)), DeepPrior(kernel_px=5)), "the brightest value"),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
