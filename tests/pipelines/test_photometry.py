"""Background and brightness: homogeneous, equivariant to an offset, and near what a scene was made with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dps_jax.pipelines.photometry import background_level, brightness


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
