"""``<Ax, y> = <x, A*y>`` for every linear operator, over shape x precision x jit on or off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import operators

# Even, odd, with one and two leading axes: each way of running takes another.
EVEN, ODD, STACK, STACKS = (8, 8), (11, 7), (3, 7, 10), (2, 3, 9, 5)

# Relative to |Ax| |y|, which bounds both products (Cauchy-Schwarz) where they cancel.
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
# bfloat16 rounds to 2^-9; no operator tested in it applies more than four roundings to a value.
TOLERANCE["bfloat16"] = 4 * 2.0**-8


def _even(shape, factor):
    return (*shape[:-2], factor * shape[-2], factor * shape[-1])


def _stack(shape):
    return shape if len(shape) > 2 else (4, *shape)


def _convolution(kernel_shape, boundary):
    def make(shape, dtype):
        kernel = jnp.asarray(np.random.default_rng(1).normal(size=kernel_shape), dtype)
        return (
            shape,
            lambda x: operators.convolve(x, kernel, boundary=boundary),
            lambda y: operators.convolve_adjoint(y, kernel, boundary=boundary),
        )

    return make


def _binning(factor):
    def make(shape, dtype):
        return (
            _even(shape, factor),
            lambda x: operators.bin_area(x, factor),
            lambda y: operators.bin_area_adjoint(y, factor),
        )

    return make


def _resampling(scale, kernel):
    def make(shape, dtype):
        return (
            shape,
            lambda x: operators.resample(x, scale, kernel=kernel),
            lambda y: operators.resample_adjoint(y, scale, shape=shape[-2:], kernel=kernel),
        )

    return make


def _camera(factor, boundary):
    def make(shape, dtype):
        psf = jnp.asarray(np.random.default_rng(2).uniform(size=(5, 7)), dtype)
        options = {"factor": factor, "boundary": boundary}
        return (
            _even(shape, factor),
            lambda x: operators.camera_image(x, psf, **options),
            lambda y: operators.camera_image_adjoint(y, psf, **options),
        )

    return make


def _by_transposition(operator, widen=lambda shape: shape):
    def make(shape, dtype):
        shape = widen(shape)
        return shape, operator, operators.adjoint(operator, shape, dtype=dtype)

    return make


CONVOLUTIONS = [
    ("constant", (3, 3)),
    ("constant", (1, 7)),
    ("reflect", (5, 3)),
    ("reflect", (13, 15)),  # reaches beyond the image
    ("nearest", (1, 7)),
    ("wrap", (5, 3)),
    ("wrap", (13, 15)),
]
RESAMPLINGS = [(s, k) for s in (0.45, 1.7) for k in ("area", "linear", "cubic", "lanczos")]
CAMERAS = [(1, "wrap"), (2, "constant"), (2, "reflect"), (3, "nearest")]
OPERATORS = {
    **{f"convolve {b} {k}": _convolution(k, b) for b, k in CONVOLUTIONS},
    **{f"bin_area {factor}": _binning(factor) for factor in (1, 2, 3)},
    **{f"resample {s} {k}": _resampling(s, k) for s, k in [*RESAMPLINGS, (0.5, "lanczos"), (2.0, "lanczos")]},
    **{f"camera_image {f} {b}": _camera(f, b) for f, b in CAMERAS},
    **{
        f"first_difference {a}": _by_transposition(lambda x, a=a: operators.first_difference(x, a), _stack)
        for a in "xyzt"
    },
    **{
        f"second_difference {a}": _by_transposition(lambda x, a=a: operators.second_difference(x, a), _stack)
        for a in "xy"
    },
    **{
        f"mixed_difference {a}": _by_transposition(lambda x, a=a: operators.mixed_difference(x, *a), _stack)
        for a in ("xy", "xt", "yz")
    },
}
# The FFT and the float32 taps of resampling have no bfloat16; sums and differences do.
IN_BFLOAT16 = [n for n in OPERATORS if n.startswith(("bin", "first", "second", "mixed"))]


def _check(name, shape, precision, *, jit):
    shape, forward, backward = OPERATORS[name](shape, precision)
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.normal(size=shape), precision)
    y = jnp.asarray(rng.normal(size=jax.eval_shape(forward, x).shape), precision)

    def both(x, y):
        return forward(x), backward(y)

    image, back = (jax.jit(both) if jit else both)(x, y)
    assert image.dtype == back.dtype == jnp.dtype(precision)
    assert back.shape == x.shape
    x, y, image, back = (np.asarray(a, np.float64) for a in (x, y, image, back))
    assert np.linalg.norm(image) > 0.01 * np.linalg.norm(x)
    left, right = np.vdot(image, y), np.vdot(x, back)
    assert abs(left - right) <= TOLERANCE[precision] * np.linalg.norm(image) * np.linalg.norm(y)


EVERY = pytest.mark.parametrize("name", OPERATORS)


@EVERY
def test_adjoint_under_jit(name):
    _check(name, ODD, "float32", jit=True)


@EVERY
def test_adjoint_without_jit(name):
    _check(name, STACKS, "float32", jit=False)


@EVERY
def test_adjoint_in_float64(name):
    with jax.enable_x64(True):
        _check(name, STACK, "float64", jit=True)


@pytest.mark.parametrize("name", IN_BFLOAT16)
def test_adjoint_in_bfloat16(name):
    _check(name, EVEN, "bfloat16", jit=True)


def test_adjoint_refuses_what_is_not_linear():
    with pytest.raises(NotImplementedError, match="sin"):
        operators.adjoint(jnp.sin, (3, 3))(jnp.ones((3, 3)))


def test_convolution_adjoint_of_constant_is_a_correlation(rng):
    image, kernel = (rng.normal(size=s).astype(np.float32) for s in ((9, 12), (5, 3)))
    turned = operators.convolve(jnp.asarray(image), jnp.asarray(kernel[::-1, ::-1]))
    np.testing.assert_allclose(
        operators.convolve_adjoint(jnp.asarray(image), jnp.asarray(kernel)), turned, atol=1e-5
    )
