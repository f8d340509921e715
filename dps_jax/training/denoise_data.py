"""Training pairs for denoising, with and without a clean image: ``batch(step)`` is a function of config and step.

A pair is ``input`` ``(n, y, x, 2)``, an image in units of brightness and the standard deviation of its noise in that
unit, and ``target`` ``(n, y, x)``. What the target is depends on what the user could have: the noise-free image of a
simulation, the other half of the photons of one exposure (Lehtinen et al. 2018), or one noisy image alone, to which
noise is added and from which it is taken (Pang et al. 2021). Pixels may be of any size: scenes are drawn at Abbe
periods of 2 to 6 px, since denoising, unlike sharpening, works on the camera's own grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from dps_jax import _checks, models
from dps_jax.losses.fidelity import log_l2_loss, weighted_l2_loss
from dps_jax.optics.psf import airy_psf
from dps_jax.synthetic import background, structures
from dps_jax.training.config import OptimizerConfig
from dps_jax.training.data import Batch
from dps_jax.training.pairs import PairConfig, PairLossConfig, Term
from dps_jax.training.scale_transfer import log_uniform
from dps_jax.typing import Array

SCALE = 2  # fine pixels per camera pixel
MODES = ("clean", "split", "recorrupted")
# The published loss (Ye et al. 2024) for a clean target. The complex difference of the spectra counts an image by its
# root-mean-square error; SSIM is kept small, since it pays for contrast where the photons leave none to be known.
CLEAN_LOSS = PairLossConfig(ssim=0.2, l1=1.0, fft_l1=1.0)
# The median of photon counts is not their mean, and SSIM wants the noisy variance: only squares for noisy targets.
NOISY_LOSS = PairLossConfig(ssim=0.0, l1=0.0, weighted_l2=0.1)
# Width of the local mean that tells the photon noise of a pixel: some 50 pixels, less than most structures span.
_MEAN_SIGMA_PX = 2.0
_LEAST_ERROR = 1e-5  # mean squared error below which nothing is left to learn: 50 dB under brightness 1
_ABBE_STEP = 0.05  # logarithmic step of the kernels' Abbe periods


@dataclass(frozen=True)
class DenoiseConfig(PairConfig):
    """A training of the denoiser; see :func:`config_for` for one that fits what is at hand."""

    channels: tuple[int, ...] = (20, 40, 80)
    """Features per U-Net level, finest first."""
    loss: PairLossConfig = CLEAN_LOSS
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=3e-3, warmup_steps=100, clip_norm=0.1)
    )
    mode: str = "clean"
    """What the answer is scored on: ``clean``, ``split`` or ``recorrupted``."""
    patch_px: int = 64
    """Side of a patch; a multiple of the network's coarsest grid."""
    abbe_px: tuple[float, float] = (2.0, 6.0)
    """Abbe period in px, log-uniform: the camera's pixels may be of any size."""
    photons: tuple[float, float] = (3.0, 1000.0)
    """Photons at intensity 1 of one exposure, log-uniform; where they are split, half of them are shown."""
    brightness: tuple[float, float] = (0.25, 1.3)
    """Brightest pixel of a patch, log-uniform: a patch of a large image need not hold its maximum."""
    background: float = 0.3
    """Largest smooth background, in units of intensity."""
    pedestal: float = 0.5
    """Largest constant background, whose photons are counted and whose level is taken off; none in a third."""
    read_noise: float = 2.0
    """Largest Gaussian read noise in photons, uniform from 0."""
    noise_error: float = 0.1
    """Relative error of the noise level that the network is told, as of one measured on an image."""
    decibels: float = 0.03
    """Weight of the logarithm of the mean squared error against clean targets (:func:`log_l2`)."""
    local_noise: bool = True
    """Tell the noise pixel by pixel, from a local mean; else that of a pixel of intensity 1 everywhere. The
    first measured better: at equal photons, background and read noise make images that differ in their noise."""
    recorruption: float = 0.5
    """Share of the noise that is added to the input in the mode ``recorrupted``."""
    empty: float = 0.05
    """Share of patches that hold background only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _checks.one_of("mode", self.mode, MODES)
        multiple = 2 ** (len(self.channels) - 1)
        if self.patch_px < 16 or self.patch_px % multiple:
            raise ValueError(
                f"expected patch_px to be a multiple of {multiple} from 16 on, got {self.patch_px}"
            )
        for name in ("abbe_px", "photons", "brightness"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"expected {name} as 0 < low <= high, got {(low, high)}")
        for name in ("background", "pedestal", "read_noise", "noise_error", "decibels", "empty"):
            _checks.non_negative(name, getattr(self, name))
        _checks.positive("recorruption", self.recorruption)
        unfair = sorted(set(self.loss.weights) - {"l2", "weighted_l2"})
        if self.mode != "clean" and unfair:
            raise ValueError(
                "expected squared errors alone (loss.l2, loss.weighted_l2) against noisy targets, "
                f"got {', '.join(unfair)}"
            )


def config_for(mode: str, **settings: object) -> DenoiseConfig:
    """Return a config of a mode with the loss that suits its targets, and further ``settings``."""
    loss = CLEAN_LOSS if mode == "clean" else NOISY_LOSS
    return DenoiseConfig(**{"mode": mode, "loss": loss, **settings})  # type: ignore[arg-type]


def network_of(config: DenoiseConfig) -> models.ResUNet:
    """Return the network of a config: an image and its noise level in, the image without its noise out."""
    return models.ResUNet(channels=config.channels, blocks=config.blocks, inputs=2)


def noise_channel(
    image: np.ndarray, *, photons: float, dark_variance: float, local: bool = True
) -> np.ndarray:
    """Return the standard deviation of the noise of an image above its background, ``(..., y, x)`` float32.

    Parameters
    ----------
    image
        ``(..., y, x)`` in any unit.
    photons
        Photons per unit.
    dark_variance
        Variance in the dark, in units squared: that of the background's photons and of the camera.
    local
        Take the photon noise of each pixel from the mean around it (Gaussian of 2 px); else of intensity 1.

    Raises
    ------
    ValueError
        For photons that are not above 0 or a variance below 0.
    """
    _checks.positive("photons", photons)
    _checks.non_negative("dark_variance", dark_variance)
    if not local:
        return np.full(np.shape(image), np.sqrt(1 / photons + dark_variance), np.float32)
    sigma = (0.0,) * (np.ndim(image) - 2) + (_MEAN_SIGMA_PX,) * 2
    mean = ndimage.gaussian_filter(np.asarray(image, np.float32), sigma, truncate=3.0)
    return np.sqrt(np.maximum(mean, 0.0) / photons + dark_variance).astype(np.float32)


def balanced_l2(answer: Array, target: Array) -> Array:
    """Return the noise-weighted squared error per image, divided by the root of the noise in the target.

    Images of few photons would otherwise drown those of many: against a noisy target most of the loss is noise that
    nobody can predict. It is measured on the target itself, from what changes sign from pixel to pixel.
    """
    t = jax.lax.stop_gradient(target)
    checker = t[..., 1:, 1:] - t[..., 1:, :-1] - t[..., :-1, 1:] + t[..., :-1, :-1]
    variance = jnp.mean(checker**2, axis=(-2, -1)) / 4
    return weighted_l2_loss(answer, target) / jnp.sqrt(variance + 1e-4)


def log_l2(answer: Array, target: Array) -> Array:
    """Return the logarithm of the mean squared error per image: a decibel counts alike whatever the photons.

    The published terms grow with the error and are made by the darkest images; this lets bright ones be learned too.
    """
    return log_l2_loss(answer, target, floor=_LEAST_ERROR)


def extra_terms(config: DenoiseConfig) -> dict[str, tuple[float, Term]]:
    """Return the terms of a mode that are no part of every objective, as ``train_pairs`` takes them."""
    if config.mode == "clean":
        return {"log_l2": (config.decibels, log_l2)}
    return {"balanced_l2": (1.0, balanced_l2)}


def make_batches(config: DenoiseConfig) -> Callable[[int], Batch]:
    """Return ``batch(step)``: pure, and the same on every machine for one config."""

    def batch(step: int) -> Batch:
        rngs = [np.random.default_rng([config.seed, step, i]) for i in range(config.batch)]
        pairs = [_pair(rng, _expected(rng, config), config) for rng in rngs]
        return {
            name: np.stack([pair[k] for pair in pairs]).astype(np.float32)
            for k, name in enumerate(("input", "target"))
        }

    return batch


@lru_cache(maxsize=64)
def _kernel(step: int) -> tuple[float, np.ndarray]:
    """Return an Abbe period in camera px, one of a logarithmic grid, and its kernel on the fine grid."""
    abbe_px = float(np.exp(step * _ABBE_STEP))
    return abbe_px, np.asarray(airy_psf(abbe_px=SCALE * abbe_px))


def _expected(rng: np.random.Generator, config: DenoiseConfig) -> np.ndarray:
    """Draw a noise-free camera image above its pedestal, in units of brightness."""
    from scipy.signal import fftconvolve  # slow to import, and not needed to denoise

    abbe_px, kernel = _kernel(round(np.log(log_uniform(rng, config.abbe_px)) / _ABBE_STEP))
    side = config.patch_px
    image = np.zeros((side, side), np.float32)
    if rng.random() >= config.empty:
        # Light from outside reaches into a patch: the scene is wider by the kernel's reach.
        wide = (SCALE * side + kernel.shape[0] - 1,) * 2
        scene = structures.training_scene(rng, wide, abbe_px=SCALE * abbe_px)
        blurred = fftconvolve(scene, kernel, mode="valid")
        image = np.maximum(blurred.reshape(side, SCALE, side, SCALE).sum((1, 3)), 0.0)
        image *= log_uniform(rng, config.brightness) / max(float(image.max()), 1e-6)
    haze = background.haze(rng, image.shape, abbe_px=abbe_px)
    return image + max(0.0, rng.uniform(-config.background, config.background)) * haze


def _pair(
    rng: np.random.Generator, expected: np.ndarray, config: DenoiseConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Take a picture: what the network is shown ``(y, x, 2)``, and what it should make of it ``(y, x)``."""
    share = 0.5 if config.mode == "split" else 1.0
    photons = share * log_uniform(rng, config.photons)
    level = max(0.0, rng.uniform(-config.pedestal / 2, config.pedestal))
    read = rng.uniform(0, config.read_noise)
    dark = level / photons + (read / photons) ** 2

    def expose() -> np.ndarray:
        # Halves of Poisson counts are independent Poisson counts; each is given the camera's read noise of its own.
        counts = rng.poisson(photons * (expected + level)) + rng.normal(0, read, expected.shape)
        return counts / photons - level

    seen = expose()
    if config.mode == "recorrupted":
        seen, target = recorrupt(
            rng,
            seen,
            noise=noise_channel(seen, photons=photons, dark_variance=dark),
            strength=config.recorruption,
        )
        # As many times noisier as photons fewer.
        photons, dark = (
            photons / (1 + config.recorruption**2),
            dark * (1 + config.recorruption**2),
        )
    else:
        target = expected if config.mode == "clean" else expose()
    noise = noise_channel(seen, photons=photons, dark_variance=dark, local=config.local_noise)
    return np.stack([seen, noise * np.exp(config.noise_error * rng.standard_normal())], -1), target


def recorrupt(
    rng: np.random.Generator, image: np.ndarray, *, noise: np.ndarray, strength: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Make a pair of independent noise from one image: ``(y + a z, y - z / a)``, z as noisy as y.

    Parameters
    ----------
    image
        ``(..., y, x)`` with Gaussian noise, or nearly so.
    noise
        Its standard deviation, of the image's shape.
    strength
        The ``a``: the first image is ``sqrt(1 + a^2)`` times as noisy as the given one.

    Raises
    ------
    ValueError
        For different shapes or a strength that is not above 0.

    Notes
    -----
    The covariance of the two is ``var(y) - var(z) = 0``. Source: Pang et al. 2021.
    """
    _checks.same_shape("image", image, "noise", noise)
    _checks.positive("strength", strength)
    z = noise * rng.standard_normal(np.shape(image))
    return image + strength * z, image - z / strength
