"""What restore refuses or remarks on, in the user's terms."""

import numpy as np
import pytest

from dps_jax.pipelines.report import check_sampling
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import DEMO_SYSTEM

GOOD = np.random.default_rng(0).poisson(20.0, (32, 32)).astype(np.float32)


def with_one(value):
    image = GOOD.copy()
    image[3, 4] = value
    return image


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (with_one(np.nan), "an image without NaN or infinity, got one that holds some"),
        (with_one(np.inf), "an image without NaN or infinity"),
        (with_one(-np.inf), "an image without NaN or infinity"),
        (GOOD[0], r"an image \(y, x\) or \(frame, y, x\) of at least 16 px a side, got \(32,\)"),
        (GOOD[None, None], r"of at least 16 px a side, got \(1, 1, 32, 32\)"),
        (np.float32(3), r"of at least 16 px a side, got \(\)"),
        (GOOD[:15], r"of at least 16 px a side, got \(15, 32\)"),
        (GOOD[:, :15], r"of at least 16 px a side, got \(32, 15\)"),
        (np.zeros((0, 32, 32)), r"of at least 16 px a side, got \(0, 32, 32\)"),
        (GOOD + 0j, "an image of real numbers, got complex64"),
        (GOOD.astype(object), "an image of real numbers, got object"),
    ],
)
def test_refuses_images(untrained, image, message):
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        restore(image, DEMO_SYSTEM, untrained)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_pixel_size_nm": 0.0}, "output_pixel_size_nm to be a finite number above 0, got 0.0"),
        ({"output_pixel_size_nm": float("inf")}, "output_pixel_size_nm to be a finite number above 0"),
        ({"background_radius_nm": -5.0}, "background_radius_nm to be a finite number above 0"),
        ({"background": float("nan")}, "background to be a finite number, got nan"),
        ({"background": float("inf")}, "background to be a finite number, got inf"),
        ({"tile_px": 0}, "tile_px to be a whole number of 1 or more, got 0"),
    ],
)
def test_refuses_settings(untrained, settings, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        restore(GOOD, DEMO_SYSTEM, untrained, **settings)


def test_refuses_pixels_longer_than_the_abbe_period(untrained, make_system):
    with pytest.raises(
        ValueError, match=r"pixels no longer than the Abbe period of the optics \(187\.5 nm\), got 200 nm"
    ):
        restore(GOOD, make_system(200.0), untrained)


def test_remarks_on_sampling_below_nyquist_with_numbers(untrained, make_system):
    notes = restore(GOOD, make_system(120.0), untrained).report.notes
    (note,) = [n for n in notes if "too coarse" in n]
    assert "120.0 nm" in note
    assert "93.8 nm" in note  # half of the Abbe period of 187.5 nm
    assert "188 nm" in note


def test_a_large_correction_of_the_light_is_said(untrained, make_system):
    """Random weights do not know how bright an image is: the factor that mends it is named."""
    report = restore(GOOD, make_system(75.0), untrained).report
    assert not 1 / 1.25 <= report.flux_correction <= 1.25
    (note,) = (n for n in report.notes if "light" in n and "scaled" in n)
    assert f"scaled by {report.flux_correction:.2f}" in note


@pytest.mark.parametrize(("pixel_size_nm", "notes"), [(60.0, 0), (93.75, 0), (93.8, 1), (187.5, 1)])
def test_nyquist_is_half_the_abbe_period(make_system, pixel_size_nm, notes):
    assert len(check_sampling(make_system(pixel_size_nm))) == notes
