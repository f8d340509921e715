"""What a restoration says about itself: what was done, how well it explains the image, and where to be careful."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from dps_jax.optics.system import OpticalSystem

# On scenes and real images the correction lies within 5 %; a quarter off is a different situation.
_FLUX_TRUST = 1.25
# The lower end of the photons that released networks are trained on.
_LEAST_PHOTONS = 20


@dataclass(frozen=True)
class Report:
    """What was done to an image and how well the result explains it; plain numbers, ready for JSON."""

    abbe_nm: float
    abbe_px: float
    canonical_factor: float
    background: float
    brightness: float
    gain: float | None
    offset: float | None
    gain_origin: str
    peak_photons: float | None
    photons_out_over_in: float
    flux_correction: float
    reblur_correlation: float
    tiles: int
    notes: tuple[str, ...] = field(default=())

    def in_words(self) -> tuple[str, ...]:
        """Return the report as lines of a log."""
        return (
            f"Abbe period {self.abbe_nm:.0f} nm = {self.abbe_px:.2f} px; background {self.background:.6g}; "
            f"photons out/in {self.photons_out_over_in:.4f}; blurred again it correlates "
            f"{self.reblur_correlation:.4f} with the input",
            self._photons(),
            *(f"note: {note}" for note in self.notes),
        )

    def _photons(self) -> str:
        if self.gain is None or self.peak_photons is None:
            return f"photons per camera unit {self.gain_origin}; give --gain if you know it"
        offset = "" if self.offset is None else f", offset {self.offset:.6g}"
        return (
            f"about {self.peak_photons:.3g} photons per pixel in the brightest structures "
            f"(gain {self.gain:.4g} per photon{offset}, {self.gain_origin})"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary."""
        return asdict(self)


def check_sampling(system: OpticalSystem) -> tuple[str, ...]:
    """Return notes on an image sampled below Nyquist; refuse one that holds nothing of its optics.

    Raises
    ------
    ValueError
        If a pixel is longer than the Abbe period.
    """
    size, period = float(system.pixel_size_nm), float(system.abbe_nm)
    if size > period:
        raise ValueError(
            f"expected pixels no longer than the Abbe period of the optics ({period:.4g} nm), got {size:.4g} nm: "
            f"the camera has already lost what could be restored; check the pixel size, NA and wavelength"
        )
    if 2 * size > period:
        return (
            f"the pixel of {size:.1f} nm is too coarse for the optics (at most {period / 2:.1f} nm samples the "
            f"Abbe period of {period:.0f} nm): fine detail may be aliased and the gain in resolution is limited",
        )
    return ()


def light_notes(peak: float | None) -> tuple[str, ...]:
    """Say where there are fewer photons per canonical pixel than the network has learned to work with."""
    if peak is None or peak >= _LEAST_PHOTONS:
        return ()
    return (
        f"the brightest structures hold about {peak:.2g} photons per pixel of 0.4 Abbe periods, fewer than the "
        f"{_LEAST_PHOTONS} from which restorations were tested: what looks like structure may be noise",
    )


def flux_notes(corrections: list[float]) -> tuple[str, ...]:
    """Say where the network's own light was far from the image's: there its answer deserves less trust."""
    worst = max(corrections, key=lambda c: abs(np.log(c)))
    if abs(np.log(worst)) <= np.log(_FLUX_TRUST):
        return ()
    return (
        f"the network's light had to be scaled by {worst:.2f} to match the image's: too little light above the "
        "background, or structures unlike those it knows; check the result against the input",
    )
