"""The camera within its FFT's frame is the camera, and its adjoint the adjoint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators.camera_frame import camera_frame
from dps_jax.operators.forward import camera

PLANE, ODD, SAME, VOLUME, SMALL, DEEP = (
    *(((12, 14), (5, 7), 2), ((9, 21), (3, 7), 3)),
    *(((11, 13), (7, 5), 1), ((4, 6, 8), (3, 5, 5), 2)),
    *(((4, 3), (19, 15), 1), ((2, 6, 7), (9, 3, 5), 1)),
)
CASES = [  # boundary, sides, and leading axes
    *(("constant", case, ()) for case in (PLANE, ODD, SAME, VOLUME)),
    *(("reflect", case, ()) for case in (ODD, SAME)),
    *(("reflect", case, (2,)) for case in (PLANE, VOLUME)),
    *(("nearest", PLANE, ()), ("wrap", ODD, ())),
    # Margins longer than the object: mirrored, repeated and laid end to end several times.
    *((boundary, case, ()) for case in (SMALL, DEEP) for boundary in ("reflect", "nearest", "wrap")),
]


@pytest.mark.parametrize(("boundary", "sides", "lead"), CASES)
def test_it_is_the_camera(rng, boundary, sides, lead):
    shape, kernel, factor = sides
    psf = rng.random(kernel).astype(np.float32)
    forward, backward = camera(psf, shape, factor=factor, boundary=boundary)
    frame = camera_frame(psf, shape, factor=factor, boundary=boundary)
    binned = (*shape[:-2], shape[-2] // factor, shape[-1] // factor)
    object_, image = (rng.normal(size=(*lead, *n)).astype(np.float32) for n in (shape, binned))

    @jax.jit
    def both(x, y):
        placed = frame.place(y)
        # What is in the rim before does not matter, but where there is none.
        spoiled = (
            frame.open(x) if boundary == "constant" else jnp.where(frame.open(x) == 0, 7.0, frame.open(x))
        )
        seen = frame.forward(frame.continued(spoiled))
        return forward(x), backward(y), seen, frame.inside(frame.backward(placed)), placed

    seen, back, seen_in_frame, back_in_frame, placed = map(np.asarray, both(object_, image))
    inside = placed != 0
    # Sums of up to 315 products of order 1 in float32.
    np.testing.assert_allclose(seen_in_frame[inside].reshape(seen.shape), seen, atol=1e-4)
    np.testing.assert_allclose(placed[inside].reshape(image.shape), image)
    np.testing.assert_allclose(back_in_frame, back, atol=1e-4)


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
