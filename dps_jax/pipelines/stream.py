"""Restore a channel of a file tile by tile: regions read, restored and written, memory bounded by a tile.

The numbers that all tiles share come from :mod:`dps_jax.pipelines.stream_light`; the light of a plane is brought to
that of the input when all of it is there, in a last pass over what was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dps_jax.io.regions import RegionImage, Span
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import photometry
from dps_jax.pipelines.plane import PlaneRestorer, Sums
from dps_jax.pipelines.report import Report, check_sampling, flux_notes, light_notes
from dps_jax.pipelines.restore import flux_correction
from dps_jax.pipelines.stream_light import Light, bands

_MIDDLE_PX = 1024  # the side of the region by which noise is judged: that of ``photometry``


class Planes(Protocol):
    """Where results go: an image that is being written."""

    def write(self, plane: int, rows: Span, columns: Span, data: np.ndarray) -> None:
        """Write a region of a plane."""
        ...

    def read(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Read it back."""
        ...


@dataclass(frozen=True)
class Place:
    """One piece of work: a plane of the input, where it lies in the output, and the number of a piece of it."""

    plane: int
    out_plane: int
    piece: int


@dataclass(frozen=True, eq=False)
class Above:
    """A plane of a file above a constant background, float32, of which rectangles are read as they are asked for."""

    image: RegionImage
    plane: int
    level: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        return self.image.sides

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (part.indices(n)[:2] for part, n in zip(index, self.image.sides, strict=True))
        return self.image.read(self.plane, rows, columns).astype(np.float32) - np.float32(self.level)


def run_share(
    restorer: PlaneRestorer,
    image: RegionImage,
    out: Planes,
    share: Sequence[Place],
    light: Light,
) -> Iterator[Sums]:
    """Restore pieces and write them, in their order; yield the sums of each."""
    pieces = list(restorer.pieces())
    planes = {place.plane: Above(image, place.plane, light.level) for place in share}
    work = ((planes[place.plane], pieces[place.piece]) for place in share)
    blocks = restorer.run(work, light.unit / restorer.grids.factor**2)
    for place, (block, sums) in zip(share, blocks, strict=True):
        out.write(place.out_plane, *pieces[place.piece].out, block)
        yield sums


def corrections(light: Light, sums: Sequence[Sums], sides: tuple[int, int]) -> list[float]:
    """Return the factor of each plane that makes photons out equal photons in."""
    floor = 1e-3 * light.unit * sides[0] * sides[1]
    return [
        flux_correction(total, plane.light, floor) for total, plane in zip(light.totals, sums, strict=True)
    ]


def scale_plane(out: Planes, plane: int, sides: tuple[int, int], factor: float) -> None:
    """Multiply a plane that was written, band by band."""
    if factor == 1.0:
        return
    for rows in bands(sides):
        part = np.array(out.read(plane, rows, (0, sides[1])), np.float32)
        part *= factor
        out.write(plane, rows, (0, sides[1]), part)


def middle(image: RegionImage, plane: int) -> np.ndarray:
    """Return the middle of a plane, by which its noise is judged; ``(1, y, x)``."""
    starts = [max(0, (n - _MIDDLE_PX) // 2) for n in image.sides]
    rows, columns = ((a, min(a + _MIDDLE_PX, n)) for a, n in zip(starts, image.sides, strict=True))
    return image.read(plane, rows, columns)[None]


def report_of(
    system: OpticalSystem,
    restorer: PlaneRestorer,
    light: Light,
    scale: photometry.Light,
    sums: Sequence[Sums],
    factors: Sequence[float],
) -> Report:
    """Return the same report as that of an image in memory."""
    total_in = sum(light.totals)
    total_out = sum(factor * plane.light for factor, plane in zip(factors, sums, strict=True))
    peak = scale.photons(light.unit)
    factor = restorer.grids.factor
    return Report(
        abbe_nm=float(system.abbe_nm),
        abbe_px=float(system.abbe_px),
        canonical_factor=factor,
        background=light.level,
        brightness=light.unit,
        gain=scale.gain,
        offset=scale.offset,
        gain_origin=scale.origin,
        peak_photons=peak,
        photons_out_over_in=total_out / total_in if total_in > 0 else 1.0,
        flux_correction=float(np.mean(factors)),
        reblur_correlation=sum(sums, start=Sums()).correlation(),
        tiles=restorer.count() * len(sums),
        notes=(
            *check_sampling(system),
            *light_notes(None if peak is None else peak / factor**2),
            *flux_notes(list(factors)),
        ),
    )
