"""Finite differences against numpy.diff, by axis name."""

import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators import first_difference, mixed_difference, second_difference

AXIS = {"x": -1, "y": -2, "z": -3, "t": -3}


@pytest.mark.parametrize("name", AXIS)
def test_first_and_second_equal_numpy(name, rng):
    stack = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(first_difference(jnp.asarray(stack), name), np.diff(stack, axis=AXIS[name]))
    np.testing.assert_array_equal(
        second_difference(jnp.asarray(stack), name), np.diff(stack, 2, axis=AXIS[name])
    )


@pytest.mark.parametrize("names", ["xy", "yx", "xt", "yt", "zx"])
def test_mixed_equals_numpy(names, rng):
    stack = rng.normal(size=(5, 6, 7)).astype(np.float32)
    expected = np.diff(np.diff(stack, axis=AXIS[names[0]]), axis=AXIS[names[1]])
    np.testing.assert_array_equal(mixed_difference(jnp.asarray(stack), *names), expected)


IMAGE = np.ones((5, 5), np.float32)
REFUSED = [
    (lambda: first_difference(IMAGE, "w"), "expected axis to be one of 'x', 'y', 'z', 't', got 'w'"),
    (lambda: first_difference(IMAGE, "t"), r"expected an image with an axis 't', got shape \(5, 5\)"),
    (lambda: second_difference(IMAGE, "z"), r"expected an image with an axis 'z', got shape \(5, 5\)"),
    (lambda: mixed_difference(IMAGE, "x", "x"), "expected two different axes, got 'x' and 'x'"),
    (lambda: mixed_difference(np.ones((3, 5, 5)), "z", "t"), "expected two different axes, got 'z' and 't'"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
