"""Two-photon calcium movies of known truth: cell bodies with dark nuclei, neuropil, firing, photons.

Contract (NumPy): a movie is float32 ``(t, y, x)``, not negative, 1 at the brightest resting cells; traces are ``(cell,
t)`` in units of the resting brightness of their cell; masks ``(cell, y, x)`` are the noise-free images of the cells at
rest, with a maximum of 1 each. One pixel is about 1 to 2 micrometres: a cell body is some 8 to 14 px wide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax import _checks

# Of a genetically encoded sensor such as GCaMP6: rise and decay of one spike (Chen et al. 2013, figure 1).
RISE_S, DECAY_S = 0.08, 0.6
# Spread of the light of a point, as the laser's focus gives it.
FOCUS_PX = 0.8


def movie(
    rng: np.random.Generator,
    shape: Sequence[int],
    *,
    frames: int,
    radius_px: float = 5.5,
    density: float = 0.25,
    neuropil: float = 0.35,
    frame_rate_hz: float = 30.0,
    spikes_hz: float = 0.3,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a movie without motion and without noise.

    Parameters
    ----------
    rng
        Random generator.
    shape
        ``(y, x)``.
    frames
        Number of frames.
    radius_px
        Mean radius of cell bodies; each differs by up to a quarter.
    density
        Share of the area that cell bodies take up where there is room.
    neuropil
        Mean brightness of the tissue between cells; a bright resting cell is 1.
    frame_rate_hz, spikes_hz
        Frames per second, and mean rate of spikes; cells' rates differ widely.

    Returns
    -------
    Clean frames ``(t, y, x)``, traces ``(cell, t)`` and masks ``(cell, y, x)``. The frames are a still background
    plus each mask times its cell's resting brightness times its trace.

    Raises
    ------
    ValueError
        For numbers out of range.
    """
    if len(shape) != 2:
        raise ValueError(f"expected shape as (y, x), got {shape!r}")
    for name, count in (("shape", shape[0]), ("shape", shape[1]), ("frames", frames)):
        _checks.positive_integer(name, count)
    for name, number in (("radius_px", radius_px), ("density", density), ("frame_rate_hz", frame_rate_hz)):
        _checks.positive(name, number)
    _checks.non_negative("neuropil", neuropil)
    centres, radii = _places(rng, shape, radius_px, density)
    masks = np.stack([_cell(rng, shape, c, r) for c, r in zip(centres, radii, strict=True)])
    traces = firing(rng, len(masks), frames=frames, frame_rate_hz=frame_rate_hz, spikes_hz=spikes_hz)
    light = rng.uniform(0.35, 1.0, len(masks))
    background = neuropil * _neuropil(rng, shape) * (1 - 0.7 * np.minimum(masks.sum(0), 1.0))
    clean = background + np.tensordot(traces * light[:, None], masks, ([0], [0]))
    return clean.astype(np.float32), traces.astype(np.float32), masks.astype(np.float32)


def firing(
    rng: np.random.Generator,
    cells: int,
    *,
    frames: int,
    frame_rate_hz: float = 30.0,
    spikes_hz: float = 0.3,
    amplitude: float = 0.8,
) -> np.ndarray:
    """Draw brightness over time ``(cell, t)``, 1 at rest: spikes at random times, each a rise and a decay.

    ``amplitude`` is what one spike adds at its peak, about; rates are exponentially distributed around ``spikes_hz``.
    The movie starts in the midst of things: spikes of the last decay times before it are in it.
    """
    for name, count in (("cells", cells), ("frames", frames)):
        _checks.positive_integer(name, count)
    _checks.positive("frame_rate_hz", frame_rate_hz)
    _checks.non_negative("spikes_hz", spikes_hz)
    _checks.non_negative("amplitude", amplitude)
    before = int(np.ceil(5 * DECAY_S * frame_rate_hz))
    rates = spikes_hz * rng.exponential(1.0, cells) / frame_rate_hz
    spikes = rng.poisson(rates[:, None], (cells, before + frames)).astype(float)
    seconds = np.arange(before + 1) / frame_rate_hz
    response = np.exp(-seconds / DECAY_S) - np.exp(-seconds / RISE_S)
    response /= (DECAY_S / RISE_S) ** (-RISE_S / (DECAY_S - RISE_S)) * (1 - RISE_S / DECAY_S)
    return 1 + amplitude * np.stack([np.convolve(s, response)[before : before + frames] for s in spikes])


def count_photons(rng: np.random.Generator, clean: np.ndarray, *, photons: float) -> np.ndarray:
    """Draw Poisson counts whose mean is ``photons`` times the clean movie: float32 whole numbers.

    ``photons`` is the mean count of a pixel whose brightness is 1, the brightest resting cells. Raises ``ValueError``
    for a number that is not positive, or a movie below 0.
    """
    _checks.positive("photons", photons)
    if np.min(clean, initial=0) < 0:
        raise ValueError(f"expected a movie of 0 or more, got a minimum of {np.min(clean):g}")
    return rng.poisson(photons * np.asarray(clean, float)).astype(np.float32)


def _places(
    rng: np.random.Generator, shape: Sequence[int], radius_px: float, density: float
) -> tuple[np.ndarray, np.ndarray]:
    """Throw cell bodies that do not overlap, their centres in the frame: positions ``(n, 2)`` and radii."""
    wanted = max(1, round(density * np.prod(shape) / (np.pi * radius_px**2)))
    centres, radii = [rng.uniform(0, shape)], [radius_px * rng.uniform(0.75, 1.25)]
    for _ in range(30 * wanted):
        if len(centres) >= wanted:
            break
        place, radius = rng.uniform(0, shape), radius_px * rng.uniform(0.75, 1.25)
        if np.all(np.hypot(*(np.array(centres) - place).T) > 0.95 * (np.array(radii) + radius)):
            centres.append(place)
            radii.append(radius)
    return np.array(centres), np.array(radii)


def _cell(rng: np.random.Generator, shape: Sequence[int], centre: np.ndarray, radius_px: float) -> np.ndarray:
    """Draw one cell body: a wavy ellipse whose nucleus, off its centre, is dark, as the sensor stays outside it."""
    # In a window of its own: its outline hardly ever reaches twice the radius, and light four times the focus more.
    reach = 2 * radius_px + 6 * FOCUS_PX
    low = [max(0, int(c - reach)) for c in centre]
    high = [min(n, int(c + reach) + 2) for c, n in zip(centre, shape, strict=True)]
    y, x = (np.arange(a, b) - c for a, b, c in zip(low, high, centre, strict=True))
    y, x = y[:, None], x[None, :]
    angle = np.arctan2(y, x)
    outline = 1 + sum(
        rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)
    )
    body = np.clip(radius_px * outline - np.hypot(y, x) + 0.5, 0, 1)
    dy, dx = rng.normal(0, 0.1 * radius_px, 2)
    nucleus = np.clip(radius_px * rng.uniform(0.45, 0.65) * outline - np.hypot(y - dy, x - dx) + 0.5, 0, 1)
    near = gaussian_filter(body * (1 - rng.uniform(0.5, 0.9) * nucleus), FOCUS_PX, mode="constant")
    cell = np.zeros(shape)
    cell[low[0] : high[0], low[1] : high[1]] = near / max(float(near.max()), 1e-6)
    return cell


def _neuropil(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Draw the tissue between cells, of mean 1: fine texture of cut processes, bright and dark regions, and vessels."""
    texture = gaussian_filter(rng.standard_normal(shape), 1.2, mode="mirror")
    coarse = gaussian_filter(rng.standard_normal(shape), 0.12 * min(shape), mode="mirror")
    field = np.exp(0.35 * texture / texture.std() + 0.25 * coarse / max(coarse.std(), 1e-6))
    vessel = gaussian_filter(rng.standard_normal(shape), 0.08 * min(shape), mode="mirror")
    # Blood holds no sensor: a narrow band around a level of a smooth field is a winding dark line.
    width = 0.1 * max(vessel.std(), 1e-6)
    field *= 1 - 0.8 * np.exp(-0.5 * ((vessel - vessel.std()) / width) ** 2)
    field = gaussian_filter(field, FOCUS_PX, mode="mirror")
    return field / field.mean()
