"""One filament scene of known cut-off, drawn with NumPy alone."""

import numpy as np
import pytest


def incoherent_otf(shape, cutoff_cycles_px):
    """Closed form for a circular pupil on the half spectrum (Goodman 2005, eq. 6-31)."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    s = np.clip(frequency / cutoff_cycles_px, 0, 1)
    return 2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s * s))


def draw_filaments(rng, size, count=60):
    """Smooth random curves as counts of points per pixel."""
    image = np.zeros((size, size))
    for _ in range(count):
        start, angle = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi)
        direction = angle + np.cumsum(rng.normal(0, 0.02, 400))
        y = np.rint(start[0] + 0.5 * np.cumsum(np.sin(direction))).astype(int)
        x = np.rint(start[1] + 0.5 * np.cumsum(np.cos(direction))).astype(int)
        inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
        np.add.at(image, (y[inside], x[inside]), 1)
    return image


def blur(image, cutoff_cycles_px):
    spectrum = np.fft.rfft2(image) * incoherent_otf(image.shape, cutoff_cycles_px)
    return np.clip(np.fft.irfft2(spectrum, s=image.shape), 0, None)


@pytest.fixture(scope="session")
def truth():
    return draw_filaments(np.random.default_rng(7), 512)


@pytest.fixture(scope="session")
def seen_through(truth):
    """The scene without noise, by the cut-off in cycles per pixel."""
    return lambda cutoff_cycles_px: blur(truth, cutoff_cycles_px)


@pytest.fixture(scope="session")
def exposures(truth):
    """Two photon-limited images (peak 3000 photons) of the scene per cut-off period, 32.5 nm pixels."""
    found = {}
    for period_nm in (100, 150, 200):
        rng = np.random.default_rng(period_nm)
        clean = blur(truth, 32.5 / period_nm)
        photons = 3000 * clean / clean.max() + 60
        found[period_nm] = [rng.poisson(photons).astype(np.float32) for _ in range(2)]
    return found
