"""The network's contract: shapes, non-negative output, size, and how far it sees."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.models import ResUDBPN
from dps_jax.models.physics import DARK, richardson_lucy_iterates


def _random_parameters(module, side, *, spread=0.5):
    """Positive weights that keep the signal's size: no path from input to output is cancelled or dead."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, side, side, 1)))
    rng = np.random.default_rng(5)

    def fill(path, leaf):
        if path[-1].key != "kernel":
            return jnp.full(leaf.shape, 0.25 if path[-1].key == "slope" else 0.0)
        fan_in = np.prod(leaf.shape[:-1])
        return jnp.asarray(rng.uniform(1 - spread, 1 + spread, leaf.shape) / fan_in, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.mark.parametrize(
    "sizes",
    [
        {"channels": (3, 4, 5)},
        {"channels": (4,), "blocks": 2},
        {"channels": (2, 2), "projections": 3},
        {"channels": (2, 3), "projection_features": 5},
        {"channels": (2, 3), "consistency_steps": 2},
        {"channels": (2, 3), "iterates": (1, 4)},
        {"channels": (2, 3), "iterates": (3,), "consistency_steps": 1},
    ],
)
def test_shape_and_sign_of_the_output(sizes, rng):
    module = ResUDBPN(**sizes)
    image = jnp.asarray(rng.normal(size=(2, 8, 12, 1)), jnp.float32)
    out = jax.jit(module.apply)(_random_parameters(module, 8, spread=9), image)
    assert out.shape == (2, 16, 24, 1)
    assert out.dtype == jnp.float32
    assert float(out.min()) >= 0
    assert np.all(np.isfinite(out))


def test_the_output_cannot_be_negative_whatever_the_weights(rng):
    module = ResUDBPN(channels=(2, 2))
    image = jnp.asarray(rng.normal(size=(1, 8, 8, 1)), jnp.float32)
    parameters = jax.tree.map(lambda p: -5 * p, _random_parameters(module, 8))
    out = jax.jit(module.apply)(parameters, image)
    assert float(out.min()) >= 0
    assert np.all(np.isfinite(out))


def _conv(side, c_in, c_out):
    return side * side * c_in * c_out + c_out


def _act(c):
    return c  # one PReLU slope per channel


def _block(c):
    return 2 * _conv(3, c, c) + 2 * _act(c)


def _count(channels, consistency_steps=0, iterates=0):
    """Parameters of one block per level and one projection, layer by layer."""
    c0 = channels[0]
    total = _conv(3, 1 + 4 * iterates, c0) + _act(c0) + sum(_block(c) for c in channels)
    for level, (fine, coarse) in enumerate(pairwise(channels)):
        down = _conv(3, 4 * fine, 2 * fine) + _act(2 * fine)
        # The published doubling of channels; where the next level is not twice as wide its block starts with a
        # 1x1 convolution. The configurations counted here double.
        assert coarse == 2 * fine, level
        up = _conv(3, coarse, 4 * fine) + _act(fine)
        total += down + up + _block(fine)
    up_projection = 2 * _conv(3, c0, 4 * c0) + _conv(3, 4 * c0, c0) + 3 * _act(c0)
    if iterates:  # their features join those of the projection; the head weighs them, too
        total += _conv(3, c0 + iterates, c0) + _act(c0)
    return total + up_projection + _conv(3, c0, 1 + iterates + consistency_steps)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ({}, _count((16, 32, 64))),
        ({"consistency_steps": 3}, _count((16, 32, 64), 3)),
        ({"channels": (8, 16)}, _count((8, 16))),
        ({"iterates": (3, 6, 12)}, _count((16, 32, 64), 0, 3)),
    ],
)
def test_number_of_parameters(sizes, count):
    shapes = jax.eval_shape(ResUDBPN(**sizes).init, jax.random.key(0), jnp.zeros((1, 16, 16, 1)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


def test_grid_multiple_and_scale():
    assert [ResUDBPN(channels=(4,) * n).grid_multiple for n in (1, 2, 3, 4)] == [1, 2, 4, 8]
    assert ResUDBPN().scale == 2


REFUSED = [
    ((1, 8, 10, 1), r"sides that are multiples of 4, got shape \(1, 8, 10, 1\)"),
    ((1, 6, 8, 1), r"sides that are multiples of 4, got shape \(1, 6, 8, 1\)"),
    ((8, 8, 1), r"expected images \(batch, y, x, channel\) .*got shape \(8, 8, 1\)"),
    ((1, 1, 8, 8, 1), r"expected images \(batch, y, x, channel\) .*got shape \(1, 1, 8, 8, 1\)"),
]


@pytest.mark.parametrize(("shape", "message"), REFUSED)
def test_refused_shapes(shape, message, key):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(ResUDBPN(channels=(2, 2, 2)).init, key, jnp.zeros(shape))


def _influence(module, change=lambda parameters: parameters):
    """Return |d output / d input| along x, largest over y and over nothing else, and the pixel of each output.

    One row of outputs per phase of the coarsest grid on the fine grid; the input is just high enough.
    """
    multiple, reach = module.grid_multiple, module.reach
    middle = reach + multiple
    image = jnp.asarray(
        np.random.default_rng(6).uniform(0.5, 1.5, (1, multiple, 2 * middle + multiple, 1)), jnp.float32
    )
    parameters = change(_random_parameters(module, multiple))
    fine = 2 * middle + np.arange(2 * multiple)

    def outputs(image):
        return module.apply(parameters, image)[0, multiple, fine, 0]

    jacobian = np.abs(np.asarray(jax.jit(jax.jacrev(outputs))(image)))[:, 0, :, :, 0]
    return jacobian.max(axis=1), fine // 2


def _distances(jacobian, pixels):
    """Distance in input pixels of every input column from each output's own."""
    return np.abs(np.arange(jacobian.shape[1])[None, :] - pixels[:, None])


@pytest.mark.parametrize(
    ("channels", "blocks", "projections"),
    [
        ((2,), 1, 1),
        ((2,), 2, 2),
        ((2, 2), 1, 1),
        ((2, 2), 2, 2),
        ((2, 2, 2), 1, 1),
        ((2, 2, 2), 1, 3),
        ((2, 2, 2), 2, 1),
        ((1, 2, 1, 2), 1, 1),
    ],
)
def test_reach_is_a_true_bound_and_a_close_one(channels, blocks, projections):
    module = ResUDBPN(channels=channels, blocks=blocks, projections=projections)
    jacobian, pixels = _influence(module)
    distance = _distances(jacobian, pixels)
    # Direct convolutions: what is not connected has a derivative of exactly 0, at every phase of the grid.
    assert np.all(jacobian[distance > module.reach] == 0)
    farthest = distance[jacobian > 0].max()
    assert module.reach - farthest <= module.grid_multiple + 4
    assert module.reach % module.grid_multiple == 0


def _flat_head(parameters, bias):
    """Make the layers before the consistency steps say ``bias`` everywhere, whatever the image."""
    head = {"kernel": jnp.zeros_like(parameters["params"]["head"]["kernel"]), "bias": jnp.asarray(bias)}
    return {"params": {**parameters["params"], "head": head}}


def test_reach_counts_the_consistency_steps():
    module, without = (ResUDBPN(channels=(2, 2), consistency_steps=n) for n in (2, 0))
    # Layers blind to the image leave the steps alone to carry it.
    jacobian, pixels = _influence(module, lambda parameters: _flat_head(parameters, [0.0, 50.0, 50.0]))
    distance = _distances(jacobian, pixels)
    # They blur by FFT, which leaves float32 rounding everywhere. The first looks one PSF far (its estimate is
    # flat), the second two more; counting one step instead of two would leave light outside.
    rounding, both = 1e-6 * jacobian.max(), module.reach - without.reach
    assert np.all(jacobian[distance > both] < rounding)
    assert jacobian[distance > both / 2].max() > 8 * rounding


@pytest.mark.parametrize("sizes", [{"channels": (2, 2)}, {"channels": (2, 2, 2), "projections": 2}])
def test_translation_by_the_grid_multiple(sizes, rng):
    module = ResUDBPN(**sizes)
    step, border = module.grid_multiple, module.reach + module.grid_multiple
    scene = jnp.asarray(rng.uniform(size=(1, 8, 2 * border + 3 * step, 1)), jnp.float32)
    parameters = _random_parameters(module, 8)
    apply = jax.jit(module.apply)
    here, there = (
        np.asarray(apply(parameters, scene[:, :, i : i + 2 * border + 2 * step])) for i in (0, step)
    )
    inner = slice(2 * border, 2 * border + 2 * step)
    moved = slice(2 * (border - step), 2 * border)
    assert np.ptp(here) > 1e-4
    np.testing.assert_allclose(there[:, :, moved], here[:, :, inner], rtol=1e-5)
    # By less than that the coarse grids fall differently, and the images differ.
    if step > 1:
        off = np.asarray(apply(parameters, scene[:, :, 1 : 1 + 2 * border + 2 * step]))
        by_one = slice(2 * (border - 1), 2 * (border - 1) + 2 * step)
        assert np.abs(off[:, :, by_one] - here[:, :, inner]).max() > 1e-5


def test_consistency_steps_pull_towards_the_data():
    module = ResUDBPN(channels=(2, 2), consistency_steps=1)
    image = jnp.full((1, 16, 16, 1), 2.0)
    parameters = _random_parameters(module, 8)
    apply = jax.jit(module.apply)
    for bias in (-1.0, 5.0):
        x = np.log1p(np.exp(bias))
        # Fully trusted (sigmoid(50) = 1): the Richardson-Lucy factor of a flat image of 4 x per camera pixel,
        # with the dark level on both sides. Not trusted (sigmoid(-50) = 0): the network's own.
        trusted = apply(_flat_head(parameters, [bias, 50.0]), image)
        np.testing.assert_allclose(trusted, x * (2 + DARK) / (4 * x + DARK), rtol=1e-4)
        np.testing.assert_allclose(apply(_flat_head(parameters, [bias, -50.0]), image), x, rtol=1e-5)


def test_the_answer_is_a_mixture_of_iterates(rng):
    module = ResUDBPN(channels=(2, 2), iterates=(1, 5))
    image = jnp.asarray(rng.uniform(0.1, 1, (1, 16, 16, 1)), jnp.float32)
    parameters, apply = _random_parameters(module, 8), jax.jit(module.apply)
    early, late = np.moveaxis(
        np.asarray(richardson_lucy_iterates(image[..., 0], after=(1, 5), abbe_px=2.5)), -1, 0
    )
    halves = apply(_flat_head(parameters, [0.0, 0.0, 0.0]), image)[..., 0]
    # Fine pixels hold a quarter of a camera pixel's light. Equal shares; no correction: exp(0).
    np.testing.assert_allclose(halves, (early + late) / 8, rtol=1e-5)
    # The logits a and b are bounded by x / (1 + |x| / 8): 8 becomes 4.
    for logits, share in (([8.0, 0.0, 0.0], 1 / (1 + np.exp(-4))), ([0.0, 8.0, 0.0], 1 / (1 + np.exp(4)))):
        got = apply(_flat_head(parameters, logits), image)[..., 0]
        np.testing.assert_allclose(got, (share * early + (1 - share) * late) / 4, rtol=1e-5)
    # However sure the network is, it multiplies by no more than exp(3), nor divides by more.
    for correction, factor in ((3.0, np.exp(1.5)), (1e6, np.exp(3)), (-1e6, np.exp(-3))):
        got = apply(_flat_head(parameters, [0.0, 0.0, correction]), image)[..., 0]
        np.testing.assert_allclose(got, factor * halves, rtol=1e-4)


def test_a_wild_head_still_has_a_gradient(rng):
    # A step too large may throw the head far off; its way back must not vanish as that of tanh does.
    module = ResUDBPN(channels=(2, 2), iterates=(1, 5))
    image = jnp.asarray(rng.uniform(0.1, 1, (1, 16, 16, 1)), jnp.float32)
    parameters = _flat_head(_random_parameters(module, 8), [40.0, -40.0, 40.0])
    both = jax.jit(jax.value_and_grad(lambda p: jnp.sum(module.apply(p, image))))
    total, gradient = both(parameters)
    gradient = gradient["params"]["head"]["bias"]
    # The slope of x / (1 + |x| / 3) at 40 is 1 / (1 + 40 / 3)^2 = 0.5 %; of 3 tanh(x / 3) it is 1e-11.
    assert float(jnp.abs(gradient[2])) > 1e-3 * float(total)


def test_dark_stays_dark():
    # With iterates the answer is a product with what the data say: no floor of a softplus.
    module = ResUDBPN(channels=(2, 2), iterates=(3, 6))
    image = jnp.zeros((1, 32, 32, 1)).at[0, 16, 16, 0].set(1.0)
    out = np.asarray(jax.jit(module.apply)(_random_parameters(module, 8), image))[0, ..., 0]
    assert out.max() > 0.01
    assert out[:16].max() < 1e-3 * out.max()


@pytest.mark.parametrize(
    "physics", [{}, {"iterates": (1, 4), "consistency_steps": 1}], ids=["bare", "physics"]
)
def test_layers_can_compute_in_bfloat16(physics, rng):
    full, half = (ResUDBPN(channels=(4, 8), projections=2, dtype=d, **physics) for d in (None, "bfloat16"))
    image = jnp.asarray(rng.uniform(0.1, 1, (2, 16, 16, 1)), jnp.float32)
    parameters = jax.jit(half.init)(jax.random.key(0), image)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(parameters))
    exact, rounded = (jax.jit(m.apply)(parameters, image) for m in (full, half))
    assert exact.dtype == rounded.dtype == jnp.float32
    # bfloat16 carries 8 bits: 0.4 % in each of some twenty layers, most of which average.
    assert 0 < float(jnp.linalg.norm(exact - rounded) / jnp.linalg.norm(exact)) < 0.02
    gradient = jax.jit(jax.grad(lambda p: jnp.mean(half.apply(p, image) ** 2)))(parameters)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))
    compiled = jax.jit(half.apply).lower(parameters, image).as_text()
    assert "bf16" in compiled
