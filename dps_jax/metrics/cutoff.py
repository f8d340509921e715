"""The cut-off of a microscope, read from an image's own spectrum, where nobody tells the optics."""

from __future__ import annotations

import numpy as np

from dps_jax.metrics.out_of_band import radial_power_spectrum
from dps_jax.optics.otf import incoherent_otf

# Frequencies (cycles per px) that are taken to hold noise only; a camera that samples to Nyquist leaves none.
_NOISE_FROM = 0.44
# So many standard errors of a ring's mean power over the noise is light.
_CLEARLY = 5.0
_SMOOTH_RINGS = 5
# The model is fitted from this part of where the light ends, and cut-offs of this many times that end are tried.
_FITTED_FROM, _TRIED = 0.5, (0.97, 1.4)


def spectral_cutoff(image: np.ndarray) -> float | None:
    """Return the cut-off ``2 NA / wavelength`` in cycles per px of the microscope that took ``(y, x)``.

    The radial power spectrum is fitted by a power law times the squared OTF of an aberration-free pupil, plus white
    noise: the last transferred frequencies lie below the noise, so that where light is seen to end is some 5 to 10 %
    too early. None where the spectrum does not become flat before the edge of the grid, or nowhere rises.
    """
    frequencies, power = (
        np.asarray(a, np.float64) for a in radial_power_spectrum(np.asarray(image, np.float32))
    )
    noise = (frequencies > _NOISE_FROM) & (frequencies <= 0.5)
    if noise.sum() < _SMOOTH_RINGS:
        return None
    floor = float(np.median(power[noise]))
    radius = np.maximum(frequencies * min(image.shape[-2:]), 1.0)
    end = _end_of_light(frequencies, power, floor, radius)
    if end is None:
        return None
    part = (frequencies > _FITTED_FROM * end) & (frequencies < _NOISE_FROM)
    trials = np.linspace(_TRIED[0] * end, _TRIED[1] * end, 60)
    costs = [_misfit(frequencies[part], power[part], radius[part], floor, float(c)) for c in trials]
    return float(trials[int(np.argmin(costs))])


def _end_of_light(
    frequencies: np.ndarray, power: np.ndarray, floor: float, radius: np.ndarray
) -> float | None:
    """Return the last frequency whose power clearly exceeds the noise."""
    smooth = np.convolve(power, np.ones(_SMOOTH_RINGS) / _SMOOTH_RINGS, mode="same")
    # A ring of radius r (in samples) has about 2 pi r powers, each as uncertain as it is large; half of them are the
    # conjugates of the others, and the window ties neighbours together.
    uncertain = floor * np.sqrt(3.0 / (np.pi * radius * _SMOOTH_RINGS))
    light = (smooth > floor + _CLEARLY * uncertain) & (frequencies < _NOISE_FROM)
    if not light.any():
        return None
    last = int(np.flatnonzero(light)[-1])
    beyond = frequencies[min(last + _SMOOTH_RINGS, len(frequencies) - 1)]
    return None if beyond > _NOISE_FROM else float(frequencies[last])


def _misfit(
    frequencies: np.ndarray, power: np.ndarray, radius: np.ndarray, floor: float, cutoff: float
) -> float:
    """Return the weighted squared error of the logarithms at the best amplitude and exponent for a cut-off."""
    from scipy.optimize import least_squares  # slow to import, and seldom needed

    transfer = np.asarray(incoherent_otf(frequencies.astype(np.float32), cutoff=cutoff), np.float64)
    transfer = transfer * np.sinc(frequencies)  # a pixel's own, across its sides

    def error(amplitude_and_exponent: np.ndarray) -> np.ndarray:
        amplitude, exponent = amplitude_and_exponent
        model = np.exp(amplitude + exponent * np.log(frequencies)) * transfer**2 + floor
        return np.asarray((np.log(model) - np.log(power)) * np.sqrt(radius))

    start = np.array([np.log(max(power[0] - floor, floor)), -1.5])
    return float(least_squares(error, start).cost)
