"""Hammer-stroke: noise of one ring of the spectrum, everywhere alike, told from structure by where it is dark (NumPy).

Of the noise the power in each ring is read by a network (``models.ring_reader``), from what the image has where it is
dark. What such noise is in the dark, where it is alone, then tells what it is beside the dark: waves of a narrow ring
go on for a few periods.

Sources: Wiener 1949 and Rasmussen and Williams 2006 (the mean of a Gaussian field given some of it, by its covariance),
Dempster et al. 1977 (the variance of what is not the field, estimated in turn).
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

from dps_jax import _checks
from dps_jax.metrics.light import brightness
from dps_jax.solvers.ringing import RADII, is_clipped, ring_powers

_DARK = 0.1  # of the image's brightness: half of what is that bright counts as dark
_SMOOTH_ABBE = 0.5
_COARSE_ABBE = 0.6  # what is coarser than the rings is taken off before the dark is cut out
_NEAR_ABBE = 0.35  # over which the variance of structure is estimated
_MARGIN_ABBE = 4.0
_ROUNDS, _STEPS = 3, 40
# Of an estimate of the structure: its error relative to it, and in the dark in standard deviations of the noise. Set
# on seeds 7200 to 7219, which are not scored.
_ERROR, _ERROR_IN_THE_DARK = 0.3, 0.7
_FLOOR = 0.3  # of the noise's standard deviation: what is left of the image where it is dark
_CLIPPED_POWER = 2.5  # half of a wave has a quarter of its power; not all of it is clipped


def dark_powers(image: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Return the mean power per coefficient in each ring of ``RADII`` that an image ``(y, x)`` has where it is dark.

    White noise of variance 1 has power 1 above 0.6 cycles per period.

    Raises
    ------
    ValueError
        For an image that is not ``(y, x)`` or not finite, or an ``abbe_px`` that is not above 0.
    """
    dark = _darkness(image, abbe_px=abbe_px)
    fine = np.asarray(image, np.float64) - gaussian_filter(
        np.asarray(image, np.float64), _COARSE_ABBE * abbe_px
    )
    return ring_powers(fine * dark, abbe_px=abbe_px) / max(float(np.mean(dark**2)), 1e-12)


def remove_hammer_stroke(
    image: np.ndarray, excess: np.ndarray, *, abbe_px: float, structure: np.ndarray | None = None
) -> np.ndarray:
    """Take noise of known power off an image.

    Parameters
    ----------
    image
        ``(y, x)``, background removed, of any unit.
    excess
        For each ring of ``RADII`` the logarithm of by how much noise makes the dark brighter, a ratio of powers; what
        is below 0 counts as 0.
    abbe_px
        Abbe period in px of the image that was super-resolved.
    structure
        ``(y, x)``, what the image holds besides the noise, where there is an estimate; it counts as known to
        a third. By default only how strong it is, is estimated, from the image.

    Returns
    -------
    The image without the noise's mean given the image, float32. The sum is kept, but for what was added to it where
    negative values were set to 0, which is taken off.

    Raises
    ------
    ValueError
        As :func:`dark_powers`, and for an ``excess`` of another length or a ``structure`` of another shape.
    """
    if np.shape(excess) != RADII.shape:
        raise ValueError(f"expected one value for each of {RADII.size} rings, got shape {np.shape(excess)}")
    if structure is not None and np.shape(structure) != np.shape(image):
        raise ValueError(f"expected a structure of shape {np.shape(image)}, got {np.shape(structure)}")
    powers = dark_powers(image, abbe_px=abbe_px) * -np.expm1(-np.maximum(excess, 0.0))
    image, clipped = np.asarray(image, np.float64), is_clipped(image)
    if clipped:
        powers = _CLIPPED_POWER * powers
    margin = int(np.ceil(_MARGIN_ABBE * abbe_px))
    sides = [scipy.fft.next_fast_len(n + margin, real=True) for n in image.shape]
    inner = tuple(slice(0, n) for n in image.shape)
    known = np.zeros(sides)
    known[inner] = 1.0
    field = _Field(sides, powers, abbe_px)
    if not field.variance > 0:
        return image.astype(np.float32)
    seen = np.zeros(sides)
    seen[inner] = image
    noise, lost, expected = np.zeros(sides), seen <= 0, np.zeros(sides)
    if structure is not None:
        expected[inner] = structure
    for number in range(_ROUNDS):
        if structure is not None:
            spread = _ERROR**2 * gaussian_filter(expected**2, _NEAR_ABBE * abbe_px, mode="constant")
        # What is there when noise is averaged out, then what noise does not explain.
        elif number == 0:
            spread = gaussian_filter(seen, _SMOOTH_ABBE * abbe_px, mode="constant") ** 2
        else:
            spread = gaussian_filter((seen - noise) ** 2, _NEAR_ABBE * abbe_px, mode="constant")
        floor = _FLOOR if structure is None else _ERROR_IN_THE_DARK
        weight = known / (floor**2 * field.variance + np.maximum(spread, 0.0))
        noise = field.mean(seen - expected, weight)
        if clipped:
            below = np.minimum(noise[inner] + expected[inner], 0.0)
            seen[inner] = np.where(lost[inner], below, image)
        elif structure is not None:
            break  # nothing changes any more
    out = image - noise[inner]
    if clipped:
        return np.where(image <= 0, 0.0, np.maximum(out, 0.0)).astype(np.float32)
    return (out + np.mean(noise[inner])).astype(np.float32)


def _darkness(image: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Return 1 where an image is dark, 1/2 where it has a tenth of its brightness, and less where it has more."""
    _checks.finite_plane(image)
    _checks.positive("abbe_px", abbe_px)
    light = np.maximum(np.asarray(image, np.float64), 0.0)
    level = _DARK * brightness(light.astype(np.float32), abbe_px=abbe_px)
    if not level > 0:
        return np.ones(light.shape)
    return np.asarray(1 / (1 + (gaussian_filter(light, _SMOOTH_ABBE * abbe_px) / level) ** 2))


class _Field:
    """A stationary Gaussian field whose power is known in each ring."""

    def __init__(self, sides: list[int], powers: np.ndarray, abbe_px: float) -> None:
        self.sides = sides
        fy, fx = scipy.fft.fftfreq(sides[0]), scipy.fft.rfftfreq(sides[1])
        radius = abbe_px * np.hypot(fy[:, None], fx[None, :])
        self.root = np.interp(radius, RADII, np.sqrt(np.maximum(powers, 0.0)), left=0.0, right=0.0)
        # Of a half spectrum the columns count twice but the first and, of an even side, the last.
        twice = np.full(fx.size, 2.0)
        twice[0] = 1.0
        if sides[1] % 2 == 0:
            twice[-1] = 1.0
        self.variance = float(np.sum(self.root**2 * twice) / (sides[0] * sides[1]))

    def of(self, white: np.ndarray) -> np.ndarray:
        """Return the field that is made of white noise; the map is its own transpose."""
        return np.asarray(scipy.fft.irfft2(self.root * scipy.fft.rfft2(white), s=self.sides))

    def mean(self, seen: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Return the mean of the field given ``seen``, whose error has the variance ``1 / weight`` (0: not seen).

        Conjugate gradients for the white noise ``w`` that makes ``weight (seen - of(w))^2 + w^2`` least in the sum.
        """
        right = self.of(weight * seen)
        white, rest = np.zeros_like(right), right
        along, size = rest, float(np.sum(rest**2))
        enough = 1e-6 * size
        for _ in range(_STEPS):
            if not size > enough:
                break
            turned = self.of(weight * self.of(along)) + along
            step = size / float(np.sum(along * turned))
            white, rest = white + step * along, rest - step * turned
            before, size = size, float(np.sum(rest**2))
            along = rest + size / before * along
        return self.of(white)
