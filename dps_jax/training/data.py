"""Training pairs: ``batch(step)`` is a function of the config and the step alone, so that runs repeat exactly.

A pair is ``input`` (what the network sees) and ``target`` (what its prediction is scored on), both camera images
``(batch, y, x)`` in units of intensity, of one scene; ``photons`` is the photons per unit in the target. With
photon splitting the two hold different photons of one exposure; without, they are the same image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import numpy as np

from dps_jax.operators.forward import camera_image
from dps_jax.optics.psf import airy_psf, default_size
from dps_jax.synthetic import background, structures
from dps_jax.training.config import ObjectiveConfig, SceneConfig, TrainConfig
from dps_jax.training.folder import FolderPatches
from dps_jax.typing import Array

Batch = dict[str, np.ndarray]
SCALE = 2  # fine pixels per camera pixel


def _log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


@partial(jax.jit, static_argnames="size")
def _camera_images(scenes: Array, abbe_px: Array, size: int) -> Array:
    def one(scene: Array, d: Array) -> Array:
        return camera_image(scene, airy_psf(abbe_px=d, size=size), factor=SCALE)

    return jax.vmap(one)(scenes, abbe_px)


def expected_images(scenes: np.ndarray, abbe_px: np.ndarray, *, size: int) -> np.ndarray:
    """Return what a noise-free camera sees of fine scenes ``(n, 2y, 2x)``, each with its own Abbe period.

    ``abbe_px`` is in fine pixels, ``size`` the kernel's odd size.
    """
    return np.array(_camera_images(scenes, abbe_px.astype(np.float32), size))


def split(
    rng: np.random.Generator, counts: np.ndarray, share: float | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """Divide Poisson counts into (input, target, target's share), each scaled back to the full exposure."""
    if share is None:
        return counts, counts, 1.0
    rest = rng.binomial(counts.astype(np.int64), share)
    return (counts - rest) / (1 - share), rest / share, share


class ScenePatches:
    """Synthetic exposures of the training families at the canonical sampling."""

    def __init__(self, scenes: SceneConfig, objective: ObjectiveConfig) -> None:
        self.config, self.shares = scenes, objective.split_shares
        self.kernel_size = default_size(SCALE * scenes.abbe_px)
        # Light from outside reaches into a patch: scenes are drawn wider by the kernel's reach.
        self.margin_px = -(-(self.kernel_size // 2) // SCALE)

    def _scene(self, rng: np.random.Generator) -> np.ndarray:
        side = SCALE * (self.config.patch_px + 2 * self.margin_px)
        if rng.random() < self.config.empty:
            return np.zeros((side, side), np.float32)
        return structures.training_scene(rng, (side, side), abbe_px=SCALE * self.config.abbe_px)

    def _expose(self, rng: np.random.Generator, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        c = self.config
        photons = _log_uniform(rng, c.photons)
        image = image * (_log_uniform(rng, c.brightness) / max(float(image.max()), 1e-6))
        haze = background.haze(rng, image.shape, abbe_px=c.abbe_px)
        image = image + max(0.0, rng.uniform(-c.background, c.background)) * haze
        counts = rng.poisson(photons * np.maximum(image, 0.0))
        share = float(rng.choice(self.shares)) if self.shares else None
        seen, target, fraction = split(rng, counts, share)
        sigma = rng.uniform(0, c.read_noise)
        noise = rng.normal(0, sigma, (2, *image.shape))
        if share is None:
            noise[1] = noise[0]
        return (seen + noise[0]) / photons, (target + noise[1]) / photons, photons * fraction

    def draw(self, rngs: list[np.random.Generator]) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """Return one (input, target, photons per unit in the target) for each generator."""
        if not rngs:
            return []
        scenes = np.stack([self._scene(rng) for rng in rngs])
        errors = np.array([1 + self.config.psf_error * rng.standard_normal() for rng in rngs])
        m = self.margin_px
        abbe_px = SCALE * self.config.abbe_px * np.clip(errors, 0.8, 1.25)
        images = expected_images(scenes, abbe_px, size=self.kernel_size)[:, m:-m, m:-m]
        return [self._expose(rng, image) for rng, image in zip(rngs, images, strict=True)]


def make_batches(config: TrainConfig) -> Callable[[int], Batch]:
    """Return ``batch(step)``: pure, and the same on every machine for one config.

    Raises
    ------
    UserError
        If the config names a folder whose images cannot be used.
    """
    scenes = ScenePatches(config.scenes, config.objective)
    images = FolderPatches(config) if config.images.folder is not None else None

    def batch(step: int) -> Batch:
        rngs = [np.random.default_rng([config.seed, step, i]) for i in range(config.batch)]
        real = [images is not None and rng.random() < config.images.share for rng in rngs]
        drawn = scenes.draw([rng for rng, r in zip(rngs, real, strict=True) if not r])
        if images is not None:
            drawn += [images.draw(rng) for rng, r in zip(rngs, real, strict=True) if r]
        seen, target, photons = (np.stack([d[k] for d in drawn]).astype(np.float32) for k in range(3))
        return {"input": seen, "target": target, "photons": photons}

    return batch


def prefetch(batch: Callable[[int], Batch], start: int, stop: int, *, ahead: int = 2) -> Iterator[Batch]:
    """Yield ``batch(start) .. batch(stop - 1)``, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(batch, i) for i in range(start, min(start + ahead, stop))]
        for i in range(start, stop):
            ready = waiting.pop(0).result()
            if i + ahead < stop:
                waiting.append(pool.submit(batch, i + ahead))
            yield ready
