"""Training pairs: ``batch(step)`` is a function of the config and the step alone, so that runs repeat exactly.

A pair is ``input`` (what the network sees) and ``target`` (what its prediction is scored on), both camera images
``(n, y, x)`` in units of intensity, of one scene; ``photons`` is the photons per unit in the target. With
photon splitting the two hold different photons of one exposure; without, they are the same image. The rest of a
batch are pairs of ``scale_transfer``: ``shrunk_input`` ``(m, y, x)``, ``shrunk_target`` on the fine grid
``(m, 2y, 2x)`` and ``shrunk_photons``. No truth is in a batch: targets are photon counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np

from dps_jax.operators.forward import camera_image
from dps_jax.synthetic import background, structures
from dps_jax.training.config import ObjectiveConfig, SceneConfig, TrainConfig
from dps_jax.training.folder import FolderPatches
from dps_jax.training.psf_bank import SCALE, PsfBank
from dps_jax.training.scale_transfer import (
    MARGIN_PX,
    Measured,
    at_least_two,
    log_uniform,
    other_camera,
    pedestal,
    shrunken_pairs,
)
from dps_jax.typing import Array

Batch = dict[str, np.ndarray]

# Photons in the brightest pixel of the measured images that stand for objects: good exposures, as one would choose.
_OBJECT_PHOTONS = (500.0, 10000.0)


@partial(jax.jit, static_argnums=2)
def _blurred(scenes: Array, psfs: Array, factor: int) -> Array:
    return jax.vmap(lambda scene, psf: camera_image(scene, psf, factor=factor))(scenes, psfs)


def _camera_images(scenes: np.ndarray, psfs: np.ndarray, factor: int) -> np.ndarray:
    """Return what a camera sees of scenes ``(n, y, x)``, each the same whatever the others are and however many.

    A lone scene is computed in another order than two, and where that rounds differently a photon more or less is
    drawn; then processes that share a batch would not make the rows that one process makes.
    """
    return np.asarray(_blurred(at_least_two(scenes), at_least_two(psfs), factor))[: len(scenes)]


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
        self.config, self.shares, self.shrinkage = scenes, objective.split_shares, objective.shrinkage
        self.psfs = PsfBank(scenes.abbe_px, scenes.psf_error)
        # Light from outside reaches into a patch: scenes are drawn wider by the kernel's reach.
        self.margin_px = -(-(self.psfs.size // 2) // SCALE)

    def _scene(self, rng: np.random.Generator, side: int, frames: int) -> np.ndarray:
        """Draw one scene ``(t, side, side)``, or darkness."""
        shape, abbe_px = (side, side), SCALE * self.config.abbe_px
        if rng.random() < self.config.empty:
            return np.zeros((frames, *shape), np.float32)
        if frames == 1:
            return structures.training_scene(rng, shape, abbe_px=abbe_px)[None]
        return structures.moving_scene(
            rng,
            shape,
            frames=frames,
            abbe_px=abbe_px,
            families=structures.TRAINING_FAMILIES,
            draw=structures.training_scene,
        )

    def _scenes(self, rngs: list[np.random.Generator], side: int, frames: int = 1) -> np.ndarray:
        """Draw the scenes of all generators, ``(n t, side, side)``."""
        return np.concatenate([self._scene(rng, side, frames) for rng in rngs])

    def _expected(self, rngs: list[np.random.Generator]) -> np.ndarray:
        """Return noise-free camera images ``(n, t, patch_px, patch_px)`` of new scenes."""
        m, frames = self.margin_px, self.config.frames
        scenes = self._scenes(rngs, SCALE * (self.config.patch_px + 2 * m), frames)
        psfs = np.repeat(np.stack([self.psfs.draw(rng) for rng in rngs]), frames, axis=0)
        images = _camera_images(scenes, psfs, SCALE)[:, m:-m, m:-m]
        return images.reshape(len(rngs), frames, *images.shape[1:])

    def _expose(
        self, rng: np.random.Generator, movie: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """Take the frames ``(t, y, x)`` of one scene with one camera in one light: a pair for each."""
        c = self.config
        photons = log_uniform(rng, c.photons)
        movie = movie * (log_uniform(rng, c.brightness) / max(float(movie.max()), 1e-6))
        haze = background.haze(rng, movie.shape[1:], abbe_px=c.abbe_px)
        movie = movie + max(0.0, rng.uniform(-c.background, c.background)) * haze
        level = photons * pedestal(rng, c)
        expected = photons * np.maximum(movie, 0.0)
        counts = rng.poisson(expected + level)
        share = float(rng.choice(self.shares)) if self.shares else None
        seen, target, fraction = split(rng, counts, share)
        sigma = rng.uniform(0, c.read_noise)
        noise = rng.normal(0, sigma, (2, *movie.shape))
        if share is None:
            noise[1] = noise[0]
        seen = seen + noise[0] - level
        if share is not None:  # else input and target are one image
            seen = other_camera(rng, seen, expected, c)
        target = target + noise[1] - level
        return [(s / photons, t / photons, photons * fraction) for s, t in zip(seen, target, strict=True)]

    def draw(self, rngs: list[np.random.Generator]) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """Return (input, target, photons per unit in the target) of every frame, one movie per generator."""
        if not rngs:
            return []
        return [
            pair
            for rng, movie in zip(rngs, self._expected(rngs), strict=True)
            for pair in self._expose(rng, movie)
        ]

    def measure(self, rngs: list[np.random.Generator]) -> list[Measured]:
        """Return one well exposed camera image for each generator, shrunk, its photons split in two.

        Structures that are ``z`` times as large under the same PSF make the same image as the structures
        themselves under a PSF ``z`` times as small; so they are drawn, on the pixels of the shrunken image.
        """
        if not rngs:
            return []
        m = self.psfs.sharp_size // 2
        scenes = self._scenes(rngs, measured_side(self.config) + 2 * m)
        psfs = np.stack([self.psfs.sharp(log_uniform(rng, self.shrinkage)) for rng in rngs])
        images = _camera_images(scenes, psfs, 1)[:, m:-m, m:-m]
        measured = []
        for rng, image in zip(rngs, images, strict=True):
            photons = log_uniform(rng, _OBJECT_PHOTONS) / max(float(image.max()), 1e-6)
            kept, rest = rng.poisson(0.5 * photons * np.maximum(image, 0.0), (2, *image.shape))
            measured.append(Measured(kept / (0.5 * photons), rest / (0.5 * photons)))
        return measured


def measured_side(config: SceneConfig) -> int:
    """Return the side in px of a camera image that stands for an object under one patch."""
    return SCALE * config.patch_px + 2 * MARGIN_PX


class PatchSource(Protocol):
    """Images that patches are cut from, besides or instead of the scenes; ``training.folder`` has those of files."""

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        """Return (input, target, photons per unit in the target) of one patch."""
        ...

    def measure(self, rng: np.random.Generator) -> Measured:
        """Return one image for the scale transfer, ``measured_side`` px a side, its photons split in two."""
        ...


def make_batches(
    config: TrainConfig, *, images: PatchSource | None = None, share: tuple[int, int] = (0, 1)
) -> Callable[[int], Batch]:
    """Return ``batch(step)``: pure, and the same on every machine for one config.

    ``images`` stand in the place of the config's folder. ``share`` is (which, of how many) equal parts of every batch
    are wanted: each process of a run makes its own, the same rows that a single process would make.

    Raises
    ------
    UserError
        If the config names a folder whose images cannot be used.
    ValueError
        If a batch does not divide into so many parts.
    """
    which, parts = share
    if config.common_parts % parts:
        raise ValueError(
            f"expected {config.exposures} exposures and {config.shrunk_count} shrunken images of a batch that can be "
            f"divided among {parts} processes; change batch, objective.shrunk_share or the number of processes"
        )
    scenes = ScenePatches(config.scenes, config.objective)
    if images is None and config.images.folder is not None:
        images = FolderPatches(config)
    n, shrunk = config.exposures // parts, config.shrunk_count // parts
    mine = [*range(which * n, which * n + n), *(config.exposures + which * shrunk + i for i in range(shrunk))]

    def is_real(rng: np.random.Generator) -> bool:
        return images is not None and rng.random() < config.images.share

    def batch(step: int) -> Batch:
        rngs = [np.random.default_rng([config.seed, step, i]) for i in mine]
        real = [is_real(rng) for rng in rngs]
        drawn = _in_order(rngs[:n], real[:n], scenes.draw, images.draw if images else None)
        measured = _in_order(rngs[n:], real[n:], scenes.measure, images.measure if images else None)
        pairs = shrunken_pairs(rngs[n:], measured, config.scenes, scenes.psfs)
        out = {}
        for prefix, rows in (("", drawn), ("shrunk_", pairs)):
            for k, name in enumerate(("input", "target", "photons")):
                if rows:
                    out[prefix + name] = np.stack([row[k] for row in rows]).astype(np.float32)
        return out

    return batch


def _in_order(
    rngs: list[np.random.Generator],
    real: list[bool],
    synthetic: Callable[[list[np.random.Generator]], list[Any]],
    photographed: Callable[[np.random.Generator], Any] | None,
) -> list[Any]:
    """Draw from one source or the other for each generator; the synthetic ones together, for speed."""
    if photographed is None:
        return synthetic(rngs)
    made = iter(synthetic([rng for rng, r in zip(rngs, real, strict=True) if not r]))
    return [photographed(rng) if r else next(made) for rng, r in zip(rngs, real, strict=True)]


def prefetch(batch: Callable[[int], Batch], start: int, stop: int, *, ahead: int = 2) -> Iterator[Batch]:
    """Yield ``batch(start) .. batch(stop - 1)``, each made in a thread while the one before is used.

    The iterator is Grain's and its state is the number of the next step, so that the step of a checkpoint is all that
    is needed to go on, with any number of processes: each asks its own ``batch`` for its rows of that step.
    """
    handlers = list(logging.getLogger().handlers)
    import grain  # slow to import, and adds a log handler to the root logger

    logging.getLogger().handlers[:] = handlers
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=ahead)
    batches = iter(grain.MapDataset.range(stop).map(batch).to_iter_dataset(options))
    batches.set_state({"next_index": start})
    yield from batches
