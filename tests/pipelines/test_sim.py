"""From raw frames to the reconstruction: checks that refuse, light that is kept, and a report that is true."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.io import UserError
from dps_jax.metrics.light import brightness
from dps_jax.models import SimUNet
from dps_jax.operators import convolve
from dps_jax.optics import OpticalSystem, RadialOtf, airy_psf
from dps_jax.pipelines.sim import SimSettings, check_count, reconstruct_sim
from dps_jax.pipelines.sim_learned import learned_sim
from dps_jax.pipelines.sim_refine import refine
from dps_jax.pipelines.simulate_sim import acquire_sim
from dps_jax.solvers import estimate_illumination, make_misfit
from dps_jax.solvers.sim_features import CHANNELS, sim_features, turned_back, turned_features
from dps_jax.weights import Network

SYSTEM = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
OTF = RadialOtf.airy(float(SYSTEM.abbe_px))
QUICK = SimSettings(refine=False)


@pytest.fixture(scope="module")
def made():
    return acquire_sim(5001, SYSTEM, shape=(128, 128), photons=500, background=20.0)


@pytest.mark.parametrize("method", ["wiener", "richardson-lucy"])
def test_light_is_that_of_the_mean_frame(made, method):
    result = reconstruct_sim(made.frames[None], OTF, settings=SimSettings(method=method, refine=False))
    assert result.image.shape == (1, 256, 256)
    light = made.frames.astype(float).mean((0, 1)).sum() - result.background * 128**2
    assert result.image.astype(float).sum() == pytest.approx(light, rel=1e-4)  # evened out in float32
    # The level that 1 % of the smoothed image is below: above the pedestal by what light is everywhere.
    assert 18 < result.background < 40


def test_linear_in_gain_and_blind_to_an_offset(made):
    first = reconstruct_sim(made.frames[None], OTF, settings=QUICK)
    other = reconstruct_sim(10 * made.frames[None] + 300, OTF, settings=QUICK)
    np.testing.assert_allclose(other.image, 10 * first.image, atol=1e-2 * first.image.max())
    np.testing.assert_allclose(
        other.illumination.wavevectors, first.illumination.wavevectors, rtol=1e-4, atol=1e-5
    )


def test_refining_finds_unequal_phases():
    made = acquire_sim(5003, SYSTEM, shape=(96, 96), photons=1000, phase_error_rad=0.15)
    start = estimate_illumination(made.frames, OTF).illumination
    found, gain = refine(made.frames, start, (OTF, OTF))
    assert gain > 0
    misfit = make_misfit(made.frames, OTF)
    # As well as the truth explains the frames, which nothing can do much better: 18 numbers fitted to 83,000.
    assert float(misfit(found)) < 1.002 * float(misfit(made.illumination))
    flip = np.sign(np.sum(np.asarray(found.wavevectors) * np.asarray(made.illumination.wavevectors), 1))
    assert (flip == 1).all()
    middle = (
        2 * np.pi * 47.5 * (np.asarray(found.wavevectors) - np.asarray(made.illumination.wavevectors)).sum(1)
    )
    off = np.asarray(found.phases_rad) - np.asarray(made.illumination.phases_rad) + middle[:, None]
    assert np.degrees(np.abs(np.angle(np.exp(1j * off)))).max() < 3.0  # the promise, in every frame


def test_flicker_is_evened_out(made):
    lamp = np.array([1.0, 1.06, 0.95])[None, :, None, None]
    flickering = 20 + lamp * (made.frames - 20)
    # Equal steps by half a percent: the stripes' own sum over this field is not quite 1 in every frame.
    settings = SimSettings(refine=False, background=20.0)
    first = reconstruct_sim(made.frames[None], OTF, settings=settings)
    other = reconstruct_sim(flickering[None], OTF, settings=settings)
    ratio = other.image.sum() / first.image.sum()
    np.testing.assert_allclose(other.image / ratio, first.image, atol=1e-2 * first.image.max())


def test_noise_is_what_is_left(made):
    result = reconstruct_sim(
        made.frames[None], OTF, settings=SimSettings(noise_to_signal=1e-3, notch=0.0, apodisation=0.0)
    )
    # The root mean square of photon noise is the root of the mean count; the fit takes up a little of it, and what it
    # cannot explain adds a little.
    expected = np.sqrt(made.frames.mean()) / (made.frames.mean() - result.background)
    assert result.residual_share == pytest.approx(expected, rel=0.15)


def test_even_light_is_refused():
    even = acquire_sim(5000, SYSTEM, photons=300, modulation=0.0)
    with pytest.raises(
        UserError, match=r"expected stripes in the frames of every angle, got correlation peaks"
    ):
        reconstruct_sim(even.frames[None], OTF, settings=QUICK)


def test_another_order_of_frames_is_named(made):
    with pytest.raises(UserError, match="choose the other --frame-order"):
        reconstruct_sim(made.frames.swapaxes(0, 1)[None], OTF, settings=QUICK)


def test_saturated_and_dark_frames_are_refused(made):
    counts = np.clip(made.frames, 0, 255).astype(np.uint8)
    with pytest.raises(
        UserError, match=r"expected frames that are not saturated, got .*% of the pixels at 255"
    ):
        reconstruct_sim(counts[None], OTF, settings=QUICK)
    dark = made.frames.copy()
    dark[1, 2] = 0
    with pytest.raises(UserError, match=r"plane 1, angle 2, phase 3 has"):
        reconstruct_sim(dark[None], OTF, settings=QUICK)
    # The brighter planes of a volume are not to blame for the dark frame of a dim one.
    volume = np.stack([5 * made.frames, made.frames, dark])
    with pytest.raises(UserError, match=r"plane 3, angle 2, phase 3 has"):
        reconstruct_sim(volume, OTF, settings=QUICK)
    with pytest.raises(UserError, match="expected frames that differ by their stripes"):
        reconstruct_sim(np.zeros((1, 3, 3, 64, 64)), OTF, settings=QUICK)


def test_counts_and_settings_are_refused():
    assert check_count(135, 3, 5) == 9
    with pytest.raises(
        UserError, match="expected 3 angles x 3 phases = 9 frames for each plane, got 10 in all"
    ):
        check_count(10, 3, 3)
    with pytest.raises(ValueError, match="method"):
        SimSettings(method="magic")
    with pytest.raises(ValueError, match="notch"):
        SimSettings(notch=1.5)
    with pytest.raises(ValueError, match=r"expected frames \(plane, angle, phase, y, x\)"):
        reconstruct_sim(np.ones((3, 3, 64, 64)), OTF)


def test_real_frames_without_a_hint(data_folder):
    """Real microtubules: the given whole-numbered vectors are the nearest to those found, up to the sign."""
    import tifffile

    frames = tifffile.imread(data_folder / "sim" / "raw_sim2d_microtubules.tif").reshape(3, 3, 512, 512)
    found = estimate_illumination(frames, RadialOtf.airy(3.0))
    vectors = 512 * np.asarray(found.illumination.wavevectors)
    given = np.array([(-85, -82), (-28, 112), (108, -35)])
    vectors *= np.sign(np.sum(vectors * given, 1))[:, None]
    np.testing.assert_array_equal(np.round(vectors), given)
    assert min(found.significance) > 50
    # Independently, between those whole numbers: the brightest point of each band's own transform, Hann window.
    y, x = np.arange(512)[:, None], np.arange(512)[None]
    window = np.hanning(512)[:, None] * np.hanning(512)
    for stack, vector in zip(frames.astype(float), vectors, strict=True):
        band = sum(np.exp(2j * np.pi * j / 3) * f for j, f in enumerate(stack)) * window
        steps = np.arange(-0.3, 0.301, 0.05)

        def size(dy, dx, vector=vector, band=band):
            wave = np.exp(-2j * np.pi * ((vector[0] + dy) * y + (vector[1] + dx) * x) / 512)
            mirrored = np.exp(2j * np.pi * ((vector[0] + dy) * y + (vector[1] + dx) * x) / 512)
            return max(abs((band * wave).sum()), abs((band * mirrored).sum()))

        sizes = np.array([[size(dy, dx) for dx in steps] for dy in steps])
        at = np.unravel_index(sizes.argmax(), sizes.shape)
        assert np.abs(steps[list(at)]).max() < 0.2  # the promise, in samples of the FFT


def test_planes_share_their_stripes(made):
    two = np.stack([made.frames, 2 * made.frames])
    result = reconstruct_sim(two, OTF, settings=SimSettings(refine=False, background=0.0))
    np.testing.assert_allclose(result.image[1], 2 * result.image[0], atol=1e-3 * result.image.max())
    assert jnp.isfinite(result.image).all()


def test_noise_is_not_refined_into_stripes():
    """A bright object in the corner of an empty field: depths stay those of stripes."""
    made = acquire_sim(5001, SYSTEM, shape=(128, 128), photons=500)
    rng = np.random.default_rng(0)
    field = rng.poisson(5.0, (3, 3, 400, 400)).astype(np.float32)
    field[..., :128, :128] += made.frames
    result = reconstruct_sim(field[None], OTF)
    depth = np.asarray(result.illumination.modulation)
    assert (depth < 1).all()
    np.testing.assert_allclose(
        depth, 0.8, atol=0.25
    )  # of an object that ends at a sharp border, beside noise


def test_low_light_is_left_unrefined():
    # Equal phases at 15 photons: what the gradient gains is noise.
    made = acquire_sim(5000, SYSTEM, photons=15)
    result = reconstruct_sim(made.frames[None], OTF)
    start = estimate_illumination(made.frames - result.background, OTF).illumination
    assert not result.refined
    np.testing.assert_allclose(result.illumination.phases_rad, start.phases_rad, atol=0.05)


def test_the_noise_of_a_movie_is_that_of_its_frames():
    expected = acquire_sim(5001, SYSTEM, photons=30).expected
    planes = np.stack([np.random.default_rng(i).poisson(expected) for i in range(6)]).astype(np.float32)
    movie = reconstruct_sim(planes, OTF, settings=QUICK)
    single = reconstruct_sim(planes[:1], OTF, settings=QUICK)
    # The mean of six has a sixth of the noise; single frames differ among themselves by a tenth or so.
    assert movie.noise_to_signal == pytest.approx(single.noise_to_signal, rel=0.3)


def test_planes_in_another_order_are_refused():
    frames = acquire_sim(5001, SYSTEM, photons=500).frames
    pages = np.stack([frames] * 4).reshape(36, 128, 128)  # plane, angle, phase
    omx = pages.reshape(3, 4, 3, 128, 128).swapaxes(0, 1)
    with pytest.raises(UserError, match=r"choose (another|the other) --frame-order"):
        reconstruct_sim(omx, OTF, settings=QUICK)


@pytest.mark.parametrize("notch", [0.0, 0.8, 1.0])
def test_the_notch_keeps_contrast_and_light(made, notch):
    settings = SimSettings(refine=False, notch=notch, background=20.0, noise_to_signal=3e-3)
    result = reconstruct_sim(made.frames[None], OTF, settings=settings)
    light = made.frames.astype(float).mean((0, 1)).sum() - 20.0 * 128**2
    assert result.image.astype(float).sum() == pytest.approx(light, rel=1e-4)
    # Detail is about as strong as the truth's seen at that resolution, whatever is held back around zero frequency.
    abbe_px = 2 * float(SYSTEM.abbe_px)
    target = np.asarray(convolve(jnp.asarray(made.truth), airy_psf(abbe_px=abbe_px / 1.9)))
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None]) * abbe_px
    band = (f > 0.3) & (f < 0.9)
    window = np.outer(np.hanning(256), np.hanning(256))
    a, b = (np.fft.fft2((i - i.mean()) * window)[band] for i in (result.image[0], target))
    # The apodisation leaves more of it: the ideal OTF to the power 0.2 against the whole, 0.98 / 0.8 to 0.88 / 0.4.
    assert 0.8 < float(np.sum(a * np.conj(b)).real / np.sum(np.abs(b) ** 2)) < 2.2


def test_the_network_answers_in_all_eight_orientations(made):
    """Of a field that is no square, against each orientation on its own, by random weights."""
    module = SimUNet(channels=(4, 6))
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, CHANNELS)))["params"]
    params["head"]["kernel"] = 0.1 * jax.random.normal(jax.random.key(1), params["head"]["kernel"].shape)
    frames = np.asarray(made.frames[..., :40, :48]) - 20
    network = Network(module, params, 3.0, {})
    found = learned_sim(frames, made.illumination, (OTF, OTF), network, noise_to_signal=0.01)
    unit = brightness(frames.mean((0, 1)), abbe_px=float(SYSTEM.abbe_px))
    shown = jax.jit(lambda y, stripes: sim_features(y, stripes, OTF, noise_to_signal=0.01))
    features = np.asarray(shown(frames / unit, made.illumination))
    halo = module.reach
    wide = np.pad(features, [(halo, halo)] * 2 + [(0, 0)], mode="symmetric")
    apply = jax.jit(module.apply)
    answers = [
        turned_back(np.asarray(apply({"params": params}, turned_features(wide, way)[None]))[0, ..., 0], way)
        for way in range(8)
    ]
    inner = (slice(2 * halo, -2 * halo),) * 2
    expected = np.maximum(np.mean(answers, axis=0)[inner], 0) * unit / 4
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert np.std(answers, axis=0)[inner].max() > 1e-3  # they do differ


def test_the_network_method_helps_at_low_light():
    """Against the Wiener filter, both at the resolution of the stripes; 1 dB in the mean of 20 scenes."""
    gains = []
    psf = airy_psf(abbe_px=2 * float(SYSTEM.abbe_px) / 1.9)
    for seed in (5000, 5001, 5003):
        made = acquire_sim(seed, SYSTEM, photons=15)
        target = np.asarray(convolve(jnp.asarray(made.truth), psf))
        errors = []
        for method, options in (("network", {}), ("wiener", {"apodisation": 0.0, "notch": 0.0})):
            settings = SimSettings(method=method, refine=False, background=0.0, **options)
            image = reconstruct_sim(made.frames[None], OTF, settings=settings).image[0]
            assert image.sum() == pytest.approx(float(made.frames.mean((0, 1)).sum()), rel=1e-3)
            seen = image if method == "network" else np.asarray(convolve(jnp.asarray(image), psf))
            errors.append(np.mean((seen - target)[8:-8, 8:-8] ** 2))
        gains.append(10 * np.log10(errors[1] / errors[0]))
    assert np.mean(gains) > 0
