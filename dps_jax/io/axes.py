"""From the axes that a TIFF declares to the package's own: up to two of T, Z, C, then Y, X."""

from __future__ import annotations

import numpy as np

from .errors import UserError

LEADING = "TZC"


def to_image_axes(
    name: str, data: np.ndarray, axes: str, *, most: int = 4
) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """Return ``data`` with its y and x axes last, single planes squeezed, the axes' letters, and notes.

    Axes of unknown meaning take the first free letters of T, Z, C, and a note says so. ``most`` axes are read.

    Raises
    ------
    UserError
        Where there is no image plane, or more than two axes lead it; ``name`` is the file in the message.
    """
    data, axes = _squeeze(data, axes)
    if (
        "Y" not in axes
        or "X" not in axes
        or min(data.shape[axes.index("Y")], data.shape[axes.index("X")]) < 2
    ):
        raise UserError(
            f"{name} holds a single line of {data.size} values, not an image; "
            "give a file with a y and an x axis."
        )
    if data.ndim > most:
        raise UserError(
            f"{name} has {data.ndim} axes ({_sizes(data, axes)}), but 2 to {most} can be read; "
            "split it, for example into one file per channel."
        )
    order = [i for i, letter in enumerate(axes) if letter not in "YX"] + [axes.index("Y"), axes.index("X")]
    data, axes = data.transpose(order), "".join(axes[i] for i in order)
    letters = _letters(axes)
    notes = () if letters == axes else (f"axes of shape {data.shape} are not all named; read as {letters}",)
    return data, letters, notes


def _squeeze(data: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    """Drop the axes of length 1, but y and x."""
    kept = [i for i, letter in enumerate(axes) if letter in "YX" or data.shape[i] != 1]
    return data.reshape([data.shape[i] for i in kept]), "".join(axes[i] for i in kept)


def _letters(axes: str) -> str:
    """Name the leading axes: those known keep their letter, the others take the first that is free."""
    known = [letter if letter in LEADING and axes.count(letter) == 1 else "" for letter in axes[:-2]]
    free = iter([letter for letter in LEADING if letter not in known])
    return "".join(letter or next(free) for letter in known) + "YX"


def _sizes(data: np.ndarray, axes: str) -> str:
    return ", ".join(f"{letter} {size}" for letter, size in zip(axes, data.shape, strict=True))
