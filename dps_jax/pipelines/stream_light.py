"""What a restoration has to know of a whole image before its first tile, found band by band (NumPy).

The same numbers as those of an image in memory (``photometry``, ``io.values``), from two readings of the file: the
first finds the range and refuses what no result could be right for, the second smooths as ``metrics.light`` does and
counts the values in a histogram. Percentiles are those of the histogram: within a four-millionth of the range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from dps_jax.io.regions import RegionImage
from dps_jax.io.values import negative_note, not_finite, refuse_flat, saturated_note

# Smoothed over an Abbe period for the background, and well below it for the brightness: as ``metrics.light``.
BACKGROUND_ABBE, BRIGHTNESS_ABBE, _TRUNCATE = 1.0, 0.35, 3.0
_BACKGROUND_SHARE, _BRIGHTNESS_SHARE, _OF_MAXIMUM = 0.01, 0.999, 0.25
_BINS = 2**22
BAND_PX = 2**21  # pixels of a band: some arrays of them are alive at a time
Step = Callable[[], None]


@dataclass(frozen=True)
class Range:
    """Lowest and highest value of all planes, and how many pixels are below zero and at the top."""

    lowest: float
    highest: float
    negative: int
    at_highest: int


@dataclass(frozen=True)
class Light:
    """Background level and brightness of a channel, and the light above the background of each plane."""

    level: float
    unit: float
    totals: tuple[float, ...] = field(default=())


def bands(sides: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last row of bands of about ``BAND_PX`` pixels, whole rows each."""
    rows = max(1, BAND_PX // sides[1])
    for first in range(0, sides[0], rows):
        yield first, min(first + rows, sides[0])


def find_range(image: RegionImage, *, step: Step = lambda: None) -> Range:
    """Return the range of a file's values.

    Raises
    ------
    UserError
        For values that are NaN or infinite, all zero, or all equal.
    """
    lowest, highest = np.inf, -np.inf
    negative = at_highest = 0
    for plane in range(image.planes):
        for rows in bands(image.sides):
            part = image.read(plane, rows, (0, image.sides[1]))
            if part.dtype.kind == "f" and not np.isfinite(part).all():
                raise not_finite(image.path, image.axes, _position(image, plane, rows[0], part), "values")
            top = float(part.max())
            if top > highest:
                highest, at_highest = top, 0
            if top == highest:
                at_highest += int(np.count_nonzero(part == top))
            lowest = min(lowest, float(part.min()))
            negative += 0 if part.dtype.kind == "u" else int(np.count_nonzero(part < 0))
            step()
    refuse_flat(image.path, lowest, highest)
    return Range(lowest, highest, negative, at_highest)


def value_notes(image: RegionImage, found: Range) -> tuple[str, ...]:
    """Return notes on negative and saturated values; as :func:`dps_jax.io.check_values`, of what a range tells."""
    size = int(np.prod(image.shape, dtype=object))
    notes = negative_note(found.negative, size, found.lowest)
    if image.dtype.kind in "iu" and found.highest == np.iinfo(image.dtype).max:
        notes += saturated_note(found.at_highest, size, int(found.highest))
    return notes


def measure_light(
    image: RegionImage,
    planes: Sequence[int],
    found: Range,
    *,
    abbe_px: float,
    background: float | None = None,
    step: Step = lambda: None,
) -> Light:
    """Return background and brightness of the named planes together, and the light of each above the background."""
    smooth = [_Histogram(found.lowest, found.highest) for _ in range(2)]
    sums: list[float] = []
    sigmas = (BACKGROUND_ABBE * abbe_px, BRIGHTNESS_ABBE * abbe_px)
    reach = int(_TRUNCATE * max(sigmas) + 0.5) + 1
    height, width = image.sides
    for plane in planes:
        total = 0.0
        for first, stop in bands(image.sides):
            top = max(0, first - reach)
            part = image.read(plane, (top, min(height, stop + reach)), (0, width)).astype(np.float32)
            inner = slice(first - top, stop - top)
            total += float(part[inner].sum(dtype=np.float64))
            for histogram, sigma in zip(smooth, sigmas, strict=True):
                if histogram is smooth[0] and background is not None:
                    continue
                histogram.add(ndimage.gaussian_filter(part, sigma, truncate=_TRUNCATE)[inner])
            step()
        sums.append(total)
    level = smooth[0].quantile(_BACKGROUND_SHARE) if background is None else background
    bright = max(smooth[1].quantile(_BRIGHTNESS_SHARE) - level, _OF_MAXIMUM * (smooth[1].highest - level))
    totals = tuple(total - height * width * level for total in sums)
    return Light(level, float(bright), totals)


class _Histogram:
    """Counts of values between two bounds, fine enough to stand for the values."""

    def __init__(self, lowest: float, highest: float) -> None:
        self.lowest, self.width = lowest, (highest - lowest) / _BINS
        self.counts = np.zeros(_BINS, np.int64)
        self.highest = -np.inf

    def add(self, values: np.ndarray) -> None:
        """Count values; rounding may have carried them a little beyond the bounds."""
        self.highest = max(self.highest, float(values.max()))
        bins = ((values.ravel() - np.float32(self.lowest)) * np.float32(1 / self.width)).astype(np.int32)
        self.counts += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)

    def quantile(self, share: float) -> float:
        """Return the value that a share of all values is below, between two neighbours in proportion (NumPy's way)."""
        below = np.cumsum(self.counts)
        rank = share * (below[-1] - 1)
        first = int(rank)
        # The bins of the value of this rank and of the next, which may lie far apart.
        places = np.searchsorted(below, [first, min(first + 1, int(below[-1]) - 1)], side="right")
        low, high = (float(self.lowest + (place + 0.5) * self.width) for place in places)
        return low + (rank - first) * (high - low)


def _position(image: RegionImage, plane: int, row: int, part: np.ndarray) -> tuple[int, ...]:
    """Return where the first value lies that is not finite."""
    y, x = np.argwhere(~np.isfinite(part))[0]
    lead = np.unravel_index(plane, image.shape[:-2]) if image.shape[:-2] else ()
    return (*map(int, lead), row + int(y), int(x))
