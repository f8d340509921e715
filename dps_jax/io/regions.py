"""An image of any size, read region by region: what a file declares, and a way to its pixels.

Contract: ``axes`` has up to three of T, Z, C before Y, X; planes are counted through the leading axes in their
order. A region comes in the file's type (in this computer's byte order); nothing else of the file is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .tiff import square_pixel_nm

Span = tuple[int, int]
# Plane, rows, columns -> pixels (y, x).
RegionReader = Callable[[int, Span, Span], np.ndarray]


@dataclass(frozen=True, eq=False)
class RegionImage:
    """An open image; ``cached_bytes`` is what reading keeps in memory beside the regions asked for."""

    path: Path
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: RegionReader
    pixel_size_yx_nm: tuple[float, float] | None = None
    frame_interval_s: float | None = None
    z_step_nm: float | None = None
    source: str = "none"
    notes: tuple[str, ...] = ()
    cached_bytes: int = 0

    @property
    def pixel_size_nm(self) -> float | None:
        """Side of the square pixel, ``None`` if unknown; ``UserError`` where y and x differ by over 1 %."""
        return square_pixel_nm(self.path, self.pixel_size_yx_nm, self.source)

    @property
    def planes(self) -> int:
        """Number of planes."""
        return int(np.prod(self.shape[:-2], dtype=object))

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of a plane."""
        return self.shape[-2], self.shape[-1]

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels, by the file's own account."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
