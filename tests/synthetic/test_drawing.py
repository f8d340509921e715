"""Drawing is exact below the pixel: light, position and width are those asked for."""

import numpy as np
import pytest
from scipy.interpolate import BSpline

from dps_jax.synthetic import curves, drawing

SHAPE = (48, 40)


def centroid(image):
    return np.array(
        [np.average(np.arange(n), weights=image.sum(axis=1 - k)) for k, n in enumerate(image.shape)]
    )


@pytest.mark.parametrize("abbe_px", [3.0, 5.0, 10.0])
def test_a_point_keeps_its_light_and_its_place(rng, abbe_px):
    for _ in range(10):
        place_px = rng.uniform(15, 25, 2)
        image = drawing.points(
            place_px[:, None] / abbe_px, np.array([2.0]), SHAPE, abbe_px=abbe_px, sigma=0.2
        )
        # Bilinear weights keep both sums exactly; float32 and the blur's float kernel leave 1e-4.
        assert image.sum() / abbe_px**2 == pytest.approx(2.0, rel=1e-4)
        np.testing.assert_allclose(centroid(image) + 0.5, place_px, atol=2e-3)


def test_the_width_of_a_point_is_its_sigma():
    image = drawing.points(np.array([[2.4], [2.0]]), np.array([1.0]), SHAPE, abbe_px=10.0, sigma=0.3)
    x = np.arange(SHAPE[1])
    variance = np.average((x - centroid(image)[1]) ** 2, weights=image.sum(axis=0))
    # A splat halfway between two pixels adds 0.25; the kernel's end at 9.5 px (3.2 sigma) removes 1.7 % of 9.
    assert variance == pytest.approx(9.0 * 0.983 + 0.25, rel=0.01)


@pytest.mark.parametrize("shift_px", [0.1, 0.25, 0.5, 0.77, 1.3])
@pytest.mark.parametrize("angle_rad", [0.0, 0.4, np.pi / 2])
def test_a_line_moves_by_fractions_of_a_pixel(shift_px, angle_rad):
    along = 1.5 * np.array([[np.sin(angle_rad)], [np.cos(angle_rad)]]) * np.linspace(-1, 1, 9)
    across = np.array([np.cos(angle_rad), -np.sin(angle_rad)])
    line = (along + np.array([[4.8], [4.0]]))[:, None]
    before = drawing.strokes(line, np.ones((1, 1)), SHAPE, abbe_px=5.0, sigma=0.1)
    moved = line + (across * shift_px / 5.0)[:, None, None]
    after = drawing.strokes(moved, np.ones((1, 1)), SHAPE, abbe_px=5.0, sigma=0.1)
    np.testing.assert_allclose(centroid(after) - centroid(before), across * shift_px, atol=2e-3)
    assert after.sum() == pytest.approx(before.sum(), rel=1e-4)


@pytest.mark.parametrize("angle_rad", [0.0, 0.3, np.pi / 4])
def test_a_line_is_smooth_along_itself_and_as_bright_at_every_angle(angle_rad):
    along = 8 * np.array([[np.sin(angle_rad)], [np.cos(angle_rad)]]) * np.linspace(-1, 1, 30)
    line = (along + 4.8)[:, None]
    image = drawing.strokes(line, np.ones((1, 1)), (48, 48), abbe_px=5.0, sigma=0.2)
    inner = image[12:-12, 12:-12]
    # Each column, or row for steep lines, crosses 1 / cos(angle) periods of line per period.
    light = inner.sum(axis=0) / 5.0
    if angle_rad < 0.7:
        # Samples 0.46 px apart meet a bilinear splat: sinc(1 / 0.46)^2 of the light folds to 0.17 cycles per
        # pixel, where the blur leaves half: 2 * 0.006 * 0.5.
        np.testing.assert_allclose(light, 1 / np.cos(angle_rad), rtol=8e-3)
    # The peak of a Gaussian ridge is 1 / (sqrt(2 pi) sigma); the splat widens it by up to 1/4 px squared, and
    # a pixel may lie half a pixel beside the ridge, where exp(-1/8 / 1.25) = 0.90 is left.
    ridge = image[18:30, 18:30].max(axis=0)
    widest, narrowest = np.sqrt(0.04 + 0.25 / 25), 0.2 * np.sqrt(0.983)
    assert ridge.min() > 0.88 / (np.sqrt(2 * np.pi) * widest)
    assert ridge.max() < 1.02 / (np.sqrt(2 * np.pi) * narrowest)


def test_light_near_the_border_is_what_a_larger_frame_shows(rng):
    path = rng.uniform(-2, 10, (2, 5, 20))
    small = drawing.strokes(path, np.ones((5, 1)), SHAPE, abbe_px=5.0, sigma=0.25)
    large = drawing.strokes(path + 2.0, np.ones((5, 1)), (68, 60), abbe_px=5.0, sigma=0.25)
    # The number of samples per segment follows the longest one in sight, so the two differ by its ripple.
    np.testing.assert_allclose(small, large[10:-10, 10:-10], atol=2e-3 * large.max())


def test_spline_basis_is_scipys():
    at = np.linspace(0, 6, 25)
    basis = drawing.spline_basis(at, 6.0)
    cubic = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    expected = np.nan_to_num(cubic(at[:, None] - np.arange(-1, 8)))
    np.testing.assert_allclose(basis, expected, atol=1e-12)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0, atol=1e-12)


def test_smooth_field_has_unit_variance(rng):
    values = [drawing.smooth_field(rng, (40, 40), abbe_px=5.0, scale=1.0) for _ in range(200)]
    # 200 fields of some 8 x 8 / 4 independent values each: the variance is known to about 2.5 %.
    assert np.var(values) == pytest.approx(1.0, abs=0.1)
    assert abs(np.mean(values)) < 0.1


def test_coverage_of_a_half_plane_is_the_covered_share():
    np.testing.assert_allclose(
        drawing.coverage(np.array([-0.2, -0.1, 0.0, 0.05, 0.2]), abbe_px=5.0), [0, 0, 0.5, 0.75, 1]
    )


@pytest.mark.parametrize("persistence", [3.0, 20.0])
def test_chains_forget_their_direction_over_the_persistence_length(rng, persistence):
    chains = curves.worm_like_chains(rng, np.zeros((2, 4000)), length=6.0, persistence=persistence)
    step = np.diff(chains)
    heading = np.arctan2(step[0], step[1])
    cosine = np.cos(heading[:, 12] - heading[:, 2]).mean()
    # In the plane <cos> = exp(-s / 2P) when the heading's variance is s / P; 4000 chains give it to 0.015.
    assert cosine == pytest.approx(np.exp(-10 * curves.CHAIN_STEP / (2 * persistence)), abs=0.04)
    np.testing.assert_allclose(np.hypot(*step), curves.CHAIN_STEP, rtol=1e-9)


def test_three_tubules_meet_at_a_junction(rng):
    edges = curves.polygon_edges(rng.uniform(0, 20, (2, 150)), longest=5.0)
    ends = np.round(edges.reshape(2, -1), 6)
    _, first, meeting = np.unique(ends, axis=1, return_index=True, return_counts=True)
    inner = np.all((ends[:, first] > 4) & (ends[:, first] < 16), axis=0)
    assert inner.sum() > 50
    assert np.all(meeting[inner] == 3)


@pytest.mark.parametrize(
    ("shape", "abbe_px", "message"),
    [
        ((0, 4), 5.0, "shape"),
        ((4, 4, 4), 5.0, "shape"),
        ((4, 4.5), 5.0, "shape"),
        ((4, 4), 0.0, "abbe_px"),
        ((4, 4), np.nan, "abbe_px"),
    ],
)
def test_impossible_frames_are_refused(shape, abbe_px, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        drawing.check_frame(shape, abbe_px)
