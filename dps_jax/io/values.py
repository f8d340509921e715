"""Pixel values met by an explanation: refused where no result could be right, noted where one can."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import UserError
from .tiff import ImageFile

# A cosmic ray or a hot pixel is not saturation; one pixel in ten thousand is.
SATURATED_FRACTION = 1e-4
# Fewer pixels than this at the maximum is how the brightest spot of a small image looks.
_FEWEST_CLIPPED = 10


def check_values(image: ImageFile) -> tuple[str, ...]:
    """Return notes on negative and saturated values of the whole array.

    Raises
    ------
    UserError
        Where values are NaN or infinite, all zero, or all equal.
    """
    data = image.data
    _check_finite(image)
    refuse_flat(image.path, data.min(), data.max())
    if data.dtype == bool:
        return ("the image has only two values, so intensities mean nothing in it",)
    return _negative(data) + _saturated(data)


def refuse_flat(path: Path, lowest: float, highest: float) -> None:
    """Refuse an image whose lowest and highest value are the same."""
    if lowest == highest == 0:
        raise UserError(f"{path} is empty: all its pixels are zero; check the export or the shutter.")
    if lowest == highest:
        raise UserError(f"{path} shows nothing: all its pixels are {highest:.10g}; check the export.")


def _check_finite(image: ImageFile) -> None:
    """Refuse NaN and infinity, with their number and the first position."""
    if image.data.dtype.kind != "f":
        return
    bad = ~np.isfinite(image.data)
    count = int(np.count_nonzero(bad))
    if count:
        first = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise not_finite(image.path, image.axes, tuple(map(int, first)), f"{count} values")


def not_finite(path: Path, axes: str, first: tuple[int, ...], many: str) -> UserError:
    """Return the error for an image with ``many`` NaN or infinite values, the first of them at ``first``."""
    where = ", ".join(f"{letter.lower()} {i}" for letter, i in zip(axes, first, strict=True))
    return UserError(
        f"{path} has {many} that are NaN or infinite, the first at {where} "
        "(counted from 0); replace or crop them first."
    )


def _negative(data: np.ndarray) -> tuple[str, ...]:
    """Note negative values: an offset was subtracted, which is usual, or the type is wrong."""
    count = 0 if data.dtype.kind == "u" else int(np.count_nonzero(data < 0))
    return negative_note(count, data.size, float(data.min()))


def negative_note(count: int, size: int, lowest: float) -> tuple[str, ...]:
    """Say how many of ``size`` pixels are below zero."""
    return (f"{count} pixels ({count / size:.2%}) are negative, down to {lowest:g}",) if count else ()


def _saturated(data: np.ndarray) -> tuple[str, ...]:
    """Note pixels at the type's largest value, or piled up at the array's own, as clipping leaves them."""
    highest = data.max()
    count = int(np.count_nonzero(data == highest))
    if count <= SATURATED_FRACTION * data.size:
        return ()
    share = f"{count} pixels ({count / data.size:.2%})"
    if data.dtype.kind in "iu" and highest == np.iinfo(data.dtype).max:
        return saturated_note(count, data.size, int(highest))
    if count >= _FEWEST_CLIPPED and count > _just_below(data, float(highest)):
        return (f"{share} are all at the maximum of {highest:g}, so the image is probably clipped there",)
    return ()


def saturated_note(count: int, size: int, highest: int) -> tuple[str, ...]:
    """Say how many of ``size`` pixels are at the largest value of the file's type, where they are many."""
    if count <= SATURATED_FRACTION * size:
        return ()
    share = f"{count} pixels ({count / size:.2%})"
    return (f"{share} are saturated at {highest}, the largest value the file can hold",)


def _just_below(data: np.ndarray, highest: float) -> int:
    """Count the pixels below the maximum, down to a hundredth of the range and at least to the next value.

    A histogram that is not clipped thins out towards its maximum, so these outnumber the pixels at it; the
    next value matters where values are few, as in counts of single photons.
    """
    lowest, below = data.min(), data < highest
    next_value = float(np.max(data, where=below, initial=lowest))
    threshold = min(next_value, highest - 0.01 * (highest - float(lowest)))
    return int(np.count_nonzero(below & (data >= threshold)))
