"""SIM reconstruction: bands brought back to their places and combined by a Wiener filter (Gustafsson 2000).

With equal steps of phase this is the exact minimiser of ``sum |D - A x|^2 + w |x|^2`` over objects ``x``, ``A`` the
microscope of ``operators.sim_frames``: the orders do not mix. Everything is differentiable with respect to frames and
illumination. The result has twice the camera's pixels a side and the light of the mean frame; it may be negative
beside bright structures, as that of any linear method.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import scipy.fft

from dps_jax import _checks
from dps_jax.operators.illumination import pattern_argument, pixel_centres
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf, incoherent_otf
from dps_jax.solvers.sim_orders import band_otf, frequencies, separate_orders
from dps_jax.typing import Array, ArrayLike

FACTOR = 2  # fine pixels per camera pixel along each axis: linear SIM doubles the resolution at most
_MARGIN_PX = 24


def sim_wiener(
    frames: ArrayLike,
    illumination: Illumination,
    otfs: RadialOtf | Sequence[RadialOtf],
    *,
    noise_to_signal: float | Array = 0.01,
    apodisation: float = 1.0,
    notch: float = 0.0,
    notch_width: float = 0.1,
) -> Array:
    """Reconstruct an object from frames under structured illumination.

    Parameters
    ----------
    frames
        ``(angle, phase, y, x)`` without background.
    illumination
        Wavevectors, phases and depths of the stripes.
    otfs
        OTF of the detection; or one for each order from 0 on, where they differ (3D-SIM).
    noise_to_signal
        ``w``, the same at every frequency, relative to the largest weight that a frequency has.
    apodisation
        Power of the ideal OTF, widened to the extended cut-off, that the result is given: 1 rings little, 0 is the
        bare Wiener filter.
    notch
        From 0 to 1: how much of each band's centre, where the light from out of focus is, is left to the others.
    notch_width
        Standard deviation of that centre, in units of the cut-off.

    Returns
    -------
    ``(2 y, 2 x)``, in the frames' unit per fine pixel; its sum is that of the mean frame.

    Raises
    ------
    ValueError
        For frames that do not fit the illumination, or numbers out of range.

    Notes
    -----
    Source: Gustafsson 2000; Gustafsson et al. 2008; the notch: O'Holleran and Shaw 2014.
    """
    frames = jnp.asarray(frames, jnp.float32)
    angles, phases = jnp.shape(illumination.phases_rad)
    if frames.ndim != 4 or frames.shape[:2] != (angles, phases):
        raise ValueError(f"expected frames ({angles}, {phases}, y, x), got shape {frames.shape}")
    _checks.positive("noise_to_signal", noise_to_signal)
    _checks.non_negative("apodisation", apodisation)
    _checks.positive("notch_width", notch_width)
    if not 0 <= notch <= 1:
        raise ValueError(f"expected notch from 0 to 1, got {notch!r}")
    wide, margins = faded(frames)
    estimate = wide_estimate(
        wide,
        margins,
        illumination,
        per_order(otfs, illumination.orders),
        noise_to_signal=noise_to_signal,
        apodisation=apodisation,
        notch=notch,
        notch_width=notch_width,
    )
    inner = (slice(FACTOR * m, FACTOR * (m + n)) for m, n in zip(margins, frames.shape[-2:], strict=True))
    return estimate[tuple(inner)]


def wide_estimate(
    frames: Array,
    margins: tuple[int, int],
    illumination: Illumination,
    otfs: Sequence[RadialOtf],
    *,
    noise_to_signal: float | Array = 0.01,
    apodisation: float = 0.0,
    notch: float = 0.0,
    notch_width: float = 0.1,
) -> Array:
    """Reconstruct from periodic frames; see :func:`sim_wiener` for what is not said here.

    Parameters
    ----------
    frames
        ``(angle, phase, Y, X)``, even sides.
    margins
        Camera pixels (y, x) before the pixel that the illumination's phases belong to.
    otfs
        One for each order from 0 on.

    Returns
    -------
    ``(2 Y, 2 X)``.
    """
    bands = separate_orders(frames, illumination.phases_rad, orders=illumination.orders)
    spectra = _shifted_spectra(bands, jnp.asarray(illumination.wavevectors), margins)
    sides = (FACTOR * frames.shape[-2], FACTOR * frames.shape[-1])
    fy, fx = frequencies(sides, factor=FACTOR)
    numerator, weight = jnp.zeros(sides, spectra.dtype), jnp.zeros(sides)
    at_zero = jnp.zeros(())  # the weight of zero frequency without the notch
    for a in range(frames.shape[0]):
        for m, otf in enumerate(otfs):
            shift = m * jnp.asarray(illumination.wavevectors)[a]
            depth = 1.0 if m == 0 else 0.5 * jnp.asarray(illumination.modulation)[a, m - 1]
            transfer = depth * band_otf(otf, fy, fx, shift)
            at_zero = at_zero + (2 if m else 1) * transfer[0, 0] ** 2
            kept = _notched(fy, fx, shift, notch, notch_width * otf.cutoff) * transfer
            numerator = numerator + kept * spectra[a, m]
            weight = weight + kept * transfer
            if m:  # order -m is the conjugate image: its spectrum is mirrored about zero frequency
                numerator = numerator + _mirrored_conjugate(kept * spectra[a, m])
                weight = weight + _mirrored_conjugate(kept * transfer).real
    regular = noise_to_signal * jnp.max(weight)
    # Divided by what low frequencies keep of the object; what a notch holds back of the light itself, which is in no
    # band but the mean frames, is given back evenly.
    gain = (at_zero + regular) / at_zero
    spectrum = gain * numerator / (weight + regular) * _apodised(fy, fx, illumination, otfs[0], apodisation)
    spectrum = spectrum.at[0, 0].set(jnp.mean(spectra[:, 0, 0, 0]))
    return jnp.fft.ifft2(spectrum).real


def periodic_frames(
    image: Array, illumination: Illumination, otfs: Sequence[RadialOtf], margins: tuple[int, int]
) -> Array:
    """Return the frames of a periodic object, each order blurred by an OTF of its own.

    Parameters
    ----------
    image
        ``(2 Y, 2 X)``.
    otfs
        One for each order from 0 on; ``operators.sim_frames`` has one PSF for all, and no period.
    margins
        Camera pixels (y, x) before the pixel that the illumination's phases belong to.

    Returns
    -------
    ``(angle, phase, Y, X)``.
    """
    sides = (image.shape[-2], image.shape[-1])
    fy, fx = frequencies(sides, factor=FACTOR, half=True)
    # Camera pixels have their centres a quarter of one beyond those of the fine pixels before them.
    to_camera = jnp.exp(0.5j * jnp.pi * (fy + fx))[None, None]
    centres = [c - m for c, m in zip(pixel_centres(sides, factor=FACTOR), margins, strict=True)]
    argument = pattern_argument(illumination, centres[0], centres[1])
    spectrum = (jnp.fft.rfft2(image) * band_otf(otfs[0], fy, fx, jnp.zeros(2)))[None, None]
    for m, otf in enumerate(otfs[1:], start=1):
        depth = jnp.asarray(illumination.modulation)[:, m - 1, None, None, None]
        lit = jnp.fft.rfft2(image[None, None] * jnp.cos(m * argument))
        spectrum = spectrum + depth * band_otf(otf, fy, fx, jnp.zeros(2))[None, None] * lit
    seen = jnp.fft.irfft2(spectrum * to_camera, s=sides)
    return FACTOR**2 * seen[..., ::FACTOR, ::FACTOR]


def seen_at_stripes_resolution(
    image: Array, illumination: Illumination, otfs: RadialOtf | Sequence[RadialOtf]
) -> Array:
    """Blur an object to the resolution that the stripes allow: by the ideal OTF, widened to the extended cut-off.

    Parameters
    ----------
    image
        ``(2 y, 2 x)``, two fine pixels per camera pixel.
    illumination, otfs
        As :func:`sim_wiener`.

    Returns
    -------
    ``(2 y, 2 x)`` in the same unit; beyond its borders the image is taken to go on mirrored and fading.
    """
    wide, (above, left) = faded(image)
    f = [np.fft.fftfreq(wide.shape[-2])[:, None], np.fft.rfftfreq(wide.shape[-1])[None, :]]
    seen = _apodised(
        FACTOR * f[0], FACTOR * f[1], illumination, per_order(otfs, illumination.orders)[0], power=1.0
    )
    blurred = jnp.fft.irfft2(jnp.fft.rfft2(wide) * seen, s=wide.shape[-2:])
    return blurred[..., above : above + image.shape[-2], left : left + image.shape[-1]]


def per_order(otfs: RadialOtf | Sequence[RadialOtf], orders: int) -> tuple[RadialOtf, ...]:
    """Return one OTF for each order from 0 on.

    Raises
    ------
    ValueError
        For another number of them.
    """
    several = (otfs,) * (orders + 1) if isinstance(otfs, RadialOtf) else tuple(otfs)
    if len(several) != orders + 1:
        raise ValueError(f"expected one OTF, or {orders + 1} for orders 0 to {orders}, got {len(several)}")
    return several


def faded(frames: Array) -> tuple[Array, tuple[int, int]]:
    """Continue frames ``(..., y, x)`` beyond their borders, mirrored and fading, so that an FFT sees no edge.

    Also returns how many pixels (y, x) were put before the first; the sides become even.
    """
    ny, nx = frames.shape[-2:]
    sides = [scipy.fft.next_fast_len(n + 2 * min(_MARGIN_PX, n), real=True) for n in (ny, nx)]
    sides = [s + s % 2 for s in sides]
    margins = tuple(min(_MARGIN_PX, n) for n in (ny, nx))
    ends = [(m, s - n - m) for m, s, n in zip(margins, sides, (ny, nx), strict=True)]
    ends_within = [(min(a, n), min(b, n)) for (a, b), n in zip(ends, (ny, nx), strict=True)]
    wide = jnp.pad(frames, [(0, 0)] * (frames.ndim - 2) + ends_within, mode="symmetric")
    for axis, (a, b), n in ((-2, ends_within[0], ny), (-1, ends_within[1], nx)):
        ramp = np.ones(a + n + b, np.float32)
        ramp[:a] = np.sin(0.5 * np.pi * (np.arange(a) + 0.5) / a) ** 2
        ramp[a + n :] = np.cos(0.5 * np.pi * (np.arange(b) + 0.5) / b) ** 2
        shape = [1] * frames.ndim
        shape[axis] = -1
        wide = wide * ramp.reshape(shape)
    return wide, (margins[0], margins[1])


def _shifted_spectra(bands: Array, wavevectors: Array, margins: tuple[int, int]) -> Array:
    """Return the spectra ``(angle, order, 2 Y, 2 X)`` of the bands on the fine grid, each in its place."""
    ny, nx = bands.shape[-2:]
    # Fine pixel i has its centre at i / 2 - 1/4 camera pixels.
    fy, fx = frequencies((ny, nx))
    spectra = jnp.fft.fft2(bands) * jnp.exp(-0.5j * jnp.pi * (fy + fx))[None, None]
    pad = [(0, 0)] * (bands.ndim - 2) + [(ny // 2, ny - ny // 2), (nx // 2, nx - nx // 2)]
    spectra = jnp.fft.ifftshift(jnp.pad(jnp.fft.fftshift(spectra, (-2, -1)), pad), (-2, -1))
    # The inverse FFT over four times as many points divides by four: the unit is that of a fine pixel.
    fine = jnp.fft.ifft2(spectra)
    y, x = (
        centre - margin
        for centre, margin in zip(
            pixel_centres((FACTOR * ny, FACTOR * nx), factor=FACTOR), margins, strict=True
        )
    )
    position = (
        2
        * jnp.pi
        * (
            wavevectors[:, :1, None] * y[None, :, None].astype(np.float32)
            + wavevectors[:, 1:, None] * x[None, None, :].astype(np.float32)
        )
    )
    m = np.arange(bands.shape[1], dtype=np.float32)
    return jnp.fft.fft2(fine * jnp.exp(-1j * m[None, :, None, None] * position[:, None]))


def _mirrored_conjugate(spectrum: Array) -> Array:
    return jnp.conj(jnp.roll(jnp.flip(spectrum, (-2, -1)), (1, 1), (-2, -1)))


def _notched(
    fy: np.ndarray, fx: np.ndarray, shift: Array, strength: float, width: float | Array
) -> Array | float:
    if strength == 0:
        return 1.0
    squared = (fy + shift[0]) ** 2 + (fx + shift[1]) ** 2
    return 1 - strength * jnp.exp(-0.5 * squared / width**2)


def _apodised(
    fy: np.ndarray, fx: np.ndarray, illumination: Illumination, otf: RadialOtf, power: float
) -> Array | float:
    if power == 0:
        return 1.0
    longest = illumination.orders * jnp.max(jnp.linalg.norm(jnp.asarray(illumination.wavevectors), axis=1))
    ideal = incoherent_otf(np.hypot(fy, fx), cutoff=otf.cutoff + longest)
    # A root has no slope at 0.
    return jnp.where(ideal > 0, jnp.maximum(ideal, 1e-6) ** power, 0.0)
