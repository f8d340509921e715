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


# Sides of the tiles of small images: few, so that images of many sizes share compiled programs, and all of them such
# that a grid twice as fine with the network's border of 2 x 16 px has a fast Fourier transform (powers of 2, 3 and 5).
SIDES = (
    80,
    112,
    144,
    176,
    224,
    272,
    344,
    416,
    496,
    624,
    752,
    944,
    1184,
    1264,
    1328,
    1424,
    1484,
    1784,
    2144,
    2864,
)


def _is_fast(side: int) -> bool:
    for factor in (2, 3, 5):
        while side % factor == 0:
            side //= factor
    return side == 1


# An image of several tiles is large enough to be worth a program of its own.
_FAST_SIDES = tuple(side for side in range(80, 4000, 4) if _is_fast(2 * side + 32))


@dataclass(frozen=True)
class Piece:
    """One piece of an output plane: its pixels, the canonical pixels it has to see, and those it answers for."""

    out: tuple[Span, Span]
    padded: tuple[Span, Span]
    core: tuple[Span, Span]


@dataclass(frozen=True)
class Axis:
    """How one axis is cut: ``count`` pieces of ``step`` output pixels, each seen through ``side`` canonical ones."""

    length: int
    canonical: int
    out_per_canonical: float
    side: int
    step: int
    halo: int
    multiple: int

    @property
    def count(self) -> int:
        """Number of pieces."""
        return -(-self.length // self.step)

    def piece(self, number: int) -> tuple[Span, Span, Span]:
        """Return what piece ``number`` writes, sees and answers for along this axis."""
        first, stop = number * self.step, min((number + 1) * self.step, self.length)
        last = stop == self.length
        core = (self._begin(first), self.canonical if last else self._begin(stop))
        # In whole steps of the network's coarsest grid, so that every piece sees that grid in the same phase.
        start = (int(first / self.out_per_canonical) - self.halo) // self.multiple * self.multiple
        return (first, stop), (start, start + self.side), core

    def _begin(self, pixel: int) -> int:
        return min(int(np.ceil(pixel / self.out_per_canonical)), self.canonical)


def cut_axis(
    length: int,
    canonical: int,
    *,
    out_per_canonical: float,
    halo_px: int,
    multiple: int,
    tile_px: int,
    align_px: int = 1,
) -> Axis:
    """Cut an axis of ``length`` output pixels so that the network has least to do.

    Parameters
    ----------
    canonical
        The same axis in the network's pixels, of which ``out_per_canonical`` output pixels fit into one.
    halo_px
        Canonical pixels that a piece has to see on either side.
    multiple
        Of which the network's sides are multiples.
    tile_px
        Largest side of a piece without its halo, in canonical pixels; a side of :data:`SIDES` holds it.
    align_px
        Pieces begin at multiples of it, such as the chunks of a file.
    """
    _checks.positive_integer("tile_px", tile_px)
    # Rounding at either end (of the output's length by half a pixel) and to the coarsest grid, beside the halo.
    beside = 2 * halo_px + multiple + 2 + int(0.5 / out_per_canonical)

    def axis(step: int, sides: tuple[int, ...]) -> Axis:
        seen = canonical if step == length else int(np.ceil(step / out_per_canonical))
        side = next((s for s in sides if s >= seen + beside), seen + beside)
        side = -(-side // multiple) * multiple
        return Axis(length, canonical, out_per_canonical, side, step, halo_px, multiple)

    if canonical <= tile_px:
        return axis(length, SIDES)
    most = int(tile_px * out_per_canonical) // align_px * align_px
    if most < 1:
        raise ValueError(f"expected tiles that hold a chunk of {align_px} px, got tile_px={tile_px}")
    least = -(-length // most)
    steps = {-(-length // count // align_px) * align_px for count in range(least, least + 3)}
    cuts = [axis(min(max(step, align_px), most), _FAST_SIDES) for step in sorted(steps)]
    return min(cuts, key=lambda cut: cut.count * cut.side)


def mirrored(start: int, stop: int, length: int) -> np.ndarray:
    """Return the indices ``start .. stop - 1`` of an axis that goes on as its own mirror image, edge repeated."""
    i = np.mod(np.arange(start, stop), 2 * length)
    return np.where(i < length, i, 2 * length - 1 - i)
