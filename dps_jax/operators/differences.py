"""Finite differences along named axes, by slices: each loses the pixels that have no neighbour.

Axes are named from the end: ``"x"`` is the last, ``"y"`` the one before, and ``"t"`` or ``"z"`` the third from
the end. The grid spacing is one pixel (or frame, or plane).
"""

from __future__ import annotations

from dps_jax import _checks
from dps_jax.operators.convolve import slice_axis
from dps_jax.typing import Array

AXES = {"x": -1, "y": -2, "z": -3, "t": -3}


def _axis(image: Array, name: str) -> int:
    _checks.one_of("axis", name, tuple(AXES))
    if image.ndim < -AXES[name]:
        raise ValueError(f"expected an image with an axis {name!r}, got shape {image.shape}")
    return AXES[name]


def first_difference(image: Array, axis: str) -> Array:
    """Forward difference ``f[i+1] - f[i]`` along ``axis`` ("x", "y", "z" or "t"); one sample shorter.

    Raises
    ------
    ValueError
        For an unknown axis name or an image that lacks that axis.
    """
    i = _axis(image, axis)
    n = image.shape[i]
    return slice_axis(image, 1, n, i) - slice_axis(image, 0, n - 1, i)


def second_difference(image: Array, axis: str) -> Array:
    """Central second difference ``f[i-1] - 2 f[i] + f[i+1]`` along ``axis``; two samples shorter."""
    return first_difference(first_difference(image, axis), axis)


def mixed_difference(image: Array, axis_a: str, axis_b: str) -> Array:
    """Mixed second difference along two different axes; one sample shorter along each.

    Raises
    ------
    ValueError
        For unknown, missing or equal axes.
    """
    if _axis(image, axis_a) == _axis(image, axis_b):
        raise ValueError(f"expected two different axes, got {axis_a!r} and {axis_b!r}")
    return first_difference(first_difference(image, axis_a), axis_b)
