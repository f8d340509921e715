"""How tissue moves under a laser-scanning microscope: smooth deformations, drift, breathing, heartbeat, scan lines.

Contract (NumPy): a flow ``(..., 2, y, x)`` has components (dy, dx) in pixels, and undoes the motion:
``corrected(r) = frame(r + flow(r))``. The displacement that makes the frame out of the still scene,
``frame(r) = still(r + displacement(r))``, is its inverse. Time courses are ``(2, *times)`` in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from dps_jax import _checks

# The published width of a bump as a share of the side of the frame.
WIDTH_SHARE = 0.18


def bump_flow(
    rng: np.random.Generator,
    shape: Sequence[int],
    *,
    bumps: int = 10,
    shift_px: float = 3.0,
    sigma_px: float | None = None,
) -> np.ndarray:
    """Draw a smooth deformation: random vectors at random places, each spread by a Gaussian, added up.

    ``u(r) = sum_i U_i / (2 pi) exp(-|r - R_i|^2 / (2 sigma^2))`` with ``U_i`` normal.

    Parameters
    ----------
    rng
        Random generator.
    shape
        ``(y, x)``.
    bumps
        Number of vectors; their places are uniform over the frame.
    shift_px
        Standard deviation of each component of ``U_i``: a bump's largest shift is smaller by ``2 pi``.
    sigma_px
        Width of the Gaussian; 0.18 of the shorter side by default.

    Returns
    -------
    ``(2, y, x)`` float64.

    Raises
    ------
    ValueError
        For a shape, number or width out of range.
    """
    _check_shape(shape)
    _checks.positive_integer("bumps", bumps)
    _checks.non_negative("shift_px", shift_px)
    sigma = WIDTH_SHARE * min(shape) if sigma_px is None else sigma_px
    _checks.positive("sigma_px", sigma)
    vectors = rng.normal(0.0, shift_px, (2, bumps))
    places = rng.uniform(0.0, 1.0, (2, bumps)) * np.subtract(shape, 1)[:, None]
    # The Gaussian of two axes is the product of one each.
    rows, columns = (
        np.exp(-0.5 * ((np.arange(n) - place[:, None]) / sigma) ** 2)
        for n, place in zip(shape, places, strict=True)
    )
    return np.einsum("cb,by,bx->cyx", vectors, rows, columns) / (2 * np.pi)


def line_times_s(frames: int, rows: int, *, frame_rate_hz: float = 30.0) -> np.ndarray:
    """Return the time at which each line of each frame is scanned, ``(frames, rows)``, from 0 on."""
    _checks.positive_integer("frames", frames)
    _checks.positive_integer("rows", rows)
    _checks.positive("frame_rate_hz", frame_rate_hz)
    return (np.arange(frames)[:, None] + np.arange(rows)[None, :] / rows) / frame_rate_hz


def drift(rng: np.random.Generator, times_s: np.ndarray, *, speed_px_per_s: float = 0.05) -> np.ndarray:
    """Draw a steady drift in a random direction, 0 at time 0: ``(2, *times)``."""
    _checks.non_negative("speed_px_per_s", speed_px_per_s)
    return speed_px_per_s * _along(rng, np.asarray(times_s, float))


def breathing(
    rng: np.random.Generator, times_s: np.ndarray, *, rate_hz: float = 2.0, amplitude_px: float = 1.0
) -> np.ndarray:
    """Draw the sway of breathing: a rounded pulse per breath, breaths unequal in length and depth.

    ``rate_hz`` is the mean rate (1 to 3 Hz in an anaesthetised or resting mouse), ``amplitude_px`` the mean size.
    Returns ``(2, *times)``, from 0 (rest) to the amplitude along one random direction.
    """
    _checks.positive("rate_hz", rate_hz)
    _checks.non_negative("amplitude_px", amplitude_px)
    # Air is drawn in for part of the cycle; the rest is a pause.
    pulses = _pulses(rng, times_s, rate_hz, lambda phase: np.sin(np.pi * np.minimum(phase / 0.6, 1.0)) ** 2)
    return amplitude_px * _along(rng, pulses)


def heartbeat(
    rng: np.random.Generator, times_s: np.ndarray, *, rate_hz: float = 8.0, amplitude_px: float = 0.3
) -> np.ndarray:
    """Draw the pulse of the heart: a fast rise and a slower decay per beat, ``(2, *times)``.

    ``rate_hz`` is 6 to 10 Hz in a mouse; a beat is at its largest, ``amplitude_px``, after a fifth of its length.
    """
    _checks.positive("rate_hz", rate_hz)
    _checks.non_negative("amplitude_px", amplitude_px)
    # t exp(1 - t), which is 1 at t = 1, less what is left of it at the end of the beat.
    pulses = _pulses(rng, times_s, rate_hz, lambda phase: 5 * phase * np.exp(1 - 5 * phase) * (1 - phase**4))
    return amplitude_px * _along(rng, pulses)


def scan_line_displacement(course_px: np.ndarray, width: int) -> np.ndarray:
    """Return the displacement of frames whose lines were scanned while the tissue moved.

    Parameters
    ----------
    course_px
        ``(2, frames, rows)``: where the tissue is, relative to rest, when each line is scanned.
    width
        Pixels of a line, all scanned at once.

    Returns
    -------
    ``(frames, 2, rows, width)``: ``frame(r) = still(r + displacement(r))``.
    """
    course = np.asarray(course_px, float)
    if course.ndim != 3 or course.shape[0] != 2:
        raise ValueError(f"expected a course (2, frames, rows), got shape {course.shape}")
    _checks.positive_integer("width", width)
    # Tissue that moved by +d shows at r what was at r - d.
    return np.repeat(-course.transpose(1, 0, 2)[..., None], width, axis=-1)


def invert_flow(flow_px: np.ndarray, *, iterations: int = 50) -> np.ndarray:
    """Return ``v`` with ``v(r) = -flow(r + v(r))``: the flow of a displacement, or the displacement of a flow.

    ``(..., 2, y, x)``. By fixed-point iteration; cubic between pixels, edge values outside. Raises ``ValueError`` for
    another shape, or where the iteration has not settled to 0.01 px, as with a flow that folds.
    """
    flow = _check_flow(flow_px)
    _checks.positive_integer("iterations", iterations)
    if flow.ndim > 3:
        return np.stack([invert_flow(f, iterations=iterations) for f in flow])
    grid, inverse = np.indices(flow.shape[1:], float), -flow
    smooth = [spline_filter(component, order=3, mode="mirror") for component in flow]
    high = np.subtract(flow.shape[1:], 1.0)[:, None, None]
    for _ in range(iterations):
        at = np.clip(grid + inverse, 0.0, high)
        before = inverse
        inverse = -np.stack([map_coordinates(c, at, order=3, prefilter=False, mode="mirror") for c in smooth])
    error = float(np.abs(inverse - before).max())
    if not error < 0.01:
        raise ValueError(f"expected a flow that can be inverted, got one still {error:.2g} px off")
    return inverse


def displaced(still: np.ndarray, displacement_px: np.ndarray) -> np.ndarray:
    """Return ``still(r + displacement(r))``, by cubic splines, with mirrored borders and nothing below 0.

    Parameters
    ----------
    still
        Scenes ``(..., y, x)``, noise-free: photons are drawn from the result.
    displacement_px
        ``(2, y, x)`` for all, or ``(..., 2, y, x)``, one each. Give the scene a margin that can be cut off, so that
        what moves into the frame is not its mirror image.

    Returns
    -------
    float32 of the shape of ``still``.

    Raises
    ------
    ValueError
        For shapes that do not fit.
    """
    scenes, shifts = np.asarray(still, float), _check_flow(displacement_px)
    _checks.at_least_2d("still", scenes)
    wanted = (*scenes.shape[:-2], 2, *scenes.shape[-2:])
    if shifts.shape not in (wanted, wanted[-3:]):
        raise ValueError(f"expected a displacement of shape {wanted} or {wanted[-3:]}, got {shifts.shape}")
    shifts = np.broadcast_to(shifts, wanted).reshape(-1, *wanted[-3:])
    grid = np.indices(scenes.shape[-2:], float)
    pairs = zip(scenes.reshape(-1, *scenes.shape[-2:]), shifts, strict=True)
    moved = [map_coordinates(scene, grid + shift, order=3, mode="mirror") for scene, shift in pairs]
    return np.maximum(moved, 0).reshape(scenes.shape).astype(np.float32)


def _along(rng: np.random.Generator, size: np.ndarray) -> np.ndarray:
    """Lay a course along a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.stack([np.sin(angle) * size, np.cos(angle) * size])


def _pulses(
    rng: np.random.Generator, times_s: np.ndarray, rate_hz: float, shape: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Repeat ``shape`` (of a phase from 0 to 1), periods and sizes varying by a tenth, from a random phase on."""
    times = np.asarray(times_s, float)
    if times.size == 0 or not np.isfinite(times).all() or times.min() < 0:
        raise ValueError("expected times in seconds of 0 or more, got none, or others")
    # Periods are at least half the mean: twice as many as expected always suffice.
    count = int(2 * times.max() * rate_hz) + 3
    periods = np.maximum(1 + 0.1 * rng.standard_normal(count), 0.5) / rate_hz
    starts = np.cumsum(periods) - periods - periods[0] * rng.uniform()
    sizes = np.maximum(1 + 0.1 * rng.standard_normal(count), 0.0)
    at = np.searchsorted(starts, times, side="right") - 1
    return sizes[at] * shape((times - starts[at]) / periods[at])


def _check_shape(shape: Sequence[int]) -> None:
    if len(shape) != 2:
        raise ValueError(f"expected shape as (y, x), got {shape!r}")
    for side in shape:
        _checks.positive_integer("shape", side)


def _check_flow(flow_px: np.ndarray) -> np.ndarray:
    flow = np.asarray(flow_px, float)
    if flow.ndim < 3 or flow.shape[-3] != 2:
        raise ValueError(f"expected a flow (..., 2, y, x), got shape {flow.shape}")
    return flow
