"""Held-out movies that registration is scored on, and the scores: shared by the experiments, no command of its own.

Movies: 20 still frames for the template (their mean, with its noise), 8 deformed ones (ten vectors of 3 px standard
deviation, each over 2 pi, spread over 0.18 of the side, plus a shift of 2 px standard deviation per axis) and 8 still
ones. Photons are those of a bright resting cell. The semi-real scene is the mean of a real two-photon movie.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

PHOTONS = (100, 30, 8)
SIDE, MARGIN = 128, 24
STILL_FRAMES, MOVED_FRAMES = 20, 8
FIRST_SEED = 9000
REAL = Path("calcium") / "twophoton_20f.tif"

Method = Callable[[np.ndarray, np.ndarray], np.ndarray]
Clean = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def draw(seed: int, *, side: int = SIDE, moved_frames: int = MOVED_FRAMES) -> Clean:
    """Return clean frames for the template, moved ones, their true flows, and still ones."""
    from dps_jax.synthetic import two_photon

    rng = np.random.default_rng(seed)
    wide = side + 2 * MARGIN
    clean = two_photon.movie(rng, (wide, wide), frames=STILL_FRAMES + 2 * moved_frames)[0]
    return with_motion(rng, clean, side, moved_frames)


def draw_real(seed: int, data: Path) -> Clean:
    """Return the same of the mean of a real movie, which does not fire: a semi-real scene."""
    import jax.numpy as jnp

    from dps_jax.io import read_image
    from dps_jax.operators import estimate_shift, rigid_flow, warp

    frames = jnp.asarray(read_image(data / REAL).data, jnp.float32)
    mean = frames[:5].mean(0)
    for _ in range(3):
        shift = estimate_shift(frames, mean)
        mean = warp(frames, rigid_flow(mean.shape, shift - jnp.mean(shift, axis=0, keepdims=True))).mean(0)
    # The movie is as high as the frame that is wanted: beyond it the scene goes on as its mirror image.
    scene = np.pad(np.asarray(mean), [(MARGIN, MARGIN), (0, 0)], mode="reflect")
    wide = SIDE + 2 * MARGIN
    left = (scene.shape[1] - wide) // 2
    scene = scene[:wide, left : left + wide]
    scene = np.maximum(scene - np.percentile(scene, 0.1), 0)
    scene /= np.percentile(scene, 99)
    clean = np.repeat(scene[None], STILL_FRAMES + 2 * MOVED_FRAMES, 0)
    return with_motion(np.random.default_rng(seed), clean, SIDE, MOVED_FRAMES)


def data_folder() -> Path:
    """Return where real images are looked for."""
    return Path(os.environ.get("DPS_JAX_DATA", Path(__file__).parents[2] / "shared" / "data"))


def with_motion(rng: np.random.Generator, clean: np.ndarray, side: int, count: int) -> Clean:
    """Move ``count`` of the clean frames ``(t, y, x)``, which are wider than ``side`` by a margin all round."""
    from dps_jax.synthetic import deformations

    flows = np.stack(
        [
            deformations.bump_flow(rng, (side, side), bumps=10, shift_px=3.0) + rng.normal(0, 2, (2, 1, 1))
            for _ in range(count)
        ]
    )
    # What moves in lies beyond the frame; there the motion goes on as at its edge.
    wide = np.pad(flows, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)], mode="edge")
    end = STILL_FRAMES + count
    moved = deformations.displaced(clean[STILL_FRAMES:end], deformations.invert_flow(wide))
    inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return clean[:STILL_FRAMES][inner], moved[inner], flows, clean[end:][inner]


def score(
    clean: Clean, seed: int, ways: Mapping[str, Method], *, photons: int
) -> dict[str, dict[str, float]]:
    """Return the scores of each method on one movie at one light level, in pixels.

    ``error`` and ``edge`` are the mean end-point errors on the frame and on its outer eighth, ``worst`` the 99th
    percentile over the frame, ``still`` and ``bias`` the mean length and the length of the mean of the motion found
    in frames without any, ``folded`` a share of pixels.
    """
    from dps_jax.metrics import endpoint_error, folding_fraction
    from dps_jax.synthetic.two_photon import count_photons

    still, moved, flows, unmoved = clean
    rng = np.random.default_rng([seed, photons])
    template = count_photons(rng, still, photons=photons).mean(0)
    seen, seen_still = (count_photons(rng, m, photons=photons) for m in (moved, unmoved))
    edge = np.ones(template.shape, bool)
    rim = template.shape[0] // 8
    edge[rim:-rim, rim:-rim] = False
    rows = {}
    for name, way in ways.items():
        found, invented = np.asarray(way(seen, template)), np.asarray(way(seen_still, template))
        rows[name] = {
            "error": float(endpoint_error(found, flows).mean()),
            "worst": float(endpoint_error(found, flows, percentile=99).mean()),
            "edge": float(endpoint_error(found, flows, mask=edge).mean()),
            "still": float(endpoint_error(invented, np.zeros_like(invented)).mean()),
            "bias": float(np.hypot(*invented.mean((0, 2, 3)))),
            "folded": float(folding_fraction(found).max()),
        }
    return rows


def score_movies(
    ways: Mapping[str, Method], *, movies: int, percentile: float | None = None
) -> dict[str, dict[str, list[float]]]:
    """Return the scores of each method on all movies: by ``"<photons> <score>"``, one number per movie.

    With ``percentile`` photons are those of that percentile of the image, in place of a bright resting cell's.
    """
    table: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for seed in range(FIRST_SEED, FIRST_SEED + movies):
        still, moved, flows, unmoved = draw(seed)
        unit = 1.0 if percentile is None else float(np.percentile(still, percentile))
        clean = (still / unit, moved / unit, flows, unmoved / unit)
        for photons in PHOTONS:
            for name, row in score(clean, seed, ways, photons=photons).items():
                for kind, value in row.items():
                    table[name].setdefault(f"{photons} {kind}", []).append(value)
    return table


def means(row: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the mean of every score, to a tenth of a thousandth of a pixel."""
    return {kind: round(float(np.mean(values)), 4) for kind, values in row.items()}
