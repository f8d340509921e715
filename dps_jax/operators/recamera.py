"""From the pixels of one camera to those of another, as if the other had taken the picture (NumPy).

Interpolation alone leaves the first camera's pixel in the image, and averaging over the new pixel blurs by both. An
image that optics have band-limited can be carried over exactly: every frequency that the optics pass is divided by
the response of the old pixel, ``sinc(f a)``, and multiplied by that of the new one, ``sinc(f b)``; what lies beyond is
noise, and is dropped before it can alias (Shannon 1949).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dps_jax.operators.sampling import Pixels, apply_taps

# Frequencies in cycles per new pixel: what must be kept, where the noise beyond must have ended, and half the kernel's
# length in new pixels, at which the edge between the two has rung off.
PASSED, ENDED, REACH_PX = 0.42, 0.58, 8.0
LARGEST_SCALE = 1.03
_FREQUENCIES = 512


def camera_response(cycles_px: np.ndarray, scale: float) -> np.ndarray:
    """Return the filter at frequencies in cycles per new pixel, for ``scale`` new pixels per old one.

    Raises
    ------
    ValueError
        For a scale above 1.03: pixels so much coarser than the new ones have aliased what should be passed.
    """
    if not 0 < scale <= LARGEST_SCALE:
        raise ValueError(
            f"expected at most {LARGEST_SCALE} new pixels per old one, and more than 0, got {scale:g}"
        )
    # The old camera's spectrum repeats at 1 / scale; its first image begins a passed band below that.
    end = min(ENDED, 1 / scale - PASSED)
    f = np.abs(cycles_px)
    edge = np.cos(np.pi / 2 * np.clip((f - PASSED) / (end - PASSED), 0, 1)) ** 2
    return np.sinc(f) / np.sinc(np.minimum(f, end) * scale) * edge


def camera_taps(n_in: int, rows: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and weights ``(len(rows), taps)`` of the exchange of cameras along one axis.

    New pixel ``i`` covers ``[i / scale, (i + 1) / scale)`` in old pixels. Each pixel's weights sum to
    ``1 / scale`` (mean kept, times the pixel's length); what would be read outside is the mirror image.

    Raises
    ------
    ValueError
        As :func:`camera_response`.
    """
    rows = np.asarray(rows)
    centre = (rows + 0.5) / scale - 0.5
    reach = REACH_PX / scale
    first = np.ceil(centre - reach).astype(int)
    taps = first[:, None] + np.arange(int(np.floor(2 * reach)) + 1)[None, :]
    distance = (taps - centre[:, None]) * scale
    weights = np.interp(np.abs(distance), *_kernel_table(float(scale)))
    weights *= np.cos(np.pi / 2 * np.minimum(np.abs(distance) / (REACH_PX + 0.5), 1)) ** 0.5
    weights = weights / weights.sum(axis=1, keepdims=True) / scale
    return mirrored_index(taps, n_in), weights


@lru_cache(maxsize=16)
def _kernel_table(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Tabulate the kernel over distances in new pixels, which repeat neither exactly nor in any order."""
    f = (np.arange(_FREQUENCIES) + 0.5) * ENDED / _FREQUENCIES
    grid = np.linspace(0, REACH_PX + 1, 4096)
    return grid, np.cos(2 * np.pi * grid[:, None] * f) @ camera_response(f, scale)


def mirrored_index(index: np.ndarray, length: int) -> np.ndarray:
    """Return the pixel that each index stands for when an axis is continued by its mirror image."""
    folded = np.mod(index, 2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def recamera_region(image: Pixels, rows: np.ndarray, columns: np.ndarray, scale: float) -> np.ndarray:
    """Make the named rows and columns of ``(y, x)`` as a camera of ``scale`` pixels per old one would; float64.

    Only the rectangle of ``image`` that is needed is asked for, so ``image`` may lie on a disk.

    Raises
    ------
    ValueError
        As :func:`camera_response`.
    """
    taps = (camera_taps(n, wanted, scale) for n, wanted in zip(image.shape, (rows, columns), strict=True))
    return apply_taps(image, *taps)


def recamera_noise(noise: np.ndarray, scale: float) -> np.ndarray:
    """Give white noise ``(..., y, x)`` on new pixels the spectrum that an exchange of cameras leaves; periodic.

    A camera of ``scale`` new pixels per old one records photon noise of the same density per area; what the
    exchange makes of it is this filter of the noise that the new camera itself would have recorded.
    """
    fy, fx = (np.fft.fftfreq(noise.shape[-2]), np.fft.rfftfreq(noise.shape[-1]))
    response = camera_response(fy, scale)[:, None] * camera_response(fx, scale)[None, :]
    return np.fft.irfft2(np.fft.rfft2(noise) * response, s=noise.shape[-2:])
