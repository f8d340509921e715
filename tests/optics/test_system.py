"""OpticalSystem: what it refuses, what it derives, and that it is plain data to JAX."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from dps_jax.optics import OpticalSystem, srpsf
from dps_jax.optics.system import AIRY_FWHM

GOOD = {"na": 1.4, "wavelength_nm": 525.0, "pixel_size_nm": 65.0}

# One refused input per line, with the words that the message must hold.
REFUSED = [
    ({"na": 0.0}, "expected na to be a finite number above 0, got 0.0"),
    ({"na": -1.4}, "expected na to be a finite number above 0, got -1.4"),
    ({"na": math.nan}, "expected na to be a finite number above 0, got nan"),
    ({"na": math.inf}, "expected na to be a finite number above 0, got inf"),
    ({"na": 1.6}, r"at most the refractive index of the immersion medium \(1.515\), got 1.6"),
    ({"na": 1.4, "refractive_index": 1.33}, r"immersion medium \(1.33\), got 1.4"),
    ({"na": np.float32(1.75)}, r"immersion medium \(1.515\), got 1.75"),
    ({"wavelength_nm": 0}, "expected wavelength_nm to be a finite number above 0, got 0"),
    ({"wavelength_nm": -525.0}, "expected wavelength_nm to be a finite number above 0, got -525.0"),
    ({"wavelength_nm": math.nan}, "expected wavelength_nm to be a finite number above 0, got nan"),
    ({"pixel_size_nm": 0.0}, "expected pixel_size_nm to be a finite number above 0, got 0.0"),
    ({"pixel_size_nm": -65}, "expected pixel_size_nm to be a finite number above 0, got -65"),
    ({"pixel_size_nm": math.inf}, "expected pixel_size_nm to be a finite number above 0, got inf"),
    ({"modulation": 0.0}, "expected modulation to be a finite number above 0, got 0.0"),
    ({"modulation": -2.0}, "expected modulation to be a finite number above 0, got -2.0"),
    ({"refractive_index": 0.0}, "expected refractive_index to be a finite number above 0, got 0.0"),
    ({"refractive_index": math.nan}, "expected refractive_index to be a finite number above 0, got nan"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refused_inputs(change, message):
    with pytest.raises(ValueError, match=message):
        OpticalSystem(**{**GOOD, **change})


def test_the_immersion_index_itself_is_allowed():
    assert OpticalSystem(**{**GOOD, "na": 1.515}).na == 1.515


def test_fields_are_keywords_and_frozen():
    with pytest.raises(TypeError):
        OpticalSystem(1.4, 525.0, 65.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        OpticalSystem(**GOOD).na = 1.2


def test_derived_lengths():
    # lambda = 500 nm, NA = 1.25, m = 2: d = 500 / (2 * 2 * 1.25) = 100 nm = 2 px of 50 nm.
    system = OpticalSystem(na=1.25, wavelength_nm=500.0, pixel_size_nm=50.0, modulation=2.0)
    assert system.effective_na == pytest.approx(2.5)
    assert system.abbe_nm == pytest.approx(100.0)
    assert system.abbe_px == pytest.approx(2.0)
    assert system.cutoff_per_nm == pytest.approx(0.01)
    assert system.airy_fwhm_nm == pytest.approx(102.9)


def test_airy_fwhm_constant():
    half = optimize.brentq(lambda v: (2 * special.j1(v) / v) ** 2 - 0.5, 1.0, 3.0)
    # v = 2 pi NA r / lambda, so the full width in units of lambda / NA is 2 half / (2 pi); given to 4 digits.
    assert pytest.approx(half / math.pi, abs=5e-5) == AIRY_FWHM


def test_pytree_round_trip():
    system = OpticalSystem(**GOOD, modulation=2.0, refractive_index=1.518)
    leaves, structure = jax.tree.flatten(system)
    assert sorted(leaves) == [1.4, 1.518, 2.0, 65.0, 525.0]
    assert jax.tree.unflatten(structure, leaves) == system
    doubled = jax.tree.map(
        lambda leaf: 2 * leaf, OpticalSystem(na=0.5, wavelength_nm=500.0, pixel_size_nm=50.0)
    )
    assert (doubled.na, doubled.wavelength_nm, doubled.modulation) == (1.0, 1000.0, 2.0)


def test_a_batch_of_systems_maps():
    batch = OpticalSystem(
        na=jnp.array([0.8, 1.4]),
        wavelength_nm=jnp.array([525.0, 600.0]),
        pixel_size_nm=jnp.full(2, 65.0),
        modulation=jnp.ones(2),
        refractive_index=jnp.full(2, 1.515),
    )
    kernels = jax.jit(jax.vmap(lambda system: srpsf(system, size=15)))(batch)
    for kernel, na, wavelength_nm in zip(kernels, (0.8, 1.4), (525.0, 600.0), strict=True):
        alone = srpsf(OpticalSystem(na=na, wavelength_nm=wavelength_nm, pixel_size_nm=65.0), size=15)
        np.testing.assert_allclose(kernel, alone, rtol=0, atol=1e-6)


@jax.jit
def _sharpness(system):
    return jnp.sum(srpsf(system, size=21) ** 2)


@pytest.mark.parametrize("name", ["na", "wavelength_nm", "pixel_size_nm", "modulation"])
def test_gradient_equals_finite_difference(name):
    system = OpticalSystem(**GOOD)
    gradient = getattr(jax.jit(jax.grad(_sharpness))(system), name)
    # Central difference: the truncation error is (h/x)^2 / 6 ~ 2e-5 of the slope for a step of 1 %, and the
    # rounding error 6e-8 / 0.01 ~ 1e-5 of it.
    step = 0.01 * getattr(system, name)
    up, down = (
        float(_sharpness(dataclasses.replace(system, **{name: getattr(system, name) + s})))
        for s in (step, -step)
    )
    assert np.isfinite(gradient)
    assert abs(float(gradient)) > 0
    assert float(gradient) == pytest.approx((up - down) / (2 * step), rel=1e-3)


def test_gradient_with_respect_to_na_alone():
    def sharpness(na):
        return _sharpness(OpticalSystem(na=na, wavelength_nm=525.0, pixel_size_nm=65.0))

    finite = (sharpness(1.41) - sharpness(1.39)) / 0.02
    assert float(jax.grad(sharpness)(1.4)) == pytest.approx(float(finite), rel=1e-3)
