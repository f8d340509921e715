import jax
import numpy as np
import pytest

from dps_jax import metrics

SIZE, CENTRE = 129, (63.3, 65.6)


def two_lines(angle_rad, separation_px, sigma_px, centre_px=CENTRE):
    y, x = np.mgrid[:SIZE, :SIZE] - np.reshape(centre_px, (2, 1, 1))
    across = y * np.cos(angle_rad) - x * np.sin(angle_rad)
    return sum(np.exp(-0.5 * ((across - s * separation_px / 2) / sigma_px) ** 2) for s in (-1, 1))


def dip_in_closed_form(separation_px, sigma_px):
    u = np.linspace(0.25, 0.75, 2001) * separation_px
    peak = sum(np.exp(-0.5 * ((u - s * separation_px / 2) / sigma_px) ** 2) for s in (-1, 1)).max()
    return 1 - 2 * np.exp(-0.5 * (separation_px / 2 / sigma_px) ** 2) / peak


@pytest.mark.parametrize("angle_rad", [0.0, 0.3, np.pi / 2, 2.2, -0.7])
@pytest.mark.parametrize("ratio", [1.5, 2.2, 2.6, 4.0])
def test_dip_of_two_gaussian_lines(angle_rad, ratio):
    sigma = 5.0
    found = metrics.line_pair_dip(
        two_lines(angle_rad, ratio * sigma, sigma),
        centre_px=CENTRE,
        angle_rad=angle_rad,
        separation_px=ratio * sigma,
        length_px=40,
    )
    # Bilinear interpolation is off by up to curvature / 8 = 1 / (8 sigma^2) per axis, in peak and middle.
    np.testing.assert_allclose(found, dip_in_closed_form(ratio * sigma, sigma), atol=4 / (8 * sigma**2))


def test_merged_pair_has_no_dip():
    where = {"centre_px": CENTRE, "angle_rad": 0.4, "separation_px": 8.0, "length_px": 30}
    assert float(metrics.line_pair_dip(two_lines(0.4, 8.0, 8.0), **where)) <= 0


def test_wrong_angle_hides_the_gap():
    image, where = two_lines(0.4, 12.0, 2.0), {"centre_px": CENTRE, "separation_px": 12.0, "length_px": 60}
    assert float(metrics.line_pair_dip(image, angle_rad=0.4, **where)) > 0.9
    assert float(metrics.line_pair_dip(image, angle_rad=1.2, **where)) < 0.5


def test_profile_marks_the_lines():
    profile = metrics.line_pair_profile(
        np.stack([two_lines(0.8, 16.0, 2.0)] * 2),
        centre_px=CENTRE,
        angle_rad=0.8,
        separation_px=16.0,
        length_px=30,
    )
    assert profile.shape == (2, 97)
    assert abs(int(np.argmax(profile[0, :48])) - 24) <= 1
    assert abs(48 + int(np.argmax(profile[1, 48:])) - 72) <= 1


def test_many_pairs_and_batches():
    images = np.stack([two_lines(0.0, 12.0, 3.0), two_lines(0.0, 12.0, 5.0)])
    pairs = {"centres_px": [CENTRE, CENTRE], "angles_rad": [0.0, 0.1], "separations_px": [12.0, 11.0]}
    dips = metrics.line_pair_visibility(images, **pairs, length_px=20)
    assert dips.shape == (2, 2)
    alone = metrics.line_pair_dip(
        images[1], centre_px=CENTRE, angle_rad=0.1, separation_px=11.0, length_px=20
    )
    np.testing.assert_allclose(dips[1, 1], alone, atol=1e-6)
    assert np.all(dips[0] > dips[1])


def test_dip_is_differentiable():
    image = two_lines(0.3, 12.0, 5.0).astype(np.float32)
    where = {"centre_px": CENTRE, "angle_rad": 0.3, "separation_px": 12.0, "length_px": 20}
    gradient = jax.grad(lambda i: metrics.line_pair_dip(i, **where))(image)
    assert np.all(np.isfinite(gradient))
    assert float(gradient[63, 65]) < 0  # light in the gap makes the dip shallower
    assert np.all(np.isfinite(jax.grad(lambda i: metrics.line_pair_dip(i, **where))(np.zeros_like(image))))


def test_smallest_resolved():
    separations = [2.0, 3.0, 4.0, 5.0]
    dips = np.array([[0.0, 0.2, 0.5, 0.9], [0.4, 0.0, 0.5, 0.9], [0.4, 0.4, 0.4, 0.0], [0.3, 0.3, 0.3, 0.3]])
    found = metrics.smallest_resolved_px(dips, separations_px=separations)
    np.testing.assert_array_equal(found, [3.0, 4.0, np.inf, 2.0])
    # Of two pairs with one separation both must pass.
    assert float(metrics.smallest_resolved_px([0.5, 0.0, 0.5], separations_px=[3.0, 3.0, 4.0])) == 4.0


def test_refused():
    where = {"centre_px": CENTRE, "angle_rad": 0.0, "length_px": 20}
    with pytest.raises(ValueError, match="separation_px"):
        metrics.line_pair_dip(np.ones((9, 9)), **where, separation_px=0.0)
    with pytest.raises(ValueError, match="axes"):
        metrics.line_pair_dip(np.ones(9), **where, separation_px=3.0)
    with pytest.raises(ValueError, match="as many"):
        metrics.line_pair_visibility(
            np.ones((9, 9)), centres_px=[CENTRE], angles_rad=[0.0, 1.0], separations_px=[3.0], length_px=3
        )
    with pytest.raises(ValueError, match="one separation per dip"):
        metrics.smallest_resolved_px([0.1, 0.2], separations_px=[1.0])
