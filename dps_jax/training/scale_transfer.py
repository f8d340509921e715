"""Detail beyond the cut-off, learned without truth: a measured image, shrunk by two, is an object of known detail.

Nothing that a camera records tells a network what lies beyond the cut-off, and priors alone fill that gap badly.
But structures look alike at many scales. Read on a grid of fine pixels, an ordinary camera image *is* an object whose
content reaches to twice the cut-off of the canonical microscope. Photographing it again through that microscope gives
a pair (blurred, detailed) made of nothing but measured photons. They are split in two, one half to be photographed
and one to be scored on, so that the noise of the pair is independent and its expectation is right (Lehtinen et al.
2018). The idea of learning detail across scales from the image itself is that of Shocher et al. 2018; scale as the
symmetry that fills a null space is that of Chen, Tachella and Davies 2021.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from dps_jax.operators.forward import camera_image
from dps_jax.training.config import SceneConfig
from dps_jax.training.psf_bank import SCALE, PsfBank
from dps_jax.typing import Array

# Fine pixels around a patch from which light may reach into it; what the longer tails of the PSF carry is little,
# and falls on the margin that is not scored.
MARGIN_PX = 8


@dataclass(frozen=True, eq=False)
class Measured:
    """Two independent halves of one exposure, in units of intensity, on one pixel grid; neither is truth."""

    kept: np.ndarray
    rest: np.ndarray


@jax.jit
def _photograph(images: Array, psfs: Array) -> Array:
    return jax.vmap(lambda i, psf: camera_image(i, psf, factor=SCALE, boundary="reflect"))(images, psfs)


def shrunken_pairs(
    rngs: list[np.random.Generator], measured: list[Measured], config: SceneConfig, bank: PsfBank
) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Photograph measured images as if their pixels were fine ones.

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
    seen = np.asarray(_photograph(np.stack([m.kept for m in measured]).astype(np.float32), psfs))
    return [_expose(rng, s, m.rest, config) for rng, s, m in zip(rngs, seen, measured, strict=True)]


def _expose(
    rng: np.random.Generator, image: np.ndarray, detail: np.ndarray, config: SceneConfig
) -> tuple[np.ndarray, np.ndarray, float]:
    m = MARGIN_PX // SCALE
    image = np.maximum(image[m:-m, m:-m], 0.0)
    photons = float(np.exp(rng.uniform(*np.log(config.photons))))
    bright = float(np.exp(rng.uniform(*np.log(config.brightness))))
    scale = bright / max(float(image.max()), 1e-6)
    counts = rng.poisson(photons * scale * image) + rng.normal(
        0, rng.uniform(0, config.read_noise), image.shape
    )
    return counts / photons, scale * detail[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX], photons
