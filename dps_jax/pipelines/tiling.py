"""Cut a grid into tiles that overlap by what a network can see, so that tiled equals whole (NumPy)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dps_jax import _checks

# Tile sides come in these steps, so that images of many sizes share a few compiled programs.
_STEP = 64


Span = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """One tile: ``core`` is what it answers for, ``padded`` what it has to see, as (start, stop) per axis."""

    core: tuple[Span, Span]
    padded: tuple[Span, Span]


def core_side(length: int, *, tile_px: int, multiple: int) -> int:
    """Return the side of the core of a tile for an axis of ``length``: small images get small tiles."""
    step = max(_STEP, multiple)
    needed = -(-length // step) * step
    largest = max(multiple, tile_px // multiple * multiple)
    return min(needed, largest)


def plan_tiles(shape: tuple[int, int], *, tile_px: int, halo_px: int, multiple: int) -> Iterator[Tile]:
    """Yield tiles of one padded size whose cores cover ``shape`` once.

    Cores start at multiples of ``multiple``, the network's coarsest grid, so that every tile sees the grid in
    the same phase; padded ranges may reach outside the image, where :func:`mirrored` says what to read.

    Raises
    ------
    ValueError
        If the halo is not a multiple of ``multiple`` or a length is not positive.
    """
    _checks.positive_integer("tile_px", tile_px)
    _checks.positive_integer("multiple", multiple)
    if halo_px % multiple:
        raise ValueError(f"expected a halo that is a multiple of {multiple} px, got {halo_px}")
    sides = [core_side(n, tile_px=tile_px, multiple=multiple) for n in shape]
    for y in range(0, shape[0], sides[0]):
        for x in range(0, shape[1], sides[1]):
            core = ((y, min(y + sides[0], shape[0])), (x, min(x + sides[1], shape[1])))
            padded = ((y - halo_px, y + sides[0] + halo_px), (x - halo_px, x + sides[1] + halo_px))
            yield Tile(core, padded)


def count_tiles(shape: tuple[int, int], *, tile_px: int, multiple: int) -> int:
    """Return the number of tiles that :func:`plan_tiles` yields."""
    return int(np.prod([-(-n // core_side(n, tile_px=tile_px, multiple=multiple)) for n in shape]))


def mirrored(start: int, stop: int, length: int) -> np.ndarray:
    """Return the indices ``start .. stop - 1`` of an axis that goes on as its own mirror image, edge repeated."""
    i = np.mod(np.arange(start, stop), 2 * length)
    return np.where(i < length, i, 2 * length - 1 - i)
