"""Registration scores against closed forms, and against each other where one must rise."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from dps_jax import metrics


def test_endpoint_error_is_the_length_of_the_difference(rng):
    truth = rng.normal(size=(4, 2, 9, 11))
    flow = truth + np.array([3.0, -4.0])[:, None, None]
    np.testing.assert_allclose(metrics.endpoint_error(flow, truth), [5.0] * 4, rtol=1e-12)
    np.testing.assert_allclose(metrics.endpoint_error(flow, truth, percentile=90), [5.0] * 4, rtol=1e-12)


def test_endpoint_error_counts_the_mask_alone():
    flow, mask = np.zeros((2, 4, 5)), np.zeros((4, 5), bool)
    flow[0, :2], mask[:2] = 2.0, True
    assert metrics.endpoint_error(flow, np.zeros_like(flow)) == pytest.approx(1.0)
    assert metrics.endpoint_error(flow, np.zeros_like(flow), mask=mask) == pytest.approx(2.0)
    assert metrics.endpoint_error(flow, np.zeros_like(flow), mask=~mask, percentile=95) == 0


def test_template_correlation_is_pearsons(rng):
    frames, template = rng.normal(size=(3, 12, 13)), rng.normal(size=(12, 13))
    expected = [np.corrcoef(f.ravel(), template.ravel())[0, 1] for f in frames]
    np.testing.assert_allclose(metrics.template_correlation(frames, template), expected, rtol=1e-10)
    np.testing.assert_array_equal(metrics.template_correlation(np.ones((2, 4, 4)), np.eye(4)), [0.0, 0.0])


def test_crispness_of_a_ramp_and_of_a_blurred_mean(rng):
    y, x = np.indices((20, 30))
    assert metrics.crispness(3.0 * y - 4.0 * x) == pytest.approx(5 * np.sqrt(600))
    image = gaussian_filter(rng.normal(size=(64, 64)), 1.5, mode="wrap")
    smeared = np.mean([shift(image, (0, s), mode="grid-wrap") for s in (-2, 0, 2)], axis=0)
    assert metrics.crispness(smeared) < 0.8 * metrics.crispness(image)


def test_folding_fraction():
    mirrored = np.zeros((2, 2, 8, 10))
    mirrored[1, 1] = -2.0 * np.arange(10)
    np.testing.assert_array_equal(metrics.folding_fraction(mirrored), [0.0, 1.0])


@pytest.mark.parametrize("moved", [(0.0, 0.0), (0.2, 0.0), (-0.2, 0.3)])
def test_residual_motion_reads_small_shifts(moved, rng):
    image = gaussian_filter(rng.normal(size=(96, 96)), 4.0, mode="wrap")
    frame = shift(image, moved, order=3, mode="grid-wrap")
    # Central differences miss k^2 / 6 of a slope; its mean k^2 is 3 / (2 (4^2 + 1)) after the smoothing: 1.5 %. What is
    # finer than the mean, and places of one direction only, may double it.
    assert metrics.residual_motion(frame, image) == pytest.approx(np.hypot(*moved), rel=0.05, abs=1e-6)


def test_residual_motion_per_frame():
    still = np.stack([np.eye(24), np.ones((24, 24))])
    np.testing.assert_array_equal(metrics.residual_motion(still, still), [0.0, 0.0])


FLOW, IMAGE = np.zeros((2, 6, 7)), np.zeros((6, 7))
REFUSED = {
    "components": (lambda: metrics.endpoint_error(IMAGE, IMAGE), r"expected flow_px as \(..., 2, y, x\)"),
    "shapes": (lambda: metrics.endpoint_error(FLOW, FLOW[..., 1:]), "of one shape"),
    "empty mask": (lambda: metrics.endpoint_error(FLOW, FLOW, mask=IMAGE), "expected a mask with pixels"),
    "percentile": (lambda: metrics.endpoint_error(FLOW, FLOW, percentile=101), "expected a percentile"),
    "template": (lambda: metrics.template_correlation(IMAGE, IMAGE[1:]), "of one size"),
    "a row": (lambda: metrics.crispness(IMAGE[:1]), "expected sides of 2 px"),
    "window": (
        lambda: metrics.residual_motion(IMAGE, IMAGE, window_sigma_px=0.0),
        "expected window_sigma_px",
    ),
    "sizes": (lambda: metrics.residual_motion(IMAGE, IMAGE[1:]), "of one size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
