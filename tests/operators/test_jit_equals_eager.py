"""Compiled equals eager beyond 40,000 pixels: jaxlib 0.10.2 is silently wrong there on the CPU (jax issue 39103)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import operators
from dps_jax.optics import Illumination

SHAPE = (208, 200)  # 41,600 px, even sides; the fault begins beyond 32,768
STACK = (3, 208, 200)
# A flow of a few pixels, as smooth as a wave of 40 px.
WAVE = jnp.asarray(3 * np.sin(np.indices(SHAPE) / 6.4), jnp.float32)

PSF = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 7)) / 35, jnp.float32)
# Coarse stripes: 2 pi p.r, here up to 60, is good to 4e-6 in float32.
STRIPES = Illumination(
    wavevectors=jnp.asarray([[0.0, 0.04], [0.03, 0.02]], jnp.float32),
    phases_rad=jnp.asarray([[0.0, 2.1, 4.2], [0.5, 2.6, 4.7]], jnp.float32),
    modulation=jnp.asarray([[0.8], [0.6]], jnp.float32),
)
OPERATORS = {
    "convolve": lambda x: operators.convolve(x, PSF, boundary="reflect"),
    "convolve_adjoint": lambda x: operators.convolve_adjoint(x, PSF),
    "convolution": lambda x: operators.convolution(PSF, SHAPE, boundary="nearest")[0](x),
    "bin_area": lambda x: operators.bin_area(x, 2),
    "bin_area_adjoint": lambda x: operators.bin_area_adjoint(x, 2),
    "resample up": lambda x: operators.resample(x, 1.3),
    "resample down": lambda x: operators.resample(x, 0.6, kernel="area"),
    "resample_adjoint": lambda x: operators.resample_adjoint(x, 0.5, shape=(416, 400), kernel="cubic"),
    "first_difference": lambda x: operators.first_difference(x, "y"),
    "second_difference": lambda x: operators.second_difference(x, "x"),
    "mixed_difference": lambda x: operators.mixed_difference(x, "x", "y"),
    "camera": lambda x: operators.camera(PSF, SHAPE)[1](operators.camera(PSF, SHAPE)[0](x)),
    "camera_image": lambda x: operators.camera_image(x, PSF),
    "camera_image_adjoint": lambda x: operators.camera_image_adjoint(x, PSF),
    "add_poisson_noise": lambda x: operators.add_poisson_noise(jax.random.key(1), 10 * x),
    "add_read_noise": lambda x: operators.add_read_noise(jax.random.key(1), x),
    "split_photons": lambda x: operators.split_photons(jax.random.key(1), jnp.round(10 * x))[1],
    "expose": lambda x: operators.expose(jax.random.key(1), 10 * x, PSF),
    "pixel_shuffle": lambda x: operators.pixel_shuffle(x.reshape(1, 104, 100, 4), 2),
    "warp": lambda x: operators.warp(x, WAVE),
    "warp cubic": lambda x: operators.warp(x, WAVE, order=3, mode="mirror"),
    "warp_adjoint": lambda x: operators.warp_adjoint(x, WAVE, mode="constant"),
    "spline_coefficients": lambda x: operators.spline_coefficients(x),
    "affine_flow": lambda x: operators.affine_flow(x[:2, :3], SHAPE),
    "rigid_flow": lambda x: operators.rigid_flow(SHAPE, x[0, :2], angle_rad=x[0, 0]),
    "compose": lambda x: operators.compose(WAVE, x[None] * WAVE),
    "invert": lambda x: operators.invert(x[None] * WAVE / 2)[0],
    "exponential": lambda x: operators.exponential(x[None] * WAVE),
    "jacobian_determinant": lambda x: operators.jacobian_determinant(x[None] * WAVE),
    "estimate_shift": lambda x: operators.estimate_shift(operators.warp(x, WAVE), x),
    "illumination_patterns": lambda x: operators.illumination_patterns(STRIPES, SHAPE),
    "sim_frames": lambda x: operators.sim_frames(x, PSF, STRIPES, factor=1),
    "folding_count": lambda x: operators.folding_count(3 * WAVE),
    "space_to_depth": lambda x: operators.space_to_depth(x.reshape(1, *SHAPE, 1), 2),
}


def test_every_jax_operator_is_here():
    # ``adjoint`` makes operators, ``resample_region`` and ``sampling_grid`` are NumPy's work, one is a result.
    named = {name.split(" ")[0] for name in OPERATORS}
    assert named == set(operators.__all__) - {"adjoint", "resample_region", "sampling_grid", "InverseFlow"}


@pytest.mark.parametrize("name", OPERATORS)
def test_compiled_equals_eager(name, rng):
    operator = OPERATORS[name]
    image = jnp.asarray(rng.uniform(0.1, 1, SHAPE), jnp.float32)
    eager, compiled = np.asarray(operator(image)), np.asarray(jax.jit(operator)(image))
    if name == "expose":
        # The expected image differs by rounding between the two, and a count can tip over with it: rarely.
        assert np.mean(eager != compiled) < 1e-3
        return
    np.testing.assert_allclose(compiled, eager, rtol=0, atol=1e-5 * np.abs(eager).max())


@pytest.mark.parametrize("name", ["convolve", "camera_image", "resample up", "mixed_difference"])
def test_mapped_equals_one_by_one(name, rng):
    operator = OPERATORS[name]
    stack = jnp.asarray(rng.uniform(size=STACK), jnp.float32)
    mapped = np.asarray(jax.jit(jax.vmap(operator))(stack))
    for plane, image in zip(mapped, stack, strict=True):
        np.testing.assert_allclose(plane, operator(image), rtol=0, atol=1e-5 * np.abs(plane).max())


@pytest.mark.parametrize("size", [2, 3])
def test_this_jaxlib_maps_small_products_rightly(size, rng):
    points = rng.normal(size=(40_000, size)).astype(np.float32)
    matrix = rng.normal(size=(size, size)).astype(np.float32)

    def squared_length(p):
        return jnp.sum((jnp.asarray(matrix) @ p) ** 2)

    compiled = jax.jit(jax.vmap(squared_length))(points)
    expected = ((points.astype(np.float64) @ matrix.T.astype(np.float64)) ** 2).sum(axis=1)
    np.testing.assert_allclose(jax.vmap(squared_length)(points), expected, rtol=1e-4)
    np.testing.assert_allclose(compiled, expected, rtol=1e-4)
