"""A movie made steady: less flicker where nothing moves, nothing smeared where something does."""

import numpy as np
import pytest
from scipy import ndimage

from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import DEMO_SYSTEM
from dps_jax.pipelines.steady import pool_frames

ABBE_PX, GAIN, OFFSET = float(DEMO_SYSTEM.abbe_px), 1.7, 100.0
FRAMES, SIDE = 9, 64


@pytest.fixture(scope="module")
def scene():
    """A still scene of blobs, 60 photons at its peak, on a background of 2."""
    rng = np.random.default_rng(3)
    points = (rng.random((SIDE, SIDE)) < 0.02) * rng.uniform(0.3, 1, (SIDE, SIDE))
    image = ndimage.gaussian_filter(points, 1.3)
    return 2 + 58 * image / image.max()


def camera(rng, photons):
    return (GAIN * rng.poisson(photons) + OFFSET).astype(np.float32)


def pooled(movie, reach=3):
    return (pool_frames(movie, gain=GAIN, offset=OFFSET, abbe_px=ABBE_PX, reach=reach) - OFFSET) / GAIN


def test_a_still_scene_is_averaged(scene, rng):
    movie = camera(rng, np.broadcast_to(scene, (FRAMES, SIDE, SIDE)))
    steady = pooled(movie)
    # Seven frames in full would leave 1 / sqrt(7) = 0.38 of the noise; a few are refused by chance.
    error = np.std(steady[4] - scene) / np.std((movie[4] - OFFSET) / GAIN - scene)
    assert 0.37 < error < 0.5
    assert abs(np.mean(steady - scene)) < 0.02 * scene.mean()


def test_a_restored_movie_flickers_less_and_is_no_less_true(scene, released, rng):
    movie = camera(rng, np.broadcast_to(scene, (FRAMES, SIDE, SIDE)))
    options = {"gain": GAIN, "offset": OFFSET, "background": OFFSET + 2 * GAIN}
    single, steady = (restore(movie, DEMO_SYSTEM, released, steady_frames=n, **options).image for n in (0, 3))
    bright = np.kron(scene > 20, np.ones((2, 2))) > 0
    flicker = [np.median(i.std(axis=0)[bright]) for i in (single, steady)]
    assert flicker[1] < 0.7 * flicker[0]
    # Sharpness: the mean over the movie holds as much fine detail as without.
    detail = [np.std(i.mean(0) - ndimage.gaussian_filter(i.mean(0), 2.0)) for i in (single, steady)]
    assert detail[1] > 0.97 * detail[0]
    # Light: every frame its own.
    np.testing.assert_allclose(steady.sum((1, 2)), single.sum((1, 2)), rtol=1e-3)


def test_what_moves_is_not_smeared(rng):
    # A spot of 200 photons that moves by more than its width from frame to frame.
    yy, xx = np.mgrid[:SIDE, :SIDE]
    scenes = np.stack(
        [2 + 200 * np.exp(-((yy - 32) ** 2 + (xx - 12 - 5 * t) ** 2) / 3.4) for t in range(FRAMES)]
    )
    steady = pooled(camera(rng, scenes))
    for t in range(1, FRAMES - 1):
        for wrong in (t - 1, t + 1):
            x = 12 + 5 * wrong
            # Where the spot was or will be there is background, as in a frame by itself.
            assert steady[t, 31:34, x - 1 : x + 2].mean() < 2 + 0.02 * 200
        assert steady[t, 32, 12 + 5 * t] == pytest.approx(202, abs=5 * np.sqrt(202))


def test_frames_keep_their_light(scene, rng):
    bleaching = scene * np.exp(-np.arange(FRAMES) / 20)[:, None, None]
    movie = camera(rng, bleaching)
    steady = pool_frames(movie, gain=GAIN, offset=OFFSET, abbe_px=ABBE_PX)
    np.testing.assert_allclose((steady - OFFSET).sum((1, 2)), (movie - OFFSET).sum((1, 2)), rtol=1e-4)


def test_no_reach_changes_nothing(scene, rng):
    movie = camera(rng, np.broadcast_to(scene, (3, SIDE, SIDE)))
    np.testing.assert_allclose(
        pool_frames(movie, gain=GAIN, offset=OFFSET, abbe_px=ABBE_PX, reach=0), movie, rtol=1e-5
    )


REFUSED = [
    ({"stack": np.ones((8, 8))}, r"expected a movie \(t, y, x\), got shape \(8, 8\)"),
    ({"gain": 0.0}, "expected gain to be a finite number above 0"),
    ({"abbe_px": -1.0}, "expected abbe_px to be a finite number above 0"),
    ({"reach": -1}, "expected reach to be a whole number of 0 or more, got -1"),
]


@pytest.mark.parametrize(("wrong", "message"), REFUSED)
def test_refuses(wrong, message):
    right = {"stack": np.ones((2, 8, 8)), "gain": 1.0, "offset": 0.0, "abbe_px": 2.0, **wrong}
    with pytest.raises(ValueError, match=message):
        pool_frames(right.pop("stack"), **right)


def test_restore_refuses_what_is_no_movie(untrained, scene):
    with pytest.raises(ValueError, match="expected a movie to make steady, got 1 frame"):
        restore(scene, DEMO_SYSTEM, untrained, steady_frames=2)
    with pytest.raises(ValueError, match=r"expected a gain.*no noise"):
        restore(np.ones((2, 32, 32)), DEMO_SYSTEM, untrained, steady_frames=2)
