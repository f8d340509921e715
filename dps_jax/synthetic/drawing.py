"""Anti-aliased drawing of points, curves and smooth fields on a pixel grid.

Contract: geometry is in Abbe periods, as arrays with a leading axis of two (y, x); the frame spans
``0 .. size / abbe_px`` and pixel ``i`` is centred at ``(i + 0.5) / abbe_px``. Randomness never depends on the
pixel grid, so one seed draws one physical scene at every sampling. Images are float32 ``(y, x)``, emitters
per square period.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax import _checks

# A Gaussian of 0.5 px leaves less than 1 % of the amplitude at the first alias, one cycle per pixel.
MINIMUM_SIGMA_PX = 0.5
# Points at most this far apart along a curve: its brightness then ripples by 2 % at worst (a line along an
# axis, as thin as the grid allows, at an unlucky step) and by some 0.2 % as a rule.
STEP_PX = 0.5


def check_frame(shape: tuple[int, int], abbe_px: float) -> None:
    """Refuse a frame that is not two whole sizes and a positive number of pixels per Abbe period."""
    if len(shape) != 2:
        raise ValueError(f"expected shape as (y, x), got {shape!r}")
    for size in shape:
        _checks.positive_integer("shape", size)
    _checks.positive("abbe_px", abbe_px)


def frame_size(shape: tuple[int, int], abbe_px: float) -> np.ndarray:
    """Return the frame's size in Abbe periods, ``(2,)``."""
    return np.asarray(shape, dtype=float) / abbe_px


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between two bounds."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def log_uniforms(
    rng: np.random.Generator, low: float, high: float, size: int | tuple[int, ...]
) -> np.ndarray:
    """Draw an array of numbers whose logarithm is uniform between two bounds."""
    return np.exp(rng.uniform(math.log(low), math.log(high), size))


def scatter(rng: np.random.Generator, size: np.ndarray, *, density: float, margin: float) -> np.ndarray:
    """Draw random positions ``(2, n)``, at least one, evenly over the frame and a margin around it."""
    count = max(1, int(rng.poisson(density * np.prod(size + 2 * margin))))
    return rng.uniform(-margin, (size + margin)[:, None], (2, count))


def brightness(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw the relative brightness of ``count`` objects by an equal, log-normal or exponential law."""
    law = rng.integers(3)
    if law == 0:
        return np.ones(count)
    return rng.lognormal(0.0, rng.uniform(0.2, 0.7), count) if law == 1 else 0.1 + rng.exponential(0.9, count)


def splat(y_px: np.ndarray, x_px: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Share points among their four nearest pixels by bilinear weights; points off the grid are dropped."""
    height, width = shape
    inside = (y_px >= 0) & (y_px < height - 1) & (x_px >= 0) & (x_px < width - 1)
    y_px, x_px, weights = y_px[inside], x_px[inside], weights[inside]
    row, column = y_px.astype(np.intp), x_px.astype(np.intp)
    lower, right = y_px - row, x_px - column
    corner = row * width + column
    low = weights * lower
    low_right, up_right = low * right, (weights - low) * right
    shares = (weights - low - up_right, up_right, low - low_right, low_right)
    offsets = (0, 1, width, width + 1)
    total = np.zeros(height * width)
    for share, offset in zip(shares, offsets, strict=True):
        total += np.bincount(corner + offset, share, height * width)
    return total.reshape(shape).astype(np.float32)


def points(
    positions: np.ndarray,
    weights: np.ndarray | float,
    shape: tuple[int, int],
    *,
    abbe_px: float,
    sigma: float,
) -> np.ndarray:
    """Draw points ``(2, ...)`` of ``weights`` emitters as Gaussians of ``sigma`` periods."""
    sigma_px = max(sigma * abbe_px, MINIMUM_SIGMA_PX)
    # The splat drops points outside the padded grid; those farther than three sigma could not be seen anyway.
    pad = math.ceil(3 * sigma_px) + 1
    padded = (shape[0] + 2 * pad, shape[1] + 2 * pad)
    y_px, x_px = (np.ravel(axis) * abbe_px + (pad - 0.5) for axis in positions)
    image = splat(y_px, x_px, np.broadcast_to(weights, np.shape(positions[0])).ravel(), padded)
    blurred = gaussian_filter(image, sigma_px, truncate=3, mode="constant")
    return blurred[pad:-pad, pad:-pad] * np.float32(abbe_px**2)


def strokes(
    curves: np.ndarray, weights: np.ndarray, shape: tuple[int, int], *, abbe_px: float, sigma: float
) -> np.ndarray:
    """Draw polylines ``(2, curve, node)`` of ``weights`` (curve, node) emitters per period of length."""
    start, step = curves[..., :-1].reshape(2, -1), np.diff(curves).reshape(2, -1)
    weight = np.broadcast_to(weights, curves.shape[1:])
    middle_weight = (0.5 * (weight[..., :-1] + weight[..., 1:])).ravel()
    margin = 3 * max(sigma, MINIMUM_SIGMA_PX / abbe_px) + 3 / abbe_px + np.abs(step).max(initial=0.0)
    size = frame_size(shape, abbe_px)
    seen = np.all((start > -margin) & (start < (size + margin)[:, None]), axis=0) & (middle_weight > 0)
    start, step, middle_weight = start[:, seen], step[:, seen], middle_weight[seen]
    length = np.hypot(*step)
    parts = max(1, math.ceil(length.max(initial=0.0) * abbe_px / STEP_PX))
    along = (np.arange(parts)[:, None] + 0.5) / parts
    positions = start[:, None] + along * step[:, None]
    return points(positions, (middle_weight * length / parts)[None], shape, abbe_px=abbe_px, sigma=sigma)


def spline_basis(positions: np.ndarray, span: float) -> np.ndarray:
    """Return the cubic B-spline weights ``(position, knot)`` of positions in knots between 0 and ``span``."""
    knots = np.arange(-1, math.ceil(span) + 2)
    distance = np.abs(positions[:, None] - knots)
    near = 2 / 3 - distance**2 + distance**3 / 2
    return np.where(distance < 1, near, np.maximum(2 - distance, 0) ** 3 / 6)


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float, scale: float
) -> np.ndarray:
    """Draw a smooth random field ``(y, x)`` of mean 0 and variance about 1, knots ``scale`` periods apart."""
    phase = rng.uniform(0, 1, 2)
    rows, columns = (
        spline_basis((np.arange(n) + 0.5) / (abbe_px * scale) + p, n / abbe_px / scale + 1)
        for n, p in zip(shape, phase, strict=True)
    )
    noise = rng.standard_normal((rows.shape[1], columns.shape[1]))
    # 0.479 is the mean sum of squares of the cubic B-spline's weights along one axis.
    return rows @ noise @ columns.T / 0.479


def smooth_along(rng: np.random.Generator, count: int, nodes: int, *, knots: float) -> np.ndarray:
    """Draw ``count`` smooth random sequences ``(count, nodes)`` of variance about 1 over ``knots`` knots."""
    basis = spline_basis(np.linspace(0, knots, nodes), knots)
    return rng.standard_normal((count, basis.shape[1])) @ basis.T / math.sqrt(0.479)


def window(
    centre: np.ndarray, reach: float, shape: tuple[int, int], *, abbe_px: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """Return the pixels within ``reach`` periods of a centre: slices, and offsets as a column and a row."""
    low = [max(0, math.floor((c - reach) * abbe_px)) for c in centre]
    high = [
        max(a, min(n, math.ceil((c + reach) * abbe_px))) for c, n, a in zip(centre, shape, low, strict=True)
    ]
    y, x = ((np.arange(a, b) + 0.5) / abbe_px - c for a, b, c in zip(low, high, centre, strict=True))
    return (slice(low[0], high[0]), slice(low[1], high[1])), y[:, None], x[None, :]


def coverage(inside: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Turn a signed distance in periods, positive inside, into the covered share of a pixel, 0 to 1."""
    return np.clip(inside * abbe_px + 0.5, 0, 1)
