"""Slow motion of a drawn scene: drift, local deformation, bleaching and local changes of brightness.

Contract: an image ``(y, x)`` becomes a sequence ``(t, y, x)`` whose first frame is the image itself.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from dps_jax.synthetic import drawing

# The farthest that anything moves over a sequence, in periods: drift and deformation, per axis.
FARTHEST_DRIFT = 2.0
FARTHEST_DEFORMATION = 0.8
FARTHEST = FARTHEST_DRIFT + FARTHEST_DEFORMATION


def moved(rng: np.random.Generator, image: np.ndarray, *, frames: int, abbe_px: float) -> np.ndarray:
    """Return ``frames`` images of a scene that drifts and deforms by at most ``FARTHEST`` periods."""
    time = np.arange(frames)
    displacement_px = abbe_px * (
        _drift(rng, time)[:, :, None, None] + _deformation(rng, time, image.shape, abbe_px=abbe_px)
    )
    gain = _gain(rng, time, image.shape, abbe_px=abbe_px)
    grid = np.indices(image.shape, dtype=float)
    smooth = spline_filter(image, order=3, mode="mirror")
    sequence = [
        map_coordinates(smooth, grid - displacement_px[:, t], order=3, prefilter=False, mode="mirror")
        for t in time
    ]
    return np.maximum(gain * np.stack(sequence), 0).astype(np.float32)


def _drift(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Return a steady drift ``(2, t)`` of 0.01 to 0.15 periods per frame."""
    speed = min(drawing.log_uniform(rng, 0.01, 0.15), FARTHEST_DRIFT / len(time))
    angle = rng.uniform(0, 2 * np.pi)
    return speed * np.array([[np.sin(angle)], [np.cos(angle)]]) * time


def _wave(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Return a slow oscillation within -1 and 1 that starts at 0."""
    rate, phase = 2 * np.pi / drawing.log_uniform(rng, 15, 60), rng.uniform(0, 2 * np.pi)
    return 0.5 * (np.sin(rate * time + phase) - np.sin(phase))


def _deformation(
    rng: np.random.Generator, time: np.ndarray, shape: tuple[int, ...], *, abbe_px: float
) -> np.ndarray:
    """Return a local displacement ``(2, t, y, x)`` in periods, smooth over five periods."""
    size, frame = drawing.log_uniform(rng, 0.05, FARTHEST_DEFORMATION), (shape[0], shape[1])
    fields = [np.tanh(0.5 * drawing.smooth_field(rng, frame, abbe_px=abbe_px, scale=5.0)) for _ in range(2)]
    return size * np.stack([_wave(rng, time)[:, None, None] * field for field in fields])


def _gain(
    rng: np.random.Generator, time: np.ndarray, shape: tuple[int, ...], *, abbe_px: float
) -> np.ndarray:
    """Return a positive gain ``(t, y, x)``, 1 at first: bleaching and local changes within 30 percent."""
    field = np.tanh(drawing.smooth_field(rng, (shape[0], shape[1]), abbe_px=abbe_px, scale=4.0))
    bleached = np.exp(-rng.uniform(0, 0.4) * time / len(time))[:, None, None]
    return bleached * np.exp(rng.uniform(0, 0.3) * _wave(rng, time)[:, None, None] * field)
