"""MSSR: equal to the formulas written as loops, splits what the PSF joins, and leaves darkness dark."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dps_jax.solvers import mean_shift, mssr

_mssr = jax.jit(mssr, static_argnames=("fwhm_px", "order", "magnification", "keep_intensity"))


def _mean_shift_by_loops(image, reach):
    padded = np.pad(image, reach, mode="symmetric")
    out = np.zeros(image.shape)
    for i, j in np.ndindex(image.shape):
        window = padded[i : i + 2 * reach + 1, j : j + 2 * reach + 1]
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        largest = np.abs(window - image[i, j]).max() or 1.0
        weight = np.exp(-(y**2 + x**2) / reach**2) * np.exp(-(((image[i, j] - window) / largest) ** 2))
        weight[reach, reach] = 0
        out[i, j] = image[i, j] - (weight * window).sum() / weight.sum()
    return out


@pytest.mark.parametrize("reach", [1, 3])
def test_mean_shift_equals_loops(rng, reach):
    image = rng.uniform(0, 1, (2, 9, 11))
    expected = np.stack([_mean_shift_by_loops(i, reach) for i in image])
    ours = jax.jit(mean_shift, static_argnames="reach_px")(image.astype(np.float32), reach_px=reach)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def _by_hand(image, order, reach):
    """Orders above 0, from the paper: compare with the round before, invert, weigh."""
    result = np.maximum(_mean_shift_by_loops(image / image.max(), reach), 0)
    before, result = image / image.max(), result / result.max()
    for _ in range(order):
        difference = before - result
        weight = difference.max() - difference
        before, result = result, weight / weight.max() * result
        result = result / result.max()
    return result


@pytest.mark.parametrize("order", [0, 1, 3])
def test_orders_equal_the_formulas(rng, order):
    image = ndimage.gaussian_filter(rng.uniform(0, 1, (16, 18)), 1.0)
    ours = _mssr(image.astype(np.float32), fwhm_px=4.0, order=order, magnification=1, keep_intensity=False)
    np.testing.assert_allclose(ours, _by_hand(image, order, 2), atol=1e-4)


def _pair(distance, sigma=4.0):
    points = np.zeros((41, 61))
    points[20, 30 - distance // 2] = points[20, 30 + distance - distance // 2] = 1
    return ndimage.gaussian_filter(points, sigma).astype(np.float32)


def test_splits_points_that_the_psf_joins():
    # Two points at 1.9 sigma have no dip (Sparrow's limit is 2 sigma); MSSR shows one, deeper with the order.
    image = _pair(7) + _pair(8)  # 7.5 px apart on average
    assert np.argmax(image[20]) in (29, 30, 31)
    dips = []
    for order in (0, 1, 2):
        line = np.asarray(_mssr(image, fwhm_px=2.355 * 4, order=order, magnification=1))[20]
        middle, peaks = line[29:32].min(), np.sort([line[:30].max(), line[30:].max()])
        dips.append(1 - middle / peaks[0])
    assert dips[2] > 0.2
    assert dips == sorted(dips)


def test_darkness_stays_dark_and_flat_is_nothing():
    image = np.zeros((40, 40), np.float32)
    image[18:22, 18:22] = 5.0
    out = np.asarray(_mssr(image, fwhm_px=4.0, order=1))
    far = np.ones((80, 80), bool)
    far[28:52, 28:52] = False  # the structure, twice as fine, and the cubic kernel's two pixels either side
    assert out.shape == (80, 80)
    assert not out[far].any()
    assert out.max() > 0
    np.testing.assert_allclose(_mssr(np.full((20, 20), 3.0, np.float32), fwhm_px=3.0), 0.0, atol=1e-5)


def test_does_not_depend_on_the_unit(rng):
    image = rng.uniform(1, 2, (20, 20)).astype(np.float32)
    np.testing.assert_allclose(
        _mssr(50 * image, fwhm_px=3.0), 50 * np.asarray(_mssr(image, fwhm_px=3.0)), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fwhm_px": 0.0}, "fwhm_px to be a finite number above 0"),
        ({"fwhm_px": 3.0, "order": -1}, "order to be a whole number of 0 or more, got -1"),
        ({"fwhm_px": 3.0, "magnification": 0}, "magnification"),
        ({"fwhm_px": 40.0}, "an image of at least 20 px a side for a FWHM of 40 px"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=f"expected {message}"):
        mssr(jnp.ones((8, 8)), **options)
