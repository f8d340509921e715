"""What goes wrong in super-resolved images, put into clean ones (NumPy only).

Contract: images ``(y, x)`` in and float32 out, of any unit; strengths are relative to the image, so that an artefact
of a brighter image is as much brighter. Lengths follow the Abbe period of the image that was super-resolved, given
in px of the grid. All artefacts but ``hot_pixels`` keep the photons: the sum over pixels stays, up to rounding, and
for ``speckle`` up to what its clipping adds, which is then scaled off. Values may fall below 0 where a reconstruction
would overshoot; ``speckle`` of a non-negative image has none.

Sources: Demmerle et al. 2017 and Karras et al. 2019 (the artefacts of SIM: honeycomb, hammer-stroke, stripes of a
wrong phase), Fan et al. 2019 (their names and causes), Dey et al. 2006 (noise that Richardson-Lucy turns to beads).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from dps_jax import _checks
from dps_jax.synthetic import drawing

# A pattern is as fine as the objective passes it, or somewhat coarser: cycles per Abbe period.
_PATTERN = (0.6, 1.0)
# A filter that boosts too much does so where the cut-off is, give or take a fifth.
_BOOST = (0.8, 1.2)
_BOOST_WIDTH = 0.12
# Beads are finer than a super-resolved image can show, 1.67 cycles per period; broad enough to be irregular.
_BEADS, _BEADS_WIDTH = (1.5, 2.1), 0.15
_RING_WIDTH = 0.08
# Sides of the tiles in Abbe periods; the offset of a tile per unit of its gain's error.
_TILE, _TILE_OFFSET = (3.0, 10.0), 0.4


def honeycomb(
    rng: np.random.Generator, image: np.ndarray, *, abbe_px: float, strength: float = 0.2
) -> np.ndarray:
    """Add a hexagonal residual that follows the signal: three plane waves, 60 degrees apart.

    Parameters
    ----------
    image
        ``(y, x)``.
    abbe_px
        Abbe period in px.
    strength
        Standard deviation of the residual relative to the local signal.

    Raises
    ------
    ValueError
        For an image of other axes, a period that is not above 0 or a negative strength.
    """
    _check(image, abbe_px, strength)
    frequency, angle = rng.uniform(*_PATTERN) / abbe_px, rng.uniform(0, np.pi)
    waves = [_wave(rng, image.shape, frequency, angle + k * np.pi / 3) for k in range(3)]
    signal = gaussian_filter(np.asarray(image, float), 0.3 * abbe_px)
    return _with(image, strength / np.sqrt(1.5) * signal * sum(waves), signal)


def stripes(
    rng: np.random.Generator, image: np.ndarray, *, abbe_px: float, strength: float = 0.2
) -> np.ndarray:
    """Multiply by a sinusoid at one angle, as one pattern's wrong phase leaves; see :func:`honeycomb`."""
    _check(image, abbe_px, strength)
    wave = _wave(rng, image.shape, rng.uniform(*_PATTERN) / abbe_px, rng.uniform(0, np.pi))
    return _with(image, strength * np.sqrt(2) * wave * image, image)


def hammer_stroke(
    rng: np.random.Generator, image: np.ndarray, *, abbe_px: float, strength: float = 0.06
) -> np.ndarray:
    """Add waves made of noise near the pattern's frequency, everywhere alike; see :func:`honeycomb`.

    ``strength`` is their standard deviation relative to the brightest pixel. The noise is white, kept in a ring of
    the spectrum.
    """
    _check(image, abbe_px, strength)
    noise = _ring_noise(rng, image.shape, rng.uniform(*_PATTERN) / abbe_px, _RING_WIDTH / abbe_px)
    return _with(image, strength * _peak(image) * noise, np.ones(image.shape))


def ringing(
    rng: np.random.Generator, image: np.ndarray, *, abbe_px: float, strength: float = 1.5
) -> np.ndarray:
    """Surround bright structures by sidelobes, as a filter that boosts too much does; see :func:`honeycomb`.

    ``strength`` is by how much the spectrum is raised in a ring near the cut-off: 1 doubles it. Borders are mirrored.
    """
    _check(image, abbe_px, strength)
    boost = np.exp(
        -0.5 * ((_cosine_radius(image.shape) * abbe_px - rng.uniform(*_BOOST)) / _BOOST_WIDTH) ** 2
    )
    boost[0, 0] = 0.0
    rings = idctn(boost * dctn(np.asarray(image, float), norm="ortho"), norm="ortho")
    return _with(image, strength * rings, np.ones(image.shape))


def speckle(
    rng: np.random.Generator, image: np.ndarray, *, abbe_px: float, strength: float = 0.5
) -> np.ndarray:
    """Break structure into beads finer than the resolution, as too many iterations do; see :func:`honeycomb`.

    ``strength`` is the standard deviation of the beads relative to the signal. It is band-limited multiplicative
    noise, clipped at 0: a stand-in for the noise that Richardson-Lucy amplifies, at none of its cost.
    """
    _check(image, abbe_px, strength)
    centre, width = rng.uniform(*_BEADS) / abbe_px, _BEADS_WIDTH / abbe_px
    factor = np.maximum(1 + strength * _ring_noise(rng, image.shape, centre, width), 0.0)
    total, broken = np.sum(image, dtype=float), np.asarray(image, float) * factor
    kept = total / np.sum(broken) if np.sum(broken) != 0 else 1.0
    return (kept * broken).astype(np.float32)


def hot_pixels(
    rng: np.random.Generator, image: np.ndarray, *, abbe_px: float, strength: float = 0.002
) -> np.ndarray:
    """Add light to single pixels, 0.2 to 1 times the brightest of the image; see :func:`honeycomb`.

    ``strength`` is the share of the pixels, of which at least one is hot. Photons are added.
    """
    _check(image, abbe_px, strength)
    count = max(1, int(rng.binomial(image.size, min(strength, 1.0))))
    out = np.array(image, np.float32)
    places = rng.choice(image.size, count, replace=False)
    out.ravel()[places] += np.float32(_peak(image)) * drawing.log_uniforms(rng, 0.2, 1.0, count)
    return out


def seams(
    rng: np.random.Generator, image: np.ndarray, *, abbe_px: float, strength: float = 0.1
) -> np.ndarray:
    """Give each tile of a stitched image its own gain and offset; see :func:`honeycomb`.

    ``strength`` is the standard deviation of the gains; that of the offsets is 0.4 times as much, relative to the
    brightest pixel. Tiles are 3 to 10 periods a side.
    """
    _check(image, abbe_px, strength)
    side = drawing.log_uniform(rng, *_TILE) * abbe_px
    rows, columns = (np.floor(np.arange(n) / side + rng.uniform()).astype(int) for n in image.shape)
    gains, offsets = strength * rng.standard_normal((2, rows[-1] + 1, columns[-1] + 1))
    tiles = np.ix_(rows, columns)
    return _with(
        image, gains[tiles] * image + _TILE_OFFSET * _peak(image) * offsets[tiles], np.ones(image.shape)
    )


Artefact = Callable[..., np.ndarray]

ARTEFACTS: dict[str, Artefact] = {
    "honeycomb": honeycomb,
    "hammer_stroke": hammer_stroke,
    "ringing": ringing,
    "stripes": stripes,
    "speckle": speckle,
    "hot_pixels": hot_pixels,
    "seams": seams,
}
# From what an eye finds at a second look to what nobody would publish.
STRENGTHS: dict[str, tuple[float, float]] = {
    "honeycomb": (0.12, 0.35),
    "hammer_stroke": (0.02, 0.08),
    "ringing": (0.8, 2.5),
    "stripes": (0.1, 0.35),
    "speckle": (0.25, 0.7),
    "hot_pixels": (0.0005, 0.004),
    "seams": (0.05, 0.2),
}


def add_artefact(rng: np.random.Generator, image: np.ndarray, kind: str, *, abbe_px: float) -> np.ndarray:
    """Put an artefact of a kind of :data:`ARTEFACTS` into ``(y, x)``, of a random strength in :data:`STRENGTHS`.

    Raises
    ------
    ValueError
        For an unknown kind, and as the artefacts do.
    """
    _checks.one_of("kind", kind, tuple(ARTEFACTS))
    strength = drawing.log_uniform(rng, *STRENGTHS[kind])
    return ARTEFACTS[kind](rng, image, abbe_px=abbe_px, strength=strength)


def _check(image: np.ndarray, abbe_px: float, strength: float) -> None:
    drawing.check_frame(np.shape(image), abbe_px)
    _checks.non_negative("strength", strength)


def _peak(image: np.ndarray) -> float:
    return float(np.max(image))


def _with(image: np.ndarray, residual: np.ndarray, carrier: np.ndarray) -> np.ndarray:
    """Add a residual without its sum, which is taken off in proportion to ``carrier``."""
    total = np.sum(carrier, dtype=float)
    share = np.sum(residual, dtype=float) / total if total != 0 else 0.0
    return (np.asarray(image, float) + residual - share * carrier).astype(np.float32)


def _wave(rng: np.random.Generator, shape: tuple[int, ...], frequency: float, angle: float) -> np.ndarray:
    """Draw a cosine of ``frequency`` cycles per px along an angle, of random phase."""
    y, x = (np.arange(n) for n in shape)
    along = np.sin(angle) * y[:, None] + np.cos(angle) * x[None, :]
    return np.cos(2 * np.pi * (frequency * along + rng.uniform()))


def _ring_noise(rng: np.random.Generator, shape: tuple[int, ...], centre: float, width: float) -> np.ndarray:
    """Draw noise of mean 0 and variance 1 whose spectrum is a Gaussian ring, in cycles per px."""
    fy, fx = (np.fft.fftfreq(n) for n in shape)
    ring = np.exp(-0.5 * ((np.hypot(fy[:, None], fx[None]) - centre) / width) ** 2)
    ring[0, 0] = 0.0
    noise = np.fft.ifft2(ring * np.fft.fft2(rng.standard_normal(shape))).real
    spread = np.sqrt(
        np.mean(ring**2)
    )  # of the field, not of this draw: a patch is as a part of a larger image
    return noise / spread if spread > 0 else noise


def _cosine_radius(shape: tuple[int, ...]) -> np.ndarray:
    """Return the frequencies of a cosine transform in cycles per px."""
    rows, columns = (0.5 * np.arange(n) / n for n in shape)
    return np.hypot(rows[:, None], columns[None, :])
