"""One plane through the network: canonical sampling, overlapping tiles, and back to the output grid.

Four grids are in play. *Input* pixels are the camera's; *canonical* pixels are those the network was trained at;
*fine* pixels are the network's answer, twice as many a side; *output* pixels are what the user asked for. All share
the top left corner of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.operators.convolve import convolve
from dps_jax.operators.recamera import LARGEST_SCALE, recamera_region
from dps_jax.operators.sampling import bin_area, resample_region
from dps_jax.optics.psf import airy_psf
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.tiling import Tile, count_tiles, mirrored, plan_tiles
from dps_jax.typing import Array, Params
from dps_jax.weights import Network


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


@partial(jax.jit, static_argnames=("module", "halo", "orientations"))
def _apply(
    module: Any, params: Params, psf: Array, tile: Array, halo: int, orientations: int
) -> tuple[Array, Array]:
    """Run the network on one padded tile; also blur and bin its answer, as the camera would see it."""

    def run(image: Array) -> Array:
        return module.apply({"params": params}, image[None, :, :, None])[0, :, :, 0]

    turns = ORIENTATIONS[:orientations]
    fine = sum((_turned(run(_turned(tile, o)), o, back=True) for o in turns[1:]), start=run(tile)) / len(
        turns
    )
    seen = bin_area(convolve(fine, psf), module.scale)
    return fine, seen[halo:-halo, halo:-halo]


def _to_canonical(plane: np.ndarray, rows: np.ndarray, columns: np.ndarray, factor: float) -> np.ndarray:
    """Make canonical pixels as the canonical camera would; pixels coarser than its own are interpolated."""
    if factor <= LARGEST_SCALE:
        return recamera_region(plane, rows, columns, factor)
    return resample_region(plane, rows, columns, factor, kernel="lanczos")


class _Correlation:
    """Pearson correlation of two images that arrive tile by tile."""

    def __init__(self) -> None:
        self._sums = np.zeros(6)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        a, b = a.astype(np.float64), b.astype(np.float64)
        self._sums += (a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum())

    def value(self) -> float:
        n, a, b, aa, bb, ab = self._sums
        if n == 0:  # an image without light: no tile was run
            return 0.0
        spread = np.sqrt(max(aa - a * a / n, 0.0) * max(bb - b * b / n, 0.0))
        return float((ab - a * b / n) / spread) if spread > 0 else 0.0


class PlaneRestorer:
    """The network and its geometry for planes of one shape."""

    def __init__(self, network: Network, grids: Grids, tile_px: int, *, orientations: int = 1) -> None:
        self.network, self.grids, self.tile_px = network, grids, tile_px
        self.orientations = orientations
        self.multiple = network.module.grid_multiple
        self.psf = airy_psf(abbe_px=network.module.scale * network.abbe_px)
        # Beyond what the network sees, an output pixel reads a few fine pixels outside its tile's core.
        taps = 3 * max(1.0, 1 / grids.fine_to_out) + 1
        halo = network.module.reach + int(np.ceil(taps / network.module.scale))
        self.halo = -(-halo // self.multiple) * self.multiple
        self.correlation = _Correlation()

    def count(self) -> int:
        """Return the number of tiles of a plane."""
        return count_tiles(self.grids.canonical, tile_px=self.tile_px, multiple=self.multiple)

    def run(self, plane: np.ndarray, unit: float, out: np.ndarray, done: Callable[[], None]) -> None:
        """Restore ``plane`` (background-free, camera units) into ``out``, tile by tile."""
        plan = plan_tiles(
            self.grids.canonical, tile_px=self.tile_px, halo_px=self.halo, multiple=self.multiple
        )
        for tile in plan:
            self._run_tile(plane, unit, out, tile)
            done()

    def _run_tile(self, plane: np.ndarray, unit: float, out: np.ndarray, tile: Tile) -> None:
        rows, columns = (mirrored(*r, n) for r, n in zip(tile.padded, self.grids.canonical, strict=True))
        canonical = _to_canonical(plane, rows, columns, self.grids.factor) / unit
        image = jnp.asarray(canonical, jnp.float32)
        network = self.network
        fine, seen = _apply(network.module, network.params, self.psf, image, self.halo, self.orientations)
        core = tuple(slice(0, b - a) for a, b in tile.core)
        inner = canonical[self.halo : -self.halo, self.halo : -self.halo]
        self.correlation.add(np.asarray(seen)[core], inner[core])
        self._place(np.asarray(fine, np.float64), unit, out, tile)

    def _place(self, fine: np.ndarray, unit: float, out: np.ndarray, tile: Tile) -> None:
        """Resample the tile's answer to the output pixels whose centres lie in its core."""
        scale, ratio = self.network.module.scale, self.grids.fine_to_out
        spans, local = [], []
        for axis in range(2):
            a, b = (scale * edge * ratio - 0.5 for edge in tile.core[axis])
            last = tile.core[axis][1] >= self.grids.canonical[axis]
            stop = self.grids.out[axis] if last else min(int(np.ceil(b)), self.grids.out[axis])
            spans.append((int(np.ceil(a)), stop))
            # Positions in the padded tile: pixel i begins at i / ratio fine pixels from the image's corner.
            local.append(np.arange(*spans[axis]) - scale * tile.padded[axis][0] * ratio)
        if min(len(positions) for positions in local) == 0:
            return  # the canonical grid is rounded up: its last sliver may hold no output pixel's centre
        kernel = "area" if ratio < 0.5 else "lanczos"
        values = resample_region(fine, local[0], local[1], ratio, kernel=kernel)
        np.maximum(values, 0.0, out=values)  # the kernel's negative lobes may undershoot beside bright points
        out[spans[0][0] : spans[0][1], spans[1][0] : spans[1][1]] = values * unit
