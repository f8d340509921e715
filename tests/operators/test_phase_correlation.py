"""Shifts by phase correlation: shifted series in closed form, and two-photon scenes with photon noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import operators
from dps_jax.operators.phase_correlation import correlation_at
from dps_jax.synthetic import deformations, two_photon

estimate_shift = functools.partial(jax.jit, static_argnames=("passes", "largest_shift_px"))(
    lambda image, template, passes=2, largest_shift_px=15.0: operators.estimate_shift(
        image, template, passes=passes, largest_shift_px=largest_shift_px
    )
)


def waves(rng, shape, shift):
    """Return a sum of plane waves, known everywhere, at ``r - shift``: no interpolation and no border."""
    y, x = np.indices(shape, float)
    ky, kx = rng.normal(0, 0.5, (2, 60))
    phase = rng.uniform(0, 2 * np.pi, 60)
    return sum(
        np.cos(a * (y - shift[0]) + b * (x - shift[1]) + p) for a, b, p in zip(ky, kx, phase, strict=True)
    )


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.0, -3.0), (0.4, 0.25), (-7.37, 5.81)])
def test_finds_the_shift_of_a_known_function(shift):
    template, image = (
        jnp.asarray(waves(np.random.default_rng(1), (96, 80), s), jnp.float32) for s in ((0, 0), shift)
    )
    # What moved by +s is read at r + s. The bar is a fiftieth of a pixel, for a window of which a tenth changed.
    np.testing.assert_allclose(estimate_shift(image, template), shift, rtol=0, atol=0.02)


@pytest.mark.parametrize("shape", [(12, 16), (13, 15)])
def test_correlation_at_whole_and_half_pixels(rng, shape):
    images = rng.normal(size=(3, *shape))
    cross = jnp.asarray(np.fft.rfft2(images), jnp.complex64)
    rows, columns = np.arange(-3, 4), np.arange(-2, 3)
    found = correlation_at(cross, shape, [rows, columns])
    # Of whole positions, the inverse transform: rounding of some hundred terms of order 10.
    np.testing.assert_allclose(found, images[:, rows][:, :, columns], rtol=0, atol=1e-5)
    # Between them, that of a signal twice as long, with zeros for the frequencies it has more.
    wide = np.fft.fftshift(np.fft.fft2(images), axes=(-2, -1))
    if shape[0] % 2:  # the highest frequency of an even length belongs to both ends
        pad = [(0, 0)] + [(n // 2 + 1, n - n // 2 - 1) for n in shape]
        fine = np.fft.ifft2(np.fft.ifftshift(np.pad(wide, pad), axes=(-2, -1))).real * 4
        half = correlation_at(cross, shape, [np.arange(4) / 2, np.arange(5) / 2])
        np.testing.assert_allclose(half, fine[:, :4, :5], rtol=0, atol=1e-5)


def shifted_movie(seed, *, frames=20, side=128, margin=16):
    """Return still frames for a template, moved frames, and the shifts that bring these back."""
    rng = np.random.default_rng(seed)
    clean = two_photon.movie(rng, (side + 2 * margin,) * 2, frames=2 * frames)[0]
    shifts = rng.normal(0, 2, (frames, 2))
    wide = np.broadcast_to(-shifts[:, :, None, None], (frames, 2, *clean.shape[1:]))
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    return rng, clean[:frames][inner], deformations.displaced(clean[frames:], wide)[inner], shifts


@pytest.mark.parametrize(("photons", "bar_px"), [(100, 0.05), (5, 0.2)])
def test_two_photon_frames_meet_the_bars(photons, bar_px):
    for seed in range(3):
        rng, still, moved, shifts = shifted_movie(seed)
        template = two_photon.count_photons(rng, still, photons=photons).mean(0)
        found = np.asarray(estimate_shift(two_photon.count_photons(rng, moved, photons=photons), template))
        distance = np.hypot(*(found - shifts).T)
        assert distance.mean() < bar_px
        assert distance.max() < 3 * bar_px


def test_passes_remove_the_pull_of_the_window():
    errors = {1: [], 2: []}
    for seed in range(3):
        _, still, moved, shifts = shifted_movie(seed, frames=8)
        template = still.mean(0)
        for passes, found in errors.items():
            found.append(np.asarray(estimate_shift(moved, template, passes=passes)) - shifts)
    first, second = (np.sqrt(np.mean(np.square(errors[p]))) for p in (1, 2))
    assert second < first


def test_frames_are_independent_and_shapes_free(rng):
    frames = jnp.asarray(rng.normal(size=(2, 3, 32, 40)), jnp.float32)
    template = frames[0, 0]
    found = estimate_shift(frames, template)
    assert found.shape == (2, 3, 2)
    np.testing.assert_allclose(found[1, 2], estimate_shift(frames[1, 2], template), rtol=0, atol=1e-3)
    # Each its own template: nothing moved.
    np.testing.assert_allclose(estimate_shift(frames, frames), np.zeros((2, 3, 2)), rtol=0, atol=1e-3)


def test_the_largest_shift_is_kept():
    image, template = (
        jnp.asarray(waves(np.random.default_rng(1), (96, 80), s), jnp.float32) for s in ((0, 0), (6.0, -6.0))
    )
    assert float(jnp.abs(estimate_shift(image, template, largest_shift_px=3.0)).max()) <= 3.0


def test_no_contrast_no_shift():
    np.testing.assert_array_equal(estimate_shift(jnp.ones((2, 32, 32)), jnp.ones((32, 32))), np.zeros((2, 2)))


IMAGE = jnp.zeros((16, 16))
REFUSED = {
    "sizes": (
        lambda: operators.estimate_shift(IMAGE, jnp.zeros((16, 17))),
        "expected image and template of one size",
    ),
    "a row": (lambda: operators.estimate_shift(IMAGE[0], IMAGE), "expected image with axes"),
    "whitening": (
        lambda: operators.estimate_shift(IMAGE, IMAGE, whitening=1.5),
        "expected whitening from 0 to 1",
    ),
    "largest": (
        lambda: operators.estimate_shift(IMAGE, IMAGE, largest_shift_px=0.0),
        "expected largest_shift_px",
    ),
    "passes": (lambda: operators.estimate_shift(IMAGE, IMAGE, passes=0), "expected passes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
