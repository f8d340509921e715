"""Where in an image to trust it: resolution and misfit as maps.

Images are ``(y, x)``.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.metrics.frc import frc_resolution
from dps_jax.typing import Array, ArrayLike


def rolling_frc(
    a: ArrayLike,
    b: ArrayLike,
    *,
    pixel_size_nm: float,
    window_px: int = 64,
    step_px: int = 16,
    threshold: str | float = "1/7",
) -> tuple[np.ndarray, Array]:
    """Return the Fourier ring correlation resolution of two independent images in windows that roll over them.

    Parameters
    ----------
    a, b
        ``(y, x)``, two results of independent exposures of one object.
    pixel_size_nm
        Pixel size of both.
    window_px
        Side of a window: what is smaller than a few tens of pixels has too few rings to read.
    step_px
        Distance of neighbouring windows.
    threshold
        As :func:`dps_jax.metrics.frc_resolution`.

    Returns
    -------
    ``(centres, resolution)``: the windows' centres in pixels ``(rows, columns, 2)`` and resolutions in nm ``(rows,
    columns)``, NaN where the curve never falls below the threshold, infinite where it never rises above it. Culley et
    al. 2018; Moreno, Culley et al. 2020.

    Raises
    ------
    ValueError
        For images of different shapes or smaller than a window.
    """
    _checks.positive_integer("window_px", window_px)
    _checks.positive_integer("step_px", step_px)
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"expected two images (y, x) of one shape, got {a.shape} and {b.shape}")
    if min(a.shape) < window_px:
        raise ValueError(f"expected images of at least window_px ({window_px}) a side, got shape {a.shape}")
    starts = [np.arange(0, n - window_px + 1, step_px) for n in a.shape]
    rows, columns = (s[:, None] + np.arange(window_px) for s in starts)
    windows = [i[rows[:, None, :, None], columns[None, :, None, :]] for i in (a, b)]
    resolution = frc_resolution(*windows, pixel_size_nm=pixel_size_nm, threshold=threshold)
    middle = (window_px - 1) / 2
    centres = np.stack(np.meshgrid(*(s + middle for s in starts), indexing="ij"), axis=-1)
    return centres, resolution


def residual_in_noise(measured: ArrayLike, expected: ArrayLike, *, read_noise_photons: float = 0.0) -> Array:
    """Return ``(measured - expected) / sqrt(expected + read_noise^2)`` of images in photons ``(..., y, x)``.

    Where the expectation is right this is noise of mean 0 and variance 1; structure in it is what a result fails to
    explain, or explains too well.

    Raises
    ------
    ValueError
        For images of different shapes or negative read noise.
    """
    _checks.non_negative("read_noise_photons", read_noise_photons)
    measured, expected = (jnp.asarray(i, jnp.result_type(i, jnp.float32)) for i in (measured, expected))
    if measured.shape != expected.shape:
        raise ValueError(f"expected images of one shape, got {measured.shape} and {expected.shape}")
    # Below a photon the Gaussian measure of Poisson noise means nothing; one photon is its floor.
    return (measured - expected) / jnp.sqrt(jnp.maximum(expected, 1.0) + read_noise_photons**2)
