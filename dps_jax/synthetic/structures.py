"""Scenes of known truth: families of fluorescent structures, alone, superposed and moving.

Contract: scenes are non-negative float32 emitter densities ``(y, x)`` or ``(t, y, x)``; sizes follow the Abbe
period, given in pixels of the grid. A family drawn alone may leave a small frame empty; a scene never is. The
withheld families are for scoring: no training scene shows one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax import _checks
from dps_jax.synthetic import drawing, filamentous, filled, motion, punctate

FAMILIES: dict[str, Callable[..., np.ndarray]] = {
    "filaments": filamentous.filaments,
    "bundles": filamentous.bundles,
    "clathrin_rings": punctate.clathrin_rings,
    "puncta": punctate.puncta,
    "arrays": punctate.arrays,
    "tubule_network": filamentous.tubule_network,
    "mitochondria": filled.mitochondria,
    "nuclei": filled.nuclei,
    "gratings": filled.gratings,
    "dead_leaves": filled.dead_leaves,
    "nuclear_pores": punctate.nuclear_pores,
    "mesh": filamentous.mesh,
    "membranes": filamentous.membranes,
}
WITHHELD_FAMILIES: tuple[str, ...] = ("nuclear_pores", "mesh", "membranes")
TRAINING_FAMILIES: tuple[str, ...] = tuple(name for name in FAMILIES if name not in WITHHELD_FAMILIES)

# Of 20 scenes 12 show one family, 6 two and 2 three; for training the families are mixed more, drawn larger and
# smaller than in life, and made patchy, so that a network learns from them what structures have in common.
_LAYER_SHARES = (0.6, 0.3, 0.1)
_TRAINING_LAYER_SHARES = (0.4, 0.35, 0.25)
_TRAINING_MAGNIFICATIONS = (0.6, 1.7)
_PATCHINESS = 0.7
# Below this brightness a layer is the far tail of something outside the frame.
_EMPTY = 1e-3


def scene(
    rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float, families: Sequence[str]
) -> np.ndarray:
    """Draw one family or superpose two or three, with a maximum of 1 after a blur of 0.2 periods.

    Raises ``ValueError`` for an unknown or missing family and for a frame without pixels.
    """
    _check_families(families)
    drawing.check_frame(shape, abbe_px)
    image = _superposed(rng, shape, abbe_px=abbe_px, families=families, shares=_LAYER_SHARES)
    return image / _peak(image, abbe_px)


def _superposed(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    abbe_px: float,
    families: Sequence[str],
    shares: tuple[float, ...],
) -> np.ndarray:
    """Add as many families, of random brightness, as a choice by ``shares`` says."""
    layers = min(1 + int(rng.choice(len(shares), p=shares)), len(families))
    chosen = rng.choice(len(families), layers, replace=False)
    image = np.zeros(shape, np.float32)
    for index in chosen:
        layer = _layer(rng, shape, abbe_px=abbe_px, family=families[index])
        image += np.float32(drawing.log_uniform(rng, 0.2, 1.0)) * layer
    return image


def training_scene(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    abbe_px: float = 5.0,
    families: Sequence[str] = TRAINING_FAMILIES,
) -> np.ndarray:
    """Draw a scene for training, with a maximum of 1 after a blur of 0.2 periods.

    Sizes are 0.6 to 1.7 times those of the families, and half of the scenes are patchy. Raises ``ValueError`` as
    ``scene`` does, and for a withheld family.
    """
    _check_families(families)
    drawing.check_frame(shape, abbe_px)
    for name in families:
        _checks.one_of("a training family", name, TRAINING_FAMILIES)
    magnified = abbe_px * drawing.log_uniform(rng, *_TRAINING_MAGNIFICATIONS)
    image = _superposed(rng, shape, abbe_px=magnified, families=families, shares=_TRAINING_LAYER_SHARES)
    strength = max(0.0, rng.uniform(-_PATCHINESS, _PATCHINESS))
    field = drawing.smooth_field(rng, shape, abbe_px=abbe_px, scale=drawing.log_uniform(rng, 1.5, 8.0))
    image = image * np.exp(strength * field).astype(np.float32)
    return image / _peak(image, abbe_px)


def moving_scene(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    frames: int,
    abbe_px: float,
    families: Sequence[str],
    draw: Callable[..., np.ndarray] = scene,
) -> np.ndarray:
    """Draw ``(t, y, x)``: one scene that drifts, deforms, bleaches and flickers slowly and locally.

    ``draw`` makes the still scene: ``scene``, or ``training_scene``. What moves in was drawn beyond the frame. The
    first frame has a maximum of 1 after a blur of 0.2 periods. Raises ``ValueError`` as ``scene`` does, and for less
    than one frame.
    """
    _checks.positive_integer("frames", frames)
    drawing.check_frame(shape, abbe_px)
    pad = math.ceil(motion.FARTHEST * abbe_px) + 2
    padded = (shape[0] + 2 * pad, shape[1] + 2 * pad)
    while True:
        still = draw(rng, padded, abbe_px=abbe_px, families=families)
        peak = _peak(still[pad:-pad, pad:-pad], abbe_px)
        if peak > _EMPTY:
            break
    return motion.moved(rng, still / peak, frames=frames, abbe_px=abbe_px)[:, pad:-pad, pad:-pad]


def _peak(image: np.ndarray, abbe_px: float) -> np.float32:
    """Return the maximum after a blur of 0.2 periods."""
    return gaussian_filter(image, 0.2 * abbe_px, truncate=3).max()


def _layer(rng: np.random.Generator, shape: tuple[int, int], *, abbe_px: float, family: str) -> np.ndarray:
    """Draw one family, again until something is in the frame, and scale its maximum to 1."""
    while True:
        image = FAMILIES[family](rng, shape, abbe_px=abbe_px)
        peak = image.max()
        if peak > _EMPTY:
            return image / peak


def _check_families(families: Sequence[str]) -> None:
    if isinstance(families, str) or len(families) == 0:
        raise ValueError(f"expected families as a sequence of one or more names, got {families!r}")
    for name in families:
        _checks.one_of("a family", name, tuple(FAMILIES))
