"""Random curves in the plane: chains, contours, parallels and polygonal networks.

Contract: lengths in Abbe periods; curves are ``(2, curve, node)`` with the leading axis (y, x).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import Voronoi

CHAIN_STEP = 0.3


def worm_like_chains(
    rng: np.random.Generator,
    middles: np.ndarray,
    *,
    length: float,
    persistence: float,
    step: float = CHAIN_STEP,
) -> np.ndarray:
    """Draw chains through ``middles`` (2, n) whose heading diffuses by ``step / persistence`` per step.

    Source: the worm-like chain of Kratky and Porod (1949), in the plane.
    """
    count, nodes = middles.shape[1], max(2, round(length / step)) + 1
    turns = rng.normal(0.0, np.sqrt(step / persistence), (count, nodes))
    heading = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(turns, axis=1)
    path = step * np.cumsum([np.sin(heading), np.cos(heading)], axis=2)
    return path - path[:, :, nodes // 2, None] + middles[:, :, None]


def normals(curves: np.ndarray) -> np.ndarray:
    """Return the unit normals of curves at their nodes."""
    tangent = np.gradient(curves, axis=2)
    tangent /= np.maximum(np.hypot(*tangent), 1e-9)
    return np.stack([tangent[1], -tangent[0]])


def contours(
    rng: np.random.Generator, centres: np.ndarray, radius: np.ndarray, *, nodes: int, roughness: np.ndarray
) -> np.ndarray:
    """Draw closed contours whose radius carries harmonics 2, 3, ... of relative size ``roughness``."""
    count = centres.shape[1]
    harmonic = np.arange(2, 2 + len(roughness))
    angle = np.linspace(0, 2 * np.pi, nodes)
    size = rng.normal(0, 1, (count, len(harmonic))) * roughness
    phase = rng.uniform(0, 2 * np.pi, (count, len(harmonic)))
    wave = np.cos(harmonic[:, None] * angle + phase[..., None])
    reach = radius[:, None] * np.maximum(1 + np.einsum("nh,nha->na", size, wave), 0.2)
    turn = angle + rng.uniform(0, 2 * np.pi, (count, 1))
    return centres[:, :, None] + reach * np.stack([np.sin(turn), np.cos(turn)])


def polygon_edges(seeds: np.ndarray, *, longest: float) -> np.ndarray:
    """Return the edges ``(2, edge, 2)``, up to ``longest``, of the Voronoi cells of ``seeds`` (2, n).

    Three edges meet at every vertex, as the tubules of the endoplasmic reticulum do.
    """
    cells = Voronoi(seeds.T)
    ridges = np.asarray(cells.ridge_vertices)
    ridges = ridges[np.all(ridges >= 0, axis=1)]
    edges = np.moveaxis(cells.vertices[ridges], 2, 0)
    return edges[:, np.hypot(*(edges[:, :, 1] - edges[:, :, 0])) <= longest]


def bowed(rng: np.random.Generator, edges: np.ndarray, *, step: float, bow: float) -> np.ndarray:
    """Sample straight edges ``(2, n, 2)`` and bend each by a half sine of relative height ``bow``."""
    span = edges[:, :, 1] - edges[:, :, 0]
    longest = float(np.hypot(*span).max(initial=step))
    along = np.linspace(0, 1, max(2, round(longest / step)) + 1)
    bend = rng.normal(0, bow, (edges.shape[1], 1)) * np.sin(np.pi * along)
    across = np.stack([span[1], -span[0]])
    return edges[:, :, :1] + span[..., None] * along + across[..., None] * bend


def jittered_lattice(
    rng: np.random.Generator, size: np.ndarray, *, spacing: float, jitter: float, margin: float
) -> np.ndarray:
    """Draw a rotated hexagonal lattice ``(2, n)`` over frame and margin, moved by ``jitter`` spacings."""
    reach = int(np.ceil((np.hypot(*size) / 2 + margin) / spacing / 0.85)) + 1
    row, column = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    lattice = np.stack([row * np.sqrt(0.75), column + 0.5 * (row % 2)]).reshape(2, -1)
    lattice = lattice + rng.uniform(-0.5, 0.5, (2, 1)) + rng.normal(0, jitter, lattice.shape)
    angle = rng.uniform(0, np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sites = spacing * (rotation @ lattice) + size[:, None] / 2
    return sites[:, np.all((sites > -margin) & (sites < (size + margin)[:, None]), axis=0)]
