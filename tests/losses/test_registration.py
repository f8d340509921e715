"""Losses of registration against plain NumPy, SciPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from dps_jax import losses


def test_the_endpoint_loss_is_the_mean_distance(rng):
    flow, truth = rng.normal(size=(2, 3, 2, 8, 9)).astype(np.float32)
    mask = rng.random((3, 8, 9)).astype(np.float32)
    length = np.hypot(*np.moveaxis(flow - truth, 1, 0))
    plain = losses.endpoint_loss(flow, truth, softness_px=1e-6)
    np.testing.assert_allclose(plain, length.mean((1, 2)), rtol=1e-5)
    weighted = losses.endpoint_loss(flow, truth, mask=mask, softness_px=1e-6)
    np.testing.assert_allclose(weighted, (length * mask).sum((1, 2)) / mask.sum((1, 2)), rtol=1e-5)
    # Exactly right has loss 0 and a gradient that is finite, and 0.
    value, slope = jax.value_and_grad(lambda f: losses.endpoint_loss(f, truth).sum())(jnp.asarray(truth))
    assert float(value) == 0
    np.testing.assert_array_equal(slope, 0)


def test_the_correlation_loss_is_pearsons_and_blind_to_brightness_and_offset(rng):
    a, b = rng.normal(size=(2, 2, 12, 10)).astype(np.float32)
    wanted = [1 - np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(losses.ncc_loss(a, b), wanted, rtol=1e-4)
    np.testing.assert_allclose(losses.ncc_loss(3 * a + 7, b), wanted, rtol=1e-4)
    half = np.zeros((2, 12, 10), np.float32)
    half[:, :5] = 1
    wanted = [1 - np.corrcoef(x[:5].ravel(), y[:5].ravel())[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(losses.ncc_loss(a, b, mask=half), wanted, rtol=1e-4)
    flat = jnp.ones((1, 12, 10))
    assert np.isfinite(jax.grad(lambda x: losses.ncc_loss(x, flat).sum())(flat)).all()


def test_the_local_correlation_is_that_of_every_window(rng):
    a, b = rng.normal(size=(2, 1, 14, 15)).astype(np.float32)
    b = a + 0.5 * b

    def mean(image):
        return uniform_filter(image.astype(float), (0, 5, 5))[:, 2:-2, 2:-2]

    covariance = mean(a * b) - mean(a) * mean(b)
    product = (mean(a * a) - mean(a) ** 2) * (mean(b * b) - mean(b) ** 2)
    wanted = 1 - (covariance**2 / (product + 1e-3)).mean((1, 2))
    np.testing.assert_allclose(losses.local_ncc_loss(a, b, window_px=5), wanted, rtol=1e-4)
    # One window alone, by its mask.
    alone = np.zeros((1, 14, 15), np.float32)
    alone[0, 6, 9] = 1
    square = np.corrcoef(a[0, 4:9, 7:12].ravel(), b[0, 4:9, 7:12].ravel())[0, 1] ** 2
    found = losses.local_ncc_loss(a, b, window_px=5, mask=alone, floor=1e-9)
    np.testing.assert_allclose(found, 1 - square, rtol=1e-4)


def test_smoothness_knows_shifts_and_affine_flows():
    y, x = np.indices((9, 7), np.float32)
    shift = np.stack([0 * y + 3, 0 * x - 2])
    affine = np.stack([0.1 * y - 0.2 * x + 1, 0.3 * x])
    assert float(losses.flow_smoothness(shift)) == 0
    # Slopes 0.1, -0.2 and 0.3, each the same everywhere.
    np.testing.assert_allclose(losses.flow_smoothness(affine), 0.01 + 0.04 + 0.09, rtol=1e-5)
    np.testing.assert_allclose(losses.flow_smoothness(affine, order=2), 0, atol=1e-10)
    # y^2 bends by 2, x y by 1 in its mixed difference, which counts twice.
    bent = np.stack([y**2, x * y])
    np.testing.assert_allclose(losses.flow_smoothness(bent, order=2), 4 + 2, rtol=1e-5)


def test_levels_are_weighed_and_those_of_weight_0_left_out(rng):
    flows = [rng.normal(size=(1, 2, n, n)).astype(np.float32) for n in (2, 4, 8)]
    seen = []

    def term(flow, cell):
        seen.append(cell)
        return jnp.mean(flow**2, axis=(1, 2, 3)) * cell

    total = losses.multi_level_loss(term, flows, (4, 2, 1), weights=(0.5, 0.0, 2.0))
    np.testing.assert_allclose(total, 2 * (flows[0] ** 2).mean() + 2 * (flows[2] ** 2).mean(), rtol=1e-5)
    assert seen == [4, 1]


FLOW, IMAGE = np.zeros((2, 8, 8), np.float32), np.zeros((8, 8), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.endpoint_loss(FLOW, FLOW[:, :4]), "of one shape"),
        (lambda: losses.endpoint_loss(IMAGE, IMAGE), r"expected a flow \(..., 2, y, x\)"),
        (lambda: losses.endpoint_loss(FLOW, FLOW, softness_px=0), "softness_px"),
        (lambda: losses.ncc_loss(IMAGE, IMAGE[:4]), "of one shape"),
        (lambda: losses.local_ncc_loss(IMAGE, IMAGE, window_px=4), "window_px to be odd"),
        (lambda: losses.local_ncc_loss(IMAGE, IMAGE, window_px=9), "at most the side of the image"),
        (lambda: losses.flow_smoothness(FLOW, order=3), "order to be one of 1, 2"),
        (lambda: losses.multi_level_loss(lambda f, c: f, [FLOW], (1, 2), weights=(1,)), "for each flow"),
        (lambda: losses.multi_level_loss(lambda f, c: f, [FLOW], (1,), weights=(0,)), "at least one level"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
