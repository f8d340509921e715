"""Denoise: noise goes; photons, unit, level and structure stay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import models
from dps_jax.pipelines.denoise import denoise, noise_share
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.weights import Network, load_network, released_path

ABBE_PX = float(DEMO_SYSTEM.abbe_px)


@pytest.fixture(scope="module")
def network():
    return load_network(task="denoise")


@pytest.fixture(scope="module")
def random_network():
    """An untrained network: its geometry is that of a trained one, its answers are not tame."""
    module = models.build("res_u_net", {"channels": (4, 8), "inputs": 2})
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 2)))["params"]
    rng = np.random.default_rng(4)

    def weights(shape):
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

    return Network(module, jax.tree.map(lambda s: weights(s.shape), shapes), 3.5, {})


@pytest.fixture(scope="module")
def dim():
    """Ten photons at the peak over two of background."""
    return acquire(11, DEMO_SYSTEM, shape=(96, 96), photons=10.0, background=2.0)


def error(image, truth):
    return float(np.sqrt(np.mean((image - truth) ** 2)))


def test_the_released_file_is_small_and_says_how_it_was_made(network):
    assert released_path(task="denoise").stat().st_size < 2e6
    header = network.header
    assert header["task"] == "denoise"
    assert header["config"]["mode"] in ("clean", "split")
    assert header["config"]["steps"] == header["final"]["step"]
    assert header["seed"] == header["config"]["seed"]
    assert header["command"].startswith("python experiments/train_denoise.py")
    assert header["numbers"]["10"]["scenes"] == 20


def test_the_released_network_takes_noise_off(network, dim):
    known = denoise(dim.image, network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    # The issue asks for 6 dB at ten photons: half the error.
    assert error(known.image, dim.expected) < 0.5 * error(dim.image, dim.expected)
    measured = denoise(dim.image, network, abbe_px=ABBE_PX)
    assert error(measured.image, dim.expected) < 0.5 * error(dim.image, dim.expected)
    assert (known.gain, known.gain_origin) == (1.0, "given")
    assert measured.gain_origin == "from the mean-variance line"
    # Noise of Poisson counts: the root of their mean.
    assert known.noise == pytest.approx(np.sqrt(dim.expected.mean()), rel=0.25)
    assert known.image.dtype == np.float32


@pytest.mark.parametrize("level", [3.0, 100.0])
def test_a_flat_field_stays_flat(network, rng, level):
    flat = rng.poisson(level, (128, 128)).astype(np.float32)
    result = denoise(flat, network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    assert result.image.std() < flat.std() / 5
    assert result.image.mean() == pytest.approx(flat.mean(), rel=1e-5)


@pytest.mark.parametrize("gain", [1.0, None])
def test_photons_are_kept_in_every_frame(network, random_network, dim, gain):
    movie = np.stack([dim.image, 3 * dim.repeat])
    for any_network in (network, random_network):
        result = denoise(movie, any_network, abbe_px=ABBE_PX, gain=gain)
        assert result.image.shape == movie.shape
        # Float32 pixels, of which some 1e4 are added up.
        assert np.allclose(
            result.image.sum((1, 2), dtype=np.float64), movie.sum((1, 2), dtype=np.float64), rtol=1e-6
        )


def test_photons_stay_where_they_were_counted(random_network, rng):
    # A network that adds as much as it may: six standard deviations, 60 photons on the left and 12 on the right.
    head = {**random_network.params["head"], "bias": np.full(1, 1e3, np.float32)}
    greedy = dataclasses.replace(random_network, params={**random_network.params, "head": head})
    expected = np.repeat(np.repeat([[100.0, 4.0]], 64, 0), 96, 1)
    image = rng.poisson(expected).astype(np.float32)
    result = denoise(image, greedy, abbe_px=3.0, gain=1.0, offset=0.0)
    # Its mean over 4 Abbe periods is put back; four such widths from the step nothing of the other side is seen, and
    # the noise of the noise level itself is below a hundredth.
    for columns, most in ((slice(0, 48), 60.0), (slice(144, 192), 12.0)):
        assert abs(float((result.image - image)[:, columns].mean())) < 0.01 * most
    assert np.abs(result.image - image).max() > 1  # beside the step


def test_no_pixel_moves_farther_than_noise_explains(random_network, dim):
    # Whatever the network says: six standard deviations of the largest noise, and as much for their mean.
    result = denoise(dim.image, random_network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    largest = np.sqrt(dim.image.max())
    assert 0 < np.abs(result.image - dim.image).max() < 12 * largest


@pytest.mark.parametrize("factor", [1e-3, 0.25, 700.0])
def test_linear_in_the_gain(network, dim, factor):
    reference = denoise(dim.image, network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    scaled = denoise(factor * dim.image, network, abbe_px=ABBE_PX, gain=factor, offset=0.0)
    assert np.abs(scaled.image / factor - reference.image).max() < 1e-3 * reference.image.max()
    assert scaled.peak_photons == pytest.approx(reference.peak_photons, rel=1e-4)
    unknown = [denoise(f * dim.image, network, abbe_px=ABBE_PX).image / f for f in (1.0, factor)]
    assert np.abs(unknown[1] - unknown[0]).max() < 1e-3 * reference.image.max()


def test_an_offset_is_background(network, dim):
    reference = denoise(dim.image, network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    raised = denoise(dim.image + 100, network, abbe_px=ABBE_PX, gain=1.0, offset=100.0)
    # Float32 at a level of 100: 1e-5 of each number, in network and result.
    assert np.abs(raised.image - 100 - reference.image).max() < 1e-3
    assert raised.background == pytest.approx(reference.background + 100, rel=1e-5)
    # The level may be stated; it stays in the result.
    stated = denoise(dim.image, network, abbe_px=ABBE_PX, background=2.0, gain=1.0, offset=0.0)
    assert stated.background == 2.0
    assert stated.image.mean() == pytest.approx(dim.image.mean(), rel=1e-5)


@pytest.mark.parametrize("shape", [(97, 131), (64, 200), (16, 70)])
def test_tiled_equals_whole(random_network, rng, shape):
    image = rng.poisson(5 + 100 * rng.random(shape) ** 4).astype(np.float32)
    tiled, whole = (
        denoise(image, random_network, abbe_px=ABBE_PX, gain=1.0, offset=0.0, tile_px=px).image
        for px in (64, 2048)
    )
    assert np.abs(whole - image).max() > 1
    # Float32 sums in another order.
    assert np.abs(tiled - whole).max() < 1e-4 * np.ptp(whole)


def test_a_bright_noiseless_image_is_hardly_changed(network):
    made = acquire(12, DEMO_SYSTEM, shape=(96, 96), photons=1e6, background=10.0)
    for gain, offset in ((1.0, 0.0), (None, None)):
        result = denoise(made.expected, network, abbe_px=ABBE_PX, gain=gain, offset=offset)
        # A millionth of the photons is noise, a thousandth of the amplitude; no pixel moves by six of these.
        assert np.abs(result.image - made.expected).max() < 6e-3 * made.expected.max()
        assert error(result.image, made.expected) < 2e-3 * made.expected.max()


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_an_image_without_light_comes_back(network, level):
    empty = np.full((40, 50), level)
    result = denoise(empty, network, abbe_px=ABBE_PX)
    assert np.array_equal(result.image, empty.astype(np.float32))
    assert "returned as it came" in result.notes[0]
    assert "no light above its background" in result.notes[0]


def test_pixels_too_coarse_to_tell_noise_need_a_gain(network, dim):
    untouched = denoise(dim.image, network, abbe_px=1.5)
    assert np.array_equal(untouched.image, dim.image)
    assert "too coarse" in untouched.notes[0]
    assert "state it" in untouched.notes[0]
    told = denoise(dim.image, network, abbe_px=1.5, gain=1.0, offset=0.0)
    assert error(told.image, dim.image) > 0
    assert any("2 to 6 px" in note for note in told.notes)


def test_too_few_photons_are_told(network):
    dark = acquire(3, DEMO_SYSTEM, shape=(96, 96), photons=0.5, background=1.0)
    result = denoise(dark.image, network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    assert result.peak_photons < 3
    assert any("may be invented" in note for note in result.notes)


def test_the_mean_over_all_orientations_knows_no_orientation(random_network, dim):
    def run(image, orientations):
        options = {"abbe_px": ABBE_PX, "gain": 1.0, "offset": 0.0, "orientations": orientations}
        return denoise(image, random_network, **options).image

    # 64 px, so that the network's grid begins at the border whichever way the image lies.
    image = dim.image[:64, :64]
    for turn in (lambda i: np.rot90(i), lambda i: i[::-1], lambda i: i.T):
        # Float32 sums in another order.
        assert np.allclose(run(turn(image), 8), turn(run(image, 8)), atol=1e-4 * image.max())
    assert np.abs(run(image.T, 1) - run(image, 1).T).max() > 0.1


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float64])
def test_any_real_type_is_taken(random_network, dim, kind):
    counts = dim.image[:32, :40].astype(kind)
    reference = denoise(counts.astype(np.float32), random_network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    result = denoise(counts, random_network, abbe_px=ABBE_PX, gain=1.0, offset=0.0)
    assert np.allclose(result.image, reference.image, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.full((20, 20), np.nan), {}, "without NaN"),
        (np.full((20, 20), np.inf), {}, "without NaN or infinity"),
        (np.ones((20, 20), complex), {}, "real numbers"),
        (np.ones((15, 20)), {}, "at least 16 px"),
        (np.ones((0, 20, 20)), {}, "at least 16 px"),
        (np.ones((1, 2, 20, 20)), {}, r"\(frame, y, x\)"),
        (np.eye(20), {"abbe_px": 0.0}, "abbe_px"),
        (np.eye(20), {"gain": -1.0}, "gain"),
        (np.eye(20), {"offset": np.nan}, "offset"),
        (np.eye(20), {"background": np.inf}, "background"),
        (np.eye(20), {"orientations": 3}, "orientations"),
    ],
)
def test_what_cannot_be_denoised_is_refused(random_network, image, options, message):
    with pytest.raises(ValueError, match=message):
        denoise(image, random_network, **{"abbe_px": ABBE_PX, **options})


def test_a_network_for_something_else_is_refused(untrained, dim):
    with pytest.raises(ValueError, match="noise level"):
        denoise(dim.image, untrained, abbe_px=ABBE_PX)


def test_the_share_of_noise_is_that_of_white_noise_over_a_known_contrast(rng):
    # One wave of amplitude 4 in photon noise of mean 100, inside the band between a tenth and all of the cut-off.
    n, abbe_px = 128, 4.0
    wave = 100 + 4 * np.sin(2 * np.pi * 16 * np.arange(n) / n)[None, :] * np.ones((n, 1))
    share = noise_share(rng.poisson(wave), abbe_px=abbe_px)
    # The wave's power, 8 on the mean, over the band's share of the spectrum, pi (1/4)^2 (1 - 0.01).
    expected = 100 / (100 + 8 / (np.pi / 16 * 0.99))
    # Known to the number of independent frequencies of the band: n^2 pi/16, three times fewer by the window.
    assert share == pytest.approx(expected, rel=5 / np.sqrt(n * n * np.pi / 16 / 3))
    given = noise_share(rng.poisson(wave), abbe_px=abbe_px, gain=1.0, offset=0.0)
    assert given == pytest.approx(expected, rel=5 / np.sqrt(n * n * np.pi / 16 / 3))


def test_the_share_of_noise_falls_with_photons_and_knows_no_unit():
    shares = []
    for photons in (1.0, 10.0, 100.0, 1000.0):
        made = acquire(11, DEMO_SYSTEM, shape=(96, 96), photons=photons, background=0.2 * photons)
        shares.append(noise_share(made.image, abbe_px=ABBE_PX))
        assert noise_share(5 * made.image + 3, abbe_px=ABBE_PX) == pytest.approx(shares[-1], rel=1e-6)
        movie = np.stack([0 * made.image, made.image, 0 * made.image])
        assert noise_share(movie, abbe_px=ABBE_PX) == shares[-1]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.5
    assert shares[-1] < 0.1
    assert noise_share(np.full((32, 32), 4.0), abbe_px=ABBE_PX) == 0.0
    # All noise.
    flat = np.random.default_rng(1).poisson(50.0, (128, 128))
    assert noise_share(flat, abbe_px=ABBE_PX) > 0.9


def test_a_share_of_noise_that_cannot_be_measured_is_refused(dim):
    with pytest.raises(ValueError, match="expected gain and offset"):
        noise_share(dim.image, abbe_px=1.5)
    assert 0 < noise_share(dim.image, abbe_px=1.5, gain=1.0, offset=0.0) < 1
