"""Mean-shift super-resolution, MSSR (Torres-Garcia et al. 2022), of single frames.

Images are ``(..., y, x)``, results ``(..., magnification y, magnification x)``. MSSR marks where light concentrates; it
conserves neither photons nor contrast, and its result is not an object that explains the image.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators.sampling import resample
from dps_jax.typing import Array

# Of an image whose maximum is 1: a flat one would otherwise be made of its rounding errors.
_ROUNDING = 2e-6


def mssr(
    image: Array,
    *,
    fwhm_px: float,
    order: int = 0,
    magnification: int = 2,
    keep_intensity: bool = True,
) -> Array:
    """Sharpen an image by the mean-shift vectors of its pixels, order 0 or higher.

    Parameters
    ----------
    image
        ``(..., y, x)``; any unit.
    fwhm_px
        Full width at half maximum of the PSF in image pixels: half of it is the bandwidth in space.
    order
        0, or the number of further rounds, each of which weighs the result by how little it differs from the one
        before.
    magnification
        Result pixels per image pixel along each axis, interpolated by cubic convolution.
    keep_intensity
        Multiply the result, between 0 and 1, by the interpolated image.

    Returns
    -------
    ``(..., magnification y, magnification x)``, not negative.

    Raises
    ------
    ValueError
        For numbers out of range, or an image smaller than the bandwidth.
    """
    _checks.at_least_2d("image", image)
    _checks.positive("fwhm_px", fwhm_px)
    _checks.positive_integer("magnification", magnification)
    if not isinstance(order, int) or order < 0:
        raise ValueError(f"expected order to be a whole number of 0 or more, got {order!r}")
    image = jnp.asarray(image, jnp.result_type(image, jnp.float32))
    fine = resample(image, float(magnification), kernel="cubic") if magnification > 1 else image
    reach = max(1, round(0.5 * fwhm_px * magnification))
    if reach > min(fine.shape[-2:]):
        raise ValueError(
            f"expected an image of at least {reach / magnification:.0f} px a side for a FWHM of {fwhm_px:g} px, "
            f"got shape {image.shape}"
        )
    brightness = _to_one(fine)
    shift = mean_shift(brightness, reach_px=reach)
    result = _to_one(jnp.where(shift > _ROUNDING, shift, 0.0))
    before = brightness
    for _ in range(order):
        difference = before - result
        likeness = _to_one(jnp.max(difference, axis=(-2, -1), keepdims=True) - difference)
        before, result = result, _to_one(likeness * result)
    return result * jnp.maximum(fine, 0.0) if keep_intensity else result


def mean_shift(image: Array, *, reach_px: int) -> Array:
    """Return each pixel minus the weighted mean of its neighbours, positive where light concentrates.

    Neighbours are those within ``reach_px`` along each axis; a weight is a Gaussian in the distance, of bandwidth
    ``reach_px``, times one in the difference of brightness, relative to the largest difference among the neighbours.

    Source: the mean shift (Fukunaga and Hostetler 1975) with the adaptive bandwidth of Torres-Garcia et al. 2022.
    """
    _checks.positive_integer("reach_px", reach_px)
    side = 2 * reach_px + 1
    padded = jnp.pad(image, [*[(0, 0)] * (image.ndim - 2), *[(reach_px, reach_px)] * 2], mode="symmetric")

    def neighbour(index: Array | int) -> tuple[Array, Array]:
        """Return the image moved by one offset, and the squared distance; 0 is the pixel itself."""
        y, x = index // side, index % side
        start = (0,) * (image.ndim - 2) + (y, x)
        moved = jax.lax.dynamic_slice(padded, start, image.shape)
        return moved, jnp.asarray((y - reach_px) ** 2 + (x - reach_px) ** 2, image.dtype)

    def widen(index: int, largest: Array) -> Array:
        return jnp.maximum(largest, jnp.abs(image - neighbour(index)[0]))

    largest = jax.lax.fori_loop(0, side**2, widen, jnp.zeros_like(image))
    bandwidth = jnp.where(largest > 0, largest, 1.0)

    def gather(index: int, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        moved, distance = neighbour(index)
        weight = jnp.exp(-distance / reach_px**2 - ((image - moved) / bandwidth) ** 2)
        weight = jnp.where(distance > 0, weight, 0.0)
        return sums[0] + weight, sums[1] + weight * moved

    none = jnp.zeros_like(image)
    weights, weighted = jax.lax.fori_loop(0, side**2, gather, (none, none))
    return image - weighted / weights


def _to_one(image: Array) -> Array:
    """Divide each image by its maximum, where that is above 0."""
    top = jnp.max(image, axis=(-2, -1), keepdims=True)
    return image / jnp.where(top > 0, top, 1.0)
