"""Binning and resampling: photons stay, smooth images stay what they are, parts equal the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.measure import block_reduce

from dps_jax.operators import (
    bin_area,
    bin_area_adjoint,
    pixel_shuffle,
    resample,
    resample_region,
    space_to_depth,
)

KERNELS = ("area", "linear", "cubic", "lanczos")
SCALES = (0.37, 0.5, 0.8, 1.0, 1.25, 1.7, 2.0, 3.0)
_resample = jax.jit(resample, static_argnames=("scale", "shape", "kernel"))


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_bin_area_equals_block_reduce(factor, rng):
    image = rng.uniform(size=(3, 24, 36)).astype(np.float32)
    np.testing.assert_allclose(
        bin_area(jnp.asarray(image), factor), block_reduce(image, (1, factor, factor)), rtol=1e-6
    )


def test_bin_area_adjoint_repeats_pixels(rng):
    image = rng.uniform(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_array_equal(bin_area_adjoint(jnp.asarray(image), 3), np.kron(image, np.ones((1, 3, 3))))


def _blob(shape, scale=1.0, *, sigma_px=4.0, centre=(23.3, 26.1)):
    """Gaussian in input pixels, sampled at the centres of output pixels (corners are the fixed points)."""
    y, x = ((np.arange(n) + 0.5) / scale - 0.5 for n in shape)
    r2 = (y[:, None] - centre[0]) ** 2 + (x[None, :] - centre[1]) ** 2
    return np.exp(-0.5 * r2 / sigma_px**2) / scale**2


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", SCALES)
def test_photons_are_conserved(scale, kernel):
    image = jnp.asarray(_blob((48, 52)), jnp.float32)
    out = np.asarray(_resample(image, scale, kernel=kernel), np.float64)
    # Overlaps of pixels sum to 1 whatever the scale, and so do the shifted copies of a kernel at whole scales
    # or their inverses. Otherwise they do up to the kernel's spectrum at multiples of the sampling, which the
    # blob's own spectrum, exp(-2 (pi sigma f)^2), hides: little remains, except for the linear kernel widened
    # to 2.7 px.
    exact = kernel == "area" or scale in (0.5, 1.0, 2.0, 3.0)
    tolerance = 3e-6 if exact else 5e-4 if kernel == "linear" else 3e-5
    assert out.sum() == pytest.approx(float(image.sum()), rel=tolerance)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 3.0])
def test_photons_of_single_pixels_are_conserved(scale, kernel, rng):
    image = np.zeros((48, 52), np.float32)
    image[12:20, 12:20] = rng.uniform(size=(8, 8))
    assert float(_resample(image, scale, kernel=kernel).sum()) == pytest.approx(image.sum(), rel=3e-6)


# Largest error in units of the blob's peak, sigma = 4 px. Linear interpolation and area averages err by
# f'' h^2 / 8 per axis: (1/16)/8 * 2 = 0.016. Keys' cubic is of third order, Lanczos (3 lobes) has a ripple of
# its own of some tenths of a percent. Widened kernels (scale below 1) blur in addition.
@pytest.mark.parametrize(
    ("kernel", "scale", "error"),
    [
        ("linear", 1.25, 0.017),
        ("linear", 2.0, 0.017),
        ("cubic", 0.8, 0.004),
        ("cubic", 1.7, 0.001),
        ("cubic", 2.0, 0.001),
        ("lanczos", 0.5, 0.004),
        ("lanczos", 0.8, 0.004),
        ("lanczos", 1.7, 0.004),
        ("lanczos", 3.0, 0.004),
    ],
)
def test_a_smooth_function_is_reproduced(kernel, scale, error):
    out = np.asarray(_resample(jnp.asarray(_blob((48, 52)), jnp.float32), scale, kernel=kernel))
    assert np.abs(out - _blob(out.shape, scale)).max() * scale**2 < error


@pytest.mark.parametrize("kernel", KERNELS)
def test_scale_one_is_the_identity(kernel, rng):
    image = rng.uniform(size=(2, 9, 7)).astype(np.float32)
    np.testing.assert_allclose(_resample(image, 1.0, kernel=kernel), image, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", SCALES)
def test_a_flat_image_stays_flat(scale, kernel):
    out = _resample(jnp.ones((48, 52)), scale, kernel=kernel)
    # Rows that reach over the edge read the edge pixel, so that borders are not darker.
    np.testing.assert_allclose(out, 1 / scale**2, rtol=1e-5)


def test_area_at_one_third_is_binning(rng):
    image = rng.uniform(size=(12, 15)).astype(np.float32)
    np.testing.assert_allclose(
        _resample(image, 1 / 3, kernel="area"), bin_area(jnp.asarray(image), 3), rtol=1e-5
    )


def test_given_shape_crops_or_extends_the_default(rng):
    image = rng.uniform(size=(10, 10)).astype(np.float32)
    whole = _resample(image, 1.5)
    assert whole.shape == (15, 15)
    np.testing.assert_array_equal(_resample(image, 1.5, shape=(11, 13)), whole[:11, :13])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [0.45, 1.0, 2.3])
def test_region_equals_rows_of_the_whole(scale, kernel, rng):
    image = rng.uniform(size=(26, 31)).astype(np.float32)
    whole = np.asarray(_resample(image, scale, kernel=kernel))
    ny, nx = whole.shape
    for rows, columns in [
        (np.arange(ny), np.arange(nx)),
        (np.arange(ny // 2, ny), np.arange(3)),
        (np.array([ny - 1, 0, 2]), np.array([nx // 2])),
    ]:
        region = resample_region(image, rows, columns, scale, kernel=kernel)
        # float64 against float32: two passes of up to 14 taps.
        np.testing.assert_allclose(region, whole[np.ix_(rows, columns)], rtol=1e-5, atol=1e-6)


class _Watched(np.ndarray):
    """An array that remembers how many pixels were sliced from it."""

    touched = 0

    def __getitem__(self, index):
        part = np.asarray(self)[index]
        _Watched.touched += part.size
        return part


def test_region_reads_only_what_it_needs():
    image = np.ones((400, 300), np.float32).view(_Watched)
    _Watched.touched = 0
    resample_region(image, np.arange(100, 110), np.arange(5), 2.0)
    # Ten output rows at scale 2 span 5 input rows, and a Lanczos kernel reaches 3 px to each side.
    assert 0 < _Watched.touched <= (5 + 2 * 3 + 1) * 300


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_shuffle_and_unshuffle_are_inverse(factor, rng):
    deep = rng.normal(size=(2, 4, 5, 3 * factor**2)).astype(np.float32)
    wide = pixel_shuffle(jnp.asarray(deep), factor)
    assert wide.shape == (2, 4 * factor, 5 * factor, 3)
    np.testing.assert_array_equal(space_to_depth(wide, factor), deep)
    np.testing.assert_array_equal(pixel_shuffle(space_to_depth(wide, factor), factor), wide)


def test_shuffle_places_phases_as_documented(rng):
    deep = rng.normal(size=(1, 2, 3, 8)).astype(np.float32)
    wide = np.asarray(pixel_shuffle(jnp.asarray(deep), 2))
    for p in range(2):
        for q in range(2):
            np.testing.assert_array_equal(
                wide[0, p::2, q::2], deep[0, :, :, (2 * p + q) * 2 : (2 * p + q) * 2 + 2]
            )


IMAGE = np.ones((6, 9), np.float32)
REFUSED = [
    (lambda: bin_area(IMAGE, 2), r"expected sides that are multiples of 2, got shape \(6, 9\)"),
    (lambda: bin_area(IMAGE, 0), "expected factor to be a whole number of 1 or more, got 0"),
    (lambda: bin_area(IMAGE, 1.5), "expected factor to be a whole number of 1 or more, got 1.5"),
    (lambda: bin_area(np.ones(6), 2), r"expected image with axes \(\.\.\., y, x\), got shape \(6,\)"),
    (lambda: bin_area_adjoint(IMAGE, -1), "expected factor to be a whole number of 1 or more, got -1"),
    (lambda: resample(IMAGE, 0.0), "expected scale to be a finite number above 0, got 0.0"),
    (lambda: resample(IMAGE, float("nan")), "expected scale to be a finite number above 0, got nan"),
    (lambda: resample(IMAGE, 2.0, kernel="box"), "expected kernel to be one of 'area', .*got 'box'"),
    (lambda: resample(IMAGE, 0.01), r"expected an output of at least 1x1 px, got \(0, 0\) at scale 0.01"),
    (lambda: resample(np.ones(6), 2.0), r"expected image with axes \(\.\.\., y, x\), got shape \(6,\)"),
    (lambda: pixel_shuffle(np.ones((1, 2, 2, 6)), 2), "expected a multiple of 4 channels, got 6"),
    (
        lambda: pixel_shuffle(np.ones((1, 2, 2, 4)), 0),
        "expected factor to be a whole number of 1 or more, got 0",
    ),
    (lambda: space_to_depth(np.ones((1, 3, 2, 4)), 2), r"multiples of 2, got shape \(1, 3, 2, 4\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
