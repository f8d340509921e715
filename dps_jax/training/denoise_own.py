"""Training pairs for denoising from the user's own images, of which none is clean.

What there is decides (:func:`mode_for`): two exposures of one specimen show and score each other, the counted photons
of one exposure are split anew for every pair (Lehtinen et al. 2018), and where nobody knows what a photon is worth,
one image is recorrupted (Pang et al. 2021). Images are background-free, in units of brightness.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dps_jax import _checks
from dps_jax.training.data import Batch, split
from dps_jax.training.denoise_data import DenoiseConfig, noise_channel, recorrupt


def mode_for(*, clean: bool = False, repeats: bool = False, photons: bool = False) -> str:
    """Return the mode of training that suits what there is: the first of these three, and else one noisy image.

    Parameters
    ----------
    clean
        Images without noise, or simulations of them.
    repeats
        Two exposures of each specimen: the two are halves of one, split by the camera.
    photons
        Gain and offset, so that counts are photons.
    """
    if clean:
        return "clean"
    return "split" if repeats or photons else "recorrupted"


def pairs_from_repeats(
    first: np.ndarray,
    second: np.ndarray,
    config: DenoiseConfig,
    *,
    photons: float,
    dark_variance: float = 0.0,
) -> Callable[[int], Batch]:
    """Return ``batch(step)`` of patches cut from two exposures of one specimen, each shown and scored in turn.

    Parameters
    ----------
    first, second
        ``(y, x)`` or ``(frame, y, x)`` of one shape.
    config
        Patch size, batch and seed, of a mode other than ``clean``.
    photons, dark_variance
        As :func:`dps_jax.training.denoise_data.noise_channel`.

    Raises
    ------
    ValueError
        For different shapes, images smaller than a patch, or a config whose loss wants clean targets.
    """
    _checks.same_shape("first", first, "second", second)
    images = np.stack([_stack(first, config), _stack(second, config)])
    noise = noise_channel(images, photons=photons, dark_variance=dark_variance, local=config.local_noise)

    def pair(rng: np.random.Generator) -> np.ndarray:
        shown, frame = int(rng.integers(2)), int(rng.integers(images.shape[1]))
        window = (frame, *_window(rng, images.shape, config.patch_px))
        return np.stack([images[shown][window], noise[shown][window], images[1 - shown][window]], -1)

    return _batches(pair, config)


def pairs_from_image(
    image: np.ndarray,
    config: DenoiseConfig,
    *,
    photons: float,
    background: float = 0.0,
    dark_variance: float = 0.0,
) -> Callable[[int], Batch]:
    """Return ``batch(step)`` of patches of one image whose noise is divided anew, by the config's mode.

    Parameters
    ----------
    image
        ``(y, x)`` or ``(frame, y, x)``.
    config
        Patch size, batch, seed and mode: ``split`` or ``recorrupted``.
    photons, dark_variance
        As :func:`dps_jax.training.denoise_data.noise_channel`. Where the photons are split they must be right;
        recorrupted, only the noise that follows from the two must be.
    background
        What was taken off, above the camera's dark level: its photons are split as well.

    Raises
    ------
    ValueError
        For an image smaller than a patch, a background below 0, or a config whose loss wants clean targets.
    """
    _checks.non_negative("background", background)
    stack = _stack(image, config)

    def told(image: np.ndarray, fewer: float) -> np.ndarray:
        options = {"photons": photons / fewer, "dark_variance": dark_variance * fewer}
        return noise_channel(image, **options, local=config.local_noise)

    def pair(rng: np.random.Generator) -> np.ndarray:
        frame = stack[int(rng.integers(len(stack)))]
        patch = frame[_window(rng, frame.shape, config.patch_px)]
        if config.mode == "split":
            # Read noise makes counts that are none; what of it falls below 0 is nothing that could be split.
            counts = np.rint(np.maximum(photons * (patch + background), 0.0))
            kept, rest, share = split(rng, counts, 0.5)
            seen, target = kept / photons - background, rest / photons - background
            fewer = 1 / share
        else:
            seen, target = recorrupt(rng, patch, noise=told(patch, 1.0), strength=config.recorruption)
            fewer = 1 + config.recorruption**2
        return np.stack([seen, told(seen, fewer), target], -1)

    return _batches(pair, config)


def _stack(image: np.ndarray, config: DenoiseConfig) -> np.ndarray:
    _checks.at_least_2d("image", image)
    if min(np.shape(image)[-2:]) < config.patch_px:
        raise ValueError(
            f"expected images of at least {config.patch_px} px a side, got shape {np.shape(image)}"
        )
    if config.mode == "clean":
        raise ValueError('expected a config of a mode whose targets are noisy, got "clean"')
    return np.asarray(image, np.float32).reshape(-1, *np.shape(image)[-2:])


def _window(rng: np.random.Generator, shape: tuple[int, ...], side: int) -> tuple[slice, slice]:
    y, x = (int(rng.integers(n - side + 1)) for n in shape[-2:])
    return slice(y, y + side), slice(x, x + side)


def _batches(
    pair: Callable[[np.random.Generator], np.ndarray], config: DenoiseConfig
) -> Callable[[int], Batch]:
    """Draw ``(y, x, 3)`` of image, noise and target for every pair; the specimen may lie any way."""

    def turned(rng: np.random.Generator) -> np.ndarray:
        stack = np.rot90(pair(rng), int(rng.integers(4)))
        return stack[:, ::-1] if rng.random() < 0.5 else stack

    def batch(step: int) -> Batch:
        rngs = [np.random.default_rng([config.seed, step, i]) for i in range(config.batch)]
        stacks = np.stack([turned(rng) for rng in rngs]).astype(np.float32)
        return {"input": stacks[..., :2], "target": stacks[..., 2]}

    return batch
