"""How much memory a restoration takes, said before it starts; and the largest tile that a limit allows.

The shares were measured on two cores, the network's read off what the compiler says that it will allocate, and are
rounded up: an estimate that is too small is worse than one too large.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dps_jax.io import UserError
from dps_jax.io.integrity import available_bytes
from dps_jax.io.regions import RegionImage
from dps_jax.pipelines.plane import DEFAULT_SIDE_PX, Grids, PlaneRestorer
from dps_jax.pipelines.stream_light import BAND_PX
from dps_jax.pipelines.tiling import SIDES
from dps_jax.weights import Network

# Python, JAX, the compiler and its program.
BASE_BYTES = 480 * 10**6
# Per canonical pixel and per feature of the network's finest level: some fifteen arrays on the grid twice as fine.
_BYTES_PER_FEATURE = 62
_FEWEST_FEATURES = 16  # the physics' own arrays are there in the smallest network, too
# Per pixel on the host: what is read, as it is and as float32; the network's answers, two of them, and their blocks.
_BYTES_PER_READ, _BYTES_PER_FINE = 14, 16
_BYTES_PER_BLOCK = (
    12  # per output pixel of a tile: one block that is being written, one being made, its light
)
# The smoothed bands and the histograms of the first look at a file.
_LOOK_BYTES = 40 * BAND_PX + 2**28
# In memory: the file's pixels as they are, as float32, above background, smoothed; the result, three times.
_BYTES_PER_INPUT, _BYTES_PER_OUTPUT = 28, 16


@dataclass(frozen=True)
class Budget:
    """A limit in bytes and what would be needed for an image as a whole and tile by tile."""

    limit: int
    whole: int
    tiled: int

    @property
    def fits_whole(self) -> bool:
        """Whether the image can be restored in memory."""
        return self.whole <= self.limit


def default_limit() -> int:
    """Return half of the memory that is free."""
    return available_bytes() // 2


def network_bytes(module: Any, sides: tuple[int, int]) -> int:
    """Return the bytes that a network and the check of its answer take on a tile of canonical ``sides``."""
    features = max(_FEWEST_FEATURES, *getattr(module, "channels", (_FEWEST_FEATURES,))[:1])
    return _BYTES_PER_FEATURE * features * sides[0] * sides[1]


def tile_bytes(restorer: PlaneRestorer) -> int:
    """Return the bytes that restoring tile by tile takes beside what reading keeps."""
    y, x = restorer.sides
    scale = restorer.network.module.scale
    host = _BYTES_PER_READ * y * x / restorer.grids.factor**2 + _BYTES_PER_FINE * scale**2 * y * x
    block = _BYTES_PER_BLOCK * restorer.axes[0].step * restorer.axes[1].step
    return BASE_BYTES + network_bytes(restorer.network.module, restorer.sides) + int(host) + block


def weigh(image: RegionImage, restorer: PlaneRestorer, limit: int) -> Budget:
    """Return what an image needs with this restorer, whole and tile by tile."""
    pixels, planes = image.nbytes // image.dtype.itemsize, image.planes
    out = planes * restorer.grids.out[0] * restorer.grids.out[1]
    whole = image.nbytes + _BYTES_PER_INPUT * pixels + _BYTES_PER_OUTPUT * out + tile_bytes(restorer)
    tiled = image.cached_bytes + max(tile_bytes(restorer), BASE_BYTES + _LOOK_BYTES)
    return Budget(limit, whole, tiled)


def fit(
    image: RegionImage,
    network: Network,
    grids: Grids,
    limit: int,
    *,
    tile_px: int | None = None,
    orientations: int = 1,
    chunks_px: Sequence[int] = (1,),
) -> tuple[PlaneRestorer, Budget]:
    """Return the restorer with the largest tiles that a limit allows, and what it needs.

    ``chunks_px`` are the sides that the output's chunks may have, the preferred one first.

    Raises
    ------
    UserError
        Where not even the smallest tiles fit.
    """
    smallest = BASE_BYTES
    for side in reversed([s for s in SIDES if s <= DEFAULT_SIDE_PX]):
        choices = []
        for chunk in chunks_px:
            # A side below the overlap, or a chunk that no tile holds, cannot be.
            with contextlib.suppress(ValueError):
                choices.append(
                    PlaneRestorer(
                        network,
                        grids,
                        tile_px=tile_px,
                        side_px=side,
                        orientations=orientations,
                        align_px=chunk,
                    )
                )
        if choices:
            restorer = min(choices, key=lambda choice: choice.overhead)
            budget = weigh(image, restorer, limit)
            smallest = min(budget.whole, budget.tiled)
            if smallest <= limit:
                return restorer, budget
    raise UserError(
        f"{image.path} needs {in_words(smallest)} of memory even in the smallest tiles, more than the limit of "
        f"{in_words(limit)}; raise --memory-limit, or take a coarser --output-pixel-size-nm."
    )


def in_words(count: float) -> str:
    """Return a number of bytes as a person would say it."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
