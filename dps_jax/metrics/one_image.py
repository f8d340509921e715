"""Fourier ring correlation of one image with itself, from diagonal neighbours.

Images are ``(..., y, x)``, any intensity unit, noise independent from pixel to pixel. Differentiable,
vmappable.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.metrics._rings import Rings, ring_correlation, rings, spatial_shape, spectrum
from dps_jax.metrics.frc import TAPER, crossing
from dps_jax.typing import Array, ArrayLike

# Koho et al. 2019: the factor between crossing and resolution, calibrated by them against two-image FRC.
_KOHO = (0.95988146, 0.97979108, 13.90441896, 0.55146136)


def frc_one_image(
    image: ArrayLike,
    *,
    pixel_size_nm: float,
    threshold: str | float = "1/7",
    smooth: float = 1.0,
    correction: str = "phase",
) -> Array:
    """Return the FRC resolution of one image, in nm, from its own diagonal neighbours.

    The image is split into its four lattices of every second pixel; the two diagonal pairs are correlated and
    their curves averaged. The noise must be independent from pixel to pixel (a raw camera image, not a
    resampled or deconvolved one), and the reading cannot be finer than 4 pixels, the Nyquist limit of the
    lattices.

    Parameters
    ----------
    correction
        What is done about the one-pixel diagonal shift within a pair, which lowers the curve. ``"phase"``
        undoes the shift exactly, by its Fourier phase. ``"koho"`` leaves it, and divides the crossing's
        period by the factor that Koho et al. 2019 calibrated, ``0.960 exp(13.904 (p - 0.980)) + 0.551`` with
        ``p`` the crossing as a share of the lattices' Nyquist frequency and the period in their convention,
        ``2 pixel_size / p``.
    threshold, smooth
        As in :func:`dps_jax.metrics.frc_resolution`.

    Returns ------- ``(...,)`` nm; ``inf`` where no ring rises above the threshold, ``nan`` where none falls
    below it (finer than 4 pixels).

    Raises
    ------
    ValueError
        For sides below 8 px, an unknown correction, or a pixel size that is not positive.
    """
    _checks.positive("pixel_size_nm", pixel_size_nm)
    _checks.one_of("correction", correction, ("phase", "koho"))
    ny, nx = (n // 2 for n in spatial_shape(image, 2))
    grid = rings(spatial_shape(np.empty((ny, nx), np.bool_), 2))
    curve = _diagonal_curve(jnp.asarray(image, jnp.float32), (ny, nx), grid, shift=correction == "phase")
    frequency = crossing(curve, grid, threshold=threshold, smooth=smooth)
    if correction == "phase":
        return 2 * pixel_size_nm / frequency
    scale, centre, rate, floor = _KOHO
    share = 2 * frequency
    return 2 * pixel_size_nm / share / (scale * jnp.exp(rate * (share - centre)) + floor)


def _diagonal_curve(image: Array, half: tuple[int, int], grid: Rings, *, shift: bool) -> Array:
    """Mean curve of the two diagonal pairs of lattices, the second moved onto the first if ``shift``."""
    lattice = [
        [spectrum(image[..., y : 2 * half[0] : 2, x : 2 * half[1] : 2], taper=TAPER) for x in (0, 1)]
        for y in (0, 1)
    ]
    fy, fx = np.fft.fftfreq(half[0])[:, None], np.fft.rfftfreq(half[1])[None, :]

    def moved(coefficients: Array, sign: int) -> Array:
        # The second lattice lies half a lattice step further along y, and as much further or back along x.
        phase = np.exp(-1j * np.pi * (fy + sign * fx) * shift).astype(np.complex64)
        return coefficients * phase.reshape((1,) * (image.ndim - 2) + phase.shape)

    straight = ring_correlation(lattice[0][0], moved(lattice[1][1], 1), grid)
    reverse = ring_correlation(lattice[0][1], moved(lattice[1][0], -1), grid)
    return (straight + reverse) / 2
