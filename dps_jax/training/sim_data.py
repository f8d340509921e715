"""Pairs for the learned SIM reconstruction: raw frames of simulated scenes, and what SIM would show without noise.

``batch(step)`` is a function of the config and the step alone. The network is shown ``solvers.sim_features`` of noisy
frames, made with stripes that are a little off, as estimates are; the target is the object at the resolution that the
stripes allow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.models.registry import build
from dps_jax.operators.convolve import convolve
from dps_jax.operators.illumination import sim_frames
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf
from dps_jax.optics.psf import airy_psf, default_size
from dps_jax.solvers.sim_estimation import noise_to_signal
from dps_jax.solvers.sim_features import sim_features, turned, turned_features
from dps_jax.synthetic import background, structures
from dps_jax.training.config import OptimizerConfig
from dps_jax.training.data import Batch
from dps_jax.training.pairs import PairConfig, PairLossConfig
from dps_jax.training.scale_transfer import log_uniform
from dps_jax.typing import Array

_FACTOR = 2
_ANGLES, _PHASES = 3, 3
_USUAL_NOISE = 3e-3  # where noise cannot be told from light


@dataclass(frozen=True)
class SimConfig(PairConfig):
    """A training of the learned SIM reconstruction."""

    channels: tuple[int, ...] = (24, 48, 96)
    loss: PairLossConfig = field(default_factory=lambda: PairLossConfig(ssim=0.1, l1=0.0, log_l2=1.0))
    """The published SSIM and L1 alone make medians of faint light, darker than what Richardson-Lucy begins with."""
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            name="muon", learning_rate=3e-3, warmup_steps=100, clip_norm=0.3, ema_decay=0.995
        )
    )
    margin_px: int = 8
    patch_px: int = 64
    """Side of a camera patch in px."""
    orientations: int = 4
    """Of the eight flips and turns of each pair, how many are shown: pairs cost several times what a step does."""
    abbe_px: tuple[float, float] = (2.3, 3.6)
    """Abbe period of the detection in camera px."""
    photons: tuple[float, float] = (5.0, 1000.0)
    """Photons of one frame in the brightest pixel, log-uniform."""
    modulation: tuple[float, float] = (0.4, 1.0)
    """Depth of the stripes."""
    relative_frequency: tuple[float, float] = (0.75, 0.95)
    """Frequency of the stripes over the cut-off."""
    haze: float = 0.2
    """Largest light from out of focus, in units of the brightest pixel."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.positive_integer("orientations", self.orientations)
        if self.orientations > 8:
            raise ValueError(f"expected orientations from 1 to 8, got {self.orientations}")


def make_batches(config: SimConfig) -> Callable[[int], Batch]:
    """Return ``batch(step)``: ``input`` ``(n, y, x, channel)`` and ``target`` ``(n, 2y, 2x)``, bright about 1."""
    size = default_size(_FACTOR * config.abbe_px[1])
    reach = -(-(size // 2) // _FACTOR)
    side = config.patch_px + 2 * reach

    @jax.jit
    def seen(scene: Array, abbe_px: Array, made: Illumination, extension: Array) -> tuple[Array, Array]:
        psf = airy_psf(abbe_px=_FACTOR * abbe_px, size=size)
        sharp = airy_psf(abbe_px=_FACTOR * abbe_px / extension, size=size)
        inner = (..., slice(reach, -reach), slice(reach, -reach))
        fine = (slice(_FACTOR * reach, -_FACTOR * reach),) * 2
        return sim_frames(scene, psf, made)[inner], convolve(scene, sharp)[fine]

    @jax.jit
    def shown(frames: Array, made: Illumination, abbe_px: Array, strength: Array) -> Array:
        otf = RadialOtf(samples=RadialOtf.airy(1.0).samples, cutoff=1 / abbe_px)
        return sim_features(frames, made, otf, noise_to_signal=strength)

    def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        abbe_px = float(rng.uniform(*config.abbe_px))
        scene = structures.training_scene(rng, (_FACTOR * side,) * 2, abbe_px=_FACTOR * abbe_px)
        made, extension = _stripes(rng, config, abbe_px)
        turn = 2 * np.pi * reach * np.asarray(made.wavevectors, np.float64).sum(1)
        wide = dataclasses.replace(
            made, phases_rad=jnp.asarray(np.asarray(made.phases_rad) - turn[:, None], jnp.float32)
        )
        frames, target = (
            np.asarray(a)
            for a in seen(jnp.asarray(scene), jnp.asarray(abbe_px), wide, jnp.asarray(extension))
        )
        unit = max(float(frames.mean((0, 1)).max()), 1e-6)
        photons = log_uniform(rng, config.photons)
        # Haze has no stripes: it is out of focus, where they have washed out.
        haze = max(0.0, rng.uniform(-config.haze, config.haze)) * background.haze(
            rng, frames.shape[-2:], abbe_px=abbe_px
        )
        noisy = rng.poisson(photons * np.maximum(frames / unit + haze, 0.0)) / photons
        target = _FACTOR**2 * target / unit + np.kron(haze, np.ones((_FACTOR, _FACTOR)))
        strength = noise_to_signal(noisy, RadialOtf.airy(abbe_px)) or _USUAL_NOISE
        found = _as_found(rng, made, config.patch_px)
        features = shown(
            jnp.asarray(noisy, jnp.float32), found, jnp.asarray(abbe_px), jnp.asarray(strength, jnp.float32)
        )
        return np.asarray(features), target

    @lru_cache(maxsize=1)
    def pool(number: int) -> list[tuple[np.ndarray, np.ndarray]]:
        pairs = config.orientations * config.batch
        return [pair(np.random.default_rng([config.seed, number, i])) for i in range(pairs)]

    def batch(step: int) -> Batch:
        # Each pair of a pool is seen once in every round, each time turned another way.
        number, within = divmod(step, config.orientations**2)
        turn, part = divmod(within, config.orientations)
        order = np.random.default_rng([config.seed, number, turn, 1]).permutation(
            config.orientations * config.batch
        )
        pairs = pool(number)
        ways = [(i, (turn + i) % 8) for i in order[part :: config.orientations]]
        inputs = [turned_features(pairs[i][0], way) for i, way in ways]
        targets = [turned(pairs[i][1], way) for i, way in ways]
        return {"input": np.stack(inputs).astype(np.float32), "target": np.stack(targets).astype(np.float32)}

    return batch


def _stripes(rng: np.random.Generator, config: SimConfig, abbe_px: float) -> tuple[Illumination, float]:
    """Draw an illumination, and the extension of the cut-off by it."""
    relative = rng.uniform(*config.relative_frequency)
    directions = rng.uniform(0, np.pi) + np.arange(_ANGLES) * np.pi / _ANGLES
    p = relative / abbe_px * np.stack([np.sin(directions), np.cos(directions)], 1)
    steps = 2 * np.pi * np.arange(_PHASES) / _PHASES
    phases = rng.uniform(0, 2 * np.pi, (_ANGLES, 1)) + steps + rng.normal(0, 0.1, (_ANGLES, _PHASES))
    depth = np.full((_ANGLES, 1), rng.uniform(*config.modulation))
    made = Illumination(
        wavevectors=jnp.asarray(p, jnp.float32),
        phases_rad=jnp.asarray(phases, jnp.float32),
        modulation=jnp.asarray(depth, jnp.float32),
    )
    return made, 1 + float(relative)


def _as_found(rng: np.random.Generator, made: Illumination, side: int) -> Illumination:
    """Return stripes as a refined estimate has them: a degree of phase, 3 % of the depth."""
    phases = np.asarray(made.phases_rad) + rng.normal(0, np.radians(1), np.shape(made.phases_rad))
    depth = np.asarray(made.modulation) * rng.normal(1, 0.03, np.shape(made.modulation))
    vectors = np.asarray(made.wavevectors) + rng.normal(0, 0.01 / side, np.shape(made.wavevectors))
    return Illumination(
        wavevectors=jnp.asarray(vectors, jnp.float32),
        phases_rad=jnp.asarray(phases, jnp.float32),
        modulation=jnp.asarray(depth, jnp.float32),
    )


def sim_network(config: SimConfig) -> Any:
    """Return the network of a config."""
    return build("sim_u_net", {"channels": config.channels, "blocks": config.blocks})
