"""Structures with an inside: mitochondria, nuclei, gratings, dead leaves.

Contract: ``f(rng, shape, *, abbe_px)`` returns a non-negative float32 emitter density ``(y, x)``; sizes
are in Abbe periods (about 100 to 250 nm).
"""

from __future__ import annotations

import math

import numpy as np

from dps_jax.synthetic import curves, drawing


def mitochondria(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw worm-like bodies 1 to 4 periods wide: membrane, cristae across them, and matrix."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    length, radius = drawing.log_uniform(rng, 4, 14), drawing.log_uniform(rng, 0.5, 1.8)
    length = max(length, 3 * radius)
    density = drawing.log_uniform(rng, 0.03, 0.35) / (2 * radius * length)
    middles = drawing.scatter(rng, size, density=density, margin=length / 2 + radius)
    axis = curves.worm_like_chains(rng, middles, length=length, persistence=drawing.log_uniform(rng, 10, 60))
    light = drawing.brightness(rng, axis.shape[1])
    profile = radius * _cap_profile(axis.shape[2], length / radius)
    across = curves.normals(axis)
    sigma = drawing.log_uniform(rng, 0.07, 0.13)
    membrane, inside, lamellae = rng.dirichlet([1.0, 1.0, 1.5])
    rim = np.concatenate([axis + across * profile, (axis - across * profile)[..., ::-1]], axis=2)
    image = drawing.strokes(rim, (membrane * light)[:, None], shape, abbe_px=abbe_px, sigma=sigma)
    lines, weight = _cristae(rng, axis, across, profile, spacing=drawing.log_uniform(rng, 0.35, 1.0))
    image += drawing.strokes(
        lines,
        (lamellae * weight * np.repeat(light, weight.size // light.size))[:, None],
        shape,
        abbe_px=abbe_px,
        sigma=sigma,
    )
    return image + _matrix(axis, across, profile, inside * light, shape, abbe_px=abbe_px)


def nuclei(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw large filled nuclei with chromatin texture, dark nucleoli and bright speckles."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    radius = drawing.log_uniform(rng, 4, 14)
    centres = drawing.scatter(
        rng, size, density=drawing.log_uniform(rng, 0.05, 0.3) / radius**2, margin=1.5 * radius
    )
    outline = 0.08 * drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=0.5 * radius)
    body = np.zeros(shape)
    for centre, light in zip(centres.T, drawing.brightness(rng, centres.shape[1]), strict=True):
        pixels, y, x = drawing.window(centre, 1.7 * radius, shape, abbe_px=abbe_px)
        inside = radius * (1 - _elliptic_radius(rng, y, x) / radius + outline[pixels])
        body[pixels] = np.maximum(body[pixels], light * drawing.coverage(inside, abbe_px=abbe_px))
    image = (body * _chromatin(rng, shape, abbe_px=abbe_px)).astype(np.float32)
    spots = drawing.scatter(rng, size, density=drawing.log_uniform(rng, 0.01, 0.5), margin=1.0)
    sigma = drawing.log_uniform(rng, 0.1, 0.5)
    # Peaks of 0 to 4 times the chromatin whatever their size, as chromocentres and speckles have.
    light = rng.exponential(rng.uniform(0.2, 2.0), spots.shape[1]) * 2 * np.pi * sigma**2
    speckle = drawing.points(spots, light, shape, abbe_px=abbe_px, sigma=sigma)
    return image + speckle * body.astype(np.float32)


def gratings(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw patches of bars of 0.5 to 4 periods pitch at random angles, as myofibrils or test slides show."""
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    image = np.zeros(shape)
    for centre in drawing.scatter(rng, size, density=drawing.log_uniform(rng, 1.5e-3, 8e-3), margin=12.0).T:
        half, angle = drawing.log_uniforms(rng, 2.0, 12.0, 2), rng.uniform(0, np.pi)
        pixels, y, x = drawing.window(centre, float(np.hypot(*half)), shape, abbe_px=abbe_px)
        along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        edges = drawing.coverage(half[0] - np.abs(along), abbe_px=abbe_px)
        edges *= drawing.coverage(half[1] - np.abs(across), abbe_px=abbe_px)
        bent = across + rng.normal(0, 0.006) * along**2
        image[pixels] += rng.uniform(0.3, 1.0) * edges * _bars(rng, bent, abbe_px=abbe_px)
    return image.astype(np.float32)


def dead_leaves(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Draw flat ellipses of all sizes, bright and dark, that cover each other: edges of every contrast and scale.

    Source: the scale-invariant dead leaves model (Lee, Mumford and Huang, 2001), which stands for structure in general.
    """
    drawing.check_frame(shape, abbe_px)
    size = drawing.frame_size(shape, abbe_px)
    count = max(1, int(rng.poisson(drawing.log_uniform(rng, 0.1, 0.8) * np.prod(size + 2))))
    low, high = 0.2, drawing.log_uniform(rng, 2.0, 8.0)
    # Radii whose density falls as the third power, so that every scale covers the same area.
    radii = low / np.sqrt(1 - rng.random(count) * (1 - (low / high) ** 2))
    centres = rng.uniform(-1, (size + 1)[:, None], (2, count))
    values = rng.random(count) ** rng.uniform(0.5, 4.0) * (rng.random(count) > rng.uniform(0.0, 0.7))
    image = np.zeros(shape)
    for centre, radius, value in zip(centres.T, radii, values, strict=True):
        pixels, y, x = drawing.window(centre, 1.3 * radius, shape, abbe_px=abbe_px)
        cover = drawing.coverage(radius - _elliptic_radius(rng, y, x), abbe_px=abbe_px)
        image[pixels] += cover * (value - image[pixels])
    return image.astype(np.float32)


def _cap_profile(nodes: int, aspect: float) -> np.ndarray:
    """Return the half width ``(node,)`` of a rod with round ends, relative to its middle."""
    from_end = np.minimum(np.linspace(0, 1, nodes), np.linspace(1, 0, nodes)) * aspect
    return np.sqrt(1 - (1 - np.minimum(from_end, 1)) ** 2)


def _cristae(
    rng: np.random.Generator, axis: np.ndarray, across: np.ndarray, profile: np.ndarray, *, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return short lines across the bodies ``(2, line, node)`` and their weights ``(line,)``."""
    bodies, nodes = axis.shape[1:]
    stations = max(2, round(nodes * curves.CHAIN_STEP / spacing))
    place = np.linspace(0.5, nodes - 1.5, stations) + rng.normal(
        0, 0.12 * spacing / curves.CHAIN_STEP, (bodies, stations)
    )
    place = np.clip(place, 0, nodes - 1.001)
    low, part = place.astype(int), place % 1
    body = np.arange(bodies)[:, None]
    centre = axis[:, body, low] * (1 - part) + axis[:, body, low + 1] * part
    direction, width = across[:, body, low], profile[low]
    ends = np.sort(rng.uniform(-0.3, 1.1, (2, bodies, stations)) * np.array([-1, 1])[:, None, None], axis=0)
    reach = np.linspace(0, 1, 6) * (ends[1] - ends[0])[..., None] + ends[0][..., None]
    lean = rng.normal(0, 0.12, (bodies, stations, 1)) * reach
    tangent = np.stack([-direction[1], direction[0]])
    offset = direction[..., None] * np.clip(reach, -1, 1) + tangent[..., None] * lean
    lines = centre[..., None] + width[..., None] * offset
    return lines.reshape(2, bodies * stations, 6), rng.uniform(0.3, 1.0, bodies * stations)


def _matrix(
    axis: np.ndarray,
    across: np.ndarray,
    profile: np.ndarray,
    light: np.ndarray,
    shape: tuple[int, int],
    *,
    abbe_px: float,
) -> np.ndarray:
    """Fill the bodies evenly: lines along the axis, close enough that the blur joins them."""
    rows = 2 * math.ceil(float(profile.max()) / 0.2) + 1
    share = np.linspace(-1, 1, rows + 2)[1:-1, None, None]
    fill = axis[:, None] + across[:, None] * profile * share[None]
    weights = (light[:, None] * profile * (2 / rows))[None] + np.zeros((rows, 1, 1))
    flat = fill.reshape(2, -1, axis.shape[2])
    return drawing.strokes(flat, weights.reshape(flat.shape[1:]), shape, abbe_px=abbe_px, sigma=0.13)


def _elliptic_radius(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the distance to the origin in the metric of a random ellipse, 1 on average."""
    angle, ratio = rng.uniform(0, np.pi), rng.uniform(1.0, 1.5)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    return np.sqrt(along**2 / ratio + across**2 * ratio)


def _chromatin(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float) -> np.ndarray:
    """Return a positive texture: fine and coarse log-normal chromatin, with nucleoli cut out."""
    fine = drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=drawing.log_uniform(rng, 0.25, 0.6))
    coarse = drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=drawing.log_uniform(rng, 0.8, 2.0))
    texture = np.exp(rng.uniform(0.1, 0.6) * fine + rng.uniform(0.1, 0.5) * coarse)
    holes = drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=2.0)
    nucleoli = drawing.coverage(1.5 * (holes - rng.uniform(1.3, 2.5)), abbe_px=abbe_px)
    return texture * (1 - 0.85 * nucleoli)


def _bars(rng: np.random.Generator, position: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Return bars as a function of position: their Fourier series, blurred, up to the grid's limit."""
    pitch, duty, phase = drawing.log_uniform(rng, 0.5, 4.0), rng.uniform(0.25, 0.6), rng.uniform()
    sigma = max(0.06, drawing.MINIMUM_SIGMA_PX / abbe_px)
    # Harmonics that the grid cannot carry would come back as false, coarser bars.
    order = np.arange(1, 1 + math.floor(0.5 * pitch * abbe_px))
    height = (
        2 * np.sin(np.pi * order * duty) / (np.pi * order) * np.exp(-2 * (np.pi * order * sigma / pitch) ** 2)
    )
    table = np.maximum(duty + height @ np.cos(2 * np.pi * order[:, None] * np.arange(512) / 512), 0)
    return table[((position / pitch + phase) * 512).astype(np.intp) % 512]
