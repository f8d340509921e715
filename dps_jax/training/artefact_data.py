"""Pairs for the removal of artefacts: a super-resolved image with an artefact, or none, and without.

A batch holds ``input`` ``(n, y, x, 1)`` and ``target`` ``(n, y, x)``, in units in which bright is about 1, and what
they show: ``kind`` ``(n,)``, 0 for a clean image and else 1 + the number of the artefact in
``synthetic.artefacts.ARTEFACTS``, and ``family`` ``(n,)``, the number of the structure. It is a function of the config
and the step alone. A clean image is its own target, noise and all: noise is no artefact, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax import _checks
from dps_jax.optics.psf import airy_psf, default_size
from dps_jax.synthetic.artefacts import ARTEFACTS, add_artefact
from dps_jax.synthetic.structures import TRAINING_FAMILIES, WITHHELD_FAMILIES, scene, training_scene
from dps_jax.training.data import Batch
from dps_jax.training.pairs import PairConfig, PairLossConfig
from dps_jax.training.scale_transfer import log_uniform

KINDS = ("none", *ARTEFACTS)


@dataclass(frozen=True)
class ArtefactConfig(PairConfig):
    """A training on artefacts, of the network that removes them or of one that tells them apart."""

    channels: tuple[int, ...] = (16, 24, 32, 48)
    loss: PairLossConfig = field(default_factory=lambda: PairLossConfig(ssim=0.3, l1=10.0))
    perceptual: float = 0.0
    """Weight of the loss on the features of the extractor."""
    patch_px: int = 64
    abbe_px: float = 5.0
    """Abbe period, in px, of the image that was super-resolved."""
    sharpening: tuple[float, float] = (1.4, 1.9)
    """By how much finer the super-resolved image shows things; 1.67 is the promise of the restoring network."""
    brightness: tuple[float, float] = (0.3, 1.2)
    """Of the brightest pixel of a clean image."""
    noisy: float = 0.5
    """Share of images with noise."""
    noise: tuple[float, float] = (0.003, 0.03)
    """Its standard deviation where the image is brightest, relative to that; it grows as the root of the light."""
    clipped: float = 0.5
    """Share of images whose negative values were set to 0, as many programs do."""
    clean: float = 0.25
    """Share of images without artefact."""
    single: bool = False
    """Whether an image shows one family only, so that it can be named."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.positive_integer("patch_px", self.patch_px)
        _checks.positive("abbe_px", self.abbe_px)
        _checks.non_negative("perceptual", self.perceptual)
        for name in ("noisy", "clipped", "clean"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"expected {name} to be a share from 0 to 1, got {getattr(self, name)!r}")


@dataclass(frozen=True, eq=False)
class Example:
    """One pair ``(y, x)``, and the number of its kind of artefact."""

    image: np.ndarray
    clean: np.ndarray
    kind: int


def make_batches(config: ArtefactConfig) -> Callable[[int], Batch]:
    """Return ``batch(step)``: pure, and the same on every machine for one config."""
    shape = (config.patch_px, config.patch_px)

    def batch(step: int) -> Batch:
        rngs = [np.random.default_rng([config.seed, step, i]) for i in range(config.batch)]
        families = [int(rng.integers(len(TRAINING_FAMILIES))) for rng in rngs]
        examples = [
            example(
                rng, shape, config, families=(TRAINING_FAMILIES[f],) if config.single else TRAINING_FAMILIES
            )
            for rng, f in zip(rngs, families, strict=True)
        ]
        return {
            "input": np.stack([e.image for e in examples])[..., None],
            "target": np.stack([e.clean for e in examples]),
            "kind": np.array([e.kind for e in examples], np.int32),
            "family": np.array(families, np.int32),
        }

    return batch


def example(
    rng: np.random.Generator,
    shape: tuple[int, int],
    config: ArtefactConfig,
    *,
    families: Sequence[str] = TRAINING_FAMILIES,
    kind: str | None = None,
) -> Example:
    """Draw one super-resolved image, with an artefact of the given kind, by default a random one or none.

    Parameters
    ----------
    rng
        Everything is drawn from it.
    shape
        ``(y, x)`` of the image.
    config
        What images are like.
    families
        Structures to draw; withheld ones are drawn in their own sizes.
    kind
        Of :data:`KINDS`.

    Raises
    ------
    ValueError
        For an unknown kind or family.
    """
    if kind is None:
        kind = KINDS[0] if rng.random() < config.clean else str(rng.choice(KINDS[1:]))
    _checks.one_of("kind", kind, KINDS)
    clean = _clean(rng, shape, config, families)
    image = clean if kind == KINDS[0] else add_artefact(rng, clean, kind, abbe_px=config.abbe_px)
    if rng.random() < config.clipped:
        image, clean = np.maximum(image, 0), np.maximum(clean, 0)
    return Example(image.astype(np.float32), clean.astype(np.float32), KINDS.index(kind))


def _clean(
    rng: np.random.Generator, shape: tuple[int, int], config: ArtefactConfig, families: Sequence[str]
) -> np.ndarray:
    """Draw a scene as a super-resolved image shows it."""
    from scipy.signal import fftconvolve  # brings scipy.stats along, a second that denoising has no use for

    margin = default_size(config.abbe_px / config.sharpening[0]) // 2
    withheld = any(name in WITHHELD_FAMILIES for name in families)
    drawn = (scene if withheld else training_scene)(
        rng, (shape[0] + 2 * margin, shape[1] + 2 * margin), abbe_px=config.abbe_px, families=families
    )
    psf = _psf(config.abbe_px / log_uniform(rng, config.sharpening), 2 * margin + 1)
    image = fftconvolve(drawn, psf, mode="valid")
    image = image * (log_uniform(rng, config.brightness) / max(float(image.max()), 1e-6))
    return image + _noise(rng, image, config) if rng.random() < config.noisy else image


_PSFS: dict[tuple[int, int], np.ndarray] = {}


def _psf(abbe_px: float, size: int) -> np.ndarray:
    """Return the kernel of the nearest hundredth of a pixel; made once, since that takes longer than a scene."""
    key = (round(100 * abbe_px), size)
    if key not in _PSFS:
        _PSFS[key] = np.asarray(airy_psf(abbe_px=key[0] / 100, size=size))
    return _PSFS[key]


def _noise(rng: np.random.Generator, image: np.ndarray, config: ArtefactConfig) -> np.ndarray:
    """Draw noise as a reconstruction leaves it: stronger where there is light, and smoothed a little or not."""
    peak = float(image.max())
    white = gaussian_filter(rng.standard_normal(image.shape), rng.uniform(0, 0.2) * config.abbe_px)
    level = log_uniform(rng, config.noise) * np.sqrt(peak * np.maximum(image, 0) + 0.01 * peak**2)
    return white / max(float(white.std()), 1e-6) * level
