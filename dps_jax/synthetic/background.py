"""What lies over and under the structures: haze, out-of-focus light, uneven illumination.

Contract: float32 images ``(y, x)``; lengths follow the Abbe period, given in pixels of the grid.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn, idctn

from dps_jax import _checks
from dps_jax.synthetic import drawing


def haze(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw smooth autofluorescence between 0 and 1 whose features span six periods or more.

    Raises ``ValueError`` for a frame without pixels or an ``abbe_px`` that is not above 0.
    """
    drawing.check_frame(shape, abbe_px)
    fine, coarse = (drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=s) for s in (6.0, 15.0))
    level = rng.normal(0, 1) + rng.uniform(0.2, 1.0) * fine + rng.uniform(0.5, 1.5) * coarse
    return (1 / (1 + np.exp(-level))).astype(np.float32)


def out_of_focus(rng: np.random.Generator, scene: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Return the light of a plane out of focus: the scene, or its mirrored other half, strongly blurred.

    ``scene`` is ``(y, x)``. The blur is a Gaussian of sigma 1 to 6 periods that keeps the mean. Raises
    ``ValueError`` for a scene of other axes.
    """
    drawing.check_frame(np.shape(scene), abbe_px)
    # Shifted by half a frame and turned over, the scene has the same statistics and another layout.
    other = (
        np.roll(scene[::-1, ::-1], np.array(scene.shape) // 2, axis=(0, 1)) if rng.random() < 0.5 else scene
    )
    sigma_px = drawing.log_uniform(rng, 1.0, 6.0) * abbe_px
    return np.maximum(_reflecting_blur(other, sigma_px), 0).astype(np.float32)


def illumination(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a slowly varying positive gain of mean 1: a vignette, off centre, and a gentle unevenness."""
    for size in shape:
        _checks.positive_integer("shape", size)
    uneven = drawing.smooth_field(rng, shape, abbe_px=1.0, scale=max(shape) / 2)
    y, x = (np.linspace(-1, 1, size) - rng.uniform(-0.4, 0.4) for size in shape)
    falloff = rng.uniform(0.0, 0.4) * (y[:, None] ** 2 + x[None, :] ** 2)
    gain = np.exp(rng.uniform(0.02, 0.15) * uneven - falloff)
    return (gain / gain.mean()).astype(np.float32)


def _reflecting_blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Blur by a Gaussian with mirrored borders: a product under the cosine transform, cheap at any width."""
    rows, columns = (np.exp(-0.5 * (np.pi * sigma_px * np.arange(n) / n) ** 2) for n in image.shape)
    return idctn(dctn(image, norm="ortho") * (rows[:, None] * columns[None, :]), norm="ortho")
