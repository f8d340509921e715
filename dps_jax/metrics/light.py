"""Background and brightness of an image, whatever its pixels (NumPy).

Both are homogeneous: an image times ``a`` gives them times ``a``, an offset moves the background by itself.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dps_jax import _checks


def background_level(image: np.ndarray, *, abbe_px: float) -> float:
    """Return the constant background: the level that all but the darkest 1 % of the image exceeds.

    The image ``(..., y, x)`` is first smoothed over an Abbe period, so that the level follows the light and
    not the tail of the noise.
    """
    _checks.positive("abbe_px", abbe_px)
    return float(np.percentile(_smooth(image, abbe_px), 1.0))


def brightness(image: np.ndarray, *, abbe_px: float) -> float:
    """Return the intensity per pixel of the brightest structures of a background-free image ``(..., y, x)``.

    It is the 99.9th percentile after smoothing well below the resolution. Where bright objects are rarer than
    that, a quarter of the maximum is taken: single hot pixels are spread by the smoothing to less.
    """
    _checks.positive("abbe_px", abbe_px)
    smooth = _smooth(image, 0.35 * abbe_px)
    return float(max(np.percentile(smooth, 99.9), 0.25 * smooth.max()))


def brightest_window(image: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """Return the first row and column of the part of ``(y, x)``, of that size, that holds the most light."""
    total = np.pad(np.cumsum(np.cumsum(image, 0, dtype=np.float64), 1), ((1, 0), (1, 0)))
    height, width = size
    light = (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )
    y, x = np.unravel_index(int(np.argmax(light)), light.shape)
    return int(y), int(x)


def _smooth(image: np.ndarray, sigma_px: float) -> np.ndarray:
    sigma = (0.0,) * (np.ndim(image) - 2) + (sigma_px, sigma_px)
    return ndimage.gaussian_filter(np.asarray(image, np.float32), sigma, truncate=3.0)
