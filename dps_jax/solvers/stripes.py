"""Waves that multiply an image: the stripes and honeycombs of SIM, found by their coherence and divided out (NumPy).

A pattern that was left in a reconstruction is the same wave all over the image; structure of the same period is not. So
a wave is told from structure by what a small window cannot show: how far its peak stands out of the ring of the
spectrum that it lies in, and how alike its amplitude and phase are in separate parts of the image.

Sources: Demmerle et al. 2017 (the residues of SIM patterns), Wicker 2013 (that the frequency of a multiplied wave is
found as a peak beside the spectrum's own).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter, maximum_filter

from dps_jax import _checks
from dps_jax.metrics.light import brightness

# Evidence (ratio to the ring times coherence) from which on a wave is believed. Four of 240 clean images of 26 periods
# hold that much, all of regular samples; set on seeds that no score uses.
BELIEVED = 80.0
# Of three waves, 60 degrees apart, each needs less: chance does not make three. Pores in a loose hexagonal order do.
_THREE = 0.5
# What is deeper is taken for structure, and the search ends: one wave, and each of three.
_DEEPEST = {1: 0.6, 3: 0.35}
# A sample that is regular itself, a grating or a lattice, has coherent waves of longer periods, too, than any pattern
# has; then nothing is done. Evidence there is below 8 in most images without.
_COARSE, _REGULAR = (0.15, 0.5), 15.0
# Cycles per Abbe period that are searched: a pattern is as fine as the objective passes it, or somewhat coarser.
BAND = (0.5, 1.1)
_RINGS = 8  # in the band, each measured by its own median
_PAD = 2  # of the spectrum, for a first guess within a quarter of a resolution element
_CANDIDATES = 8
_BLOCK_ABBE, _BLOCKS = 6.4, (4, 16)
_LEAST_BLOCKS = 2.5  # so many at least must hold light
_SMOOTH_ABBE = 1.0  # what the contrast is relative to
_DARK = 0.1  # of the image's brightness: below, contrast counts for less
_LEAST_FACTOR = 0.3

_Peak = tuple[float, float, float]  # cycles per px along y and x, evidence


@dataclass(frozen=True)
class Wave:
    """``cosine cos(2 pi k r) + sine sin(2 pi k r)`` of the image's light; ``k`` in cycles per px, ``r`` in px."""

    ky: float
    kx: float
    cosine: float
    sine: float
    evidence: float

    @property
    def depth(self) -> float:
        """Amplitude relative to the image."""
        return math.hypot(self.cosine, self.sine)

    @property
    def period_px(self) -> float:
        """Distance from crest to crest."""
        return 1 / math.hypot(self.ky, self.kx)


def find_waves(image: np.ndarray, *, abbe_px: float, most: int = 6, believed: float = BELIEVED) -> list[Wave]:
    """Find the waves that multiply an image, the strongest first.

    Parameters
    ----------
    image
        ``(y, x)``, background removed, of any unit.
    abbe_px
        Abbe period in px of the image that was super-resolved; sets where waves are looked for.
    most
        Waves to look for; a honeycomb is three.
    believed
        Least evidence; see the module.

    Returns
    -------
    The waves; none in an image whose sides are less than 26 Abbe periods, in which there is too little to tell, and
    none where the sample itself is regular, or looks like it.

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
    contrast, weight = _contrast(np.asarray(image, np.float64), abbe_px)
    if contrast is None:
        return []
    if any(evidence >= _REGULAR for _, _, evidence in _Search(contrast, weight, abbe_px, _COARSE).tops()):
        return []
    found: list[_Peak] = []
    fits = np.zeros(0)
    rest = contrast
    while len(found) < most:
        new = _Search(rest, weight, abbe_px, BAND).strongest(believed)
        new = [wave for wave in new if not _known(wave, found, contrast.shape)]
        if not new or len(found) + len(new) > most:
            break
        found += new
        # All together: waves that are found one after another are not quite orthogonal.
        fits, rest = _fit(contrast, weight, found)
    pairs = fits.reshape(-1, 2)
    return [Wave(ky, kx, float(c), float(s), e) for (ky, kx, e), (c, s) in zip(found, pairs, strict=True)]


def modulation(waves: list[Wave], shape: tuple[int, int]) -> np.ndarray:
    """Return the sum of waves on ``shape`` pixels."""
    total = np.zeros(shape)
    for wave in waves:
        rows, columns = _phases(wave.ky, wave.kx, shape)
        turned = rows[:, None] * columns[None, :]
        total += wave.cosine * turned.real + wave.sine * turned.imag
    return total


def remove_waves(image: np.ndarray, waves: list[Wave]) -> np.ndarray:
    """Divide an image ``(y, x)`` by ``1 + modulation``, or 0.3 where that is less; its sum is kept."""
    image = np.asarray(image)
    if not waves:
        return image.astype(np.float32)
    shape = (image.shape[0], image.shape[1])
    out = image / np.maximum(1 + modulation(waves, shape), _LEAST_FACTOR)
    before, after = float(np.sum(image, dtype=float)), float(np.sum(out, dtype=float))
    return (out * (before / after if before > 0 and after > 0 else 1.0)).astype(np.float32)


def _contrast(image: np.ndarray, abbe_px: float) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the image relative to its surroundings, and how much each pixel counts: bright ones 1, dark ones 0."""
    light = np.maximum(image, 0)
    floor = _DARK * brightness(light.astype(np.float32), abbe_px=abbe_px)
    if not floor > 0:
        return None, light
    smooth = gaussian_filter(light, _SMOOTH_ABBE * abbe_px, mode="reflect")
    return (image - smooth) / (smooth + floor), smooth / (smooth + floor)


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

    def strongest(self, believed: float) -> list[_Peak]:
        """Return the wave that stands out most, or the three of a honeycomb, if they are to be believed."""
        best: list[_Peak] = []
        best_share = 1.0
        for first in self.tops():
            turned = [self.peak(*_turned(first[0], first[1], angle)) for angle in (math.pi / 3, -math.pi / 3)]
            three = [first, *turned]
            together = math.exp(sum(math.log(max(p[2], 1e-9)) for p in three) / 3) / _THREE
            # A wave by itself may be one of three, but three are no reason to believe in one.
            for waves, evidence in (([first], first[2]), (three, together)):
                share = evidence / believed
                if share < best_share or len(waves) < len(best):
                    continue
                if not self._shallow(waves):
                    return []
                best, best_share = waves, share
        return best

    def _shallow(self, waves: list[_Peak]) -> bool:
        fits, _ = _fit(self.contrast, self.weight, waves)
        return bool(np.mean(np.hypot(fits[::2], fits[1::2])) <= _DEEPEST[len(waves)])


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


def _phases(ky: float, kx: float, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = (np.exp(2j * np.pi * k * np.arange(n)) for k, n in zip((ky, kx), shape, strict=True))
    return rows, columns


def _refined(tapered: np.ndarray, ky: float, kx: float) -> tuple[float, float]:
    """Climb from a point of the spectrum's grid to the top beside it, to a thousandth of a resolution element."""
    shape = (tapered.shape[0], tapered.shape[1])
    reach = 0.5
    while reach > 1e-3:
        steps = np.linspace(-reach, reach, 5)
        ys, xs = ky + steps / shape[0], kx + steps / shape[1]
        rows = np.stack([_phases(y, 0, shape)[0] for y in ys]).conj()
        columns = np.stack([_phases(0, x, shape)[1] for x in xs], axis=1).conj()
        i, j = np.unravel_index(np.argmax(np.abs(rows @ tapered @ columns)), (5, 5))
        ky, kx, reach = float(ys[i]), float(xs[j]), reach / 2
    return ky, kx


def _coherence(contrast: np.ndarray, weight: np.ndarray, ky: float, kx: float, blocks: list[int]) -> float:
    """Return the wave's amplitude over its error, as its scatter from block to block tells it."""
    rows, columns = _phases(ky, kx, contrast.shape)
    seen = 2 * weight * contrast * (rows.conj()[:, None] * columns.conj()[None, :])
    shares, sums = _block_sums(weight**2, blocks), _block_sums(seen, blocks)
    if not shares.sum() ** 2 > _LEAST_BLOCKS * np.sum(shares**2):
        return 0.0  # one spot is coherent with itself
    mean = sums.sum() / float(shares.sum())
    scatter = np.sum(np.abs(sums - mean * shares) ** 2) * sums.size / (sums.size - 1)
    return float(abs(mean) * shares.sum() / math.sqrt(max(float(scatter), 1e-30)))


def _block_sums(values: np.ndarray, blocks: list[int]) -> np.ndarray:
    edges = [np.arange(count) * n // count for n, count in zip(values.shape, blocks, strict=True)]
    return np.asarray(np.add.reduceat(np.add.reduceat(values, edges[0], axis=0), edges[1], axis=1)).ravel()


def _fit(contrast: np.ndarray, weight: np.ndarray, found: list[_Peak]) -> tuple[np.ndarray, np.ndarray]:
    """Fit all waves to the contrast at once; return cosine and sine of each, and what is left."""
    columns = []
    for ky, kx, _ in found:
        rows, across = _phases(ky, kx, contrast.shape)
        wave = weight * (rows[:, None] * across[None, :])
        columns += [wave.real.ravel(), wave.imag.ravel()]
    basis = np.stack(columns)
    fits = np.linalg.solve(basis @ basis.T, basis @ contrast.ravel())
    return fits, contrast - (fits @ basis).reshape(contrast.shape)
