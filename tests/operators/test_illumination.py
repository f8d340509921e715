"""Structured illumination: the forward model against direct sums, its adjoint, and its gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.operators import adjoint, illumination_patterns, sim_frames
from dps_jax.optics import Illumination, airy_psf


def _illumination(orders=1, phases=3):
    angles = np.array([0.3, 1.4, 2.6])
    p = 0.25 / orders * np.stack([np.sin(angles), np.cos(angles)], 1)
    steps = 0.4 + 2 * np.pi * np.arange(phases) / phases
    return Illumination(
        wavevectors=jnp.asarray(p, jnp.float32),
        phases_rad=jnp.asarray(np.tile(steps, (3, 1)), jnp.float32),
        modulation=jnp.asarray(np.tile([0.7, 0.4][:orders], (3, 1)), jnp.float32),
    )


@pytest.mark.parametrize(("orders", "phases"), [(1, 3), (2, 5)])
def test_stripes_are_the_formula(orders, phases):
    made = _illumination(orders, phases)
    patterns = np.asarray(illumination_patterns(made, (8, 10), factor=2))
    p, phi, depth = (np.asarray(a, float) for a in (made.wavevectors, made.phases_rad, made.modulation))
    for a, j, y, x in [(0, 0, 0, 0), (1, 2, 7, 9), (2, 1, 3, 4)]:
        # Fine pixels of half a camera pixel: their centres are at -1/4, 1/4, 3/4, ...
        argument = 2 * np.pi * (p[a, 0] * (y / 2 - 0.25) + p[a, 1] * (x / 2 - 0.25)) + phi[a, j]
        expected = 1 + sum(depth[a, m] * np.cos((m + 1) * argument) for m in range(orders))
        # float32 positions of a few px: the cosine's argument is right to 1e-6
        np.testing.assert_allclose(patterns[a, j, y, x], expected, atol=5e-6)


def test_phases_average_to_even_light():
    # Equal steps of phase cancel in every pixel, so the mean frame is a widefield image.
    np.testing.assert_allclose(
        np.asarray(illumination_patterns(_illumination(2, 5), (16, 16))).mean(1), 1.0, atol=2e-6
    )


def test_frames_are_linear_and_have_an_adjoint(rng):
    made, psf = _illumination(), airy_psf(abbe_px=5.0)

    def forward(x):
        return sim_frames(x, psf, made)

    x = jnp.asarray(rng.normal(size=(24, 28)), jnp.float32)
    y = jnp.asarray(rng.normal(size=(3, 3, 12, 14)), jnp.float32)
    assert forward(x).shape == (3, 3, 12, 14)
    left = float(jnp.vdot(forward(x), y))
    right = float(jnp.vdot(x, adjoint(forward, (24, 28))(y)))
    # Sums of 1512 float32 products of order 1
    assert abs(left - right) < 1e-4 * float(jnp.linalg.norm(forward(x)) * jnp.linalg.norm(y))
    np.testing.assert_allclose(
        np.asarray(sim_frames(jnp.stack([x, 2 * x]), psf, made)[1]),
        2 * np.asarray(forward(x)),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("name", ["wavevectors", "phases_rad", "modulation"])
def test_gradients_are_those_of_differences(name, rng):
    made, psf = _illumination(), airy_psf(abbe_px=5.0)
    x = jnp.asarray(rng.uniform(size=(24, 24)), jnp.float32)
    target = jnp.asarray(rng.uniform(size=(3, 3, 12, 12)), jnp.float32)

    def misfit(value):
        return jnp.mean((sim_frames(x, psf, dataclasses.replace(made, **{name: value})) - target) ** 2)

    at = getattr(made, name)
    direction = jnp.asarray(rng.normal(size=at.shape), jnp.float32)
    slope = float(jnp.vdot(jax.grad(misfit)(at), direction))
    step = 3e-3
    measured = float(misfit(at + step * direction) - misfit(at - step * direction)) / (2 * step)
    # Differences in float32: 1e-7 of the misfit over the step, and the third derivative times its square.
    assert measured == pytest.approx(slope, rel=2e-2, abs=5e-4)


def test_refusals():
    good = _illumination()
    with pytest.raises(ValueError, match="expected at least 3 phases to tell 1 orders apart, got 2"):
        dataclasses.replace(good, phases_rad=good.phases_rad[:, :2])
    with pytest.raises(ValueError, match=r"expected wavevectors \(angles, 2\)"):
        dataclasses.replace(good, modulation=good.modulation[:2])
    with pytest.raises(ValueError, match="expected factor"):
        illumination_patterns(good, (8, 8), factor=0)
    with pytest.raises(ValueError, match="axes"):
        sim_frames(jnp.ones(8), airy_psf(abbe_px=5.0), good)


def test_period_and_direction():
    made = Illumination(
        wavevectors=jnp.asarray([[0.0, 0.125], [0.25, 0.0]]),
        phases_rad=jnp.zeros((2, 5)),
        modulation=jnp.ones((2, 2)),
    )
    np.testing.assert_allclose(made.period_px, [4.0, 2.0])  # of the second order
    np.testing.assert_allclose(made.angle_rad, [0.0, np.pi / 2])
