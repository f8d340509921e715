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

from dps_jax import _checks
from dps_jax.metrics.light import brightness

_SMOOTH_ABBE = 1.0  # what the contrast is relative to
_DARK = 0.1  # of the image's brightness: below, contrast counts for less
_LEAST_FACTOR = 0.3
_ROUNDS, _SETTLED = 100, 1e-6  # of the image's norm, by which the last round changes it
_SAME_LIGHT = (0.5, 2.0)  # a sum that changes by more is no measure of light


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
        """Amplitude relative to the light that it follows."""
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
    """Take waves out of an image ``(y, x)``: the solution ``S`` of the module's equation, scaled to the image's sum.

    Parameters
    ----------
    image
        Background removed; of any unit. A sum that is not above 0, or changes by a factor of two, is left as it comes.
    waves
        As :func:`dps_jax.solvers.find_waves` returns them. Where those that follow the image's own light come to less
        than 0.3 of it, it is divided by that.

    Raises
    ------
    ValueError
        For an image that is not ``(y, x)`` or not finite, or for waves that follow smoothed light and are so deep, all
        together, that they cannot be told from the image: as deep as the image, or as what the others leave of it.
    """
    _checks.finite_plane(image)
    image = np.asarray(image)
    waves = list(waves)
    if not waves:
        return image.astype(np.float32)
    shape = (image.shape[0], image.shape[1])
    factor = np.maximum(1 + modulation((w for w in waves if not w.smoothing_px), shape), _LEAST_FACTOR)
    widths = sorted({w.smoothing_px for w in waves if w.smoothing_px})
    smoothed = [(width, modulation((w for w in waves if w.smoothing_px == width), shape)) for width in widths]
    together, least = sum(w.depth for w in waves if w.smoothing_px), float(factor.min())
    if together >= least:  # below it, each round is sure to change less than the one before
        raise ValueError(
            f"expected waves over smoothed light to be less than {least:.3g} deep together, got {together:.3g}; "
            "leave some out"
        )
    out = image / factor
    for _ in range(_ROUNDS if smoothed else 0):
        residue = sum(m * gaussian_filter(out, width, mode="reflect") for width, m in smoothed)
        last, out = out, (image - residue) / factor
        if np.linalg.norm(out - last) <= _SETTLED * np.linalg.norm(image):
            break
    before, after = float(np.sum(image, dtype=float)), float(np.sum(out, dtype=float))
    same = before > 0 and _SAME_LIGHT[0] < after / before < _SAME_LIGHT[1]
    return (out * (before / after if same else 1.0)).astype(np.float32)


def phase_factor(ky: float, kx: float, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``exp(2 pi i k r)`` on ``shape`` pixels."""
    rows, columns = (np.exp(2j * np.pi * k * np.arange(n)) for k, n in zip((ky, kx), shape, strict=True))
    return rows[:, None] * columns[None, :]


def contrast_of(image: np.ndarray, *, abbe_px: float) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the image relative to its surroundings, and how much each pixel counts: bright ones 1, dark ones 0.

    Of an image without light the contrast is ``None``, and nothing counts.
    """
    light = np.maximum(image, 0)
    floor = _DARK * brightness(light.astype(np.float32), abbe_px=abbe_px)
    if not floor > 0:
        return None, np.zeros_like(light)
    smooth = gaussian_filter(light, _SMOOTH_ABBE * abbe_px, mode="reflect")
    return (image - smooth) / (smooth + floor), smooth / (smooth + floor)


def block_sums(values: np.ndarray, blocks: list[int]) -> np.ndarray:
    """Return the sums ``(n,)`` over so many blocks along each side."""
    edges = [np.arange(count) * n // count for n, count in zip(values.shape, blocks, strict=True)]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1)).ravel()
