"""The waves that SIM leaves over an image, its stripes and honeycombs, found by their coherence (NumPy).

A pattern that was left in a reconstruction is the same wave all over the image; structure of the same period is not. So
a wave is told from structure by what a small window cannot show: how far its peak stands out of the ring of the
spectrum that it lies in, and how alike its amplitude and phase are in separate parts of the image. Samples that are
ordered have such waves, too; whose a wave is, ``wave_origin`` tells.

Sources: Demmerle et al. 2017 (the residues of SIM patterns), Wicker 2013 (that the frequency of a multiplied wave is
found as a peak beside the spectrum's own).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import scipy.fft
from scipy.ndimage import maximum_filter

from dps_jax import _checks
from dps_jax.solvers.wave_origin import laid_over
from dps_jax.solvers.waves import Wave, block_sums, contrast_of, phase_factor

# Evidence (ratio to the ring times coherence) from which on a wave is believed. Of 120 clean images of 26 periods of
# all families two hold that much and more that is not told to be the sample's own; set on seeds that no score uses.
BELIEVED = 80.0
# The geometric mean of three waves, 60 degrees apart, is divided by 0.05 times the root of the number of blocks: chance
# does not make three, so that less is wanted of them, but a lattice in patches does, and the more of them the more.
_THREE = 0.05
# A sample that is regular itself, a grating or a lattice, has coherent waves of longer periods, too, than any pattern
# has; there is reason to doubt the others then. Evidence there is below 8 in most images without.
_COARSE, _REGULAR = (0.15, 0.5), 15.0
# Cycles per Abbe period that are searched: a pattern is as fine as the objective passes it, or somewhat coarser.
BAND = (0.5, 1.1)
_RINGS = 8  # in the band, each measured by its own median
_PAD = 2  # of the spectrum, for a first guess within a quarter of a resolution element
_CANDIDATES = 8
_BLOCK_ABBE, _BLOCKS = 6.4, (4, 16)
_LEAST_BLOCKS = 2.5  # so many at least must hold light

_Peak = tuple[float, float, float]  # cycles per px along y and x, evidence


def find_waves(image: np.ndarray, *, abbe_px: float, most: int = 9, believed: float = BELIEVED) -> list[Wave]:
    """Find the waves that were laid over an image, the strongest first.

    Parameters
    ----------
    image
        ``(y, x)``, background removed, of any unit.
    abbe_px
        Abbe period in px of the image that was super-resolved; sets where waves are looked for.
    most
        Waves to look for, those of an ordered sample among them; a honeycomb is three.
    believed
        Least evidence; see the module.

    Returns
    -------
    The waves, each with the smoothing of the light that it follows; none in an image whose sides are less than 26 Abbe
    periods, in which there is too little to tell. Waves of a sample that is ordered itself are told from them by
    ``wave_origin``; a grating that fills a small field, bars of one period and nothing else, is not surely told.

    Raises
    ------
    ValueError
        For an image that is not ``(y, x)`` or not finite, or a number that is not above 0.
    """
    _checks.finite_plane(image)
    _checks.positive("abbe_px", abbe_px)
    _checks.positive_integer("most", most)
    _checks.positive("believed", believed)
    if min(_blocks(np.shape(image), abbe_px)) < _BLOCKS[0]:
        return []
    image = np.asarray(image, np.float64)
    contrast, weight = contrast_of(image, abbe_px=abbe_px)
    if contrast is None:
        return []
    found: list[_Peak] = []
    fits = np.zeros(0)
    rest = contrast
    while True:
        new = _Search(rest, weight, abbe_px, BAND).strongest(believed, found)
        if not new or len(found) + len(new) > most:
            break
        found += new
        # All together: waves that are found one after another are not quite orthogonal.
        fits, rest = _fit(contrast, weight, found)
    if not found:
        return []
    waves = [
        Wave(ky, kx, float(cosine), float(sine), evidence)
        for (ky, kx, evidence), (cosine, sine) in zip(found, fits.reshape(-1, 2), strict=True)
    ]
    coarse = _Search(contrast, weight, abbe_px, _COARSE).tops()
    regular = any(evidence >= _REGULAR for *_, evidence in coarse)
    blocks = _blocks(contrast.shape, abbe_px)
    return laid_over(image, waves, abbe_px=abbe_px, blocks=blocks, regular=regular)


class _Search:
    """Looks for waves in a contrast, within a band of the spectrum."""

    def __init__(
        self, contrast: np.ndarray, weight: np.ndarray, abbe_px: float, band: tuple[float, float]
    ) -> None:
        self.contrast, self.weight = contrast, weight
        self.blocks = _blocks(contrast.shape, abbe_px)
        self.tapered = contrast * np.hanning(contrast.shape[0])[:, None] * np.hanning(contrast.shape[1])
        self.ratio, self.frequencies = _ratio_to_ring(self.tapered, abbe_px, band)

    def tops(self) -> Iterator[_Peak]:
        """Yield the peaks that stand out most of their ring, each at its top."""
        tops = np.where(
            maximum_filter(self.ratio, size=4 * _PAD + 1, mode="wrap") == self.ratio, self.ratio, 0.0
        )
        for place in np.argsort(tops, axis=None)[: -_CANDIDATES - 1 : -1]:
            row, column = np.unravel_index(place, tops.shape)
            if tops[row, column] > 0:
                yield self.peak(float(self.frequencies[0][row]), float(self.frequencies[1][column]))

    def peak(self, ky: float, kx: float) -> _Peak:
        """Climb to the top next to a frequency and judge it."""
        ky, kx = _refined(self.tapered, ky, kx)
        # The largest of the grid's points around it: the peak lies between them.
        row, column = (int(np.argmin(np.abs(f - k))) for f, k in zip(self.frequencies, (ky, kx), strict=True))
        rows = [row - 1, row, (row + 1) % len(self.ratio)]
        columns = slice(max(column - 1, 0), column + 2)
        evidence = float(self.ratio[rows, columns].max())
        return ky, kx, evidence * _coherence(self.contrast, self.weight, ky, kx, self.blocks)

    def strongest(self, believed: float, found: list[_Peak]) -> list[_Peak]:
        """Return the wave that stands out most, or the three of a honeycomb, if they are to be believed and are new."""
        best: list[_Peak] = []
        best_evidence = believed
        per_three = _THREE * math.sqrt(math.prod(self.blocks))
        for first in self.tops():
            turned = [self.peak(*_turned(first[0], first[1], angle)) for angle in (math.pi / 3, -math.pi / 3)]
            three = [first, *turned]
            together = math.exp(sum(math.log(max(p[2], 1e-9)) for p in three) / 3) / per_three
            # A wave by itself may be one of three, but three are no reason to believe in one.
            for waves, evidence in (([first], first[2]), (three, together)):
                new = not any(_known(wave, found, self.contrast.shape) for wave in waves)
                if new and evidence >= best_evidence and len(waves) >= len(best):
                    best, best_evidence = waves, evidence
        return best


def _blocks(shape: tuple[int, ...], abbe_px: float) -> list[int]:
    return [min(_BLOCKS[1], int(n / (_BLOCK_ABBE * abbe_px) + 1e-9)) for n in shape]


def _ratio_to_ring(
    tapered: np.ndarray, abbe_px: float, band: tuple[float, float]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return the spectrum's size over the median of its ring, 0 outside of the band, and the frequencies per px."""
    sides = [scipy.fft.next_fast_len(_PAD * n, real=True) for n in tapered.shape]
    size = np.abs(scipy.fft.rfft2(tapered, s=sides))
    fy, fx = scipy.fft.fftfreq(sides[0]), scipy.fft.rfftfreq(sides[1])
    ring = np.floor(_RINGS * (abbe_px * np.hypot(fy[:, None], fx[None]) - band[0]) / (band[1] - band[0]))
    ratio = np.zeros_like(size)
    for index in range(_RINGS):
        where = ring == index
        usual = float(np.median(size[where])) if where.any() else 0.0
        if usual > 0:
            ratio[where] = size[where] / usual
    return ratio, (fy, fx)


def _turned(ky: float, kx: float, angle: float) -> tuple[float, float]:
    """Turn a frequency; of the two halves of a real image's spectrum the one with ``kx >= 0`` is used."""
    c, s = math.cos(angle), math.sin(angle)
    ky, kx = c * ky + s * kx, -s * ky + c * kx
    return (ky, kx) if kx >= 0 else (-ky, -kx)


def _known(wave: _Peak, found: list[_Peak], shape: tuple[int, ...]) -> bool:
    """Tell whether a wave is, within a resolution element, one that was found before: what a fit left of it."""
    return any(math.hypot((wave[0] - ky) * shape[0], (wave[1] - kx) * shape[1]) < 1.0 for ky, kx, _ in found)


def _refined(tapered: np.ndarray, ky: float, kx: float) -> tuple[float, float]:
    """Climb from a point of the spectrum's grid to the top beside it, to a thousandth of a resolution element."""
    values = tapered.astype(complex)
    y, x = (-2j * np.pi * np.arange(n) for n in values.shape)
    reach = 0.5
    while reach > 1e-3:
        steps = np.linspace(-reach, reach, 5)
        ys, xs = ky + steps / len(y), kx + steps / len(x)
        sizes = np.abs(np.exp(np.outer(ys, y)) @ values @ np.exp(np.outer(x, xs)))
        i, j = np.unravel_index(np.argmax(sizes), sizes.shape)
        ky, kx, reach = float(ys[i]), float(xs[j]), reach / 2
    return ky, kx


def _coherence(contrast: np.ndarray, weight: np.ndarray, ky: float, kx: float, blocks: list[int]) -> float:
    """Return the wave's amplitude over its error, as its scatter from block to block tells it."""
    seen = 2 * weight * contrast * phase_factor(ky, kx, contrast.shape).conj()
    shares, sums = block_sums(weight**2, blocks), block_sums(seen, blocks)
    if not shares.sum() ** 2 > _LEAST_BLOCKS * np.sum(shares**2):
        return 0.0  # one spot is coherent with itself
    mean = sums.sum() / float(shares.sum())
    scatter = np.sum(np.abs(sums - mean * shares) ** 2) * sums.size / (sums.size - 1)
    return float(abs(mean) * shares.sum() / math.sqrt(max(float(scatter), 1e-30)))


def _fit(contrast: np.ndarray, weight: np.ndarray, found: list[_Peak]) -> tuple[np.ndarray, np.ndarray]:
    """Fit all waves to the contrast at once; return cosine and sine of each, and what is left."""
    columns = []
    for ky, kx, _ in found:
        wave = weight * phase_factor(ky, kx, contrast.shape)
        columns += [wave.real.ravel(), wave.imag.ravel()]
    basis = np.stack(columns)
    fits = np.linalg.solve(basis @ basis.T, basis @ contrast.ravel())
    return fits, contrast - (fits @ basis).reshape(contrast.shape)
