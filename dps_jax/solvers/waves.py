"""Waves over an image, as the stripes and honeycombs of SIM are: what they are, and how they are taken out (NumPy).

An image with waves is ``S + sum_i m_i G_i S``: ``m_i`` is a sinusoid, and the light ``G_i S`` that it follows is the
image's own or, where the residue was blurred by the microscope before it came to be one, that light smoothed.

Source: Demmerle et al. 2017 (the residues of SIM patterns).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.metrics.light import brightness

_SMOOTH_ABBE = 1.0  # what the contrast is relative to
_DARK = 0.1  # of the image's brightness: below, contrast counts for less
_LEAST_FACTOR = 0.3
# Waves are 0.6 deep at most, so that what is left of their smoothed part falls to a thousandth of it at least.
_ROUNDS = 14


@dataclass(frozen=True)
class Wave:
    """``cosine cos(2 pi k r) + sine sin(2 pi k r)`` of the image's light; ``k`` in cycles per px, ``r`` in px.

    ``smoothing_px`` is the standard deviation of the Gaussian that blurred the light that it follows; 0 for none.
    """

    ky: float
    kx: float
    cosine: float
    sine: float
    evidence: float
    smoothing_px: float = 0.0

    @property
    def depth(self) -> float:
        """Amplitude relative to the image."""
        return math.hypot(self.cosine, self.sine)

    @property
    def period_px(self) -> float:
        """Distance from crest to crest."""
        return 1 / math.hypot(self.ky, self.kx)


def modulation(waves: Iterable[Wave], shape: tuple[int, int]) -> np.ndarray:
    """Return the sum of waves on ``shape`` pixels."""
    total = np.zeros(shape)
    for wave in waves:
        turned = phase_factor(wave.ky, wave.kx, shape)
        total += wave.cosine * turned.real + wave.sine * turned.imag
    return total


def remove_waves(image: np.ndarray, waves: Iterable[Wave]) -> np.ndarray:
    """Take waves out of an image ``(y, x)``; its sum is kept.

    What multiplies the image is divided out, by no less than 0.3, and what follows smoothed light is subtracted.
    """
    image = np.asarray(image)
    waves = list(waves)
    if not waves:
        return image.astype(np.float32)
    shape = (image.shape[0], image.shape[1])
    factor = np.maximum(1 + modulation((w for w in waves if not w.smoothing_px), shape), _LEAST_FACTOR)
    widths = sorted({w.smoothing_px for w in waves if w.smoothing_px})
    smoothed = [(width, modulation((w for w in waves if w.smoothing_px == width), shape)) for width in widths]
    out = image / factor
    for _ in range(_ROUNDS if smoothed else 0):
        laid_over = sum(m * gaussian_filter(out, width, mode="reflect") for width, m in smoothed)
        out = (image - laid_over) / factor
    before, after = float(np.sum(image, dtype=float)), float(np.sum(out, dtype=float))
    return (out * (before / after if before > 0 and after > 0 else 1.0)).astype(np.float32)


def phase_factor(ky: float, kx: float, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``exp(2 pi i k r)`` on ``shape`` pixels."""
    rows, columns = phases(ky, kx, shape)
    return rows[:, None] * columns[None, :]


def phases(ky: float, kx: float, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the two factors of :func:`phase_factor`, of the rows and of the columns."""
    rows, columns = (np.exp(2j * np.pi * k * np.arange(n)) for k, n in zip((ky, kx), shape, strict=True))
    return rows, columns


def contrast_of(image: np.ndarray, *, abbe_px: float) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the image relative to its surroundings, and how much each pixel counts: bright ones 1, dark ones 0.

    ``None`` in place of the contrast of an image without light.
    """
    light = np.maximum(image, 0)
    floor = _DARK * brightness(light.astype(np.float32), abbe_px=abbe_px)
    if not floor > 0:
        return None, light
    smooth = gaussian_filter(light, _SMOOTH_ABBE * abbe_px, mode="reflect")
    return (image - smooth) / (smooth + floor), smooth / (smooth + floor)


def block_sums(values: np.ndarray, blocks: list[int]) -> np.ndarray:
    """Return the sums ``(n,)`` over so many blocks along each side."""
    edges = [np.arange(count) * n // count for n, count in zip(values.shape, blocks, strict=True)]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1)).ravel()
