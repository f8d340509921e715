"""Less flicker: photons of neighbouring frames are pooled where the frames agree within their noise (NumPy).

A camera's frames ``(t, y, x)`` of a slow scene show the same object with other photons. Where the difference of two
frames is no larger than photon noise makes it, both are pictures of one thing and their mean holds twice the light;
where it is larger, something moved and each frame keeps to itself. The test is that of patches whose distance is
measured in units of the noise (Buades, Coll and Morel 2005; for photon noise Deledalle, Tupin and Denis 2010).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dps_jax import _checks

# Patches are compared over a Gaussian of one Abbe period: wide enough to judge, too narrow to hide what moves.
_PATCH_ABBE = 1.0
# A frame counts in full up to two standard deviations of what noise alone does, and not at all from four.
_TRUSTED, _REFUSED = 2.0, 4.0
_CANONICAL_ABBE_PX = 2.5


def pool_frames(
    stack: np.ndarray, *, gain: float, offset: float, abbe_px: float, reach: int = 3
) -> np.ndarray:
    """Average each frame with up to ``reach`` frames before and after it, wherever they agree.

    Parameters
    ----------
    stack
        ``(t, y, x)`` in camera units.
    gain, offset
        Camera units per photon, and the camera value of no light.
    abbe_px
        Abbe period in pixels.
    reach
        Frames on either side; 0 changes nothing.

    Returns
    -------
    float32 ``(t, y, x)`` in camera units, each frame with its own sum.

    Raises
    ------
    ValueError
        If the stack is not ``(t, y, x)``, or a number is out of range.
    """
    if np.ndim(stack) != 3:
        raise ValueError(f"expected a movie (t, y, x), got shape {np.shape(stack)}")
    _checks.positive("gain", gain)
    _checks.positive("abbe_px", abbe_px)
    if reach < 0:
        raise ValueError(f"expected reach to be a whole number of 0 or more, got {reach!r}")
    photons = (np.asarray(stack, np.float32) - np.float32(offset)) / np.float32(gain)
    sigma = _PATCH_ABBE * abbe_px
    # A Gaussian average of squared normal numbers spreads by sqrt(2 / N), with N its effective number of pixels.
    spread = np.sqrt(2 / (4 * np.pi * sigma**2))
    # One photon of read noise in the canonical pixel, and less on finer ones: a photon in each of many small pixels
    # would outweigh all that moves.
    floor = min(1.0, (_CANONICAL_ABBE_PX / abbe_px) ** 2)
    smooth = [ndimage.gaussian_filter(frame, sigma) for frame in photons]
    out = np.empty(photons.shape, np.float32)
    for t, frame in enumerate(photons):
        total, weight = frame.copy(), np.ones_like(frame)
        for s in range(max(0, t - reach), min(len(photons), t + reach + 1)):
            if s == t:
                continue
            # The variance of a difference of two counts is the sum of their means.
            variance = np.maximum(smooth[t] + smooth[s], 0.0) + floor
            excess = ndimage.gaussian_filter((frame - photons[s]) ** 2 / variance, sigma) - 1.0
            agreed = np.clip((_REFUSED - excess / spread) / (_REFUSED - _TRUSTED), 0.0, 1.0)
            total += agreed * photons[s]
            weight += agreed
        pooled = total / weight
        light = float(pooled.sum(dtype=np.float64))
        # Each frame keeps its own light: what bleaches must still bleach.
        out[t] = pooled * (float(frame.sum(dtype=np.float64)) / light if light > 0 else 1.0)
    return out * np.float32(gain) + np.float32(offset)
