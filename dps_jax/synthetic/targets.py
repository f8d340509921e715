"""Resolution targets of known geometry, for scoring only: line pairs, dot pairs, the Siemens star.

Contract: float32 emitter densities ``(y, x)`` between 0 and about 1; geometry in pixels, pixel ``i``
centred at ``i``; angles from the x axis towards the y axis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from dps_jax import _checks
from dps_jax.synthetic import drawing

_MOST_PAIRS = 12
_DARTS = 600


@dataclass(frozen=True)
class LinePair:
    """Two parallel lines: where their middle lies, how they run, and how far apart they are."""

    centre_px: tuple[float, float]
    angle_rad: float
    separation_px: float
    length_px: float
    width_px: float


@dataclass(frozen=True)
class DotPair:
    """Two dots by the positions (y, x) of their centres."""

    first_px: tuple[float, float]
    second_px: tuple[float, float]

    @property
    def separation_px(self) -> float:
        """Distance between the two centres."""
        return math.dist(self.first_px, self.second_px)


def line_pairs(
    shape: tuple[int, int],
    *,
    separation_px: float,
    angle_rad: float,
    centre_px: tuple[float, float],
    length_px: float,
    width_px: float,
) -> np.ndarray:
    """Draw two parallel bars, ``separation_px`` between their middles, of density 1 before anti-aliasing.

    Raises ``ValueError`` for sizes that are not above 0.
    """
    for name, value in (("separation_px", separation_px), ("length_px", length_px), ("width_px", width_px)):
        _checks.positive(name, value)
    drawing.check_frame(shape, 1.0)
    y, x = np.arange(shape[0])[:, None] - centre_px[0], np.arange(shape[1])[None, :] - centre_px[1]
    along = x * math.cos(angle_rad) + y * math.sin(angle_rad)
    across = y * math.cos(angle_rad) - x * math.sin(angle_rad)
    lines = sum(_bar(across + side * separation_px / 2, width_px) for side in (-1, 1))
    return (lines * _bar(along, length_px)).astype(np.float32)


def random_line_pairs(
    rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float, separation_abbe: float
) -> tuple[np.ndarray, list[LinePair]]:
    """Draw up to a dozen line pairs of one separation, four periods long, at random places and angles.

    Pairs are at least two periods apart. Raises ``ValueError`` when the frame cannot hold one.
    """
    _checks.positive("separation_abbe", separation_abbe)
    separation_px, length_px, width_px = separation_abbe * abbe_px, 4 * abbe_px, 0.15 * abbe_px
    reach_px = math.hypot(length_px, separation_px + width_px) / 2 + abbe_px
    pairs = [
        LinePair((float(y), float(x)), float(rng.uniform(0, np.pi)), separation_px, length_px, width_px)
        for y, x in _apart(rng, shape, reach_px, abbe_px)
    ]
    image = np.zeros(shape, np.float32)
    for pair in pairs:
        image += line_pairs(shape, **vars(pair))
    return image, pairs


def random_dots(
    rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float, separation_abbe: float
) -> tuple[np.ndarray, list[DotPair]]:
    """Draw up to a dozen pairs of equal dots of one separation at random places and angles, maximum 1.

    Pairs are at least two periods apart. Raises ``ValueError`` when the frame cannot hold one.
    """
    _checks.positive("separation_abbe", separation_abbe)
    separation_px = separation_abbe * abbe_px
    centres = _apart(rng, shape, separation_px / 2 + abbe_px, abbe_px)
    angle = rng.uniform(0, np.pi, len(centres))
    half = separation_px / 2 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    ends = np.stack([centres - half, centres + half])
    positions = (np.moveaxis(ends, -1, 0) + 0.5) / abbe_px
    image = drawing.points(positions, np.ones(ends.shape[:2]), shape, abbe_px=abbe_px, sigma=0.06)
    pairs = [
        DotPair((float(a[0]), float(a[1])), (float(b[0]), float(b[1]))) for a, b in zip(*ends, strict=True)
    ]
    return image / image.max(), pairs


def siemens_star(shape: tuple[int, int], *, spokes: int) -> np.ndarray:
    """Draw a star of ``spokes`` bright and as many dark sectors about the frame's centre.

    Their period at radius ``r`` is ``2 pi r / spokes``; where it falls below two pixels the star is
    flat at a half. Raises ``ValueError`` for fewer than one spoke.
    """
    _checks.positive_integer("spokes", spokes)
    drawing.check_frame(shape, 1.0)
    y, x = (np.arange(size) - (size - 1) / 2 for size in shape)
    radius = np.hypot(y[:, None], x[None, :])
    phase = spokes * np.arctan2(y[:, None], x[None, :])
    to_edge = radius * np.arcsin(np.cos(phase)) / spokes
    # Full contrast from a period of three pixels on; below two it would come back as moiré.
    contrast = np.clip(2 * np.pi * radius / spokes - 2, 0, 1)
    star = 0.5 + contrast * (drawing.coverage(to_edge, abbe_px=1.0) - 0.5)
    return (star * drawing.coverage(0.47 * min(shape) - radius, abbe_px=1.0)).astype(np.float32)


def _bar(distance_px: np.ndarray, width_px: float) -> np.ndarray:
    """Return a bar's profile, blurred just enough for the grid; the same at every angle."""
    scale = drawing.MINIMUM_SIGMA_PX * math.sqrt(2)
    return 0.5 * (erf((distance_px + width_px / 2) / scale) - erf((distance_px - width_px / 2) / scale))


def _apart(rng: np.random.Generator, shape: tuple[int, int], reach_px: float, abbe_px: float) -> np.ndarray:
    """Throw darts for centres ``(n, 2)`` of discs of radius ``reach_px`` that fit and keep apart."""
    drawing.check_frame(shape, abbe_px)
    room = np.asarray(shape) - 1 - 2 * reach_px
    if room.min() < 0:
        raise ValueError(
            f"expected a frame of {math.ceil(2 * reach_px) + 1} pixels or more, got shape {shape}"
        )
    chosen: list[np.ndarray] = []
    for dart in reach_px + room * rng.random((_DARTS, 2)):
        if all(np.hypot(*(dart - other)) >= 2 * reach_px for other in chosen):
            chosen.append(dart)
        if len(chosen) == _MOST_PAIRS:
            break
    return np.array(chosen)
