"""Removal of plane waves that multiply an image: what illumination patterns leave in reconstructions (NumPy, SciPy).

A wave that follows the signal, a stripe or each of the three of a honeycomb, is spread in the spectrum over as broad a
patch as the structure that carries it, and hides there. Divided by its carrier, the smoothed image, it is one peak. A
peak alone is no proof: bars and lattices of dots have them too. Four things tell these apart, as far as it goes:

- the wave is a peak against its surroundings in the spectrum, in the band where patterns are;
- it has one modulation and one phase everywhere, whereas patches of bars and jittered lattices have others elsewhere;
- nothing but it and its partners 60 degrees away is periodic, whereas lattices have more than one direction, and bars
  harmonics;
- it is strong enough to be seen, a tenth of the signal, whereas the faint order of jittered lattices is not.

A single grating of sinusoidal bars over the whole field, of a period in the band, cannot be told from a wave, and is
removed as one. Two crossed patterns that are not 60 degrees apart are left, as lattices of dots would be.

Images are ``(y, x)``, of any unit; waves are in cycles per px along ``(y, x)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from dps_jax import _checks

# Cycles per Abbe period: patterns are as fine as the objective passes, or down to somewhat more than half of that.
_BAND = (0.55, 1.05)
# Where other periods betray a structure that is periodic itself: from what the high-pass leaves to what is resolved.
_WIDE_BAND = (0.3, 1.9)
# Standard deviations in Abbe periods: of the high-pass, of the carrier that the wave is divided by to be found, and of
# the one that it is fitted with, which follows the structure closely.
_HIGH_PASS, _CARRIER, _FITTED = 0.35, 0.7, 0.3
# Carriers below this share of the brightest count for less and less: there is noise.
_DARK = 0.1
# Of 160 clean images of 128x128 px of the training families, a tenth have a peak above 4.2, up to 21, from lattices and
# bars; the rules below leave none of these, nor of 260 others drawn after they were set (1.2 % at most, with 95 %
# confidence). At 3.9 two would pass all but the last rule. With a wave, six in ten are above and pass: the others are
# dots, noise, or periodic themselves.
THRESHOLD = 4.2
# A honeycomb's other two waves, whose places are known: there is little to choose from by chance. Three weak ones are
# not added up to a strong one, though that would find more: pores and meshes, near hexagonal, add up as well.
_PARTNER = 2.3
# A wave alike in all of nine blocks has a coherence of 1 / (1 + 8 / significance^2) for the noise in them; twice the
# noise is allowed, and 0.9 is enough, for a field is never lit quite evenly.
_NOISE, _COHERENCE = 16.0, 0.9
# The highest other period that is still none: the noise's, or a side lobe's, or a share of the wave's own, which counts
# no further than to where the side lobes of the window are the surroundings.
_OTHERS, _OTHERS_SHARE, _SATURATED = 4.0, 0.55, 30.0
# Root mean square of a wave, or of a honeycomb's three, relative to its carrier. Hexagonal lattices with jitter, which
# dots, pores and meshes form, have waves 60 degrees apart as well: of 260 clean images eight, at 0.04 to 0.096. An eye
# hardly finds a pattern weaker than that.
_LEAST_STRENGTH = 0.1
_BLOCKS, _MOST_WAVES, _ROUNDS = 3, 4, 4
# Samples of the spectrum on either side: of a peak, and of the surroundings it is compared with.
_PEAK, _AROUND = 2, 4
# Sides in Abbe periods from which on the band is wide enough to have surroundings, and the size THRESHOLD is for.
_LEAST, _PIXELS = 12.0, 128**2


@dataclass(frozen=True, eq=False)
class PatternRemoved:
    """An image ``(y, x)`` without its waves.

    ``waves`` is ``(n, 2)``, in cycles per px along y and x, and ``significance`` that of the highest peak, accepted or
    not: its root mean square relative to that of its surroundings in the spectrum.
    """

    image: np.ndarray
    waves: np.ndarray
    significance: float


@dataclass(frozen=True, eq=False)
class _Modulation:
    """The fine detail divided by its carrier, its weights, and the significance of each place of its spectrum."""

    values: np.ndarray
    weights: np.ndarray
    significance: np.ndarray


def remove_patterned_residual(
    image: np.ndarray, *, abbe_px: float, threshold: float = THRESHOLD
) -> PatternRemoved:
    """Remove up to four plane waves that multiply the signal.

    Parameters
    ----------
    image
        ``(y, x)`` without background, of any unit; the answer is linear in it.
    abbe_px
        Abbe period of the microscope in px: waves of 0.55 to 1.05 cycles per period are looked for.
    threshold
        Significance from which on a peak is a wave, in 128x128 px; larger images have more places for chance, and
        need a little more.

    Returns
    -------
    The image with as many photons as before, its waves and the significance of the first. Where no wave is found it is
    the image itself, to the last bit, as it is for one of less than 12 periods a side.

    Raises
    ------
    ValueError
        For an image that is not ``(y, x)`` or holds values that are not finite, or an option that is not above 0.

    Notes
    -----
    No clean image of 420 of the training families is changed, but of lattices of dots alone and of bars alone one in
    fifteen, by 15 to 30 %, and a sinusoidal grating over the whole field is removed (see the module). Waves on a few
    dots or in noise are not found, and stay.

    Source: the matched filter and the artefacts are those of Demmerle et al. 2017 and Fan et al. 2019; the estimate of
    a wave from its peak follows Gustafsson et al. 2008.
    """
    _check(image, abbe_px, threshold)
    plane = np.asarray(image, float)
    waves, current, first = np.zeros((0, 2)), plane, 0.0
    threshold = float(np.sqrt(threshold**2 + max(0.0, np.log(plane.size / _PIXELS))))
    while len(waves) < _MOST_WAVES and _searchable(current, abbe_px):
        found, significance = _search(current, abbe_px, threshold)
        first = first if len(waves) else significance
        if not len(found):
            break
        together = np.concatenate([waves, found])[:_MOST_WAVES]
        left = _without(plane, current, together, abbe_px)
        if np.linalg.norm(current - left) < _LEAST_STRENGTH * np.linalg.norm(
            _carrier(left, _FITTED * abbe_px)
        ):
            break
        waves, current = together, left
    out = current.astype(np.float32) if len(waves) else np.array(image, np.float32)
    return PatternRemoved(out, waves, first)


def _searchable(plane: np.ndarray, abbe_px: float) -> bool:
    return min(plane.shape) >= _LEAST * abbe_px and bool(_carrier(plane, _CARRIER * abbe_px).max() > 0)


def _search(plane: np.ndarray, abbe_px: float, threshold: float) -> tuple[np.ndarray, float]:
    """Return the wave ``(n, 2)`` of the highest peak with its partners, or none, and the peak's significance."""
    modulation = _modulation(plane, abbe_px)
    radius = np.hypot(*_frequencies(plane.shape)) * abbe_px
    inside = np.where((radius > _BAND[0]) & (radius < _BAND[1]), modulation.significance, 0)
    place = np.unravel_index(np.argmax(inside), plane.shape)
    significance = float(inside[place])
    family = _family(np.array([np.fft.fftfreq(n)[i] for n, i in zip(plane.shape, place, strict=True)]))
    partners = [_nearby(modulation.significance, wave) for wave in family[1:]]
    honeycomb = min(partners) > _PARTNER
    if significance < threshold:
        return family[:0], significance
    wide = (radius > _WIDE_BAND[0]) & (radius < _WIDE_BAND[1]) & _far_from(family, plane.shape)
    others = float(modulation.significance[wide].max(initial=0))
    waves = np.stack([_refined(modulation.values, wave) for wave in (family if honeycomb else family[:1])])
    alike = _coherence(modulation, waves[0]) > min(_COHERENCE, 1 / (1 + _NOISE / significance**2))
    alone = others < max(_OTHERS, _OTHERS_SHARE * min(significance, _SATURATED))
    return (waves if alike and alone else waves[:0]), significance


def _family(wave: np.ndarray) -> np.ndarray:
    """Return a wave and those 60 degrees to its left and right."""
    sine, cosine = np.sin(np.pi / 3), np.cos(np.pi / 3)
    left = np.array([[cosine, sine], [-sine, cosine]])
    return np.stack([wave, left @ wave, left.T @ wave])


def _modulation(plane: np.ndarray, abbe_px: float) -> _Modulation:
    """Divide what is fine by its carrier, and compare each place of the spectrum with those around it."""
    carrier = _carrier(plane, _CARRIER * abbe_px)
    fine = plane - gaussian_filter(plane, _HIGH_PASS * abbe_px, mode="reflect")
    weights = carrier**2 / (carrier**2 + (_DARK * carrier.max()) ** 2)
    values = fine * carrier / (carrier**2 + (_DARK * carrier.max()) ** 2)
    power = np.abs(np.fft.fft2(values * _window(plane.shape))) ** 2
    outer, inner = (2 * k + 1 for k in (_AROUND, _PEAK))
    sums = [n**2 * uniform_filter(power, n, mode="wrap") for n in (outer, inner)]
    around = np.maximum((sums[0] - sums[1]) / (outer**2 - inner**2), 1e-12 * max(power.max(), 1e-30))
    return _Modulation(values, weights, np.sqrt(power / around))


def _carrier(plane: np.ndarray, sigma_px: float) -> np.ndarray:
    return np.maximum(gaussian_filter(plane, sigma_px, mode="reflect"), 0)


def _window(shape: tuple[int, ...]) -> np.ndarray:
    return np.outer(*(np.hanning(n) for n in shape))


def _frequencies(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]


def _far_from(waves: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return where the spectrum is no part of the peaks of waves, nor of their mirror images."""
    far = np.ones(shape, bool)
    for wave in (*waves, *-waves):
        rows, columns = (
            np.abs((f - w + 0.5) % 1 - 0.5) * n
            for f, w, n in zip(_frequencies(shape), wave, shape, strict=True)
        )
        far &= (rows > _PEAK + 1) | (columns > _PEAK + 1)
    return far


def _nearby(significance: np.ndarray, wave: np.ndarray) -> float:
    """Return the highest significance within a sample of a wave: its partner's place is known to about half of one."""
    centre = [round(f * n) for f, n in zip(wave, significance.shape, strict=True)]
    rows, columns = (np.arange(c - 1, c + 2) % n for c, n in zip(centre, significance.shape, strict=True))
    return float(significance[np.ix_(rows, columns)].max())


def _refined(values: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """Move a wave to the maximum of the spectrum between its samples, to 0.01 of one."""
    # Unwindowed: the window keeps a wave off its surroundings, but costs the borders, which tell the frequency best.
    for half, step in ((1.25, 0.25), (0.25, 0.05), (0.05, 0.01)):
        offsets = np.arange(-round(half / step), round(half / step) + 1) * step
        lines = [w + offsets / n for w, n in zip(wave, values.shape, strict=True)]
        left, right = (
            np.exp(-2j * np.pi * np.outer(f, np.arange(n))) for f, n in zip(lines, values.shape, strict=True)
        )
        power = np.abs(left @ values @ right.T)
        i, j = np.unravel_index(np.argmax(power), power.shape)
        wave = np.array([lines[0][i], lines[1][j]])
    return wave


def _phase(shape: tuple[int, ...], wave: np.ndarray) -> np.ndarray:
    return 2 * np.pi * (wave[0] * np.arange(shape[0])[:, None] + wave[1] * np.arange(shape[1])[None, :])


def _coherence(modulation: _Modulation, wave: np.ndarray) -> float:
    """Return the share of the wave's energy in nine blocks that is one modulation and phase: 1 if they are alike."""
    turned = modulation.values * np.exp(-1j * _phase(modulation.values.shape, wave))
    sums, weights = _block_sums(turned), _block_sums(modulation.weights)
    energy = np.sum(np.abs(sums) ** 2 / np.maximum(weights, 1e-9 * weights.max()))
    return float(np.abs(sums.sum()) ** 2 / max(weights.sum() * energy, 1e-300))


def _block_sums(values: np.ndarray) -> np.ndarray:
    rows, columns = ([n * k // _BLOCKS for k in range(_BLOCKS)] for n in values.shape)
    return np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)


def _without(plane: np.ndarray, current: np.ndarray, waves: np.ndarray, abbe_px: float) -> np.ndarray:
    """Fit all waves at once to the image, each times the carrier, which is taken anew from what is left."""
    phases = [_phase(plane.shape, wave) for wave in waves]
    basis = np.stack([f(phase) for phase in phases for f in (np.cos, np.sin)])
    for _ in range(_ROUNDS):
        carrier = _carrier(current, _FITTED * abbe_px)
        matrix = (carrier * basis).reshape(len(basis), -1)
        parts = np.linalg.lstsq(matrix @ matrix.T, matrix @ plane.ravel(), rcond=None)[0]
        residual = (parts @ matrix).reshape(plane.shape)
        # The light that a wave takes stays with the signal that carries it.
        current = plane - residual + residual.sum() / carrier.sum() * carrier
    return current


def _check(image: np.ndarray, abbe_px: float, threshold: float) -> None:
    if np.ndim(image) != 2:
        raise ValueError(f"expected one image (y, x), got shape {np.shape(image)}")
    if np.size(image) == 0 or not np.all(np.isfinite(image)):
        raise ValueError("expected an image of finite values, got some that are not, or none at all")
    _checks.positive("abbe_px", abbe_px)
    _checks.positive("threshold", threshold)
