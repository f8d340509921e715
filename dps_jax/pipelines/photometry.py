"""Light of an image, measured once so that every tile is treated alike (NumPy).

Background and brightness are homogeneous (``metrics.light``), which makes a restoration linear in the gain of the
camera; what the unit is worth in photons is asked here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dps_jax import _checks
from dps_jax.metrics.light import background_level, brightness
from dps_jax.metrics.noise import estimate_photon_scale

__all__ = ["Light", "background_level", "brightness", "weigh_light"]

# The mean-variance line needs frequencies that the optics do not pass: at least these cycles per pixel.
_WIDEST_CUTOFF = 0.6
# A million pixels tell the noise well enough; all of a large image would cost time and memory.
_LARGEST_PX = 1024


@dataclass(frozen=True)
class Light:
    """What an image's unit is worth in photons: ``photons = (image - offset) / gain``; None where unknown."""

    gain: float | None
    offset: float | None
    origin: str

    def photons(self, intensity: float) -> float | None:
        """Return the photons behind an intensity above background."""
        return None if self.gain is None else intensity / self.gain


def weigh_light(
    stack: np.ndarray, *, abbe_px: float, gain: float | None = None, offset: float | None = None
) -> Light:
    """Bring ``(frame, y, x)`` to photons: by the given gain and offset, and else by the mean-variance line.

    The line is fitted to the middle of the middle frame. It takes the noise for photon noise: of an image that was
    filtered or averaged before, it tells how many photons would be as noisy.

    Raises
    ------
    ValueError
        For a gain that is not positive or an offset that is not finite.
    """
    _checks.positive("gain", gain)
    if offset is not None and not np.isfinite(offset):
        raise ValueError(f"expected offset to be a finite number, got {offset!r}")
    if gain is not None:
        return Light(float(gain), offset, "given")
    if 1 / abbe_px > _WIDEST_CUTOFF:
        return Light(None, offset, "unknown: the pixel is too coarse to tell noise from structure")
    middle = stack[len(stack) // 2]
    starts = [max(0, (n - _LARGEST_PX) // 2) for n in middle.shape]
    middle = middle[starts[0] : starts[0] + _LARGEST_PX, starts[1] : starts[1] + _LARGEST_PX]
    try:
        found = estimate_photon_scale(middle, cutoff_cycles_px=1 / abbe_px)
    except ValueError:  # not a trace of noise
        return Light(None, offset, "unknown: the image holds no noise")
    return Light(found.gain, found.offset if offset is None else offset, "from the mean-variance line")
