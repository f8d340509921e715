"""Detail beyond the cut-off, learned without truth: a measured image, shrunk, is an object of known detail.

Nothing that a camera records tells a network what lies beyond the cut-off, and priors alone fill that gap badly.
But structures look alike at many scales. Shrunk ``z`` times (binned ``z / 2`` times and read on a grid of fine
pixels), an ordinary camera image *is* an object whose content reaches to ``z`` times the cut-off of the canonical
microscope. Photographing it again through that microscope gives a pair (blurred, detailed) made of nothing but
measured photons. They are split in two, one half to be photographed
and one to be scored on, so that the noise of the pair is independent and its expectation is right (Lehtinen et al.
2018). The idea of learning detail across scales from the image itself is that of Shocher et al. 2018; scale as the
symmetry that fills a null space is that of Chen, Tachella and Davies 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from dps_jax.operators.forward import camera_image
from dps_jax.operators.recamera import LARGEST_SCALE, recamera_noise
from dps_jax.training.config import SceneConfig
from dps_jax.training.psf_bank import SCALE, PsfBank
from dps_jax.typing import Array

# Fine pixels around a patch from which light may reach into it; what the longer tails of the PSF carry is little,
# and falls on the margin that is not scored.
MARGIN_PX = 8
# Canonical pixels per pixel of other cameras: from four times oversampled to just as coarse.
_CAMERAS = (0.25, LARGEST_SCALE)


def log_uniform(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw a number whose logarithm is uniform between two limits."""
    return float(np.exp(rng.uniform(*np.log(limits))))


def pedestal(rng: np.random.Generator, config: SceneConfig) -> float:
    """Draw the constant background of an exposure, in units of intensity; none in half of them."""
    return max(0.0, rng.uniform(-config.pedestal, config.pedestal))


def other_camera(
    rng: np.random.Generator, counts: np.ndarray, expected: np.ndarray, config: SceneConfig
) -> np.ndarray:
    """Return counts as another camera's would arrive at the canonical pixel, in a share of the exposures.

    Images come with pixels of any size, and bringing them to the canonical one colours their noise; the noise is
    all that it changes (``operators.recamera``).
    """
    if rng.random() >= config.other_cameras:
        return counts
    return expected + recamera_noise(counts - expected, log_uniform(rng, _CAMERAS))


@dataclass(frozen=True, eq=False)
class Measured:
    """Two independent halves of one exposure, in units of intensity, on one pixel grid; neither is truth."""

    kept: np.ndarray
    rest: np.ndarray


def at_least_two(images: np.ndarray) -> np.ndarray:
    """Return images ``(n, y, x)``, a lone one twice: one alone is computed in another order, and rounds differently."""
    return np.repeat(images, 2, axis=0) if len(images) == 1 else images


@jax.jit
def _photograph(images: Array, psfs: Array) -> Array:
    return jax.vmap(lambda i, psf: camera_image(i, psf, factor=SCALE, boundary="reflect"))(images, psfs)


def shrunken_pairs(
    rngs: list[np.random.Generator], measured: list[Measured], config: SceneConfig, bank: PsfBank
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Photograph measured, shrunken images, whose pixels are fine ones.

    Parameters
    ----------
    rngs
        One generator per image.
    measured
        Images of ``2 patch_px + 2 MARGIN_PX`` a side.
    config
        Patch size, sampling and photon levels.
    bank
        Kernels to photograph with.

    Returns
    -------
    For each: input ``(patch_px, patch_px)``, target ``(2 patch_px, 2 patch_px)`` in intensity per fine pixel, and
    photons per unit of the input.
    """
    if not measured:
        return []
    psfs = np.stack([bank.draw(rng) for rng in rngs])
    kept = np.stack([m.kept for m in measured]).astype(np.float32)
    seen = np.asarray(_photograph(at_least_two(kept), at_least_two(psfs)))[: len(kept)]
    return [_expose(rng, s, m.rest, config) for rng, s, m in zip(rngs, seen, measured, strict=True)]


def _expose(
    rng: np.random.Generator, image: np.ndarray, detail: np.ndarray, config: SceneConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    m = MARGIN_PX // SCALE
    image = np.maximum(image[m:-m, m:-m], 0.0)
    photons = log_uniform(rng, config.photons)
    scale = log_uniform(rng, config.brightness) / max(float(image.max()), 1e-6)
    level = photons * pedestal(rng, config)
    expected = photons * scale * image
    counts = rng.poisson(expected + level) - level
    counts = counts + rng.normal(0, rng.uniform(0, config.read_noise), image.shape)
    counts = other_camera(rng, counts, expected, config)
    return counts / photons, scale * detail[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX], photons
