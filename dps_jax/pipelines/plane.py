"""One plane through the network: canonical sampling, overlapping tiles, and back to the output grid.

Four grids are in play. *Input* pixels are the camera's; *canonical* pixels are those the network was trained at;
*fine* pixels are the network's answer, twice as many a side; *output* pixels are what the user asked for. All share
the top left corner of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.operators.convolve import convolve
from dps_jax.operators.recamera import LARGEST_SCALE, recamera_region
from dps_jax.operators.sampling import Pixels, bin_area, resample_region
from dps_jax.optics.psf import airy_psf
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.surroundings import Surroundings
from dps_jax.pipelines.tiling import Piece, cut_axis
from dps_jax.typing import Array, Params
from dps_jax.weights import Network

# Without its overlap 1334 px: the network is run on 14 % more pixels than there are, in about 3 GB.
DEFAULT_SIDE_PX = 1424
_STRIP_PX = 288  # output rows that are brought to their grid at a time


@dataclass(frozen=True)
class Grids:
    """Where input, canonical, fine and output pixels lie with respect to each other."""

    factor: float  # canonical pixels per input pixel
    fine_to_out: float  # output pixels per fine (network output) pixel
    canonical: tuple[int, int]
    out: tuple[int, int]
    pixel_size_nm: float


def lay_grids(shape: tuple[int, int], system: OpticalSystem, network: Network, out_nm: float | None) -> Grids:
    """Return the grids for images of ``shape``; ``out_nm`` is the output pixel, by default half the input's."""
    factor = float(network.abbe_px / system.abbe_px)
    scale = 2.0 if out_nm is None else float(system.pixel_size_nm) / out_nm
    return Grids(
        factor=factor,
        fine_to_out=scale / (network.module.scale * factor),
        canonical=(int(np.ceil(shape[0] * factor)), int(np.ceil(shape[1] * factor))),
        out=(max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))),
        pixel_size_nm=float(system.pixel_size_nm) / scale,
    )


# Rotations and mirror images of a square, in the order of their use: (transpose, flip y, flip x).
ORIENTATIONS = (
    (False, False, False),
    (False, True, True),
    (True, False, False),
    (True, True, True),
    (False, True, False),
    (False, False, True),
    (True, True, False),
    (True, False, True),
)


def _turned(image: Array, orientation: tuple[bool, bool, bool], *, back: bool = False) -> Array:
    transpose, flip_y, flip_x = orientation
    flips = tuple(axis for axis, flip in enumerate((flip_y, flip_x)) if flip)
    if back:
        image = image.T if transpose else image
        return jnp.flip(image, flips)
    image = jnp.flip(image, flips)
    return image.T if transpose else image


@partial(jax.jit, static_argnames=("module", "abbe_px", "orientations"))
def apply_network(
    module: Any, params: Params, tile: Array, abbe_px: float, orientations: int
) -> tuple[Array, Array]:
    """Run the network on one padded tile; also blur and bin its answer, as the camera would see it."""

    def run(image: Array) -> Array:
        return module.apply({"params": params}, image[None, :, :, None])[0, :, :, 0]

    turns = ORIENTATIONS[:orientations]
    fine = sum((_turned(run(_turned(tile, o)), o, back=True) for o in turns[1:]), start=run(tile)) / len(
        turns
    )
    psf = airy_psf(abbe_px=module.scale * abbe_px)
    return fine, bin_area(convolve(fine, psf), module.scale)


def _to_canonical(plane: Pixels, rows: np.ndarray, columns: np.ndarray, factor: float) -> np.ndarray:
    """Make canonical pixels as the canonical camera would; pixels coarser than its own are interpolated."""
    if factor <= LARGEST_SCALE:
        return recamera_region(plane, rows, columns, factor)
    return resample_region(plane, rows, columns, factor, kernel="lanczos")


_NOTHING = (0.0,) * 7


@dataclass(frozen=True)
class Sums:
    """Sums over pieces, to be added in any grouping: what a correlation of two images and their light need."""

    values: tuple[float, ...] = _NOTHING

    @classmethod
    def of(cls, a: np.ndarray, b: np.ndarray, light: float) -> Sums:
        """Return the sums of one piece: of both images, of their products, and its light."""
        a, b = a.astype(np.float64), b.astype(np.float64)
        sums = (a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum(), light)
        return cls(tuple(map(float, sums)))

    def __add__(self, other: Sums) -> Sums:
        return Sums(tuple(a + b for a, b in zip(self.values, other.values, strict=True)))

    @property
    def light(self) -> float:
        """Sum over the output's pixels."""
        return self.values[6]

    def correlation(self) -> float:
        """Return the Pearson correlation of the two images."""
        n, a, b, aa, bb, ab = self.values[:6]
        if n == 0:  # an image without light: no piece was run
            return 0.0
        spread = np.sqrt(max(aa - a * a / n, 0.0) * max(bb - b * b / n, 0.0))
        return float((ab - a * b / n) / spread) if spread > 0 else 0.0


class PlaneRestorer:
    """The network and its geometry for planes of one shape.

    ``tile_px`` bounds the side of a piece in canonical pixels without what it overlaps, ``side_px`` with it, and
    pieces begin at multiples of ``align_px`` output pixels.
    """

    def __init__(
        self,
        network: Network,
        grids: Grids,
        *,
        tile_px: int | None = None,
        side_px: int = DEFAULT_SIDE_PX,
        orientations: int = 1,
        align_px: int = 1,
    ) -> None:
        self.network, self.grids = network, grids
        self.orientations = orientations
        module = network.module
        # Beyond what the network sees, an output pixel reads a few fine pixels outside its piece.
        taps = 3 * max(1.0, 1 / grids.fine_to_out) + 1
        halo = near_reach(module) + int(np.ceil(taps / module.scale))
        if tile_px is None:
            tile_px = max(module.grid_multiple, side_px - 2 * halo - module.grid_multiple - 2)
        self.tile_px, self.align_px = tile_px, align_px
        self.axes = tuple(
            cut_axis(
                length,
                canonical,
                out_per_canonical=module.scale * grids.fine_to_out,
                halo_px=halo,
                multiple=module.grid_multiple,
                tile_px=tile_px,
                align_px=align_px,
            )
            for length, canonical in zip(grids.out, grids.canonical, strict=True)
        )

    @property
    def sides(self) -> tuple[int, int]:
        """Sides of the squares that the network is run on."""
        return self.axes[0].side, self.axes[1].side

    @property
    def overhead(self) -> float:
        """Pixels that the network is run on, over the pixels of the plane."""
        run = [axis.count * axis.side / axis.canonical for axis in self.axes]
        return run[0] * run[1]

    def count(self) -> int:
        """Return the number of pieces of a plane."""
        return self.axes[0].count * self.axes[1].count

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces of a plane, row by row."""
        for y in range(self.axes[0].count):
            for x in range(self.axes[1].count):
                yield Piece(*zip(self.axes[0].piece(y), self.axes[1].piece(x), strict=True))

    def run(self, work: Iterable[tuple[Pixels, Piece]], unit: float) -> Iterator[tuple[np.ndarray, Sums]]:
        """Restore pieces of planes (background-free, camera units): the pixels and sums of each, in their order.

        While the network is at one piece, the next is read and resampled, and the one before brought to its grid.
        """
        todo = iter(work)
        # What surrounds a plane is found once for all of its pieces, which follow each other.
        around: Surroundings | None = None
        surrounded: Pixels | None = None
        with ThreadPoolExecutor(2) as threads:

            def ahead() -> tuple[Piece, Future[np.ndarray]] | None:
                nonlocal around, surrounded
                following = next(todo, None)
                if following is None:
                    return None
                plane, piece = following
                if around is None or plane is not surrounded:
                    around, surrounded = self.surroundings(plane, unit), plane
                return piece, threads.submit(self.see, around, piece)

            placed: Future[tuple[np.ndarray, Sums]] | None = None
            try:
                current = ahead()
                while current is not None:
                    piece, canonical = current[0], current[1].result()
                    current = ahead()
                    answer = self.answer(canonical)
                    if placed is not None:
                        yield placed.result()
                    placed = threads.submit(self.place, canonical, *answer, piece, unit)
                if placed is not None:
                    yield placed.result()
            finally:
                threads.shutdown(cancel_futures=True)

    def surroundings(self, plane: Pixels, unit: float) -> Surroundings:
        """Return the plane and its margin in canonical pixels, bright as 1."""

        def see(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
            return (_to_canonical(plane, rows, columns, self.grids.factor) / unit).astype(np.float32)

        return Surroundings(see, self.grids.canonical, abbe_px=self.network.abbe_px)

    def see(self, around: Surroundings, piece: Piece) -> np.ndarray:
        """Return what the network sees of a piece."""
        return around.look(*(around.indices(*span, axis) for axis, span in enumerate(piece.padded)))

    def answer(self, canonical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the network's answer on the fine grid, and the same as the camera would see it."""
        network = self.network
        fine, seen = apply_network(
            network.module, network.params, jnp.asarray(canonical), network.abbe_px, self.orientations
        )
        return np.asarray(fine), np.asarray(seen)

    def place(
        self, canonical: np.ndarray, fine: np.ndarray, seen: np.ndarray, piece: Piece, unit: float
    ) -> tuple[np.ndarray, Sums]:
        """Resample the network's answer to the output pixels of a piece."""
        core = tuple(
            slice(a - start, b - start) for (a, b), (start, _) in zip(piece.core, piece.padded, strict=True)
        )
        scale, ratio = self.network.module.scale, self.grids.fine_to_out
        # Positions in the padded piece: pixel i begins at i / ratio fine pixels from the image's corner.
        local = [
            np.arange(*span) - scale * start * ratio
            for span, (start, _) in zip(piece.out, piece.padded, strict=True)
        ]
        kernel = "area" if ratio < 0.5 else "lanczos"
        block = np.empty((len(local[0]), len(local[1])), np.float32)
        # Strip by strip: of an image with small pixels a piece has many more output pixels than fine ones.
        for first in range(0, len(block), _STRIP_PX):
            rows = slice(first, first + _STRIP_PX)
            values = resample_region(fine, local[0][rows], local[1], ratio, kernel=kernel)
            np.maximum(
                values, 0.0, out=values
            )  # the kernel's negative lobes may undershoot beside bright points
            block[rows] = values * unit
        return block, Sums.of(seen[core], canonical[core], float(block.sum(dtype=np.float64)))


def near_reach(module: Any) -> int:
    """Return the distance in px beyond which nothing counts for a network; all of its reach, if it does not say."""
    return int(getattr(module, "near_reach", module.reach))
