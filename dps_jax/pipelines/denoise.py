"""Denoise: a camera image to the same image with its photon and camera noise taken off, unit and level kept.

The network (``training.denoise_data``) is told the noise of every pixel, which follows from what the image's unit is
worth in photons. Two things are not left to it: it moves no pixel farther than noise could have, and over several
Abbe periods the result holds the photons that were counted. Arrays are ``(y, x)`` or ``(frame, y, x)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from dps_jax import _checks
from dps_jax.metrics.light import background_level, brightness
from dps_jax.metrics.noise import out_of_band_noise
from dps_jax.optics.otf import radial_frequency
from dps_jax.pipelines.photometry import Light, weigh_light
from dps_jax.pipelines.tiling import mirrored, plan_tiles
from dps_jax.typing import Array, Params
from dps_jax.weights import Network

# Noise moves hardly a pixel of Poisson counts farther than so many of its standard deviations.
_FARTHEST = 6.0
# Over so many Abbe periods (standard deviation of a Gaussian) light is counted too well to be left to a network.
_COUNTED_ABBE = 4.0
# The optical cut-off, in cycles per pixel, up to which frequencies of pure noise remain; see metrics.noise.
_WIDEST_CUTOFF = 0.6
_LARGEST_PX = 1024  # of the part of a frame on which noise is measured
# Below this share of the cut-off, illumination and background make most of an image's contrast.
_LOWEST_DETAIL = 0.1
# Mirrored or not, and quarter turns, in the order of their use.
_ORIENTATIONS = tuple((mirror, turns) for mirror in (False, True) for turns in (0, 2, 1, 3))


@dataclass(frozen=True, eq=False)
class Denoised:
    """A denoised image ``(..., y, x)`` float32 in the unit and at the level of the input, and what was measured.

    ``background`` and ``brightness`` are in the image's unit, ``noise`` is the root-mean-square noise that was
    expected of it, ``gain`` (units per photon) and ``offset`` are None where unknown, ``peak_photons`` are the photons
    in bright structures.
    """

    image: np.ndarray
    background: float
    brightness: float
    noise: float
    gain: float | None
    offset: float | None
    gain_origin: str
    peak_photons: float | None
    notes: tuple[str, ...] = field(default=())


def denoise(
    image: np.ndarray,
    network: Network,
    *,
    abbe_px: float,
    background: float | None = None,
    gain: float | None = None,
    offset: float | None = None,
    orientations: int = 1,
    tile_px: int = 512,
) -> Denoised:
    """Take the noise off an image whose pixels are the camera's own.

    Parameters
    ----------
    image
        ``(y, x)``, or ``(frame, y, x)`` denoised frame by frame; any real type and unit. Never resampled or
        filtered before: its noise is independent from pixel to pixel.
    network
        From ``load_network(task="denoise")``.
    abbe_px
        Abbe period of the optics in px.
    background
        Constant level in the image's unit; by default measured. It stays in the result.
    gain, offset
        Camera units per photon and camera value in the dark; by default from the image's mean-variance line.
    orientations
        1, 2, 4 or 8: the answer is the mean over so many rotations and mirror images, each turned back; 8 take eight
        times as long.
    tile_px
        Side of a tile; memory grows with its square and not with the image.

    Returns
    -------
    The image in its own unit, at its own level; every frame sums to what it did.

    Raises
    ------
    ValueError
        For an image that is not 2D or 3D, below 16 px a side, or not finite, a network without a channel for the
        noise, or numbers out of range.
    """
    stack = _checked(image, abbe_px)
    if background is not None and not np.isfinite(background):
        raise ValueError(f"expected background to be a finite number, got {background!r}")
    _checks.one_of("orientations", orientations, (1, 2, 4, 8))
    if getattr(network.module, "inputs", 1) != 2:
        raise ValueError("expected a network that takes an image and its noise level, got another one")
    level = background_level(stack, abbe_px=abbe_px) if background is None else float(background)
    above = (stack - level).astype(np.float32)
    unit = brightness(above, abbe_px=abbe_px)
    light = weigh_light(stack, abbe_px=abbe_px, gain=gain, offset=offset)
    photons = light.photons(unit)
    notes: tuple[str, ...]
    if light.gain is None or photons is None or unit <= 0:
        reason = "the image holds no light above its background" if unit <= 0 else _unknown_noise(light)
        out, noise, notes = stack.astype(np.float32), 0.0, (f"returned as it came: {reason}",)
    else:
        dark = _dark_variance(stack, light.gain, light.offset, level, abbe_px)
        local = bool(network.header.get("config", {}).get("local_noise", True))
        # Imported where it is needed: the making of training data brings half a second of SciPy.
        from dps_jax.training.denoise_data import noise_channel

        sigma = noise_channel(above / unit, photons=photons, dark_variance=dark / unit**2, local=local)
        out = np.stack(
            [
                frame
                - unit * _removed(network, frame / unit - level / unit, s, abbe_px, tile_px, orientations)
                for frame, s in zip(stack.astype(np.float64), sigma, strict=True)
            ]
        ).astype(np.float32)
        noise = unit * float(np.sqrt(np.mean(np.square(sigma, dtype=np.float64))))
        notes = _notes(network, abbe_px, photons)
    return Denoised(
        image=out if np.ndim(image) == 3 else out[0],
        background=level,
        brightness=unit,
        noise=noise,
        gain=light.gain,
        offset=light.offset,
        gain_origin=light.origin,
        peak_photons=photons,
        notes=notes,
    )


def noise_share(
    image: np.ndarray, *, abbe_px: float, gain: float | None = None, offset: float | None = None
) -> float:
    """Return which share of the contrast that the optics can have passed is noise: 0 of none, 1 of all.

    It is the power of the noise over that of the image, between a tenth of the cut-off and the cut-off.

    Parameters
    ----------
    image
        ``(y, x)``, or ``(frame, y, x)``, of which the middle frame tells.
    abbe_px
        Abbe period in px.
    gain, offset
        Camera units per photon and value in the dark; together they give the noise, which by default is measured
        beyond the cut-off.

    Raises
    ------
    ValueError
        As :func:`denoise`, or where the pixels are too coarse to measure noise and gain and offset are not given.
    """
    frame = _middle(_checked(image, abbe_px)).astype(np.float64)
    _checks.positive("gain", gain)
    if gain is not None and offset is not None:
        variance = gain * max(float(frame.mean()) - offset, 0.0)
    elif 1 / abbe_px <= _WIDEST_CUTOFF:
        variance = float(out_of_band_noise(frame, cutoff_cycles_px=1 / abbe_px).mean())
    else:
        raise ValueError(
            f"expected gain and offset for pixels of more than {_WIDEST_CUTOFF} Abbe periods, which tell no noise "
            f"from structure, got an Abbe period of {abbe_px:.2f} px"
        )
    # A window that fades to the borders: their jump would count as contrast.
    window = np.outer(*(np.hanning(n) for n in frame.shape))
    mean = float((window * frame).sum() / window.sum())
    power = np.abs(np.fft.fft2(window * (frame - mean))) ** 2 / (window**2).sum()
    distance = radial_frequency(frame.shape) * abbe_px
    contrast = float(power[(distance >= _LOWEST_DETAIL) & (distance <= 1)].mean())
    return float(np.clip(variance / contrast, 0.0, 1.0)) if contrast > 0 else 0.0


def _checked(image: np.ndarray, abbe_px: float) -> np.ndarray:
    """Return an image as a stack ``(frame, y, x)``, or refuse it."""
    image = np.asarray(image)
    if image.dtype.kind not in "buif":
        raise ValueError(f"expected an image of real numbers, got {image.dtype}")
    if image.ndim not in (2, 3) or min(image.shape[-2:]) < 16 or image.size == 0:
        raise ValueError(
            f"expected an image (y, x) or (frame, y, x) of at least 16 px a side, got {image.shape}"
        )
    if not np.all(np.isfinite(image)):
        raise ValueError("expected an image without NaN or infinity, got one that holds some")
    _checks.positive("abbe_px", abbe_px)
    return image if image.ndim == 3 else image[None]


def _middle(stack: np.ndarray) -> np.ndarray:
    """Return the middle of the middle frame."""
    frame = stack[len(stack) // 2]
    starts = [max(0, (n - _LARGEST_PX) // 2) for n in frame.shape]
    return frame[starts[0] : starts[0] + _LARGEST_PX, starts[1] : starts[1] + _LARGEST_PX]


def _unknown_noise(light: Light) -> str:
    return f"the gain is {light.origin}; state it (with the offset) if there is noise to be taken off"


def _dark_variance(
    stack: np.ndarray, gain: float, offset: float | None, level: float, abbe_px: float
) -> float:
    """Return the noise variance where there is background alone, in the image's unit squared."""
    known = 0.0 if offset is None else gain * max(level - offset, 0.0)
    if 1 / abbe_px > _WIDEST_CUTOFF:
        return known
    # Read noise, and light that no line could be drawn through: what the quietest parts show at the least.
    measured = out_of_band_noise(_middle(stack), cutoff_cycles_px=1 / abbe_px, window_px=12.0)
    return max(known, float(np.percentile(measured, 5.0)))


@partial(jax.jit, static_argnames=("module", "orientations"))
def _answer(module: Any, params: Params, image: Array, orientations: int) -> Array:
    """Run the network on ``(y, x, 2)`` turned and mirrored, and average what it answers ``(y, x)``."""
    answers = []
    for mirror, turns in _ORIENTATIONS[:orientations]:
        turned = jnp.rot90(image[:, ::-1] if mirror else image, turns)
        answer = jnp.rot90(module.apply({"params": params}, turned[None])[0, :, :, 0], -turns)
        answers.append(answer[:, ::-1] if mirror else answer)
    return sum(answers[1:], start=answers[0]) / orientations


def _removed(
    network: Network,
    frame: np.ndarray,
    sigma: np.ndarray,
    abbe_px: float,
    tile_px: int,
    orientations: int,
) -> np.ndarray:
    """Return the noise of one frame ``(y, x)`` in units of brightness: what is to be taken off."""
    module = network.module
    told = np.stack([frame, sigma], -1).astype(np.float32)
    answer = np.empty(frame.shape, np.float64)
    for tile in plan_tiles(frame.shape, tile_px=tile_px, halo_px=module.reach, multiple=module.grid_multiple):
        rows, columns = (mirrored(*r, n) for r, n in zip(tile.padded, frame.shape, strict=True))
        seen = jnp.asarray(told[np.ix_(rows, columns)])
        padded = np.asarray(_answer(module, network.params, seen, orientations))
        core = tuple(slice(a, b) for a, b in tile.core)
        answer[core] = padded[module.reach :, module.reach :][tuple(slice(0, b - a) for a, b in tile.core)]
    noise = np.clip(frame - answer, -_FARTHEST * sigma, _FARTHEST * sigma)
    # Mirrored at the borders the mean keeps the sum, so that what remains to be taken off holds no photons.
    return noise - ndimage.gaussian_filter(noise, _COUNTED_ABBE * abbe_px, mode="reflect")


def _notes(network: Network, abbe_px: float, photons: float) -> tuple[str, ...]:
    """Return where the image lies outside of what the network was trained on."""
    config = network.header.get("config", {})
    notes = []
    low, high = config.get("abbe_px", (0.0, np.inf))
    if not low <= abbe_px <= high:
        notes.append(
            f"the Abbe period of {abbe_px:.1f} px lies outside the {low:g} to {high:g} px that the network was "
            "trained on: less noise may be taken off"
        )
    least = config.get("photons", (0.0,))[0]
    if photons < least:
        notes.append(
            f"bright structures hold {photons:.1f} photons, fewer than the {least:g} that the network was trained "
            "on: fine structure in the result may be invented"
        )
    return tuple(notes)
