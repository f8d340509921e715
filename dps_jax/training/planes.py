"""The planes of a folder of images, which may be more than the memory holds.

Every file is read once at the start, one after another: what cannot be used is refused there, and gain, background and
brightness of its planes are measured there and kept. Of the pixels, those that were used last are kept, and others are
read again when they are drawn. A plane is found by its number alone, so that a run is the same whatever is kept, and a
sequence of planes is a source for Grain as it is.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from dps_jax.metrics.light import background_level, brightness
from dps_jax.metrics.noise import PhotonScale


@dataclass(frozen=True)
class Plane:
    """One image in photons ``(y, x)``, and the factor that brings it to the canonical sampling.

    ``level`` is the constant background and ``brightest`` what bright structures have above it, both in photons per
    pixel of the image.
    """

    photons: np.ndarray
    factor: float
    level: float
    brightest: float


def plane_in_photons(
    image: np.ndarray, scale: PhotonScale, *, factor: float, abbe_px: float, background: float | None = None
) -> Plane:
    """Return an image ``(y, x)`` in camera units as counts of photons, which alone can be split.

    ``background`` is the constant background in camera units, by default measured, as for a restoration.
    """
    photons = in_photons(image, scale)
    level = background_level(photons, abbe_px=abbe_px)
    if background is not None:
        level = max((background - scale.offset) / scale.gain, 0.0)
    # At least one photon above the background in a canonical pixel: an empty image has no brightest structures.
    return Plane(photons, factor, level, max(brightness(photons - level, abbe_px=abbe_px), factor**2))


def in_photons(image: np.ndarray, scale: PhotonScale) -> np.ndarray:
    """Return camera units as whole numbers of photons."""
    return np.maximum(np.rint((image.astype(np.float64) - scale.offset) / scale.gain), 0)


@dataclass(frozen=True)
class Read:
    """A plane as it was found at the start, and the scale that made it photons."""

    plane: Plane
    scale: PhotonScale


class FilePlanes(Sequence[Plane]):
    """Planes of files, in the order of the files; safe to be drawn from by several threads.

    Parameters
    ----------
    paths
        Files of one or more planes.
    examine
        From a file to all that is to be known of its planes.
    pixels
        From a file to its planes ``(n, y, x)`` in camera units.
    memory_bytes
        What pixels may be kept, in bytes, besides those of the file that is drawn from.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        examine: Callable[[Path], list[Read]],
        pixels: Callable[[Path], np.ndarray],
        *,
        memory_bytes: float,
    ) -> None:
        self._pixels, self._memory, self._lock = pixels, memory_bytes, threading.Lock()
        self._kept: OrderedDict[Path, list[np.ndarray]] = OrderedDict()
        self._known: list[tuple[Path, int, Read]] = []
        for path in paths:
            found = examine(path)
            self._keep(path, [read.plane.photons for read in found])
            nothing = np.empty((0, 0))
            self._known += [
                (path, i, Read(dataclasses.replace(read.plane, photons=nothing), read.scale))
                for i, read in enumerate(found)
            ]

    def __len__(self) -> int:
        return len(self._known)

    @overload
    def __getitem__(self, index: int) -> Plane: ...

    @overload
    def __getitem__(self, index: slice) -> list[Plane]: ...

    def __getitem__(self, index: int | slice) -> Plane | list[Plane]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        path, number, read = self._known[index]
        with self._lock:
            if path not in self._kept:
                scales = [known.scale for place, _, known in self._known if place == path]
                planes = zip(self._pixels(path), scales, strict=True)
                self._keep(path, [in_photons(image, scale) for image, scale in planes])
            self._kept.move_to_end(path)
            return dataclasses.replace(read.plane, photons=self._kept[path][number])

    def _keep(self, path: Path, planes: list[np.ndarray]) -> None:
        """Keep the planes of a file, and let go of those that were not used for longest."""
        self._kept[path] = planes
        while (
            len(self._kept) > 1
            and sum(p.nbytes for those in self._kept.values() for p in those) > self._memory
        ):
            self._kept.popitem(last=False)
