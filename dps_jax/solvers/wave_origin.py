"""Whether a wave in an image was laid over the sample or is the sample's own order (NumPy).

A residue of the illumination follows the light of the sample but knows nothing of its structures: once it is taken out,
they are as strong where its crests were as where its troughs were. A sample that is ordered, a lattice of pores or a
grating, has its structures on the crests, and taking out the wave leaves them there. So the power and the third power
of the contrast that is left, seen along the wave, tell one from the other. A lattice leaves a second trace: three waves
of chance phases have crests that meet nowhere, those of a lattice meet on its sites.

Source: Cochran 1955 (the phases of three reflections that close a triangle add up to near 0 in a structure of atoms).
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.solvers.waves import Wave, block_sums, contrast_of, phase_factor, remove_waves

# Widths of the Gaussian that may have blurred the light that a wave follows, in Abbe periods: none, and about that of
# the microscope.
_SMOOTHINGS = (0.0, 0.3)
# Chi squared of two degrees, above which 1 in 1000 waves lie that know nothing of the structures. Waves of more than
# 1000 times their error show what is wrong with the model, too, in proportion.
_DEPENDENT, _PLAIN = 13.8, 1000.0
# Where there is reason to doubt, 1 in 20, and more evidence than elsewhere.
_DOUBTED, _DOUBTED_EVIDENCE = 6.0, 200.0
# What is deeper is structure: one wave, and each of three.
_DEEPEST = {1: 0.6, 3: 0.35}
_MEETING_DEGREES = 25.0  # of chance phases three in eleven meet so closely
_ALIKE, _ALIKE_DEGREES = 0.05, 5.0  # the stripes of one microscope
_CLOSED = 1.5  # samples of the spectrum within which three vectors close a triangle
_SLOW_ABBE = 2.0  # what changes over so far is no part of a wave


def laid_over(
    image: np.ndarray, sets: list[list[Wave]], *, abbe_px: float, blocks: list[int], regular: bool
) -> list[Wave]:
    """Return those waves, with the smoothing that they follow, that were laid over the sample.

    Parameters
    ----------
    image
        ``(y, x)``.
    sets
        Of one wave, or of the three of a honeycomb; the plainest first.
    abbe_px
        Abbe period in px.
    blocks
        So many parts along each side are taken for independent.
    regular
        Whether the sample is known to be ordered.
    """
    singles = [waves[0] for waves in sets if len(waves) == 1]
    of_lattice = _closing(singles, image.shape)
    kept: list[list[Wave]] = []
    for waves in sets:
        deep = np.mean([wave.depth for wave in waves]) > _DEEPEST[len(waves)]
        if deep or not of_lattice.isdisjoint(waves):
            continue
        trials = []
        for width in _SMOOTHINGS:
            trial = [dataclasses.replace(wave, smoothing_px=width * abbe_px) for wave in waves]
            left = remove_waves(image, [*itertools.chain(*kept), *trial])
            trials.append((dependence(left, trial, abbe_px=abbe_px, blocks=blocks), trial))
        least, best = min(trials, key=lambda t: t[0])
        evidence = min(wave.evidence for wave in waves)
        if regular or (len(waves) == 3 and crests_meet(waves)):
            sure = least <= _DOUBTED and evidence >= _DOUBTED_EVIDENCE
        else:
            sure = least <= _DEPENDENT * max(1.0, evidence / _PLAIN)
        if sure:
            kept.append(best)
    return _of_one_pattern(kept)


def _of_one_pattern(sets: list[list[Wave]]) -> list[Wave]:
    """Return the waves that one microscope can have left: one honeycomb, or stripes of one period 60 degrees apart.

    Where there is more, most of it is the sample's own, and which of it cannot be told.
    """
    honeycombs = [waves for waves in sets if len(waves) == 3]
    if honeycombs:
        return honeycombs[0] if len(honeycombs) == 1 else []
    waves = list(itertools.chain(*sets))
    for one, other in itertools.combinations(waves, 2):
        degrees = math.degrees(math.atan2(one.ky, one.kx) - math.atan2(other.ky, other.kx))
        apart = abs((degrees + 30) % 60 - 30)
        if abs(one.period_px / other.period_px - 1) > _ALIKE or apart > _ALIKE_DEGREES:
            return []
    return waves


def dependence(image: np.ndarray, waves: list[Wave], *, abbe_px: float, blocks: list[int]) -> float:
    """Return how surely contrast knows of the waves: a chi squared of two degrees, of its power and its third power.

    Compared with their scatter from block to block are the sums over the image of power times ``cos`` of the wave's own
    phase; of several waves the sum of standard scores counts.
    """
    contrast, weight = contrast_of(np.asarray(image, float), abbe_px=abbe_px)
    if contrast is None:
        return 0.0
    total = 0.0
    for power in (2, 3):
        seen = (weight * contrast) ** power
        seen = seen - gaussian_filter(seen, _SLOW_ABBE * abbe_px, mode="reflect")
        scores = []
        for wave in waves:
            turned = phase_factor(wave.ky, wave.kx, seen.shape)
            along = (wave.cosine * turned.real + wave.sine * turned.imag) / max(wave.depth, 1e-30)
            sums = block_sums(seen * along, blocks)
            scores.append(sums.sum() / max(float(sums.std(ddof=1)) * math.sqrt(sums.size), 1e-30))
        total += sum(scores) ** 2 / len(scores)
    return total


def crests_meet(waves: list[Wave]) -> bool:
    """Tell whether crests, or troughs, of three waves whose vectors close a triangle come together at one point."""
    *_, signs = min(_triangles(waves))
    triplet = sum(s * math.atan2(w.sine, w.cosine) for s, w in zip(signs, waves, strict=True))
    return abs(math.sin(triplet)) < math.sin(math.radians(_MEETING_DEGREES))


def _triangles(waves: list[Wave], shape: tuple[int, ...] = (1, 1)) -> list[tuple[float, tuple[int, ...]]]:
    """Return by how much three vectors, taken with either sign, miss closing a triangle, and the signs."""
    vectors = [complex(w.ky * shape[0], w.kx * shape[1]) for w in waves]
    signs = [(1, *rest) for rest in itertools.product((1, -1), repeat=2)]
    return [(abs(sum(s * k for s, k in zip(g, vectors, strict=True))), g) for g in signs]


def _closing(waves: list[Wave], shape: tuple[int, ...]) -> set[Wave]:
    """Return waves of which three close a triangle, as those of a lattice do that is stretched."""
    triples = itertools.combinations(waves, 3)
    return {wave for three in triples if min(_triangles(list(three), shape))[0] < _CLOSED for wave in three}
