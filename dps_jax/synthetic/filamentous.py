"""Structures made of lines: filaments, bundles, tubules, cortical mesh, membranes.

Contract: ``f(rng, shape, *, abbe_px)`` returns a non-negative float32 emitter density ``(y, x)``; sizes
are in Abbe periods (about 100 to 250 nm).
"""

from __future__ import annotations

import numpy as np

from dps_jax.synthetic import curves, drawing


def filaments(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw microtubule-like worm-like chains, from a lone one to a crowd, floppy to stiff."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    length, persistence = drawing.log_uniform(rng, 7, 28), drawing.log_uniform(rng, 2.5, 80)
    crowding = drawing.log_uniform(rng, 0.03, 3.0)
    middles = drawing.scatter(rng, size, density=crowding / length, margin=length / 2)
    chains = curves.worm_like_chains(rng, middles, length=length, persistence=persistence)
    along = drawing.smooth_along(rng, *chains.shape[1:], knots=length / 1.5)
    weights = drawing.brightness(rng, chains.shape[1])[:, None] * np.exp(rng.uniform(0.05, 0.5) * along)
    return drawing.strokes(
        chains, weights, shape, abbe_px=abbe_px, sigma=drawing.log_uniform(rng, 0.06, 0.22)
    )


def bundles(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw groups of filaments that run side by side 0.4 to 2 periods apart and converge here and there."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    length, members = drawing.log_uniform(rng, 8, 24), int(rng.integers(2, 7))
    density = drawing.log_uniform(rng, 0.06, 1.5) / (length * members)
    middles = drawing.scatter(rng, size, density=density, margin=length / 2)
    mother = curves.worm_like_chains(
        rng, middles, length=length, persistence=drawing.log_uniform(rng, 15, 150)
    )
    count, nodes = mother.shape[1:]
    gap = drawing.log_uniforms(rng, 0.4, 2.0, (count, 1)) * np.exp(
        rng.uniform(0.0, 0.6) * drawing.smooth_along(rng, count, nodes, knots=length / 8)
    )
    rank = np.arange(members) - (members - 1) / 2 + rng.normal(0, 0.12, (count, members))
    offset = rank[..., None] * np.clip(gap, 0.25, 2.5)[:, None]
    family = mother[:, :, None] + curves.normals(mother)[:, :, None] * offset
    along = drawing.smooth_along(rng, count * members, nodes, knots=length / 2)
    weights = drawing.brightness(rng, count * members)[:, None] * np.exp(0.3 * along)
    weights *= rng.random((count * members, 1)) < 0.9
    family = family.reshape(2, count * members, nodes)
    return drawing.strokes(
        family, weights, shape, abbe_px=abbe_px, sigma=drawing.log_uniform(rng, 0.06, 0.16)
    )


def tubule_network(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw a polygonal network with three-way junctions and flat sheets, as the endoplasmic reticulum."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    cell = drawing.log_uniform(rng, 1.5, 6)
    seeds = curves.jittered_lattice(rng, size, spacing=cell, jitter=rng.uniform(0.2, 0.6), margin=3 * cell)
    # The hull's cells reach far away; a long edge is one of theirs, outside the frame.
    edges = curves.polygon_edges(seeds, longest=2.5 * cell)
    edges = edges[:, rng.random(edges.shape[1]) > rng.uniform(0.0, 0.3)]
    tubules = curves.bowed(rng, edges, step=0.4, bow=0.12)
    along = drawing.smooth_along(rng, *tubules.shape[1:], knots=cell)
    weights = drawing.brightness(rng, tubules.shape[1])[:, None] ** 0.5 * np.exp(0.2 * along)
    sigma = drawing.log_uniform(rng, 0.1, 0.25)
    network = drawing.strokes(tubules, weights, shape, abbe_px=abbe_px, sigma=sigma)
    height = drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=2.0)
    sheet = drawing.coverage(0.8 * (height - rng.uniform(1.2, 2.5)), abbe_px=abbe_px)
    return network + (rng.uniform(0.5, 2.0) * sheet).astype(np.float32)


def mesh(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw a cortical actin mesh: short straight filaments that cross and branch at 70 degrees."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    length = drawing.log_uniform(rng, 3, 9)
    crowding = drawing.log_uniform(rng, 1.2, 4.0)
    middles = drawing.scatter(rng, size, density=crowding / (2 * length), margin=length)
    mothers = curves.worm_like_chains(rng, middles, length=length, persistence=60.0)
    # Arp2/3 lets a daughter grow off its mother at about 70 degrees (Mullins et al., 1998).
    root = rng.integers(0, mothers.shape[2], mothers.shape[1])
    base = mothers[:, np.arange(mothers.shape[1]), root]
    span = mothers[:, :, -1] - mothers[:, :, 0]
    angle = np.deg2rad(rng.normal(70, 7, mothers.shape[1])) * rng.choice([-1, 1], mothers.shape[1])
    heading = np.arctan2(span[0], span[1]) + angle
    along = np.linspace(0, length, mothers.shape[2])
    daughters = base[..., None] + np.stack([np.sin(heading), np.cos(heading)])[..., None] * along
    lines = np.concatenate([mothers, daughters], axis=1)
    weights = drawing.brightness(rng, lines.shape[1])[:, None]
    sigma = drawing.log_uniform(rng, 0.06, 0.15)
    image = drawing.strokes(lines, weights, shape, abbe_px=abbe_px, sigma=sigma)
    patches = np.exp(rng.uniform(0.1, 0.5) * drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=5.0))
    return image * patches.astype(np.float32)


def membranes(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw closed and ruffled contours, some of them doubled at 0.3 to 1.5 periods."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    largest = drawing.log_uniform(rng, 3, 12)
    centres = drawing.scatter(
        rng, size, density=drawing.log_uniform(rng, 0.1, 0.8) / largest**2, margin=largest
    )
    count = centres.shape[1]
    radius = largest * rng.uniform(0.4, 1.0, (count,))
    ruffle = rng.uniform(0.1, 0.45) / np.arange(2, 14) ** rng.uniform(0.8, 1.6)
    outer = curves.contours(rng, centres, radius, nodes=260, roughness=ruffle)
    gap = drawing.log_uniforms(rng, 0.3, 1.5, (count, 1)) * (rng.random((count, 1)) < 0.5)
    inner = outer + curves.normals(outer) * gap
    along = drawing.smooth_along(rng, count, 260, knots=12)
    weights = drawing.brightness(rng, count)[:, None] * np.exp(0.4 * along)
    lines = np.concatenate([outer, inner], axis=1)
    both = np.concatenate([weights, weights * (gap > 0)])
    return drawing.strokes(lines, both, shape, abbe_px=abbe_px, sigma=drawing.log_uniform(rng, 0.06, 0.15))
