"""Kernels of slightly wrong microscopes, made once: drawing one for every patch must not slow training down."""

from __future__ import annotations

import numpy as np

from dps_jax.optics.psf import airy_psf, default_size

SCALE = 2  # fine pixels per camera pixel
_LIMIT, _COUNT = 0.15, 61  # relative errors of the Abbe period, from -15 % to 15 % in steps of half a percent


class PsfBank:
    """PSFs on the fine grid whose Abbe period is off by up to 15 %, all of one size."""

    def __init__(self, abbe_px: float, error: float) -> None:
        """Take the canonical Abbe period in camera px and the relative standard deviation of its error."""
        self.error = error
        self.size = default_size(SCALE * abbe_px)
        self._errors = np.linspace(-_LIMIT, _LIMIT, _COUNT)
        kernels = [airy_psf(abbe_px=SCALE * abbe_px * (1 + e), size=self.size) for e in self._errors]
        self._kernels = np.stack([np.asarray(k) for k in kernels])

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return the kernel ``(size, size)`` nearest to a random error."""
        wanted = self.error * rng.standard_normal()
        return self._kernels[int(np.argmin(np.abs(self._errors - wanted)))]
