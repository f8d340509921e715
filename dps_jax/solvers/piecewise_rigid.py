"""Piecewise-rigid motion correction: every patch of a frame has a shift of its own (NoRMCorre's scheme).

Images are ``(..., y, x)``, flows ``(..., 2, y, x)`` in pixels: ``image(r + flow(r))`` lies on the template.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.flow_fields import rigid_flow
from dps_jax.operators.phase_correlation import estimate_shift
from dps_jax.operators.warp import warp
from dps_jax.typing import Array


def piecewise_rigid(
    image: Array,
    template: Array,
    *,
    patch_px: int = 32,
    stride_px: int = 16,
    largest_shift_px: float = 15.0,
    largest_deviation_px: float = 3.0,
    smoothing_sigma_px: float = 1.0,
    whitening: float = 0.5,
    passes: int = 2,
) -> Array:
    """Return the smooth flow that brings each image onto the template.

    The rigid shift comes first; overlapping patches of the shifted image are then compared with those of the template,
    within bounds around it; their shifts are interpolated by cubic B-splines, which also smooth them.

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
    passes
        How often the image is brought onto the template by the flow found so far, and the rest is looked for.

    Returns
    -------
    ``(..., 2, y, x)`` in pixels.

    Raises
    ------
    ValueError
        For options out of range or shapes that do not fit.

    Source: Pnevmatikakis and Giovannucci 2017.
    """
    for name, number in (("patch_px", patch_px), ("stride_px", stride_px), ("passes", passes)):
        _checks.positive_integer(name, number)
    _checks.positive("largest_deviation_px", largest_deviation_px)
    if jnp.ndim(template) != 2:
        raise ValueError(f"expected a template (y, x), got shape {jnp.shape(template)}")
    shift = functools.partial(estimate_shift, smoothing_sigma_px=smoothing_sigma_px, whitening=whitening)
    rigid = shift(image, template, largest_shift_px=largest_shift_px)
    image, template = (jnp.asarray(a, jnp.result_type(a, jnp.float32)) for a in (image, template))
    shape = (image.shape[-2], image.shape[-1])
    starts = [patch_starts(n, patch_px, stride_px) for n in shape]
    patch = (min(patch_px, shape[0]), min(patch_px, shape[1]))
    wanted = _patches(template, starts, patch)
    flow = rigid_flow(shape, rigid)
    for _ in range(passes):
        found = _patches(warp(image, flow), starts, patch)
        rest = shift(found, wanted, largest_shift_px=largest_deviation_px, passes=1)
        flow = flow + _spread(rest, starts, patch, shape)
    return flow


def patch_starts(length: int, patch_px: int, stride_px: int) -> np.ndarray:
    """Return the first pixel of every patch along one axis: evenly spaced, at most ``stride_px`` apart (rounded)."""
    last = max(length - patch_px, 0)
    count = int(np.ceil(last / stride_px)) + 1
    return np.round(np.linspace(0, last, count)).astype(int)


def _patches(image: Array, starts: list[np.ndarray], patch: tuple[int, int]) -> Array:
    """Cut ``(..., y, x)`` to overlapping patches ``(..., rows, columns, patch, patch)``."""
    rows, columns = (first[:, None] + np.arange(side) for first, side in zip(starts, patch, strict=True))
    strips = jnp.take(image, rows, axis=-2)  # (..., rows, patch, x)
    return jnp.moveaxis(jnp.take(strips, columns, axis=-1), -2, -3)


def _spread(shifts: Array, starts: list[np.ndarray], patch: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Make a dense flow ``(..., 2, y, x)`` of patch shifts ``(..., rows, columns, 2)``."""
    rows, columns = (
        jnp.asarray(spline_matrix(n, first + (side - 1) / 2), shifts.dtype)
        for n, first, side in zip(shape, starts, patch, strict=True)
    )
    return jnp.einsum("yp,...pqc,xq->...cyx", rows, shifts, columns)


def spline_matrix(length: int, centres: np.ndarray) -> np.ndarray:
    """Return the weights ``(length, len(centres))`` of evenly spaced knots at every pixel; each row sums to 1.

    Cubic B-splines that approximate: a knot's value is averaged with its neighbours', 1 to 4 to 1. Beyond the
    outermost knots their values are kept.
    """
    count = len(centres)
    if count == 1:
        return np.ones((length, 1))
    place = np.interp(np.arange(length), centres, np.arange(count))
    distance = np.abs(place[:, None] - np.arange(-1, count + 1))
    near = 2 / 3 - distance**2 + distance**3 / 2
    weights = np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6)
    # One knot beyond each end repeats the last.
    weights[:, 1] += weights[:, 0]
    weights[:, -2] += weights[:, -1]
    return weights[:, 1:-1]
