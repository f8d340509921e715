"""Structured illumination microscopy, object to frames: ``y = bin_s( (I x) (*) psf )`` for every pattern ``I``.

The object is ``(s y, s x)`` in photons per fine pixel under even light; frames are ``(angle, phase, y, x)``. Linear in
the object, and differentiable with respect to it and to every parameter of the illumination.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.forward import camera_image
from dps_jax.optics.illumination import Illumination
from dps_jax.typing import Array


def pixel_centres(shape: tuple[int, int], *, factor: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return y ``(y,)`` and x ``(x,)`` of fine pixels, in camera pixels from the centre of the first of those."""
    y, x = ((np.arange(n) + 0.5) / factor - 0.5 for n in shape)
    return y, x


def illumination_patterns(illumination: Illumination, shape: tuple[int, int], *, factor: int = 1) -> Array:
    """Return the stripes ``(angle, phase, y, x)``, 1 on average.

    Parameters
    ----------
    illumination
        Wavevectors, phases and depths.
    shape
        Sides of the fine grid.
    factor
        Fine pixels per camera pixel along each axis.

    Raises
    ------
    ValueError
        If ``factor`` is not a whole number above 0.
    """
    _checks.positive_integer("factor", factor)
    argument = pattern_argument(illumination, *pixel_centres(shape, factor=factor))
    depth = jnp.asarray(illumination.modulation)[:, :, None, None, None]
    return 1 + sum(
        (depth[:, m] * jnp.cos((m + 1) * argument) for m in range(illumination.orders)),
        start=jnp.zeros(()),
    )


def pattern_argument(illumination: Illumination, y_px: np.ndarray, x_px: np.ndarray) -> Array:
    """Return ``2 pi p.r + phase`` of the first order, ``(angle, phase, y, x)``, at positions ``(y,)`` and ``(x,)``."""
    y, x = (
        jnp.asarray(v, jnp.float32).reshape(shape) for v, shape in ((y_px, (1, -1, 1)), (x_px, (1, 1, -1)))
    )
    p = jnp.asarray(illumination.wavevectors)[:, :, None, None]
    position = 2 * jnp.pi * (p[:, 0] * y + p[:, 1] * x)
    return position[:, None] + jnp.asarray(illumination.phases_rad)[:, :, None, None]


def sim_frames(
    image: Array, psf: Array, illumination: Illumination, *, factor: int = 2, boundary: str = "constant"
) -> Array:
    """Return the noise-free frames ``(..., angle, phase, y, x)`` of an object under structured illumination.

    Parameters
    ----------
    image
        Object ``(..., factor y, factor x)``.
    psf
        Kernel ``(ky, kx)`` of the detection on the fine grid, odd sides, unit sum.
    illumination
        Wavevectors, phases and depths.
    factor, boundary
        As :func:`dps_jax.operators.camera_image`.

    Raises
    ------
    ValueError
        As :func:`dps_jax.operators.camera_image` does.
    """
    _checks.at_least_2d("image", image)
    patterns = illumination_patterns(illumination, (image.shape[-2], image.shape[-1]), factor=factor)
    lit = image[..., None, None, :, :] * patterns.reshape((1,) * (image.ndim - 2) + patterns.shape)
    return camera_image(lit, psf, factor=factor, boundary=boundary)
