"""Image formation against an independent NumPy/SciPy version."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dps_jax.operators import add_poisson_noise, camera_image, expose


def _psf(rng, shape=(7, 5)):
    psf = rng.uniform(size=shape)
    return psf / psf.sum()


@pytest.mark.parametrize("boundary", ["constant", "reflect", "nearest", "wrap"])
@pytest.mark.parametrize(("shape", "factor"), [((24, 18), 2), ((3, 12, 15), 3), ((2, 2, 7, 9), 1)])
def test_camera_image_equals_numpy(boundary, shape, factor, rng):
    scene, psf = rng.uniform(0, 50, shape), _psf(rng)
    blurred = ndimage.convolve(scene, psf.reshape((1,) * (len(shape) - 2) + psf.shape), mode=boundary)
    expected = sum(blurred[..., i::factor, j::factor] for i in range(factor) for j in range(factor))
    ours = jax.jit(camera_image, static_argnames=("factor", "boundary"))(
        jnp.asarray(scene, jnp.float32), jnp.asarray(psf, jnp.float32), factor=factor, boundary=boundary
    )
    # Sums of up to 50 * 9 photons; float32 FFTs of that size err by some 1e-6 of the largest.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * expected.max())


def test_photons_of_an_interior_object_arrive(rng):
    scene = np.zeros((40, 40), np.float32)
    scene[15:25, 15:25] = rng.uniform(0, 100, (10, 10))
    image = camera_image(jnp.asarray(scene), jnp.asarray(_psf(rng), jnp.float32))
    assert float(image.sum()) == pytest.approx(scene.sum(), rel=1e-5)


SHAPE = (400, 400)  # one shape of scene for all: the samplers compile once per shape


def test_expose_is_reproducible_by_key(key, rng):
    scene, psf = jnp.full(SHAPE, 5.0), jnp.asarray(_psf(rng), jnp.float32)
    first = expose(key, scene, psf, read_noise_photons=1.0)
    np.testing.assert_array_equal(first, expose(key, scene, psf, read_noise_photons=1.0))
    assert np.any(np.asarray(first != expose(jax.random.key(5), scene, psf, read_noise_photons=1.0)))


def test_expose_has_the_statistics_of_its_parts(key, rng):
    # A flat object, periodic: every camera pixel expects 4 * 6 = 24 photons, plus read noise of variance 9.
    psf = jnp.asarray(_psf(rng), jnp.float32)
    image = np.asarray(
        expose(key, jnp.full(SHAPE, 6.0), psf, boundary="wrap", read_noise_photons=3.0), np.float64
    )
    n = image.size
    variance = 24 + 9
    assert abs(image.mean() - 24) < 5 * np.sqrt(variance / n)
    # Fourth moment of the sum: Poisson adds its excess of 24 to the normal's 2 variance^2.
    assert abs(image.var() - variance) < 5 * np.sqrt((24 + 2 * variance**2) / n)


def test_expose_without_read_noise_gives_counts(key, rng):
    counts = np.asarray(expose(key, jnp.full(SHAPE, 5.0), jnp.asarray(_psf(rng), jnp.float32)))
    assert counts.dtype == np.float32
    assert np.all(counts == np.round(counts))


def test_photon_and_read_noise_have_keys_of_their_own(key):
    # Neither is drawn with the caller's key itself, or the two would share their random bits.
    scene = jnp.full(SHAPE, 6.0)
    image = expose(key, scene, jnp.ones((1, 1)), read_noise_photons=1.0)
    counts = expose(key, scene, jnp.ones((1, 1)))
    assert np.any(np.asarray(counts) != np.asarray(add_poisson_noise(key, jnp.full(counts.shape, 24.0))))
    # The same normal numbers would leave only the rounding of some 24 photons, 2e-6.
    assert np.abs(image - counts - jax.random.normal(key, counts.shape)).max() > 0.1


PSF = np.ones((3, 3), np.float32)
REFUSED = [
    (
        lambda: camera_image(np.ones((7, 8)), PSF),
        r"expected sides that are multiples of 2, got shape \(7, 8\)",
    ),
    (lambda: camera_image(np.ones((8, 8)), np.ones((2, 2))), r"odd sides, got shape \(2, 2\)"),
    (
        lambda: camera_image(np.ones((8, 8)), PSF, boundary="zero"),
        "expected boundary to be one of .*got 'zero'",
    ),
    (lambda: camera_image(np.ones((8, 8)), PSF, factor=0), "expected factor to be a whole number .*got 0"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refused_read_noise(key):
    with pytest.raises(ValueError, match="expected sigma_photons to be a finite number of 0 or more"):
        expose(key, jnp.ones((8, 8)), jnp.asarray(PSF), read_noise_photons=-1.0)
