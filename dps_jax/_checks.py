"""Small validators: each raises ``ValueError`` with what was expected and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def is_concrete_number(value: Any) -> bool:
    """Tell whether ``value`` is a number whose value is known now (not a traced array)."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def positive(name: str, value: Any) -> None:
    """Refuse a number that is not finite and above zero; traced values pass."""
    if is_concrete_number(value) and not (np.isfinite(value) and value > 0):
        raise ValueError(f"expected {name} to be a finite number above 0, got {value!r}")


def non_negative(name: str, value: Any) -> None:
    """Refuse a number that is negative or not finite; traced values pass."""
    if is_concrete_number(value) and not (np.isfinite(value) and value >= 0):
        raise ValueError(f"expected {name} to be a finite number of 0 or more, got {value!r}")


def positive_integer(name: str, value: Any) -> None:
    """Refuse anything but a whole number of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"expected {name} to be a whole number of 1 or more, got {value!r}")


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is not among ``allowed``."""
    if value not in allowed:
        raise ValueError(f"expected {name} to be one of {', '.join(map(repr, allowed))}, got {value!r}")


def at_least_2d(name: str, array: Any) -> None:
    """Refuse an array without a y and an x axis."""
    if np.ndim(array) < 2:
        raise ValueError(f"expected {name} with axes (..., y, x), got shape {np.shape(array)}")


def same_shape(name_a: str, a: Any, name_b: str, b: Any) -> None:
    """Refuse two arrays of different shape."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"expected {name_a} and {name_b} of one shape, got {np.shape(a)} and {np.shape(b)}")


def finite_plane(image: Any) -> None:
    """Refuse anything but one image ``(y, x)`` of finite values."""
    if np.ndim(image) != 2:
        raise ValueError(f"expected one image (y, x), got shape {np.shape(image)}")
    if np.size(image) == 0 or not np.all(np.isfinite(image)):
        raise ValueError("expected an image of finite values, got some that are not, or none at all")
