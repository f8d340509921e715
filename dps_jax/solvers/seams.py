"""Seams of a stitched image: tiles of one size, each with a gain and an offset of its own, found and undone (NumPy).

Structure does not know where tiles end. At a seam, and nowhere beside it, the two sides, continued to the line between
them, miss each other; and seams return after the same number of pixels. Gains and offsets then follow from the pixels
along all seams together, as those that let the sides meet.

Sources: Chow et al. 2006 (stitching of microscope tiles by what neighbours share), Geman and McClure 1987 and Holland
and Welsch 1977 (weights that forgive what no model explains: here structure that ends at a seam by itself).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from dps_jax import _checks
from dps_jax.metrics.light import brightness
from dps_jax.solvers.ringing import is_clipped

# Evidence (sum of the standard scores of all lines of a grid over the root of their number) from which on seams are
# believed. The most in 156 images without seams is 6.1, the least in 156 with seams 9.1; set on seeds of no score.
BELIEVED = 7.5
# Sides of tiles: from this many Abbe periods to half of the image.
LEAST_SIDE_ABBE = 3.0
_SIDE_STEP_PX, _PHASE_STEP_PX = 0.25, 0.5
_MOST_SCORE = 5.0  # of one line, so that two edges of a sample make no grid
_FLOOR = 0.005  # of the image's brightness: gaps below are not looked at
_LEAST_GAP_SHARE = 0.003
# Standard deviations expected of gains, and of offsets in units of the image's brightness.
_GAIN, _OFFSET = 0.1, 0.06
_ROUNDS, _FORGIVEN = 8, 2.0
_LEAST_GAIN = 0.3


@dataclass(frozen=True, eq=False)
class Seams:
    """Where tiles end: a seam lies between ``rows[i]`` and ``rows[i] + 1``, and so along x; ``evidence`` as above."""

    rows: np.ndarray
    columns: np.ndarray
    side_px: float
    evidence: float


@dataclass(frozen=True, eq=False)
class Tiles:
    """Gain and offset of each tile ``(rows, columns)``: ``seen = (1 + gain) * image + offset``."""

    gains: np.ndarray
    offsets: np.ndarray


def find_seams(image: np.ndarray, *, abbe_px: float, believed: float = BELIEVED) -> Seams | None:
    """Find the grid of a stitched image.

    Parameters
    ----------
    image
        ``(y, x)``, background removed, of any unit.
    abbe_px
        Abbe period in px of the image that was super-resolved; tiles are at least three of them wide.
    believed
        Least evidence; see the module.

    Returns
    -------
    The seams, or None where there are none, or where the image is smaller than two tiles of six periods.

    Raises
    ------
    ValueError
        For an image that is not ``(y, x)`` or not finite, or a number that is not above 0.
    """
    _checks.finite_plane(image)
    _checks.positive("abbe_px", abbe_px)
    _checks.positive("believed", believed)
    image = np.asarray(image, np.float64)
    light = brightness(np.maximum(image, 0).astype(np.float32), abbe_px=abbe_px)
    least = LEAST_SIDE_ABBE * abbe_px
    if not light > 0 or min(image.shape) < 4 * least:
        return None
    scores = [_standard(_line_scores(turned, _FLOOR * light)) for turned in (image, image.T)]
    best: tuple[float, float, list[np.ndarray]] = (-np.inf, 0.0, [])
    for side in np.arange(least, min(image.shape) / 2 + _SIDE_STEP_PX / 2, _SIDE_STEP_PX):
        found = [_best_phase(score, side) for score in scores]
        lines = sum(len(edges) for edges, _ in found)
        evidence = sum(total for _, total in found) / np.sqrt(max(lines, 1))
        if evidence > best[0]:
            best = (float(evidence), float(side), [edges for edges, _ in found])
    evidence, side, grid = best
    if evidence < believed:
        return None
    rows, columns = (_snapped(edges, score) for edges, score in zip(grid, scores, strict=True))
    return Seams(rows, columns, side, evidence)


def fit_tiles(image: np.ndarray, seams: Seams, *, abbe_px: float) -> Tiles:
    """Find the gains and offsets that let the tiles of an image ``(y, x)`` meet along all seams.

    Least squares in which what a pair of sides misses counts by how rough the image is there, and less where no gains
    explain it; gains are expected to differ by 10 % and offsets by 6 % of the image's brightness.
    """
    from scipy import sparse  # slow to import, and not needed where there are no seams
    from scipy.sparse.linalg import spsolve

    image = np.asarray(image, np.float64)
    light = brightness(np.maximum(image, 0).astype(np.float32), abbe_px=abbe_px)
    down, across = _labels(image.shape[0], seams.rows), _labels(image.shape[1], seams.columns)
    shape = (down[-1] + 1, across[-1] + 1)
    count = shape[0] * shape[1]
    pairs = [_pairs(image, seams.rows, across, light), _pairs(image.T, seams.columns, down, light)]
    # Tiles are numbered row by row; along x a pair's "line" is a column.
    before = np.concatenate(
        [pairs[0].line * shape[1] + pairs[0].along, pairs[1].along * shape[1] + pairs[1].line]
    )
    after = np.concatenate([before[: pairs[0].line.size] + shape[1], before[pairs[0].line.size :] + 1])
    low, high, rough = (
        np.concatenate([getattr(p, name) for p in pairs]) for name in ("low", "high", "rough")
    )
    if low.size == 0:
        return Tiles(np.zeros(shape), np.zeros(shape))
    mean, gap = 0.5 * (low + high), low - high
    index = np.arange(gap.size)
    ones = np.ones(gap.size)
    design = sparse.csr_matrix(
        (
            np.concatenate([mean, -mean, ones, -ones]),
            (np.tile(index, 4), np.concatenate([before, after, count + before, count + after])),
        ),
        shape=(gap.size, 2 * count),
    )
    expected = np.repeat([_GAIN**-2.0, (_OFFSET * light) ** -2.0], count)
    weight = rough**-2.0
    fitted = np.zeros(2 * count)
    for _ in range(_ROUNDS):
        normal = design.T @ sparse.diags(weight) @ design + sparse.diags(expected)
        fitted = spsolve(normal.tocsc(), design.T @ (weight * gap))
        missed = (gap - design @ fitted) / rough
        weight = rough**-2.0 / (1 + (missed / _FORGIVEN) ** 2)
    return Tiles(fitted[:count].reshape(shape), fitted[count:].reshape(shape))


def remove_seams(image: np.ndarray, seams: Seams, tiles: Tiles) -> np.ndarray:
    """Undo gains and offsets in an image ``(y, x)``.

    The sum is kept; of an image whose negative values were set to 0, a pixel of 0 stays 0, and the light that tiles
    with an offset above 0 have gained and others could not lose goes.
    """
    image = np.asarray(image, np.float64)
    places = np.ix_(_labels(image.shape[0], seams.rows), _labels(image.shape[1], seams.columns))
    out = (image - tiles.offsets[places]) / np.maximum(1 + tiles.gains[places], _LEAST_GAIN)
    if not is_clipped(image):
        return (out + (image.sum() - out.sum()) / image.size).astype(np.float32)
    out = np.where(image <= 0, 0.0, np.maximum(out, 0.0))
    return out.astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pixel pairs across seams: seam and tile along it, the two sides continued to the seam, what to expect."""

    line: np.ndarray
    along: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rough: np.ndarray


def _pairs(image: np.ndarray, seams: np.ndarray, across: np.ndarray, light: float) -> _Pairs:
    """Collect the pairs across the seams between rows; a pair with a pixel that was set to 0 tells nothing."""
    kept = [(i, r) for i, r in enumerate(seams) if 1 <= r < image.shape[0] - 2]
    lines, rows = np.array([i for i, _ in kept], int), np.array([r for _, r in kept], int)
    low = 1.5 * image[rows] - 0.5 * image[rows - 1]
    high = 1.5 * image[rows + 1] - 0.5 * image[rows + 2]
    rough = np.hypot(_usual_gap(_gaps(image), rows, unknown=_FLOOR * 10 * light), _LEAST_GAP_SHARE * light)
    use = np.ones(low.shape, bool)
    if is_clipped(image):
        use = (image[rows] > 0) & (image[rows + 1] > 0)
    line, along = np.broadcast_to(lines[:, None], low.shape), np.broadcast_to(across[None, :], low.shape)
    return _Pairs(line[use], along[use], low[use], high[use], rough[use])


def _labels(size: int, seams: np.ndarray) -> np.ndarray:
    return np.searchsorted(seams, np.arange(size), side="left")


def _gaps(image: np.ndarray) -> np.ndarray:
    """Return by how much the rows above and below miss each other, continued to each line between two rows.

    ``(y - 1, x)``; NaN at the first and last line.
    """
    gaps = np.full((image.shape[0] - 1, image.shape[1]), np.nan)
    gaps[1:-1] = 1.5 * image[2:-1] - 0.5 * image[3:] - 1.5 * image[1:-2] + 0.5 * image[:-3]
    return gaps


def _usual_gap(gaps: np.ndarray, lines: np.ndarray, *, unknown: float) -> np.ndarray:
    """Return the size of the gaps two and three lines off, which do not reach across the line, ``(lines, x)``."""
    near = np.stack(
        [np.pad(gaps, ((3, 3), (0, 0)), constant_values=np.nan)[lines + 3 + d] for d in (-3, -2, 2, 3)]
    )
    known = np.isfinite(near)
    count = known.sum(axis=0)
    square = np.where(known, near, 0.0) ** 2
    mean = np.where(count >= 2, square.sum(axis=0) / np.maximum(count, 1), unknown**2)
    return np.sqrt(np.maximum(uniform_filter1d(mean, 5, axis=1, mode="nearest"), 0.0))


def _line_scores(image: np.ndarray, floor: float) -> np.ndarray:
    """Return for each line between two rows the mean logarithm of its gap over what is usual beside it."""
    gaps = _gaps(image)
    usual = _usual_gap(gaps, np.arange(len(gaps)), unknown=np.nan)
    ratio = np.log((np.abs(gaps) + floor) / (usual + floor))
    return np.asarray(np.where(np.isfinite(ratio).all(axis=1), ratio.mean(axis=1), np.nan))


def _standard(scores: np.ndarray) -> np.ndarray:
    """Return scores in units of their scatter (median and its deviation), 0 where there is none."""
    known = scores[np.isfinite(scores)]
    if known.size == 0:
        return np.zeros_like(scores)
    middle = np.median(known)
    spread = 1.4826 * np.median(np.abs(known - middle))
    return np.where(np.isfinite(scores), (scores - middle) / max(spread, 1e-9), 0.0)


def _best_phase(scores: np.ndarray, side: float) -> tuple[np.ndarray, float]:
    """Return the lines of a grid of this side where they score most, and the sum of their scores."""
    starts = np.arange(0, side, _PHASE_STEP_PX)
    lines = np.floor(starts[:, None] + side * np.arange(int(len(scores) / side) + 1)).astype(int)
    inside = lines < len(scores)
    totals = np.where(inside, np.minimum(scores[np.minimum(lines, len(scores) - 1)], _MOST_SCORE), 0.0).sum(
        axis=1
    )
    best = int(np.argmax(totals / np.sqrt(inside.sum(axis=1))))
    return lines[best][inside[best]], float(totals[best])


def _snapped(lines: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Move each line to the best of its neighbours: a grid of a whole number of steps is off by up to one."""
    moved = []
    for line in lines:
        near = [n for n in (line, line - 1, line + 1) if 0 <= n < len(scores)]
        moved.append(max(near, key=lambda n: scores[n] + (0.5 if n == line else 0.0)))
    return np.unique(moved)
