"""The camera within its FFT's frame is the camera, and its adjoint the adjoint."""

import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators.camera_frame import camera_frame
from dps_jax.operators.forward import camera

CASES = [((12, 14), (5, 7), 2), ((9, 21), (3, 7), 3), ((11, 13), (7, 5), 1), ((4, 6, 8), (3, 5, 5), 2)]


@pytest.mark.parametrize("boundary", ["constant", "reflect", "nearest", "wrap"])
@pytest.mark.parametrize(("shape", "kernel", "factor"), CASES)
@pytest.mark.parametrize("lead", [(), (2,)])
def test_it_is_the_camera(rng, boundary, shape, kernel, factor, lead):
    psf = rng.random(kernel).astype(np.float32)
    object_ = jnp.asarray(rng.normal(size=(*lead, *shape)), jnp.float32)
    forward, backward = camera(psf, shape, factor=factor, boundary=boundary)
    frame = camera_frame(psf, shape, factor=factor, boundary=boundary)
    expected = forward(object_)
    image = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    inside = frame.place(jnp.ones_like(expected)) > 0
    found = frame.forward(object_)[inside].reshape(expected.shape)
    # Sums of up to 315 products of order 1 in float32.
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(frame.place(image)[inside].reshape(image.shape), image)
    np.testing.assert_allclose(frame.backward(frame.place(image)), backward(image), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "kernel", "options", "message"),
    [
        ((8, 8), (4, 3), {}, "odd sides"),
        ((8, 9), (3, 3), {}, "multiples of 2"),
        ((8, 8, 8), (3, 3), {}, "expected 2 sides"),
        ((8, 8), (3, 3), {"boundary": "none"}, "boundary"),
        ((8, 8), (3, 3), {"factor": 0}, "factor to be a whole number"),
    ],
)
def test_refused(shape, kernel, options, message):
    with pytest.raises(ValueError, match=message):
        camera_frame(np.ones(kernel, np.float32), shape, **options)
