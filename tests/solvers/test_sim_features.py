"""What the learned SIM reconstruction is shown: light, resolution, the stop by noise, and how features turn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators import pixel_shuffle, space_to_depth
from dps_jax.optics import OpticalSystem, RadialOtf
from dps_jax.pipelines.simulate_sim import acquire_sim
from dps_jax.solvers.sim_features import CHANNELS, sim_features, turned, turned_back, turned_features
from dps_jax.solvers.sim_reconstruction import seen_at_stripes_resolution

SYSTEM = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
OTF = RadialOtf.airy(float(SYSTEM.abbe_px))


@pytest.fixture(scope="module")
def made():
    return acquire_sim(3, SYSTEM, shape=(64, 64), photons=100)


@pytest.fixture(scope="module")
def features():
    return jax.jit(lambda y, ill, noise: sim_features(y, ill, OTF, noise_to_signal=noise))


def test_all_of_it_is_the_light_of_the_mean_frame(made, features):
    found = np.asarray(features(made.frames, made.illumination, 1e-2))
    assert found.shape == (64, 64, CHANNELS)
    mean = made.frames.mean((0, 1))
    np.testing.assert_allclose(found[..., 0], mean, rtol=1e-5)
    inner = (slice(12, -12),) * 2  # light goes over a border as blurs do
    for part in (slice(1, 5), slice(5, 9)):
        assert found[*inner, part].mean() == pytest.approx(mean[inner].mean(), rel=0.05)
    assert found[..., -1] == pytest.approx(-0.5)  # log10(0.01) / 4


def test_less_noise_more_steps(made, features):
    # More steps of Richardson-Lucy explain the frames better, and have more contrast.
    rough, fine = (
        np.asarray(features(made.frames, made.illumination, noise))[..., 1:5].std() for noise in (0.3, 1e-3)
    )
    assert fine > 1.2 * rough


def test_a_dark_level_below_zero_does_not_matter(made, features):
    # Frames of which the background was taken off are negative where noise is; light must not be made of that.
    dim = np.array(made.frames)
    dim -= np.percentile(dim, 5)
    found = np.asarray(features(dim, made.illumination, 1e-2))
    inner = (slice(12, -12),) * 2
    assert found[*inner, 1:5].mean() == pytest.approx(dim.mean((0, 1))[inner].mean(), rel=0.05)


def test_seen_at_the_resolution_of_the_stripes(made):
    point = np.zeros((64, 80), np.float32)
    point[33, 41] = 1
    image = np.asarray(jax.jit(lambda x: seen_at_stripes_resolution(x, made.illumination, OTF))(point))
    # A point far from the borders: its light stays, but for the share 2 / (pi v) of an Airy pattern beyond the radius
    # v = pi r k (Born and Wolf), and its spectrum ends where the longest stripes carry the cut-off k.
    reach = float(OTF.cutoff) + np.linalg.norm(np.asarray(made.illumination.wavevectors), axis=1).max()
    assert image.sum() == pytest.approx(1, abs=float(2 / (np.pi * np.pi * 31 * reach / 2)))
    frequency = 2 * np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(80)[None])
    spectrum = np.abs(np.fft.fft2(image))
    # What the crop cuts off of the pattern's rings is left.
    assert spectrum[frequency > 1.05 * reach].max() < 5e-3
    assert spectrum[frequency < 0.5 * reach].min() > 0.3


WAYS = pytest.mark.parametrize("way", range(8))


@WAYS
def test_turned_is_turned_back(way, rng):
    image = rng.normal(size=(4, 6, 2))
    np.testing.assert_array_equal(turned_back(turned(image, way), way), image)
    assert turned(image, way).shape == ((6, 4, 2) if way & 4 else (4, 6, 2))


def test_the_ways_differ(rng):
    image = rng.normal(size=(4, 4))
    assert len({turned(image, way).tobytes() for way in range(8)}) == 8


@WAYS
def test_features_turn_as_images_do(way, rng):
    mean, level = rng.normal(size=(2, 4, 6))
    fine = rng.normal(size=(2, 8, 12))

    def features(mean, fine, level):
        blocks = np.asarray(space_to_depth(jnp.asarray(fine)[..., None], 2))
        return np.concatenate([mean[..., None], *blocks, level[..., None]], axis=-1)

    found = turned_features(features(mean, fine, level), way)
    expected = features(turned(mean, way), np.stack([turned(f, way) for f in fine]), turned(level, way))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # The image that a network starts from is the turned one.
    base = pixel_shuffle(jnp.asarray(found[None, ..., 1:5]), 2)[0, ..., 0]
    np.testing.assert_allclose(base, turned(fine[0], way), rtol=1e-6)
