"""Background and brightness: homogeneous, equivariant to an offset, and near what a scene was made with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.photometry import background_level, brightness, weigh_light
from dps_jax.pipelines.simulate import acquire


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(8)
    points = ndimage.gaussian_filter((rng.random((96, 96)) < 0.01) * 1.0, 1.2)
    return rng.poisson(10 + 300 * points / points.max()).astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(factor=st.floats(1e-3, 1e3))
def test_homogeneous(image, factor):
    scaled = np.float32(factor) * image
    for measure in (background_level, brightness):
        # float32 filters: a few times 6e-8.
        assert measure(scaled, abbe_px=2.9) == pytest.approx(factor * measure(image, abbe_px=2.9), rel=1e-5)


@settings(deadline=None, max_examples=30)
@given(offset=st.floats(-1000, 1000))
def test_an_offset_moves_the_background_by_itself(image, offset):
    found = background_level(image + np.float32(offset), abbe_px=2.9)
    # Float32 at 1300: 1e-4.
    assert found == pytest.approx(background_level(image, abbe_px=2.9) + offset, abs=1e-3)


def test_the_background_is_the_dark_level_and_not_the_tail_of_the_noise(rng):
    image = rng.poisson(100.0, (128, 128)).astype(np.float32)
    image[40:60, 40:60] += 5000
    # After smoothing by 2.9 px the noise is 10 / (2 sqrt(pi) 2.9) = 1: the percentile is 2.3 of those below 100.
    assert background_level(image, abbe_px=2.9) == pytest.approx(100 - 2.3, abs=1.5)


def test_brightness_follows_structures_and_not_a_hot_pixel(image):
    hot = image.copy()
    hot[20, 20] = 20 * image.max()
    plain = brightness(image, abbe_px=2.9)
    # A quarter of the maximum of the smoothed spike, 20 x 1 / (2 pi (0.35 2.9)^2) = 3 times the scene's.
    assert plain < brightness(hot, abbe_px=2.9) < 1.5 * plain
    assert 0.5 * image.max() < plain < image.max()


def test_a_rare_bright_object_sets_the_scale():
    image = np.zeros((256, 256), np.float32)
    image[100:104, 100:104] = 1000.0  # 16 of 65536 pixels: above the 99.9th percentile
    assert brightness(image, abbe_px=2.5) > 200


def test_frames_of_a_stack_do_not_blur_into_each_other():
    stack = np.zeros((3, 32, 32), np.float32)
    stack[1] = 60.0
    assert background_level(stack, abbe_px=2.5) == 0
    assert brightness(stack, abbe_px=2.5) == pytest.approx(60.0)


@pytest.mark.parametrize("measure", [background_level, brightness])
def test_refuses_a_period_that_is_not_positive(measure):
    with pytest.raises(ValueError, match="expected abbe_px to be a finite number above 0, got 0"):
        measure(np.ones((8, 8)), abbe_px=0)


@pytest.fixture(scope="module")
def camera_frame():
    """A scene seen through optics of 3 px Abbe period by a camera of gain 2.5 and offset 100: (frame, photons)."""
    made = acquire(
        5, OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=62.5), photons=400.0, background=5.0
    )
    return 2.5 * made.image + 100, made.expected


def test_an_image_is_brought_to_photons(camera_frame):
    frame, photons = camera_frame
    light = weigh_light(frame[None], abbe_px=3.0)
    assert light.origin == "from the mean-variance line"
    # 128 x 128 px, a quarter of the spectrum beyond the cut-off, in 24 bins: a few per cent; specimens add some.
    assert light.gain == pytest.approx(2.5, rel=0.15)
    assert light.photons(2.5 * 100) == pytest.approx(100, rel=0.15)
    assert np.abs((frame - light.offset) / light.gain - photons).mean() < 0.15 * photons.max()


@pytest.mark.parametrize("scale", [0.01, 30.0])
def test_photons_do_not_depend_on_the_unit(camera_frame, scale):
    frame, _ = camera_frame
    plain, scaled = (weigh_light(s * frame[None], abbe_px=3.0) for s in (1.0, scale))
    assert scaled.gain == pytest.approx(scale * plain.gain, rel=1e-6)
    assert scaled.offset == pytest.approx(scale * plain.offset, rel=1e-4)


def test_what_the_user_knows_wins(camera_frame):
    frame, _ = camera_frame
    light = weigh_light(frame[None], abbe_px=3.0, gain=2.0)
    assert (light.gain, light.offset, light.origin) == (2.0, None, "given")
    assert weigh_light(frame[None], abbe_px=3.0, offset=98.0).offset == 98.0


def test_what_cannot_be_known_is_said(camera_frame):
    frame, _ = camera_frame
    coarse = weigh_light(frame[None], abbe_px=1.6)
    assert coarse.gain is None
    assert coarse.photons(5.0) is None
    assert "too coarse" in coarse.origin
    assert "no noise" in weigh_light(np.ones((1, 64, 64)), abbe_px=3.0).origin


def test_only_the_middle_of_a_large_image_is_weighed(monkeypatch):
    from dps_jax.pipelines import photometry

    seen = []
    scale = photometry.estimate_photon_scale
    monkeypatch.setattr(
        photometry, "estimate_photon_scale", lambda a, **k: seen.append(a.shape) or scale(a[:64, :64], **k)
    )
    weigh_light(np.random.default_rng(0).poisson(9.0, (3, 1500, 40)), abbe_px=3.0)
    assert seen == [(1024, 40)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"gain": 0}, "expected gain to be"), ({"offset": np.nan}, "expected offset to be")],
)
def test_refuses_a_wrong_scale(camera_frame, wrong, message):
    with pytest.raises(ValueError, match=message):
        weigh_light(camera_frame[0][None], abbe_px=3.0, **wrong)
