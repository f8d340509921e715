"""Structures made of spots and small rings: puncta, regular arrays, clathrin-coated pits, nuclear pores.

Contract: ``f(rng, shape, *, abbe_px)`` returns a non-negative float32 emitter density ``(y, x)``; sizes
are in Abbe periods (about 100 to 250 nm).
"""

from __future__ import annotations

import math

import numpy as np

from dps_jax.synthetic import curves, drawing


def puncta(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw vesicle-like spots, points to one period wide; brightness equal, exponential or power law."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    centres = _clustered(rng, size, density=drawing.log_uniform(rng, 0.02, 2.5), margin=2.0)
    light = _spot_brightness(rng, centres.shape[1])
    # Three classes of size stand for a continuum at the price of three blurs; 0.4 is one period's FWHM.
    sigmas = np.sort(drawing.log_uniforms(rng, 0.05, 0.4, 3))[: rng.integers(1, 4)]
    kind = rng.integers(0, len(sigmas), centres.shape[1])
    image = np.zeros(shape, np.float32)
    for index, sigma in enumerate(sigmas):
        chosen = kind == index
        image += drawing.points(centres[:, chosen], light[chosen], shape, abbe_px=abbe_px, sigma=sigma)
    return image


def arrays(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw dots or short rods side by side in rows, 0.5 to 2.5 periods apart, as Z-bodies and test slides show."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    stretch, angle = rng.uniform(1.0, 1.8), rng.uniform(0, np.pi)
    # A lattice over the frame's diagonal, stretched, still covers the frame when it is squeezed back along one axis.
    wide = np.full(2, stretch * float(np.hypot(*size)))
    sites = curves.jittered_lattice(
        rng,
        wide,
        spacing=drawing.log_uniform(rng, 0.5, 2.5) * math.sqrt(stretch),
        jitter=drawing.log_uniform(rng, 0.02, 0.25),
        margin=2.0,
    )
    along = np.array([math.sin(angle), math.cos(angle)])
    sites = sites - wide[:, None] / 2
    sites = sites + np.outer(along, (1 / stretch - 1) * (along @ sites)) + size[:, None] / 2
    sites = sites[:, np.all((sites > -2.0) & (sites < (size + 2.0)[:, None]), axis=0)]
    sites = _patches(rng, sites, scale=drawing.log_uniform(rng, 3.0, 12.0), threshold=rng.uniform(-2.0, 0.5))
    sites = sites[:, rng.random(sites.shape[1]) < rng.uniform(0.7, 1.0)]
    count = sites.shape[1]
    heading = rng.uniform(0, np.pi) + rng.normal(0, rng.uniform(0, 0.4), count)
    half = np.maximum(0.0, rng.uniform(-0.4, 0.4)) * rng.uniform(0.7, 1.3, (count, 1))
    reach = np.linspace(-1, 1, 9) * half
    rods = sites[..., None] + np.stack([np.sin(heading), np.cos(heading)])[..., None] * reach
    light = drawing.brightness(rng, count)[:, None] / 9
    return drawing.points(rods, light, shape, abbe_px=abbe_px, sigma=drawing.log_uniform(rng, 0.05, 0.25))


def clathrin_rings(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw rings 0.4 to 1.5 periods across, some broken, some with a dim cap inside."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    centres = _clustered(rng, size, density=drawing.log_uniform(rng, 0.02, 1.0), margin=2.0)
    count = centres.shape[1]
    diameter = np.clip(rng.uniform(0.5, 1.3) * rng.lognormal(0, 0.2, count), 0.4, 1.5)
    nodes = 33
    rings = curves.contours(rng, centres, diameter / 2, nodes=nodes, roughness=np.array([0.08, 0.04]))
    arc = np.where(rng.random(count) < rng.uniform(0, 0.6), rng.uniform(0.4, 0.9, count), 1.0)
    seen = np.linspace(0, 1, nodes) <= arc[:, None]
    along = np.exp(rng.uniform(0.1, 0.6) * drawing.smooth_along(rng, count, nodes, knots=5))
    weights = drawing.brightness(rng, count)[:, None] * along * seen
    sigma = drawing.log_uniform(rng, 0.06, 0.12)
    image = drawing.strokes(rings, weights, shape, abbe_px=abbe_px, sigma=sigma)
    cap = rng.uniform(0, 1.5) * (rng.random(count) < 0.3) * weights.mean(axis=1) * diameter
    return image + drawing.points(centres, cap, shape, abbe_px=abbe_px, sigma=float(diameter.mean()) / 4)


def nuclear_pores(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw eight-fold rings of labels, 0.5 to 1 period across, on a patchy lattice."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    spacing, diameter = drawing.log_uniform(rng, 1.2, 3.0), rng.uniform(0.5, 1.0)
    sites = curves.jittered_lattice(rng, size, spacing=spacing, jitter=rng.uniform(0.1, 0.3), margin=2.0)
    sites = _patches(rng, sites, scale=6.0, threshold=rng.uniform(-1.5, 0.5))
    count = sites.shape[1]
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.arange(8) * (np.pi / 4)
    corners = sites[..., None] + diameter / 2 * np.stack([np.sin(angle), np.cos(angle)])
    corners = corners + rng.normal(0, 0.02, corners.shape)
    # Each corner holds up to four labelled copies (Thevathasan et al., 2019).
    labels = rng.binomial(4, rng.uniform(0.4, 0.95), (count, 8)) * drawing.brightness(rng, count)[:, None]
    return drawing.points(corners, labels, shape, abbe_px=abbe_px, sigma=drawing.log_uniform(rng, 0.05, 0.1))


def _clustered(rng: np.random.Generator, size: np.ndarray, *, density: float, margin: float) -> np.ndarray:
    """Scatter objects over the frame, evenly or, in one scene of three, gathered in clusters."""
    if rng.random() > 1 / 3:
        return drawing.scatter(rng, size, density=density, margin=margin)
    members = math.ceil(rng.uniform(2, 12))
    parents = drawing.scatter(rng, size, density=density / members, margin=margin)
    spread = drawing.log_uniform(rng, 0.4, 3.0)
    return (parents[..., None] + rng.normal(0, spread, (*parents.shape, members))).reshape(2, -1)


def _spot_brightness(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw brightness by an equal, exponential or truncated power law."""
    law = rng.integers(3)
    if law == 0:
        return np.ones(count)
    if law == 1:
        return 0.05 + rng.exponential(1.0, count)
    return np.minimum(1 + rng.pareto(rng.uniform(1.2, 2.5), count), 30.0)


def _patches(rng: np.random.Generator, sites: np.ndarray, *, scale: float, threshold: float) -> np.ndarray:
    """Keep the sites where a field of random waves is above a threshold."""
    wave = rng.normal(0, 1.5 / scale, (2, 12))
    phase = rng.uniform(0, 2 * np.pi, (12, 1))
    field = np.cos(wave.T @ sites + phase).sum(axis=0) / math.sqrt(6)
    return sites[:, field >= threshold]
