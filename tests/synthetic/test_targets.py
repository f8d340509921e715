"""Targets are where their geometry says, to a twentieth of a pixel."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize_scalar

from dps_jax.synthetic import targets


def profile(image, centre_px, angle_rad, length_px, positions):
    """Mean along the lines, by spline interpolation, at positions across them."""
    along = np.linspace(-0.3, 0.3, 41)[:, None] * length_px
    y = centre_px[0] + along * np.sin(angle_rad) + positions * np.cos(angle_rad)
    x = centre_px[1] + along * np.cos(angle_rad) - positions * np.sin(angle_rad)
    return map_coordinates(image.astype(float), [y, x], order=3).mean(axis=0)


def measured(image, pair):
    """Positions of the two lines, as centroids, and of the dip between them once a blur has made it round."""
    half = pair.separation_px / 2
    at = np.linspace(-2 * half, 2 * half, 401)
    geometry = (pair.centre_px, pair.angle_rad, pair.length_px, at)
    sharp = profile(image, *geometry)
    left, right = (np.average(at[side], weights=sharp[side]) for side in (at < 0, at > 0))
    blurred = CubicSpline(at, profile(gaussian_filter(image, 0.3 * pair.separation_px), *geometry))
    dip = minimize_scalar(blurred, bounds=(-half / 2, half / 2), method="bounded", options={"xatol": 1e-6})
    return left, dip.x, right


@pytest.mark.parametrize("angle_rad", [0.0, 0.3, np.pi / 4, np.pi / 2, 2.5])
@pytest.mark.parametrize("separation_px", [4.0, 5.37, 8.5])
def test_a_line_pair_has_its_separation_and_its_dip_in_the_middle(angle_rad, separation_px):
    pair = targets.LinePair((31.3, 29.62), angle_rad, separation_px, 24.0, 1.0)
    left, dip, right = measured(targets.line_pairs((64, 60), **vars(pair)), pair)
    # Lines of sigma 0.58 px, 4 px apart, overlap by 3e-4 of their light. The first alias of a bar 1 px wide
    # and blurred by 0.5 px moves a centroid by under 0.02 px; the test's interpolation adds about as much.
    assert right - left == pytest.approx(separation_px, abs=0.05)
    assert dip == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("angle_rad", [0.0, 0.7])
@pytest.mark.parametrize("width_px", [0.4, 1.0, 3.0])
def test_a_line_pair_holds_the_light_of_two_bars(angle_rad, width_px):
    image = targets.line_pairs(
        (64, 64),
        separation_px=7.0,
        angle_rad=angle_rad,
        centre_px=(30.2, 33.1),
        length_px=30.0,
        width_px=width_px,
    )
    assert image.dtype == np.float32
    assert image.sum() == pytest.approx(2 * 30.0 * width_px, rel=0.01)


def test_touching_bars_of_their_separations_width_are_one_bar():
    image = targets.line_pairs(
        (40, 40), separation_px=6.0, angle_rad=0.0, centre_px=(20, 20), length_px=80.0, width_px=6.0
    )
    np.testing.assert_allclose(image[18:23, 10:30], 1.0, atol=1e-6)


@pytest.mark.parametrize("separation_abbe", [0.8, 1.0, 1.6])
def test_random_line_pairs_are_where_their_geometry_says(rng, separation_abbe):
    image, pairs = targets.random_line_pairs(rng, (160, 144), abbe_px=5.0, separation_abbe=separation_abbe)
    assert len(pairs) >= 6
    for pair in pairs:
        left, dip, right = measured(image, pair)
        assert right - left == pytest.approx(separation_abbe * 5.0, abs=0.05)
        assert dip == pytest.approx(0.0, abs=0.05)
    light = sum(2 * pair.length_px * pair.width_px for pair in pairs)
    assert image.sum() == pytest.approx(light, rel=0.01)


def test_random_pairs_keep_two_periods_apart(rng):
    for draw in (targets.random_line_pairs, targets.random_dots):
        for _ in range(5):
            _, pairs = draw(rng, (144, 144), abbe_px=5.0, separation_abbe=1.0)
            if isinstance(pairs[0], targets.LinePair):
                centres = np.array([p.centre_px for p in pairs])
                reach = np.hypot(pairs[0].length_px, pairs[0].separation_px) / 2
            else:
                centres = np.array([np.mean([p.first_px, p.second_px], axis=0) for p in pairs])
                reach = pairs[0].separation_px / 2
            apart = np.hypot(*(centres[:, None] - centres[None]).T)[~np.eye(len(pairs), dtype=bool)]
            assert apart.min() >= 2 * reach + 2 * 5.0 - 1e-9
            assert np.all((centres >= reach) & (centres <= 143 - reach))


@pytest.mark.parametrize("separation_abbe", [0.8, 1.2])
def test_random_dots_are_where_their_geometry_says(rng, separation_abbe):
    image, pairs = targets.random_dots(rng, (144, 120), abbe_px=10.0, separation_abbe=separation_abbe)
    assert image.dtype == np.float32
    assert image.max() == pytest.approx(1.0)
    for pair in pairs:
        assert pair.separation_px == pytest.approx(separation_abbe * 10.0)
        for place in (pair.first_px, pair.second_px):
            # Eight pixels and more between dots of sigma 0.8 px: a window of 3 px holds one dot alone.
            y0, x0 = (round(p) for p in place)
            spot = image[y0 - 3 : y0 + 4, x0 - 3 : x0 + 4]
            y, x = np.mgrid[y0 - 3 : y0 + 4, x0 - 3 : x0 + 4]
            assert np.average(y, weights=spot) == pytest.approx(place[0], abs=0.02)
            assert np.average(x, weights=spot) == pytest.approx(place[1], abs=0.02)


@pytest.mark.parametrize("spokes", [6, 12, 20])
def test_the_siemens_star_turns_into_itself(spokes):
    image = targets.siemens_star((121, 121), spokes=spokes).astype(float)
    np.testing.assert_allclose(image, image[::-1], atol=1e-6)
    radius = np.arange(1.5, 3, 0.5)[:, None] * spokes  # periods of 9 px and more, inside the disc
    angle = np.linspace(0, 2 * np.pi, 400)
    turned = [
        map_coordinates(image, [60 + radius * np.sin(angle + a), 60 + radius * np.cos(angle + a)], order=1)
        for a in (0, 2 * np.pi / spokes, np.pi / spokes)
    ]
    inside = np.broadcast_to(radius < 54, turned[0].shape)
    # Edges one pixel wide meet the grid at other phases after the turn; their mean error is bounded by the
    # share of the circumference that is edge (2 px of 9 px) times the 0.1 that bilinear interpolation leaves.
    assert np.abs(turned[0] - turned[1])[inside].mean() < 0.03
    assert np.abs(turned[0] + turned[2] - 1)[inside].mean() < 0.03


def test_the_siemens_star_has_its_period_and_a_flat_middle():
    image = targets.siemens_star((200, 200), spokes=16)
    angle = np.arange(4096) / 4096 * 2 * np.pi
    ring = map_coordinates(image, [99.5 + 60 * np.sin(angle), 99.5 + 60 * np.cos(angle)], order=1)
    spectrum = np.abs(np.fft.rfft(ring - ring.mean()))
    assert spectrum.argmax() == 16
    assert ring.mean() == pytest.approx(0.5, abs=0.01)
    y, x = np.mgrid[:200, :200] - 99.5
    # Below two pixels per period: r < spokes / pi.
    np.testing.assert_allclose(image[np.hypot(y, x) < 16 / np.pi], 0.5, atol=1e-6)
    assert image[np.hypot(y, x) > 0.47 * 200 + 1].max() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda r: targets.line_pairs(
                (9, 9), separation_px=0, angle_rad=0, centre_px=(4, 4), length_px=4, width_px=1
            ),
            "separation_px",
        ),
        (
            lambda r: targets.line_pairs(
                (9, 9), separation_px=2, angle_rad=0, centre_px=(4, 4), length_px=4, width_px=-1
            ),
            "width_px",
        ),
        (
            lambda r: targets.random_line_pairs(r, (20, 90), abbe_px=5.0, separation_abbe=0.6),
            "a frame of 32 pixels",
        ),
        (
            lambda r: targets.random_dots(r, (90, 10), abbe_px=5.0, separation_abbe=0.6),
            "a frame of 14 pixels",
        ),
        (lambda r: targets.random_dots(r, (90, 90), abbe_px=5.0, separation_abbe=-1.0), "separation_abbe"),
        (lambda r: targets.siemens_star((64, 64), spokes=0), "spokes"),
    ],
)
def test_impossible_targets_are_refused(rng, call, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        call(rng)
