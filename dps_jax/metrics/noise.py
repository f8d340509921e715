"""The photons behind a picture: camera gain and offset from the mean-variance line of one image (NumPy).

Photon noise has a variance equal to its mean. In camera units the variance of a pixel is therefore
``gain * (mean - offset)``, plus read noise, and the slope of variance over mean is the gain (Janesick 2007).
No light passes the objective beyond its cut-off, so that what an image holds there is noise and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dps_jax import _checks
from dps_jax.optics.otf import radial_frequency

_BINS = 24


@dataclass(frozen=True)
class PhotonScale:
    """Camera units per photon, and the camera value of no light: ``photons = (image - offset) / gain``."""

    gain: float
    offset: float


def out_of_band_noise(image: np.ndarray, *, cutoff_cycles_px: float, window_px: float = 6.0) -> np.ndarray:
    """Return the local noise variance ``(y, x)`` of an image, from the frequencies beyond the optical cut-off.

    Parameters
    ----------
    image
        ``(y, x)`` with noise that is white from pixel to pixel (never resampled).
    cutoff_cycles_px
        Optical cut-off in cycles per pixel; at most 0.6, so that the corners of the spectrum remain.
    window_px
        Standard deviation of the Gaussian over which the variance is averaged.

    Raises
    ------
    ValueError
        If the image is not 2D or nothing of the spectrum lies beyond the cut-off.
    """
    if np.ndim(image) != 2:
        raise ValueError(f"expected an image (y, x), got shape {np.shape(image)}")
    _checks.positive("cutoff_cycles_px", cutoff_cycles_px)
    if cutoff_cycles_px > 0.6:
        raise ValueError(
            f"expected an optical cut-off of at most 0.6 cycles per px, so that the image holds frequencies of "
            f"pure noise, got {cutoff_cycles_px:.2f}"
        )
    image = np.asarray(image, np.float64)
    # Mirrored to twice the size: a jump across the periodic border would look like noise.
    mirrored = np.pad(image, [(0, n) for n in image.shape], mode="symmetric")
    # A soft edge, 10 % wide, so that bright objects do not ring into their surroundings.
    distance = (radial_frequency(mirrored.shape, half=True) / cutoff_cycles_px - 1.05) / 0.1
    passed = np.clip(distance, 0, 1)
    full = np.clip((radial_frequency(mirrored.shape) / cutoff_cycles_px - 1.05) / 0.1, 0, 1)
    noise = np.fft.irfft2(np.fft.rfft2(mirrored) * passed, s=mirrored.shape)
    noise = noise[: image.shape[0], : image.shape[1]]
    return ndimage.gaussian_filter(noise**2, window_px) / np.mean(full**2)


def estimate_photon_scale(image: np.ndarray, *, cutoff_cycles_px: float) -> PhotonScale:
    """Fit the mean-variance line of an image ``(y, x)`` of which a part is darker than the rest.

    Returns
    -------
    The gain and offset; where brightness hardly varies the line has no slope to find and the offset is taken as
    the darkest local mean.

    Raises
    ------
    ValueError
        As :func:`out_of_band_noise`, or if the image holds no noise at all.
    """
    image = np.asarray(image, np.float64)
    variance = out_of_band_noise(image, cutoff_cycles_px=cutoff_cycles_px)
    mean = ndimage.gaussian_filter(image, 6.0)
    edges = np.quantile(mean, np.linspace(0, 1, _BINS + 1))
    bins = np.clip(np.searchsorted(edges, mean.ravel(), side="right") - 1, 0, _BINS - 1)
    x = np.array([np.mean(mean.ravel()[bins == b]) for b in range(_BINS) if np.any(bins == b)])
    # The median resists specimens that do reach beyond the cut-off (hot pixels, saturated edges).
    y = np.array([np.median(variance.ravel()[bins == b]) for b in range(_BINS) if np.any(bins == b)])
    if not np.any(y > 0):
        raise ValueError(
            "expected an image with photon noise, got one without noise beyond the optical cut-off"
        )
    darkest = float(x[0])
    weights = 1 / np.maximum(y, 1e-3 * y.max())  # the variance of a variance grows with its square
    if x[-1] - x[0] < 1e-6 * max(abs(x[-1]), 1e-12):
        return PhotonScale(gain=float(y.mean() / max(abs(darkest), 1e-12)), offset=0.0)
    slope, intercept = np.polyfit(x, y, 1, w=weights)
    if slope <= 0:
        return PhotonScale(gain=float(np.median(y) / max(x[-1] - darkest, 1e-12)), offset=darkest)
    # A line that crosses zero above the darkest region would make photons negative there.
    return PhotonScale(gain=float(slope), offset=float(min(-intercept / slope, darkest)))
