"""Kernels: unit sum, symmetry, widths and zeros of the Airy pattern, and the integral over the pixel."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from dps_jax.optics import (
    OpticalSystem,
    airy_psf,
    default_size,
    gaussian_psf,
    incoherent_otf,
    radial_frequency,
    srpsf,
)

FINE = OpticalSystem(na=1.2, wavelength_nm=520.0, pixel_size_nm=5.0)

# Compiled as a whole, which is eight times faster than op by op.
_airy_psf = jax.jit(airy_psf, static_argnames=("abbe_px", "size"))


@partial(jax.jit, static_argnames="size")
def _srpsf(system, size):
    return srpsf(system, size=size)


KERNELS = {
    "widefield": lambda: srpsf(OpticalSystem(na=1.49, wavelength_nm=525.0, pixel_size_nm=65.0)),
    "sim": lambda: srpsf(OpticalSystem(na=1.49, wavelength_nm=525.0, pixel_size_nm=32.5, modulation=2.0)),
    "coarse": lambda: airy_psf(abbe_px=1.2),
    "sized": lambda: airy_psf(abbe_px=5.0, size=9),
    "gaussian": lambda: gaussian_psf(sigma_px=1.3),
    "narrow gaussian": lambda: gaussian_psf(sigma_px=0.2),
    "one pixel": lambda: gaussian_psf(sigma_px=1.0, size=1),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_contract(name):
    kernel = np.asarray(KERNELS[name]())
    assert kernel.dtype == np.float32
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.min() >= 0
    assert kernel.argmax() == kernel.size // 2
    # Unit sum up to the rounding of a float32 sum: a random walk of one unit (1.2e-7) per term.
    assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1.2e-7 * kernel.shape[0])
    for mirrored in (kernel[::-1], kernel[:, ::-1], kernel.T):
        # A pixel sums 16 values in float32; its mirror image sums them in another order.
        np.testing.assert_allclose(mirrored, kernel, rtol=0, atol=3e-7 * kernel.max())


def _profile(system):
    """Radius in nm and the central row of the kernel, from the middle outwards, peak 1."""
    kernel = np.asarray(_srpsf(system, 201), np.float64)
    row = kernel[100, 100:] / kernel.max()
    return np.arange(row.size) * system.pixel_size_nm, row


@pytest.mark.parametrize("modulation", [1.0, 2.0])
def test_full_width_at_half_maximum(modulation):
    system = OpticalSystem(na=1.2, wavelength_nm=520.0, pixel_size_nm=5.0, modulation=modulation)
    radius, row = _profile(system)
    width = 2 * np.interp(-0.5, -row[:40], radius[:40])
    assert width == pytest.approx(0.5145 * 520 / (modulation * 1.2), rel=0.01)
    assert width == pytest.approx(system.airy_fwhm_nm, rel=0.01)


def test_first_zero():
    radius, row = _profile(FINE)
    dark = radius[np.argmax(np.diff(row) > 0)]
    # 0.61 lambda / NA = 1.22 d; the pixel grid places it to half a pixel of 5 nm.
    assert abs(dark - 0.61 * 520 / 1.2) <= 5.0
    assert pytest.approx(1.22 * FINE.abbe_nm) == 0.61 * 520 / 1.2
    assert row[np.argmax(np.diff(row) > 0)] < 1e-4


def test_modulation_two_equals_twice_the_aperture():
    half = OpticalSystem(na=0.7, wavelength_nm=525.0, pixel_size_nm=40.0, modulation=2.0)
    whole = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=40.0)
    unmodulated = OpticalSystem(na=0.7, wavelength_nm=525.0, pixel_size_nm=40.0)
    np.testing.assert_array_equal(_srpsf(half, 21), _srpsf(whole, 21))
    assert default_size(half.abbe_px) == default_size(whole.abbe_px)
    assert np.abs(_srpsf(half, 21) - _srpsf(unmodulated, 21)).max() > 0.01


def test_srpsf_is_the_airy_pattern_of_its_abbe_period():
    system = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
    np.testing.assert_allclose(_srpsf(system, 25), _airy_psf(abbe_px=system.abbe_px), rtol=0, atol=1e-7)


def _airy(radius_px, abbe_px):
    v = np.pi * radius_px / abbe_px
    return (2 * special.j1(v) / v) ** 2


@pytest.mark.parametrize("abbe_px", [1.2, 2.5])
def test_pixels_hold_the_integral_of_the_pattern(abbe_px):
    size, over = 11, 32
    # Midpoints of 32 x 32 sub-pixels, never at the origin. The rule errs by f'' h^2 / 24 per axis, with
    # f'' = (pi/d)^2 / 2 <= 3.4 and h = 1/32: 1.4e-4 of the pattern's peak, twice for two axes, and the peak is
    # up to 1.6 times the mean of its pixel.
    axis = (np.arange(size * over) + 0.5) / over - size / 2
    fine = _airy(np.hypot(axis[:, None], axis[None, :]), abbe_px)
    brute = fine.reshape(size, over, size, over).mean(axis=(1, 3))
    kernel = np.asarray(_airy_psf(abbe_px=abbe_px, size=size))
    np.testing.assert_allclose(kernel, brute / brute.sum(), rtol=0, atol=5e-4 * kernel.max())
    # Sampling the middle of each pixel instead would be visibly different at this coarseness.
    axis = np.where(np.arange(size) == size // 2, 1e-9, np.arange(size) - size // 2)
    sampled = _airy(np.hypot(axis[:, None], axis[None, :]), abbe_px)
    assert np.abs(sampled / sampled.sum() - kernel).max() > 0.02 * kernel.max()


@pytest.mark.parametrize(("abbe_px", "error"), [(1.0, 3e-5), (2.0, 2e-6)])
def test_four_nodes_are_enough(abbe_px, error):
    # As the module states it, against 32 nodes in float64; float32 itself rounds to a few 1e-7.
    offsets, weights = np.polynomial.legendre.leggauss(32)
    axis = (np.arange(11)[:, None] - 5 + offsets / 2).ravel()
    fine = _airy(np.hypot(axis[:, None], axis[None, :]), abbe_px).reshape(11, 32, 11, 32)
    exact = np.einsum("iajb,a,b->ij", fine, weights, weights)
    kernel = np.asarray(_airy_psf(abbe_px=abbe_px, size=11))
    np.testing.assert_allclose(kernel, exact / exact.sum(), rtol=0, atol=error * kernel.max())


@pytest.mark.parametrize("sigma_px", [0.3, 1.0, 2.2])
def test_gaussian_equals_the_error_function(sigma_px):
    kernel = np.asarray(gaussian_psf(sigma_px=sigma_px))
    reach = kernel.shape[0] // 2
    edges = (np.arange(-reach, reach + 2) - 0.5) / (sigma_px * np.sqrt(2))
    row = np.diff(special.erf(edges))
    exact = np.outer(row, row) / row.sum() ** 2
    # Four Gauss nodes over a pixel of 3.3 sigma (0.3) leave 1e-3; over a pixel of one sigma or less, 1e-6.
    np.testing.assert_allclose(kernel, exact, rtol=0, atol=2e-3 if sigma_px < 1 else 2e-6)


def _light_outside(radius_px, abbe_px):
    """Share of an Airy pattern's light beyond a radius: J0^2 + J1^2 (Rayleigh 1881)."""
    v = np.pi * radius_px / abbe_px
    return special.j0(v) ** 2 + special.j1(v) ** 2


@pytest.mark.parametrize("abbe_px", [2.5, 3.3, 5.0])
def test_spectrum_is_the_otf_times_the_pixel(abbe_px):
    half = 80
    kernel = np.asarray(_airy_psf(abbe_px=abbe_px, size=2 * half + 1), np.float64)
    spectrum = np.fft.fft2(np.fft.ifftshift(kernel))
    frequency = radial_frequency(kernel.shape)
    axis = np.fft.fftfreq(kernel.shape[0])
    pixel = np.outer(np.sinc(axis), np.sinc(axis))
    expected = np.asarray(incoherent_otf(frequency, cutoff=1 / abbe_px)) * pixel
    # The kernel lacks the share e of light outside its square, less than that outside the inscribed circle.
    # Its spectrum is off by at most e before and 2e / (1 - e) after the scaling to unit sum.
    lost = _light_outside(half + 0.5, abbe_px)
    assert lost < 0.02
    np.testing.assert_allclose(spectrum.real, expected, rtol=0, atol=2 * lost / (1 - lost))
    np.testing.assert_allclose(spectrum.imag, 0, atol=1e-7)
    # Beyond the cut-off nothing is left but what truncation scatters there.
    outside = np.abs(spectrum[frequency > 1.05 / abbe_px])
    assert outside.max() < 0.1 * lost


def test_default_size_reaches_four_abbe_periods():
    assert [default_size(d) for d in (1.0, 1.2, 2.5, 2.885)] == [9, 11, 21, 25]
    assert _airy_psf(abbe_px=2.5).shape == (21, 21)
    # What the module says of the light left out, for the circle inside the square: J0^2 + J1^2 at v = 4 pi.
    assert 0.04 < _light_outside(4.0, 1.0) < 0.055


REFUSED = [
    (lambda: airy_psf(abbe_px=2.5, size=20), "expected an odd kernel size, .*got 20"),
    (lambda: airy_psf(abbe_px=2.5, size=0), "expected size to be a whole number of 1 or more, got 0"),
    (lambda: airy_psf(abbe_px=2.5, size=7.0), "expected size to be a whole number of 1 or more, got 7.0"),
    (lambda: airy_psf(abbe_px=0.0), "expected abbe_px to be a finite number above 0, got 0.0"),
    (lambda: default_size(-1.0), "expected abbe_px to be a finite number above 0, got -1.0"),
    (lambda: srpsf(FINE, size=4), "expected an odd kernel size, .*got 4"),
    (lambda: gaussian_psf(sigma_px=-0.5), "expected sigma_px to be a finite number above 0, got -0.5"),
    (lambda: gaussian_psf(sigma_px=1.0, size=6), "expected an odd kernel size, .*got 6"),
    (
        lambda: incoherent_otf(jnp.zeros(3), cutoff=0.0),
        "expected cutoff to be a finite number above 0, got 0.0",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_refused_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call()
