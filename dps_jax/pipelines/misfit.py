"""How well a result explains the raw image it was made from, in units of that image's own noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.metrics.trust import residual_in_noise
from dps_jax.operators.forward import camera_image
from dps_jax.optics.psf import airy_psf
from dps_jax.pipelines import photometry
from dps_jax.typing import Array

# Width, in Abbe periods, of the rim into which light falls from outside, which no result knows of.
_RIM_ABBE = 2.0


class GainUnknownError(ValueError):
    """The raw image does not tell how many photons it holds."""


@dataclass(frozen=True, eq=False)
class Misfit:
    """What a result leaves unexplained of a raw image.

    ``residual`` is ``(raw - expected) / noise``, ``(y, x)`` on the raw image's grid. ``ratio`` is the root of its
    squared deviations over the variance of its photons, summed over the image without the rim that light from outside
    reaches: 1 where a result explains all but the noise, more where it leaves structure unexplained or shows what the
    camera did not see, and less where it explains the noise too. Neither says anything of what lies beyond the cut-off,
    which the camera does not see.
    """

    residual: np.ndarray
    ratio: float


@partial(jax.jit, static_argnames=("abbe_px", "factor"))
def _seen(image: Array, abbe_px: float, factor: int) -> Array:
    return camera_image(image, airy_psf(abbe_px=abbe_px), factor=factor, boundary="reflect")


def _fitted(seen: np.ndarray, photons: np.ndarray) -> np.ndarray:
    """Return ``slope * seen + level`` nearest to the photons, not negative.

    The result may be in any unit, and was made without the background. In double precision: a million pixels leave
    little of a float's digits.
    """
    x, y = seen.astype(np.float64), photons.astype(np.float64)
    deviation = x - x.mean()
    power = np.sum(deviation**2)
    slope = np.sum(deviation * y) / power if power > 0 else 0.0
    return np.maximum(slope * deviation + y.mean(), 0.0).astype(np.float32)


def measure_misfit(
    image: np.ndarray,
    raw: np.ndarray,
    *,
    abbe_px: float,
    gain: float | None = None,
    offset: float | None = None,
) -> Misfit:
    """Compare a raw image with what the camera would see of a result, in units of the raw image's noise.

    Parameters
    ----------
    image
        Result ``(s y, s x)`` in any unit; one slope and one level are fitted.
    raw
        ``(y, x)`` in camera units.
    abbe_px
        Abbe period in pixels of the result.
    gain, offset
        Camera units per photon and camera value in the dark; by default from the raw image's mean-variance line.

    Raises
    ------
    GainUnknownError
        If the gain is not given and cannot be found.
    ValueError
        If the shapes do not fit together.
    """
    factor = image.shape[0] // raw.shape[0]
    light = photometry.weigh_light(raw[None], abbe_px=abbe_px / factor, gain=gain, offset=offset)
    if light.gain is None:
        raise GainUnknownError(light.origin)
    # Without a dark level, the darkest pixel stands for it.
    dark = float(raw.min()) if light.offset is None else light.offset
    photons = ((raw.astype(np.float64) - dark) / light.gain).astype(np.float32)
    expected = _fitted(np.asarray(_seen(jnp.asarray(image), abbe_px, factor)), photons)
    rim = math.ceil(_RIM_ABBE * abbe_px / factor)
    inner = (slice(rim, -rim),) * 2 if min(raw.shape) > 4 * rim else (slice(None),) * 2
    squared = np.sum(np.square(photons - expected, dtype=np.float64)[inner])
    variance = np.sum(expected[inner], dtype=np.float64)
    ratio = float(np.sqrt(squared / variance)) if variance > 0 else float("nan")
    return Misfit(np.asarray(residual_in_noise(photons, expected)), ratio)
