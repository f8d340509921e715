"""Restorations of one simulated exposure side by side, scored by one set of definitions.

The table of every experiment and of the demo comes from here: bicubic interpolation, Richardson-Lucy stopped by
an oracle, ours, and a control with invented texture, which shows what a score can be made to say. Richardson-Lucy is
there twice: on the frame mirrored at its edges, as it is commonly run, and on a wider field of which only the frame was
measured (Bertero and Boccacci 2005), the strongest form of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.metrics.frc import frc_resolution
from dps_jax.metrics.scores import psnr_at_promised_resolution, scores_against_truth
from dps_jax.operators.convolve import convolve
from dps_jax.operators.sampling import bin_area_adjoint, resample
from dps_jax.optics.psf import gaussian_psf
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import FACTOR, Acquisition
from dps_jax.solvers.richardson_lucy_stops import richardson_lucy_oracle
from dps_jax.typing import Array
from dps_jax.weights import Network

METHODS = ("input", "bicubic", "RL (oracle)", "RL, wide (oracle)", "ours", "RL + texture")
ORACLE_ITERATIONS = 500
# Amplitude (standard deviation) of the invented texture relative to the image under it.
_TEXTURE = 0.5
# Width, in Abbe periods, of what the wider field adds on each side.
_MARGIN_ABBE = 5.0


@dataclass(frozen=True, eq=False)
class Comparison:
    """Images by method, their scores by method and name, and the iteration of the oracle of the mirrored frame."""

    images: dict[str, np.ndarray]
    scores: dict[str, dict[str, float]]
    oracle_iteration: int


@partial(jax.jit, static_argnames=("abbe_px", "iterations"))
def _oracle(
    image: Array, psf: Array, truth: Array, abbe_px: float, iterations: int
) -> tuple[Array, Array, Array]:
    def score(x: Array) -> Array:
        return psnr_at_promised_resolution(x, truth, abbe_px=abbe_px)

    return richardson_lucy_oracle(image, psf, score, iterations=iterations, factor=FACTOR)


@partial(jax.jit, static_argnames=("abbe_px", "iterations"))
def _wide_oracle(image: Array, psf: Array, truth: Array, abbe_px: float, iterations: int) -> Array:
    """As :func:`_oracle`, on a wider field whose margin was not measured; only the frame is scored and returned."""
    margin = math.ceil(_MARGIN_ABBE * abbe_px / FACTOR)
    frame = (..., *(slice(FACTOR * margin, -FACTOR * margin),) * 2)

    def score(x: Array) -> Array:
        return psnr_at_promised_resolution(x[frame], truth, abbe_px=abbe_px)

    measured = jnp.pad(jnp.ones_like(image), margin)
    wide = jnp.pad(image, margin)
    best, *_ = richardson_lucy_oracle(
        wide, psf, score, iterations=iterations, factor=FACTOR, measured=measured
    )
    return best[frame]


@partial(jax.jit, static_argnames="abbe_px")
def _scores(image: Array, truth: Array, abbe_px: float) -> dict[str, Array]:
    return scores_against_truth(image, truth, abbe_px=abbe_px)


def invented_texture(image: np.ndarray, *, abbe_px: float, seed: int = 0) -> np.ndarray:
    """Add texture that no measurement supports: noise just beyond the cut-off, modulated by the image.

    It sharpens the look of an image ``(y, x)`` and lifts scores that only ask for fine detail.
    """
    noise = jax.random.normal(jax.random.key(seed), image.shape)
    narrow, wide = (convolve(noise, gaussian_psf(sigma_px=s * abbe_px)) for s in (0.13, 0.2))
    texture = narrow - wide
    texture = texture / jnp.std(texture) * jnp.asarray(image)
    return np.maximum(image + _TEXTURE * np.asarray(texture), 0.0).astype(np.float32)


def compare(
    made: Acquisition, network: Network, *, iterations: int = ORACLE_ITERATIONS, orientations: int = 1
) -> Comparison:
    """Restore the exposure ``made.image`` by every method and score it against the truth.

    ``resolution_nm`` is the period at which the Fourier ring correlation with the truth falls below one half. The
    known background is subtracted for every method alike.

    Parameters
    ----------
    iterations
        Richardson-Lucy iterations among which the oracle chooses.
    orientations
        As for :func:`dps_jax.pipelines.restore.restore`.
    """
    abbe_px = FACTOR * float(made.system.abbe_px)
    image, truth = jnp.asarray(made.image - made.background), jnp.asarray(made.truth)
    best, at, _ = _oracle(image, made.psf, truth, abbe_px, iterations)
    images = {
        "input": bin_area_adjoint(image, FACTOR) / FACTOR**2,
        "bicubic": resample(image, float(FACTOR), kernel="cubic"),
        "RL (oracle)": best,
        "RL, wide (oracle)": _wide_oracle(image, made.psf, truth, abbe_px, iterations),
        "ours": restore(
            np.asarray(image), made.system, network, background=0.0, orientations=orientations
        ).image,
        "RL + texture": invented_texture(np.asarray(best), abbe_px=abbe_px),
    }
    pixel_nm = float(made.system.pixel_size_nm) / FACTOR
    scores = {}
    for name in METHODS:
        estimate = jnp.asarray(images[name])
        scores[name] = {k: float(v) for k, v in _scores(estimate, truth, abbe_px).items()}
        resolution = frc_resolution(estimate, truth, pixel_size_nm=pixel_nm, threshold=0.5)
        scores[name]["resolution_nm"] = float(resolution)
    return Comparison({k: np.asarray(v) for k, v in images.items()}, scores, int(at))
