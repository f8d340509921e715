"""Kernels of slightly wrong microscopes, made once: drawing one for every patch must not slow training down."""

from __future__ import annotations

import numpy as np

from dps_jax.optics.psf import airy_psf, default_size

SCALE = 2  # fine pixels per camera pixel
_FINENESS = 0.05  # logarithmic step of the shrinkage
_LIMIT, _COUNT = 0.15, 61  # relative errors of the Abbe period, from -15 % to 15 % in steps of half a percent


class PsfBank:
    """PSFs on the fine grid whose Abbe period is off by up to 15 %, all of one size."""

    def __init__(self, abbe_px: float, error: float) -> None:
        """Take the canonical Abbe period in camera px and the relative standard deviation of its error."""
        self.error, self.abbe_px = error, abbe_px
        self.size = default_size(SCALE * abbe_px)
        self.sharp_size = default_size(SCALE * abbe_px / 2)
        self._shrunk: dict[int, np.ndarray] = {}
        self._errors = np.linspace(-_LIMIT, _LIMIT, _COUNT)
        kernels = [airy_psf(abbe_px=SCALE * abbe_px * (1 + e), size=self.size) for e in self._errors]
        self._kernels = np.stack([np.asarray(k) for k in kernels])

    def sharp(self, shrinkage: float) -> np.ndarray:
        """Return the canonical kernel as it is in an image that was shrunk ``shrinkage`` times, in its pixels.

        All of one size, and no finer than the bank's steps of 5 %.
        """
        step = round(float(np.log(shrinkage / 2)) / _FINENESS)
        if step not in self._shrunk:
            kernel = airy_psf(
                abbe_px=SCALE * self.abbe_px / (2 * np.exp(step * _FINENESS)), size=self.sharp_size
            )
            self._shrunk[step] = np.asarray(kernel)
        return self._shrunk[step]

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the kernel ``(size, size)`` nearest to a random error."""
        wanted = self.error * rng.standard_normal()
        return self._kernels[int(np.argmin(np.abs(self._errors - wanted)))]
