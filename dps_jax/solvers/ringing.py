"""Ringing of an image that a filter boosted too much in a ring of its spectrum, undone (NumPy).

A ring by how much which frequencies were raised is read from the image by a network (``models.ring_reader``); here is
what it reads, and what is done about it. Borders are mirrored: the spectrum is that of a cosine transform.

Sources: Fan et al. 2019 (over-deconvolution and its side lobes), Gerchberg 1974 (iterating between what is known of the
spectrum and what is known of the image, here where it was set to 0).
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn

from dps_jax import _checks

# Rings of the spectrum in cycles per Abbe period: their middles.
RADII = 0.2 + 0.05 * (np.arange(44) + 0.5)
_RING = 0.05
# Of an image whose negative values were set to 0, more than this share of pixels is exactly 0.
_CLIPPED_SHARE = 0.002
_ROUNDS = 40


def ring_powers(image: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Return the mean power of an image ``(y, x)`` in each ring of :data:`RADII`, per coefficient of its transform.

    White noise of variance 1 has power 1. A ring that the image's pixels do not reach has that of the ring before.

    Raises
    ------
    ValueError
        For an image that is not ``(y, x)`` or not finite, or an ``abbe_px`` that is not above 0.
    """
    _checks.finite_plane(image)
    _checks.positive("abbe_px", abbe_px)
    power = dctn(np.asarray(image, np.float64), norm="ortho") ** 2
    ring = np.floor((_frequencies(power.shape) * abbe_px - RADII[0]) / _RING + 0.5).astype(int)
    inside = (ring >= 0) & (ring < RADII.size)
    count = np.bincount(ring[inside], minlength=RADII.size)
    total = np.bincount(ring[inside], power[inside], minlength=RADII.size)
    last = np.maximum.accumulate(np.where(count > 0, np.arange(RADII.size), 0))
    return np.asarray((total / np.maximum(count, 1))[last])


def is_clipped(image: np.ndarray) -> bool:
    """Tell whether the negative values of an image were set to 0."""
    return bool(np.min(image) >= 0 and np.mean(np.asarray(image) == 0) > _CLIPPED_SHARE)


def remove_ringing(image: np.ndarray, raised: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Divide the spectrum of an image by what it was raised by.

    Parameters
    ----------
    image
        ``(y, x)``, background removed, of any unit.
    raised
        Logarithm of the factor in each ring of :data:`RADII`; what is below 0 counts as 0.
    abbe_px
        Abbe period in px of the image that was super-resolved.

    Returns
    -------
    The image, float32, with the same sum. Where negative values had been set to 0, they are filled in as those of a
    non-negative image that was raised like this.

    Raises
    ------
    ValueError
        As :func:`ring_powers`, and for a ``raised`` of another length.
    """
    _checks.finite_plane(image)
    _checks.positive("abbe_px", abbe_px)
    if np.shape(raised) != RADII.shape:
        raise ValueError(f"expected one value for each of {RADII.size} rings, got shape {np.shape(raised)}")
    image = np.asarray(image, np.float64)
    radius = _frequencies(image.shape) * abbe_px
    factor = np.exp(np.interp(radius, RADII, np.maximum(raised, 0.0), left=0.0, right=0.0))

    def filtered(seen: np.ndarray, by: np.ndarray) -> np.ndarray:
        return np.asarray(idctn(by * dctn(seen, norm="ortho"), norm="ortho"))

    out = filtered(image, 1 / factor)
    if not is_clipped(image):
        return out.astype(np.float32)
    lost = image <= 0
    for _ in range(_ROUNDS):
        below = np.minimum(filtered(np.maximum(out, 0.0), factor), 0.0)
        out = filtered(np.where(lost, below, image), 1 / factor)
    out = np.maximum(out, 0.0)
    after = float(out.sum())
    return (out * (float(image.sum()) / after if after > 0 else 1.0)).astype(np.float32)


def _frequencies(shape: tuple[int, ...]) -> np.ndarray:
    """Return the frequencies of a cosine transform in cycles per px."""
    rows, columns = (0.5 * np.arange(n) / n for n in shape)
    return np.hypot(rows[:, None], columns[None, :])
