"""The optical system: the physical constants that every kernel is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax

from dps_jax import _checks
from dps_jax.typing import Array

Number = float | Array

# FWHM of [2 J1(v)/v]^2 in units of lambda / NA: 2 * 1.61634 / (2 pi), Born and Wolf 1999, 8.5.
AIRY_FWHM = 0.514500


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OpticalSystem:
    """Fluorescence microscope with a circular pupil and square pixels, as plain data.

    Parameters
    ----------
    na
        Numerical aperture of the detection objective.
    wavelength_nm
        Vacuum wavelength of the emitted light in nm.
    pixel_size_nm
        Edge of a camera pixel in the object plane in nm.
    modulation
        Modulation factor m_f of the srPSF: 1 for widefield or confocal, about 2 for linear SIM.
    refractive_index
        Of the immersion medium; the numerical aperture cannot exceed it.

    Raises
    ------
    ValueError
        For a number that is not positive and finite, or ``na`` above ``refractive_index``.

    Notes
    -----
    The fields are pytree leaves, so ``jax.grad`` with respect to a system works; traced values are not checked.
    """

    na: Number
    wavelength_nm: Number
    pixel_size_nm: Number
    modulation: Number = field(default=1.0)
    refractive_index: Number = field(default=1.515)

    def __post_init__(self) -> None:
        for name in ("na", "wavelength_nm", "pixel_size_nm", "modulation", "refractive_index"):
            value = getattr(self, name)
            _checks.positive(name, value)
            if _checks.is_concrete_number(value):  # whole numbers too are to be differentiable
                object.__setattr__(self, name, float(value))
        known = _checks.is_concrete_number(self.na) and _checks.is_concrete_number(self.refractive_index)
        if known and self.na > self.refractive_index:
            raise ValueError(
                f"expected na to be at most the refractive index of the immersion medium "
                f"({self.refractive_index:g}), got {self.na:g}"
            )

    @property
    def effective_na(self) -> Number:
        """Numerical aperture times modulation factor."""
        return self.modulation * self.na

    @property
    def cutoff_per_nm(self) -> Number:
        """Highest spatial frequency in the image, ``2 m_f NA / lambda``, in cycles per nm (Abbe 1873)."""
        return 2 * self.effective_na / self.wavelength_nm

    @property
    def abbe_nm(self) -> Number:
        """Abbe period ``lambda / (2 m_f NA)`` in nm: the finest period that the image holds."""
        return self.wavelength_nm / (2 * self.effective_na)

    @property
    def abbe_px(self) -> Number:
        """Abbe period in camera pixels; 2 is Nyquist sampling."""
        return self.abbe_nm / self.pixel_size_nm

    @property
    def airy_fwhm_nm(self) -> Number:
        """Full width at half maximum of the PSF in nm."""
        return AIRY_FWHM * self.wavelength_nm / self.effective_na
