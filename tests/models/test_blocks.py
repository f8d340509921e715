"""Changes of resolution against the 6x6 stride-2 convolutions that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from dps_jax.models.blocks import (
    ConvAct,
    DownProjection,
    Downscale,
    PReLU,
    ResidualBlock,
    UpProjection,
    Upscale,
    strided_kernel,
    transposed_kernel,
)

LAYOUT = ("NHWC", "HWIO", "NHWC")


def _random_parameters(rng, c_in, c_out):
    kernel = rng.normal(size=(3, 3, c_in, c_out)).astype(np.float32) / np.sqrt(9 * c_in)
    return {"params": {"Conv_0": {"kernel": kernel, "bias": np.zeros(c_out, np.float32)}}}, kernel


@pytest.mark.parametrize(("shape", "features"), [((2, 5, 8, 3), 4), ((1, 1, 6, 1), 1), ((1, 7, 7, 5), 2)])
def test_upscale_is_a_transposed_convolution(shape, features, rng):
    parameters, kernel = _random_parameters(rng, shape[-1], 4 * features)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    expected = lax.conv_transpose(
        x, transposed_kernel(kernel), (2, 2), padding=((3, 3), (3, 3)), dimension_numbers=LAYOUT
    )
    ours = Upscale(features).apply(parameters, x)
    assert ours.shape == (shape[0], 2 * shape[1], 2 * shape[2], features)
    # Values of order 1, sums of 9 c_in float32 products.
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "features"), [((2, 6, 8, 3), 4), ((1, 2, 6, 1), 1), ((1, 10, 6, 5), 2)])
def test_downscale_is_a_strided_convolution(shape, features, rng):
    parameters, kernel = _random_parameters(rng, 4 * shape[-1], features)
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    expected = lax.conv_general_dilated(
        x, strided_kernel(kernel), (2, 2), padding=((2, 2), (2, 2)), dimension_numbers=LAYOUT
    )
    ours = Downscale(features).apply(parameters, x)
    assert ours.shape == (shape[0], shape[1] // 2, shape[2] // 2, features)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_every_weight_is_carried_over_once(rng):
    weights = np.arange(1, 9 * 2 * 12 + 1, dtype=np.float32)
    up = transposed_kernel(weights.reshape(3, 3, 2, 12))
    down = strided_kernel(weights.reshape(3, 3, 8, 3))
    assert up.shape == (6, 6, 2, 3)
    assert down.shape == (6, 6, 2, 3)
    for carried in (up, down):
        np.testing.assert_array_equal(np.sort(carried.ravel()), weights)


def test_gradient_of_upscale_is_that_of_the_transposed_convolution(rng):
    _, kernel = _random_parameters(rng, 2, 8)
    x, target = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((1, 4, 5, 2), (1, 8, 10, 2)))

    def shuffled(kernel):
        parameters = {"params": {"Conv_0": {"kernel": kernel, "bias": jnp.zeros(8)}}}
        return jnp.sum(Upscale(2).apply(parameters, x) * target)

    def transposed(kernel):
        out = lax.conv_transpose(x, kernel, (2, 2), padding=((3, 3), (3, 3)), dimension_numbers=LAYOUT)
        return jnp.sum(out * target)

    expected = jax.grad(transposed)(jnp.asarray(transposed_kernel(kernel)))
    ours = transposed_kernel(np.asarray(jax.grad(shuffled)(jnp.asarray(kernel))))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


def test_prelu_has_one_slope_per_channel():
    x = jnp.asarray([-2.0, 4.0]).reshape(1, 2, 1, 1) * jnp.ones((1, 1, 1, 3))
    at_first = PReLU().apply(PReLU().init(jax.random.key(0), x), x)
    np.testing.assert_array_equal(at_first[0, :, 0], [[-0.5] * 3, [4.0] * 3])
    learned = PReLU().apply({"params": {"slope": jnp.asarray([0.0, 0.5, -1.0])}}, x)
    np.testing.assert_array_equal(learned[0, :, 0], [[0.0, -1.0, 2.0], [4.0] * 3])


@pytest.mark.parametrize(
    ("block", "c_in", "factor"),
    [
        (ConvAct(5), 3, 1),
        (ResidualBlock(5), 3, 1),
        (ResidualBlock(5), 5, 1),
        (UpProjection(5), 5, 2),
        (UpProjection(5), 3, 2),
        (DownProjection(5), 5, 0.5),
        (DownProjection(5), 8, 0.5),
    ],
)
def test_shapes(block, c_in, factor):
    x = jnp.ones((2, 4, 6, c_in))
    out = jax.eval_shape(lambda: block.init_with_output(jax.random.key(0), x)[0])
    assert out.shape == (2, 4 * factor, 6 * factor, 5)


@pytest.mark.parametrize(
    ("block", "shape"), [(UpProjection(2), (1, 4, 4, 2)), (DownProjection(2), (1, 4, 4, 2))]
)
def test_projection_adds_the_error_of_the_round_trip(block, shape, rng):
    # With the kernel of the middle step zero the round trip gives nothing, and the error is minus the input.
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    names = ("Upscale", "Downscale") if isinstance(block, UpProjection) else ("Downscale", "Upscale")
    parameters = jax.jit(block.init)(jax.random.key(1), x)["params"]
    middle = jax.tree.map(jnp.zeros_like, parameters[f"{names[1]}_0"])
    parameters = {**parameters, f"{names[1]}_0": middle}
    out = jax.jit(block.apply)({"params": parameters}, x)
    step = {"Upscale": Upscale, "Downscale": Downscale}[names[0]](2)

    def once(i, x):
        y = step.apply({"params": parameters[f"{names[0]}_{i}"]}, x)
        return jnp.where(y >= 0, y, 0.25 * y)

    np.testing.assert_allclose(out, once(0, x) + once(1, -x), rtol=0, atol=1e-5)
