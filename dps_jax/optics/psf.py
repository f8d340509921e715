"""Point-spread functions on a pixel grid, integrated over the pixel.

Each returns a float32 kernel ``(size, size)`` of odd size, centred on the middle pixel, with unit sum.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.optics.bessel import jinc
from dps_jax.optics.system import Number, OpticalSystem
from dps_jax.typing import Array

# Beyond this many Abbe periods an Airy pattern holds less than 5 % of its light, spread thin.
_SUPPORT_ABBE = 4.0
# Gauss-Legendre nodes per pixel edge; 4 err by 2e-5 of the peak at a pixel of one Abbe period, 1e-6 at half of it.
_NODES = 4


def default_size(abbe_px: float) -> int:
    """Return the odd kernel size that reaches 4 Abbe periods from the centre.

    Raises
    ------
    ValueError
        If ``abbe_px`` is not a positive number.
    """
    _checks.positive("abbe_px", abbe_px)
    return 2 * int(np.ceil(_SUPPORT_ABBE * float(abbe_px))) + 1


def _checked_size(size: int | None, abbe_px: Number) -> int:
    if size is None:
        return default_size(float(abbe_px))
    _checks.positive_integer("size", size)
    if size % 2 == 0:
        raise ValueError(f"expected an odd kernel size, so that the kernel has a centre, got {size}")
    return size


def _integrate_over_pixels(radial: Callable[[Array], Array], size: int, *, nodes: int = _NODES) -> Array:
    """Average ``radial(radius_px)`` over each pixel by Gauss-Legendre quadrature and scale to unit sum."""
    offsets, line_weights = np.polynomial.legendre.leggauss(nodes)
    axis = np.arange(size) - size // 2
    fine = jnp.asarray((axis[:, None] + offsets[None, :] / 2).ravel(), jnp.float32)
    weights = jnp.asarray(np.outer(line_weights, line_weights) / 4, jnp.float32)
    values = radial(jnp.hypot(fine[:, None], fine[None, :])).reshape(size, nodes, size, nodes)
    kernel = jnp.einsum("ianb,ab->in", values, weights)
    return kernel / jnp.sum(kernel)


def srpsf(system: OpticalSystem, *, size: int | None = None) -> Array:
    """Super-resolution PSF ``[2 J1(v)/v]^2`` with ``v = 2 pi m_f NA r / lambda``.

    Parameters
    ----------
    system
        Optics and the pixel size of the grid on which the kernel is wanted.
    size
        Odd kernel size in px; by default it reaches 4 Abbe periods from the centre. It must be given where
        ``system`` is traced, since shapes are static.

    Returns
    -------
    float32 kernel ``(size, size)``, unit sum, differentiable with respect to ``system``.

    Raises
    ------
    ValueError
        For a size that is even or below 1.

    Notes
    -----
    Source: Ye et al. 2024 (Intelligent Computing 3, 0082); for ``modulation = 1`` it is the Airy pattern.
    """
    per_px = 2 * jnp.pi * system.effective_na * system.pixel_size_nm / system.wavelength_nm
    return _integrate_over_pixels(
        lambda radius_px: jinc(per_px * radius_px) ** 2, _checked_size(size, system.abbe_px)
    )


def airy_psf(*, abbe_px: Number, size: int | None = None) -> Array:
    """Airy pattern of a given Abbe period in pixels: ``v = pi r / d`` (Airy 1835); see :func:`srpsf`."""
    _checks.positive("abbe_px", abbe_px)
    return _integrate_over_pixels(
        lambda radius_px: jinc(jnp.pi * radius_px / abbe_px) ** 2, _checked_size(size, abbe_px)
    )


def gaussian_psf(*, sigma_px: Number, size: int | None = None) -> Array:
    """Gaussian PSF of standard deviation ``sigma_px``; by default out to 4 standard deviations.

    Raises
    ------
    ValueError
        If ``sigma_px`` is not positive, or the size is even or below 1.
    """
    _checks.positive("sigma_px", sigma_px)
    if size is None:
        size = 2 * int(np.ceil(4 * float(sigma_px))) + 1
    return _integrate_over_pixels(
        lambda radius_px: jnp.exp(-0.5 * (radius_px / sigma_px) ** 2), _checked_size(size, 1.0)
    )
