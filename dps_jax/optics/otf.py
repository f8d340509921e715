"""Optical transfer functions."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.typing import Array, ArrayLike


def radial_frequency(shape: tuple[int, int], *, half: bool = False) -> np.ndarray:
    """Return the distance from zero frequency, in cycles per pixel, of each sample of an FFT of ``shape``.

    ``half=True`` gives the layout of ``rfft2``. The result is a float32 NumPy array, a constant under ``jit``.
    """
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = (np.fft.rfftfreq if half else np.fft.fftfreq)(shape[1])[None, :]
    return np.hypot(fy, fx).astype(np.float32)


def incoherent_otf(frequency: ArrayLike, *, cutoff: ArrayLike) -> Array:
    """OTF of an aberration-free circular pupil: ``2/pi (acos s - s sqrt(1 - s^2))``, ``s = frequency/cutoff``.

    Parameters
    ----------
    frequency
        Spatial frequencies of any shape, in the unit of ``cutoff`` (cycles per px, or per nm).
    cutoff
        Cut-off frequency ``2 NA / lambda``; the OTF is 0 from there on.

    Raises
    ------
    ValueError
        If ``cutoff`` is not positive.

    Notes
    -----
    Source: Goodman 2005, equation 6-31. The derivative at the cut-off is 0 and finite everywhere.
    """
    _checks.positive("cutoff", cutoff)
    s = jnp.abs(jnp.asarray(frequency, jnp.float32)) / cutoff
    # sin t and its angle from clipped s: acos has an infinite slope at 1, so the clip keeps gradients finite.
    inside = jnp.clip(s, 0.0, 1.0 - 1e-6)
    value = 2 / jnp.pi * (jnp.arccos(inside) - inside * jnp.sqrt(1 - inside * inside))
    return jnp.where(s < 1, value, 0.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RadialOtf:
    """OTF that depends on the distance from zero frequency only, as measured or computed samples.

    Parameters
    ----------
    samples
        ``(n,)`` values at equal distances, the first at frequency 0, the last at the cut-off, where it is 0.
    cutoff
        Cut-off frequency in cycles per camera pixel.
    """

    samples: Array
    cutoff: float | Array

    @classmethod
    def airy(cls, abbe_px: float, *, count: int = 512) -> RadialOtf:
        """Return the OTF of an aberration-free pupil (:func:`incoherent_otf`) for an Abbe period in pixels."""
        _checks.positive("abbe_px", abbe_px)
        return cls(samples=incoherent_otf(np.linspace(0, 1, count), cutoff=1.0), cutoff=1 / abbe_px)

    def __call__(self, frequency: Array) -> Array:
        """Interpolate at distances from zero frequency of any shape, in cycles per camera pixel; 0 beyond."""
        at = jnp.linspace(0.0, 1.0, self.samples.shape[0])
        return jnp.interp(frequency / self.cutoff, at, self.samples, right=0.0)


def pixel_otf(fy: ArrayLike, fx: ArrayLike) -> Array:
    """OTF of a square pixel that fills its place: ``sinc(fy) sinc(fx)``, frequencies in cycles per pixel."""
    return jnp.sinc(jnp.asarray(fy, jnp.float32)) * jnp.sinc(jnp.asarray(fx, jnp.float32))
