"""Whether a wave in an image was laid over the sample or is the sample's own order (NumPy).

A residue of the illumination follows the light of the sample but knows nothing of its structures: once it is taken
out, they are as strong where its crests were as where its troughs were. A sample that is ordered, a lattice of pores
or a grating, has its structures on the crests, and taking out the wave leaves them there. So the power and the third
power of the contrast that is left, seen along the wave, tell one from the other. A lattice leaves two more traces:
three waves of chance phases have crests that meet nowhere, those of a lattice meet on its sites; and where it is
stretched, three of its vectors close a triangle that no microscope's pattern has.

Source: Cochran 1955 (the phases of three reflections that close a triangle add up to near 0 in a structure of atoms).
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.solvers.waves import Wave, block_sums, contrast_of, modulation, remove_waves

# Widths of the Gaussian that may have blurred the light that a wave follows, in Abbe periods, between which the width
# is sought: from none to somewhat more than that of the Airy pattern (0.42).
_SMOOTHINGS = (0.0, 0.15, 0.3, 0.45, 0.6)
_FINER = {"xatol": 0.02, "maxiter": 8}
# About the chi squared of two degrees above which 1 in 1000 waves lie that know nothing of the structures. The plainer
# a wave is, the more does what is wrong with the model show: more is allowed in proportion, up to a limit.
_DEPENDENT, _PLAIN_EVIDENCE, _MOST_PLAIN = 13.8, 1000.0, 4.0
# Where there is reason to doubt, about 1 in 20, and more evidence than elsewhere.
_DOUBTED, _DOUBTED_EVIDENCE = 6.0, 200.0
# What is deeper is structure: one wave, and each of several.
_DEEPEST, _DEEPEST_OF_SEVERAL = 0.6, 0.33
_ALIKE, _ALIKE_DEGREES = 0.05, 5.0  # periods and directions of one microscope's pattern
_MEETING_DEGREES = 25.0  # of chance phases five in eighteen meet so closely
_CLOSED = 1.5  # samples of the spectrum within which three vectors close a triangle
_SLOW_ABBE = 2.0  # what changes over so far is no part of a wave


def laid_over(
    image: np.ndarray, waves: list[Wave], *, abbe_px: float, blocks: list[int], regular: bool
) -> list[Wave]:
    """Choose those waves of an image ``(y, x)`` that were laid over the sample.

    Parameters
    ----------
    image
        With all of the waves in it.
    waves
        The plainest first.
    abbe_px
        Abbe period in px.
    blocks
        So many parts along each side are taken for independent.
    regular
        Whether the sample is known to be ordered.

    Returns
    -------
    The waves of one microscope's pattern, of one period and 60 degrees apart, with the smoothing of the light that they
    follow. None where no pattern, or more than one with as many waves, passes: which of them is the sample's cannot be
    told then.
    """
    patterns = _patterns(waves)
    own = _of_stretched_lattices(patterns, image.shape)
    kept = []
    for number, pattern in enumerate(patterns):
        if number in own:
            continue
        judged = _judged(image, pattern, abbe_px=abbe_px, blocks=blocks, regular=regular)
        if judged:
            kept.append(judged)
    most = max(map(len, kept), default=0)
    best = [pattern for pattern in kept if len(pattern) == most]
    return best[0] if len(best) == 1 else []


def _judged(
    image: np.ndarray, pattern: list[Wave], *, abbe_px: float, blocks: list[int], regular: bool
) -> list[Wave]:
    """Return a pattern with the smoothing that leaves least of it, or nothing if it is the sample's own."""
    deepest = _DEEPEST if len(pattern) == 1 else _DEEPEST_OF_SEVERAL
    if max(wave.depth for wave in pattern) > deepest:
        return []

    def smoothed(width: float) -> list[Wave]:
        return [dataclasses.replace(wave, smoothing_px=width * abbe_px) for wave in pattern]

    def left(width: float) -> float:
        return dependence(
            remove_waves(image, smoothed(width)), smoothed(width), abbe_px=abbe_px, blocks=blocks
        )

    tried = {width: left(width) for width in _SMOOTHINGS}
    start = min(tried, key=tried.__getitem__)
    about = [w for w in _SMOOTHINGS if abs(_SMOOTHINGS.index(w) - _SMOOTHINGS.index(start)) <= 1]
    # A tenth of a second that restoring an image without waves has no use for.
    from scipy.optimize import minimize_scalar

    finer = minimize_scalar(left, bounds=(min(about), max(about)), method="bounded", options=_FINER)
    width, least = min(((finer.x, finer.fun), (start, tried[start])), key=lambda pair: pair[1])
    best = smoothed(float(width))
    evidence = min(wave.evidence for wave in pattern)
    if regular or (len(pattern) == 3 and crests_meet(pattern, image.shape)):
        sure = least <= _DOUBTED and evidence >= _DOUBTED_EVIDENCE
    else:
        sure = least <= _DEPENDENT * min(max(1.0, evidence / _PLAIN_EVIDENCE), _MOST_PLAIN)
    return best if sure else []


def dependence(left: np.ndarray, waves: list[Wave], *, abbe_px: float, blocks: list[int]) -> float:
    """Return how surely contrast knows of the waves: a chi squared of two degrees, of its power and its third power.

    ``left`` is the image ``(y, x)`` after they were taken out; of one without light nothing is sure: infinity. Compared
    with their scatter from block to block are the sums, over the image, of power times ``cos`` of the wave's own phase;
    of several waves the sum of standard scores counts.
    """
    contrast, weight = contrast_of(np.asarray(left, float), abbe_px=abbe_px)
    if contrast is None:
        return math.inf
    shape = (contrast.shape[0], contrast.shape[1])
    total = 0.0
    for power in (2, 3):
        seen = (weight * contrast) ** power
        seen = seen - gaussian_filter(seen, _SLOW_ABBE * abbe_px, mode="reflect")
        scores = []
        for wave in waves:
            sums = block_sums(seen * modulation([wave], shape), blocks)
            scores.append(sums.sum() / max(float(sums.std(ddof=1)) * math.sqrt(sums.size), 1e-30))
        total += sum(scores) ** 2 / len(scores)
    return float(total)


def crests_meet(waves: list[Wave], shape: tuple[int, ...]) -> bool:
    """Tell whether crests, or troughs, of three waves come together at one point in the middle of ``shape`` pixels.

    Also true where their vectors do not close a triangle, so that the answer would be another one elsewhere.
    """
    miss, signs = min(_triangles(waves, shape))
    middle = [(n - 1) / 2 for n in shape]
    phases = [
        math.atan2(w.sine, w.cosine) - 2 * math.pi * (w.ky * middle[0] + w.kx * middle[1]) for w in waves
    ]
    triplet = sum(s * phase for s, phase in zip(signs, phases, strict=True))
    return miss > _CLOSED or abs(math.sin(triplet)) < math.sin(math.radians(_MEETING_DEGREES))


def _triangles(waves: list[Wave], shape: tuple[int, ...]) -> list[tuple[float, tuple[int, ...]]]:
    """Return by how much three vectors, taken with either sign, miss closing a triangle, and the signs."""
    vectors = [complex(w.ky * shape[0], w.kx * shape[1]) for w in waves]
    signs = [(1, *rest) for rest in itertools.product((1, -1), repeat=2)]
    return [(abs(sum(s * k for s, k in zip(g, vectors, strict=True))), g) for g in signs]


def _patterns(waves: list[Wave]) -> list[list[Wave]]:
    """Sort waves, by period and direction, into patterns that one microscope can have: of three waves at most."""
    patterns: list[list[Wave]] = []
    for wave in waves:
        fitting = (p for p in patterns if len(p) < 3 and all(_alike(wave, other) for other in p))
        pattern = next(fitting, None)
        if pattern is None:
            patterns.append([wave])
        else:
            pattern.append(wave)
    return patterns


def _alike(one: Wave, other: Wave) -> bool:
    degrees = math.degrees(math.atan2(one.ky, one.kx) - math.atan2(other.ky, other.kx)) % 180
    apart = min(abs(degrees - 60), abs(degrees - 120))
    return apart <= _ALIKE_DEGREES and abs(one.period_px / other.period_px - 1) <= _ALIKE


def _of_stretched_lattices(patterns: list[list[Wave]], shape: tuple[int, ...]) -> set[int]:
    """Return the numbers of patterns whose waves close triangles with those of others."""
    numbered = [(number, wave) for number, pattern in enumerate(patterns) for wave in pattern]
    own: set[int] = set()
    for three in itertools.combinations(numbered, 3):
        numbers, waves = {number for number, _ in three}, [wave for _, wave in three]
        if len(numbers) > 1 and min(_triangles(waves, shape))[0] < _CLOSED:
            own |= numbers
    return own
