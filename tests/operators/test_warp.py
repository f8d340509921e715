"""Warping: SciPy is the oracle of values, finite differences and transposition of gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import ndimage

from dps_jax import operators

MODES = ("constant", "grid-constant", "nearest", "reflect", "mirror", "grid-wrap")
EVERY_MODE = pytest.mark.parametrize("mode", MODES)
EVERY_ORDER = pytest.mark.parametrize("order", [0, 1, 3])


def draw(rng, shape, *, spread=6.0):
    """Return an image and a flow that leaves it, with some whole steps: they decide what is inside."""
    image, flow = rng.normal(size=shape), spread * rng.normal(size=(len(shape), *shape))
    flow[..., :2] = np.round(flow[..., :2])
    return image.astype(np.float32), flow.astype(np.float32)


@functools.partial(jax.jit, static_argnames=("order", "mode", "dimensions"))
def warp(image, flow, **options):
    """Compiled: one by one, the sums over 16 or 64 samples take longer to compile than together."""
    return operators.warp(image, flow, **options)


def scipy_warp(image, flow, order, mode):
    grid = np.indices(image.shape)
    return ndimage.map_coordinates(image.astype(float), grid + flow.astype(float), order=order, mode=mode)


IN_2D = [((23, 31), order, mode) for order in (0, 1, 3) for mode in MODES]
OTHERS = [
    ((6, 9, 8), 0, "reflect"),
    ((6, 9, 8), 1, "grid-constant"),
    ((6, 9, 8), 3, "nearest"),
    ((6, 9, 8), 3, "constant"),
    *(((1, 5), 3, mode) for mode in ("reflect", "mirror", "nearest")),  # shorter than the prefilter reaches
]


@pytest.mark.parametrize(("shape", "order", "mode"), [*IN_2D, *OTHERS], ids=str)
def test_values_are_scipys(shape, order, mode, rng):
    image, flow = draw(rng, shape)
    ours = warp(jnp.asarray(image), jnp.asarray(flow), order=order, mode=mode, dimensions=len(shape))
    assert ours.dtype == jnp.float32
    # Values of order 1, 64 products of float32 at most, coefficients up to 1.7 per axis larger: 1e-5.
    np.testing.assert_allclose(ours, scipy_warp(image, flow, order, mode), rtol=0, atol=1e-5)


def test_a_large_image_is_sampled_as_exactly_as_a_small_one(rng):
    # At pixel 3000 a float32 coordinate is good to 1.2e-4 px, which a sum r + flow would lose.
    row, flow = (
        rng.normal(size=(2, 4000)).astype(np.float32),
        rng.normal(size=(2, 2, 4000)).astype(np.float32),
    )
    ours = warp(jnp.asarray(row), jnp.asarray(flow), order=3)
    np.testing.assert_allclose(ours, scipy_warp(row, flow, 3, "nearest"), rtol=0, atol=1e-5)


@EVERY_MODE
def test_coefficients_are_scipys_and_pass_through_the_pixels(mode, rng):
    image = rng.normal(size=(13, 18)).astype(np.float32)
    if mode in ("mirror", "reflect", "grid-wrap"):
        ours = operators.spline_coefficients(jnp.asarray(image), mode=mode)
        theirs = ndimage.spline_filter(image.astype(float), order=3, mode=mode)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    still = warp(jnp.asarray(image), jnp.zeros((2, 13, 18)), order=3, mode=mode)
    np.testing.assert_allclose(still, image, rtol=0, atol=1e-5)


def test_a_cubic_polynomial_is_reproduced_inside():
    # Cubic B-splines hold every cubic; the boundary's own extension is felt as 0.27^k, k pixels inside.
    y, x = np.indices((40, 44)) / 20 - 1.0
    shift = np.array([0.3, -0.45])

    def cubic(y, x):
        return y**3 - 2 * x**2 * y + 0.5 * x**3 - x

    moved = warp(jnp.asarray(cubic(y, x), jnp.float32), operators.rigid_flow((40, 44), shift), order=3)
    expected = cubic(y + shift[0] / 20, x + shift[1] / 20)
    np.testing.assert_allclose(moved[12:-12, 12:-12], expected[12:-12, 12:-12], rtol=0, atol=1e-5)


def one_by_one(images, flows, **options):
    pairs = zip(images, flows, strict=True)
    return jnp.stack([warp(image, flow, **options) for image, flow in pairs])


@pytest.mark.parametrize(("order", "mode"), [(0, "nearest"), (1, "constant"), (3, "nearest")])
def test_leading_axes_are_free(order, mode, rng):
    images = jnp.asarray(rng.normal(size=(3, 8, 9)), jnp.float32)
    flows = jnp.asarray(2 * rng.normal(size=(3, 2, 8, 9)), jnp.float32)
    options = {"order": order, "mode": mode}
    exact = {"rtol": 0, "atol": 1e-6}
    each = one_by_one(images, flows, **options)
    np.testing.assert_allclose(warp(images, flows, **options), each, **exact)
    shared = warp(images, flows[0], **options)
    np.testing.assert_allclose(shared, one_by_one(images, [flows[0]] * 3, **options), **exact)
    many = warp(images[0], flows, **options)
    np.testing.assert_allclose(many, one_by_one([images[0]] * 3, flows, **options), **exact)
    grid = warp(images[:, None], flows[None], **options)
    assert grid.shape == (3, 3, 8, 9)
    np.testing.assert_allclose(grid[1], one_by_one([images[1]] * 3, flows, **options), **exact)
    ones = warp(images, flows[:1, None], **options)
    assert ones.shape == (1, 3, 8, 9)
    np.testing.assert_allclose(ones[0], shared, **exact)


@pytest.mark.parametrize("mode", ["constant", "nearest", "grid-wrap"])
@pytest.mark.parametrize("order", [1, 3])
def test_adjoint_in_the_image(order, mode, rng):
    flow = jnp.asarray(3 * rng.normal(size=(3, 2, 7, 10)), jnp.float32)
    x, y = (jnp.asarray(rng.normal(size=(3, 7, 10)), jnp.float32) for _ in range(2))
    options = {"order": order, "mode": mode}
    forward, back = jax.jit(
        lambda x, y: (operators.warp(x, flow, **options), operators.warp_adjoint(y, flow, **options))
    )(x, y)
    left, right = np.vdot(forward, y), np.vdot(x, back)
    # Relative to the Cauchy-Schwarz bound of both products, as for every other operator.
    assert abs(left - right) <= 1e-5 * np.linalg.norm(forward) * np.linalg.norm(y)


def test_adjoint_in_float64_and_3d(rng):
    with jax.enable_x64(True):
        flow = jnp.asarray(2 * rng.normal(size=(3, 4, 5, 6)))
        x, y = (jnp.asarray(rng.normal(size=(2, 4, 5, 6))) for _ in range(2))
        options = {"order": 3, "mode": "mirror", "dimensions": 3}
        forward = warp(x, flow, **options)
        back = jax.jit(lambda y: operators.warp_adjoint(y, flow, **options))(y)
        assert forward.dtype == back.dtype == jnp.float64
        bound = 1e-12 * np.linalg.norm(forward) * np.linalg.norm(y)
        assert abs(np.vdot(forward, y) - np.vdot(x, back)) <= bound


# The modes differ in the indices alone, of which no gradient is taken: one of each way of reading is enough.
GRADIENTS = [
    ((6, 7), 1, "constant"),
    ((6, 7), 1, "grid-wrap"),
    ((6, 7), 3, "mirror"),
    ((6, 7), 3, "grid-constant"),
    ((3, 5, 4), 1, "reflect"),
    ((3, 5, 4), 3, "nearest"),
]


@pytest.mark.parametrize(("shape", "order", "mode"), GRADIENTS, ids=str)
def test_gradients_are_finite_differences(shape, order, mode, rng):
    with jax.enable_x64(True):
        image = jnp.asarray(rng.normal(size=shape))
        # A linear spline has kinks at whole pixels, and "constant" a cliff at the border: kept away from both.
        steps = rng.integers(-2, 3, (len(shape), *shape)) + rng.uniform(0.1, 0.9, (len(shape), *shape))
        options = {"order": order, "mode": mode, "dimensions": len(shape)}
        check_grads(
            lambda i, u: operators.warp(i, u, **options),
            (image, jnp.asarray(steps)),
            1,
            modes=["rev"],
            eps=1e-4,
        )


def test_the_gradient_in_the_flow_of_the_nearest_pixel_is_0(rng):
    image, flow = (jnp.asarray(a) for a in draw(rng, (8, 9)))
    slope = jax.grad(lambda u: jnp.sum(operators.warp(image, u, order=0) ** 2))(flow)
    assert not slope.any()


@EVERY_ORDER
def test_counts_become_float32(order):
    counts = jnp.arange(30, dtype=jnp.uint16).reshape(5, 6)
    moved = warp(counts, operators.rigid_flow((5, 6), [0.0, 1.0]), order=order)
    assert moved.dtype == jnp.float32
    np.testing.assert_allclose(moved[:, :4], counts[:, 1:5], rtol=0, atol=1e-4)


def test_sampling_grid_is_numpys():
    grid = operators.sampling_grid((3, 4, 5))
    assert grid.dtype == jnp.float32
    np.testing.assert_array_equal(grid, np.indices((3, 4, 5)))


IMAGE, FLOW = jnp.zeros((6, 7)), jnp.zeros((2, 6, 7))
REFUSED = {
    "another order": (
        lambda: operators.warp(IMAGE, FLOW, order=2),
        "expected order to be one of 0, 1, 3, got 2",
    ),
    "SciPy's wrap": (lambda: operators.warp(IMAGE, FLOW, mode="wrap"), "expected mode to be one of"),
    "components last": (
        lambda: operators.warp(IMAGE, jnp.zeros((6, 7, 2))),
        r"expected a flow \(..., 2, y, x\)",
    ),
    "another size": (lambda: operators.warp(IMAGE, jnp.zeros((2, 7, 6))), "expected a flow on the pixels"),
    "a row": (lambda: operators.warp(IMAGE[0], FLOW), "expected an image of 2 axes of space"),
    "no pixels": (lambda: operators.spline_coefficients(jnp.zeros((0, 4))), "none empty"),
    "four dimensions": (
        lambda: operators.warp(IMAGE, FLOW, dimensions=4),
        "expected dimensions to be one of 2, 3",
    ),
    "an image as a volume": (
        lambda: operators.warp(IMAGE, FLOW, dimensions=3),
        r"expected a flow \(..., 3, z, y, x\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
