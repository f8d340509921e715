"""Piecewise-rigid motion correction: every patch of a frame has a shift of its own (NoRMCorre's scheme).

Images are ``(..., y, x)``, flows ``(..., 2, y, x)`` in pixels: ``image(r + flow(r))`` lies on the template.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.flow_fields import rigid_flow
from dps_jax.operators.phase_correlation import estimate_shift
from dps_jax.operators.warp import warp
from dps_jax.solvers.patch_shifts import found_shifts, matched_patches, noise_variance, smooth_field
from dps_jax.typing import Array

# What is left to find after the first pass is small.
_LATER_PX = 1.5


def piecewise_rigid(
    image: Array,
    template: Array,
    *,
    patch_px: int = 24,
    stride_px: int = 12,
    largest_shift_px: float = 15.0,
    largest_deviation_px: float = 3.0,
    smoothing_sigma_px: float = 1.0,
    whitening: float = 0.5,
    roughness_px: float = 0.12,
    passes: int = 2,
    finer: tuple[int, tuple[int, int]] | None = None,
) -> Array:
    """Return the smooth flow that brings each image onto the template.

    The rigid shift comes first; overlapping patches of the shifted image are then compared with those of the template,
    within bounds around it. Where noise lets a patch see little, its neighbours have the say. The patches' shifts are
    interpolated by cubic B-splines, which also smooth them.

    Parameters
    ----------
    image
        ``(..., y, x)``, frames.
    template
        ``(y, x)``, better the mean of many frames.
    patch_px, stride_px
        Side of a patch and the distance between neighbours. Larger patches hold more photons, smaller ones follow
        finer deformations.
    largest_shift_px
        Bound of the rigid shift along each axis.
    largest_deviation_px
        Bound of a patch's shift around the rigid one, in each pass.
    smoothing_sigma_px, whitening
        As :func:`dps_jax.operators.estimate_shift`.
    roughness_px
        How far a patch's shift is expected to deviate from a straight course through its neighbours', as the standard
        deviation of the sum of its differences from them. What counts against it is the noise that each frame has.
    passes
        How often the image is brought onto the template by the flow found so far, and the rest is looked for.
    finer
        A factor and a shape ``(y, x)``: the flow is returned in pixels of a grid this much finer, of which the images
        are means over squares of so many pixels.

    Returns
    -------
    ``(..., 2, y, x)`` in pixels.

    Raises
    ------
    ValueError
        For options out of range or shapes that do not fit.

    Source: Pnevmatikakis and Giovannucci 2017; the field that weighs patches by what they see is ours.
    """
    for name, number in (("patch_px", patch_px), ("stride_px", stride_px), ("passes", passes)):
        _checks.positive_integer(name, number)
    _checks.positive("largest_deviation_px", largest_deviation_px)
    _checks.positive("roughness_px", roughness_px)
    if jnp.ndim(template) != 2:
        raise ValueError(f"expected a template (y, x), got shape {jnp.shape(template)}")
    rigid = estimate_shift(
        image,
        template,
        largest_shift_px=largest_shift_px,
        smoothing_sigma_px=smoothing_sigma_px,
        whitening=whitening,
    )
    image, template = (jnp.asarray(a, jnp.result_type(a, jnp.float32)) for a in (image, template))
    grid = _Grid((image.shape[-2], image.shape[-1]), patch_px, stride_px)
    matched = matched_patches(
        grid.patches(template), smoothing_sigma_px=smoothing_sigma_px, whitening=whitening
    )
    variance = grid.means(noise_variance(image, template))
    precision = 1 / jnp.maximum(variance, jnp.finfo(variance.dtype).tiny ** 0.5)[..., None, None]
    information = precision * jnp.broadcast_to(matched.information, (*variance.shape, 2, 2))
    shifts = grid.everywhere(rigid)
    flow = rigid_flow(grid.shape, rigid)
    for index in range(passes):
        largest = largest_deviation_px if index == 0 else min(largest_deviation_px, _LATER_PX)
        found = shifts + found_shifts(grid.patches(warp(image, flow)), matched, largest_px=largest)
        shifts = smooth_field(found, information, roughness_px=roughness_px)
        flow = grid.flow(shifts, finer if index == passes - 1 else None)
    return flow


class _Grid:
    """Where patches lie on images of one shape."""

    def __init__(self, shape: tuple[int, int], patch_px: int, stride_px: int) -> None:
        self.shape = shape
        self._side = (min(patch_px, shape[0]), min(patch_px, shape[1]))
        self._starts = [patch_starts(n, patch_px, stride_px) for n in shape]

    def patches(self, image: Array) -> Array:
        """Cut ``(..., y, x)`` to overlapping patches ``(..., row, column, patch, patch)``."""
        rows, columns = (
            first[:, None] + np.arange(side) for first, side in zip(self._starts, self._side, strict=True)
        )
        strips = jnp.take(image, rows, axis=-2)  # (..., row, patch, x)
        return jnp.moveaxis(jnp.take(strips, columns, axis=-1), -2, -3)

    def means(self, image: Array) -> Array:
        """Return the mean of each patch of ``(..., y, x)``, ``(..., row, column)``."""
        rows, columns = (
            jnp.asarray((abs(np.arange(n) - first[:, None] - (side - 1) / 2) < side / 2) / side, image.dtype)
            for n, first, side in zip(self.shape, self._starts, self._side, strict=True)
        )
        high = jax.lax.Precision.HIGHEST
        return jnp.einsum("py,...yx,qx->...pq", rows, image, columns, precision=high)

    def everywhere(self, shift: Array) -> Array:
        """Give every patch the same shift ``(..., 2)``."""
        counts = [len(first) for first in self._starts]
        return jnp.broadcast_to(shift[..., None, None, :], (*shift.shape[:-1], *counts, 2))

    def flow(self, shifts: Array, finer: tuple[int, tuple[int, int]] | None) -> Array:
        """Make a dense flow ``(..., 2, y, x)`` of patch shifts ``(..., row, column, 2)``."""
        factor, shape = finer or (1, self.shape)
        rows, columns = (
            # The middle of a pixel of the finer grid, on the coarse one.
            jnp.asarray(
                spline_matrix((np.arange(n) - (factor - 1) / 2) / factor, first + (side - 1) / 2),
                shifts.dtype,
            )
            for n, first, side in zip(shape, self._starts, self._side, strict=True)
        )
        high = jax.lax.Precision.HIGHEST
        wide = jnp.einsum("...pqc,xq->...cpx", factor * shifts, columns, precision=high)
        return jnp.einsum("yp,...cpx->...cyx", rows, wide, precision=high)


def patch_starts(length: int, patch_px: int, stride_px: int) -> np.ndarray:
    """Return the first pixel of every patch along one axis: evenly spaced, at most ``stride_px`` apart (rounded)."""
    last = max(length - patch_px, 0)
    count = int(np.ceil(last / stride_px)) + 1
    return np.round(np.linspace(0, last, count)).astype(int)


def spline_matrix(places: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the weights ``(len(places), len(centres))`` of evenly spaced knots; each row sums to 1.

    Cubic B-splines that approximate: a knot's value is averaged with its neighbours', 1 to 4 to 1. Beyond the
    outermost knots their values are kept.
    """
    count = len(centres)
    if count == 1:
        return np.ones((len(places), 1))
    place = np.interp(places, centres, np.arange(count))
    distance = np.abs(place[:, None] - np.arange(-1, count + 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    weights = np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6)
    # One knot beyond each end repeats the last.
    weights[:, 1] += weights[:, 0]
    weights[:, -2] += weights[:, -1]
    return weights[:, 1:-1]
