"""The stripes of a SIM acquisition from its frames alone: wavevectors, phases and depths, pattern unknown.

The spectrum of an object appears in band 0 and, shifted by ``M p``, in the highest band M. Where both bands see it they
agree, and their cross-correlation has a peak at the shift: found among all shifts, then to a fraction of a frequency
sample by Fourier sums at shifts in between (Gustafsson 2000; Gustafsson et al. 2008). In NumPy and double precision: it
is a search and has no gradient; ``sim_refinement`` follows the gradient from here.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf

# Shifts looked at, in cut-offs: below, orders cannot be told from the object; above, light cannot make such stripes
# (with excitation at a shorter wavelength than emission 1.2 is reached in total internal reflection).
_SHIFTS = (0.35, 1.25)
# Frequencies below this part of the cut-off are left out: the object's own are so strong there that every shift agrees.
_LOW = 0.08
# Fine search: half width and step of the square of shifts looked at, in FFT samples, coarse to fine.
_SQUARES = ((1.0, 0.2), (0.25, 0.05), (0.06, 0.01), (0.012, 0.002))
# Phases of single frames are less certain than equal steps, where steps are equal; from here on they are not.
_UNEQUAL = np.radians(12)
# The peak of a search among random correlations is 4 to 5 times their median; so high it is none by chance.
LEAST_SIGNIFICANCE = 7.0


@dataclass(frozen=True)
class Stripes:
    """An estimate and what it rests on, one entry per angle.

    ``significance`` is the height of the correlation's peak over the median of its surroundings; stripes are there
    from :data:`LEAST_SIGNIFICANCE` on.
    """

    illumination: Illumination
    significance: tuple[float, ...]

    @property
    def found(self) -> tuple[bool, ...]:
        """Whether each angle's stripes stand out."""
        return tuple(s >= LEAST_SIGNIFICANCE for s in self.significance)


def nominal_phases(count: int) -> np.ndarray:
    """Return equal steps of phase ``(count,)`` through one period, from 0."""
    return 2 * np.pi * np.arange(count) / count


def estimate_illumination(
    frames: np.ndarray,
    otf: RadialOtf,
    *,
    orders: int = 1,
    phases_rad: np.ndarray | None = None,
    near: np.ndarray | None = None,
) -> Stripes:
    """Find the stripes of every angle.

    Parameters
    ----------
    frames
        ``(angle, phase, y, x)``.
    otf
        Of the detection.
    orders
        1 for two beams, 2 for three.
    phases_rad
        Steps of phase ``(phase,)`` or ``(angle, phase)``, up to a constant that is found; by default equal steps.
    near
        ``(angle, 2)``: wavevectors of the first order in cycles per camera pixel to look about; by default
        everywhere.

    Raises
    ------
    ValueError
        For frames of another shape, too few phases, or a field too small to tell stripes from the object.
    """
    frames = np.asarray(frames, np.float64)
    _checks.positive_integer("orders", orders)
    if frames.ndim != 4 or frames.shape[1] < 2 * orders + 1:
        raise ValueError(
            f"expected frames (angle, phase, y, x) with at least {2 * orders + 1} phases, got shape {frames.shape}"
        )
    if min(frames.shape[-2:]) * float(otf.cutoff) < 16:
        raise ValueError(
            f"expected a field of at least 16 Abbe periods, got {frames.shape[-2:]} px of "
            f"{1 / float(otf.cutoff):.3g} px each"
        )
    steps = nominal_phases(frames.shape[1]) if phases_rad is None else np.asarray(phases_rad, np.float64)
    steps = np.broadcast_to(steps, frames.shape[:2])
    found = []
    for a, (stack, step) in enumerate(zip(frames, steps, strict=True)):
        angle = _one_angle(stack, otf, step, orders, None if near is None else near[a])
        if phases_rad is None and len(frames) > 1:
            # The others' mean is the object without these stripes.
            measured = _frame_phases(stack, np.delete(frames, a, 0).mean((0, 1)), otf, angle[0])
            if _farthest_apart(measured, step) > _UNEQUAL:
                again = _one_angle(stack, otf, measured, orders, angle[0])
                angle = (*again[:3], angle[3])
        found.append(angle)
    return Stripes(
        Illumination(
            wavevectors=jnp.asarray([f[0] for f in found], jnp.float32),
            phases_rad=jnp.asarray([f[1] for f in found], jnp.float32),
            modulation=jnp.asarray([f[2] for f in found], jnp.float32),
        ),
        tuple(float(f[3]) for f in found),
    )


def noise_to_signal(frames: np.ndarray, otf: RadialOtf, *, orders: int = 1) -> float | None:
    """Measure the Wiener filter's regularisation: power of a band's noise over that of the object's fine detail.

    The noise is what band 0 holds beyond the cut-off in every direction; the detail is what it holds from 0.5 to 0.9
    cut-offs, less the noise and undone by the OTF. Relative to the largest weight of :func:`sim_wiener`, to be given to
    it; frames as :func:`estimate_illumination`. None where the sampling leaves no frequencies beyond the cut-off.

    Returns
    -------
    Between 1e-4 and 1.
    """
    frames = np.asarray(frames, np.float64)
    steps = nominal_phases(frames.shape[1])
    noise, signal = 0.0, 0.0
    for stack in frames:
        bands = _Bands(stack, otf, steps, orders)
        radius = np.hypot(bands.fy, bands.fx) / bands.cutoff
        h = bands.transfer(np.zeros(2))
        ring = (radius > 0.5) & (radius < 0.9)
        power = np.mean(np.abs(bands.spectra[0][ring]) ** 2 - bands.noise[0]) / np.mean(h[ring] ** 2)
        noise, signal = noise + bands.noise[0], signal + max(float(power), 0.0)
    if noise == 0:
        return None
    # The largest weight is about the number of angles. The detail beyond the cut-off, at twice the frequencies that
    # were looked at, is weaker: the power of a tangle of lines falls with the frequency.
    return float(np.clip(2 * noise / max(signal, 1e-30) / len(frames), 1e-4, 1.0))


def _one_angle(
    stack: np.ndarray, otf: RadialOtf, steps: np.ndarray, orders: int, near: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    bands = _Bands(stack, otf, steps, orders)
    shift, significance = bands.coarse_shift(orders, None if near is None else orders * np.asarray(near))
    for _ in range(2):  # the second time with the weights of a better shift
        shift = bands.fine_shift(orders, shift)
    first = shift / orders
    amplitudes = [bands.amplitude(m, m * first) for m in range(1, orders + 1)]
    offset = np.angle(amplitudes[0])
    if orders > 1:  # the finest stripes have the sharpest phase, known but for whole turns of their own
        last = np.angle(amplitudes[-1]) / orders
        turn = 2 * np.pi / orders
        offset = last + turn * np.round((offset - last) / turn)
    return first, steps + offset, 2 * np.abs(amplitudes), significance


def _frame_phases(stack: np.ndarray, even: np.ndarray, otf: RadialOtf, first: np.ndarray) -> np.ndarray:
    """Return the phase of each frame's first order, frame by frame, against an image without stripes.

    A frame at ``k + p`` agrees with the object at ``k`` by its stripes, whose phase that is, and by what the object
    itself has in common with its shifted self; the latter is measured in the image without stripes and taken off.
    """
    bands = _Bands(np.concatenate([even[None], stack]), otf, nominal_phases(len(stack) + 1), 1)
    window = np.multiply.outer(*(_tukey(n) for n in even.shape))
    spectrum = np.fft.fft2((even - even.mean()) * window)
    reference = np.conj(np.fft.ifft2(spectrum * bands.transfer(first)))
    y, x = (np.arange(n) for n in even.shape)
    wave = np.exp(-2j * np.pi * (first[0] * y[:, None] + first[1] * x[None, :]))
    h = bands.transfer(np.zeros(2))

    def agreement(image: np.ndarray) -> complex:
        seen = np.fft.ifft2(np.fft.fft2((image - image.mean()) * window) * bands.transfer(-first) * (h > 0))
        return complex(np.sum(reference * seen * wave))

    own = agreement(even)
    return np.array([np.angle(agreement(frame) - own) for frame in stack])


def _farthest_apart(phases: np.ndarray, steps: np.ndarray) -> float:
    """Return the largest difference in radians of two sets of phases, whatever their common offset."""
    turns = np.exp(1j * (phases - steps))
    return float(np.abs(np.angle(turns / np.mean(turns))).max())


class _Bands:
    """Spectra of the bands of one angle, and the correlations between them."""

    def __init__(self, stack: np.ndarray, otf: RadialOtf, steps: np.ndarray, orders: int) -> None:
        self.shape, self.cutoff = (stack.shape[-2], stack.shape[-1]), float(otf.cutoff)
        self._samples = np.asarray(otf.samples, np.float64)
        m = np.arange(-orders, orders + 1)
        unmixing = np.linalg.pinv(np.exp(1j * steps[:, None] * m))[orders:]
        window = np.multiply.outer(*(_tukey(n) for n in self.shape))
        bands = np.tensordot(unmixing, (stack - stack.mean()) * window, axes=1)
        self.spectra = np.fft.fft2(bands)
        self.fy, self.fx = np.fft.fftfreq(self.shape[0])[:, None], np.fft.fftfreq(self.shape[1])[None, :]
        # What is beyond the cut-off in every direction is noise.
        outside = np.hypot(self.fy, self.fx) > 1.05 * self.cutoff
        enough = outside.sum() > 32
        self.noise = [float(np.mean(np.abs(s[outside]) ** 2)) if enough else 0.0 for s in self.spectra]

    def transfer(self, shift: np.ndarray) -> np.ndarray:
        """Return the OTF at every frequency of the object, seen at that frequency plus ``shift``."""
        y, x = self.fy + shift[0], self.fx + shift[1]
        at = np.hypot(y, x) / self.cutoff
        value = np.interp(at, np.linspace(0, 1, self._samples.size), self._samples, right=0.0)
        return value * np.sinc(y) * np.sinc(x)

    def coarse_shift(self, order: int, near: np.ndarray | None) -> tuple[np.ndarray, float]:
        """Return the shift, in cycles per px, at which bands 0 and ``order`` agree best, and how it stands out."""
        radius = np.hypot(self.fy, self.fx) / self.cutoff
        h = self.transfer(np.zeros(2))
        # Amplified where the OTF is low, but not where nothing but noise is left.
        whitened = np.where((radius > _LOW) & (radius < 1), h / (h * h + 1e-2), 0.0)
        flat = [s / np.sqrt(np.mean(np.abs(s) ** 2)) for s in self.spectra[[0, order]] * whitened]
        zero, high = (np.fft.ifft2(s) for s in flat)
        agreement = np.abs(np.fft.fft2(np.conj(zero) * high))
        allowed = (radius > _SHIFTS[0]) & (radius < _SHIFTS[1])
        if near is not None:
            allowed &= np.hypot(self.fy - near[0], self.fx - near[1]) < 0.1 * self.cutoff
        y, x = np.unravel_index(np.argmax(np.where(allowed, agreement, 0.0)), self.shape)
        return (
            np.array([self.fy[y, 0], self.fx[0, x]]),
            float(agreement[y, x] / max(float(np.median(agreement[allowed])), 1e-30)),
        )

    def fine_shift(self, order: int, shift: np.ndarray) -> np.ndarray:
        """Return the shift near ``shift`` of the largest correlation, weighed by what each band knows."""
        product = self._product(order, shift)
        positions = [np.arange(n) for n in self.shape]
        for half, step in _SQUARES:
            offsets = np.arange(-round(half / step), round(half / step) + 1) * step
            lines = [s + offsets / n for s, n in zip(shift, self.shape, strict=True)]
            waves = [np.exp(-2j * np.pi * np.outer(f, r)) for f, r in zip(lines, positions, strict=True)]
            size = np.abs(waves[0] @ product @ waves[1].T)
            y, x = np.unravel_index(np.argmax(size), size.shape)
            shift = np.array([lines[0][y], lines[1][x]])
        return shift

    def _weights(self, order: int, shift: np.ndarray) -> np.ndarray:
        here, there = self.transfer(np.zeros(2)), self.transfer(shift)
        both = here * here + 0.1 * there * there  # a depth of 0.6: its square over four
        seen = (np.hypot(self.fy, self.fx) > _LOW * self.cutoff) & (
            np.hypot(self.fy + shift[0], self.fx + shift[1]) > _LOW * self.cutoff
        )
        return np.where(seen & (both > 1e-4), here * there / np.maximum(both, 1e-4), 0.0)

    def _product(self, order: int, shift: np.ndarray) -> np.ndarray:
        zero = np.fft.ifft2(self.spectra[0] * self._weights(order, shift))
        return np.conj(zero) * np.fft.ifft2(self.spectra[order])

    def amplitude(self, order: int, shift: np.ndarray) -> complex:
        """Return ``a_m / 2 exp(i phase)``: band ``order`` over band 0, less its noise, where both see the object."""
        y, x = (np.arange(n) for n in self.shape)
        wave = np.exp(-2j * np.pi * (shift[0] * y[:, None] + shift[1] * x[None, :]))
        moved = np.fft.fft2(np.fft.ifft2(self.spectra[order]) * wave)
        here, there = self.transfer(np.zeros(2)), self.transfer(shift)
        weights = self._weights(order, shift)
        # Each is brought to the object times both transfers.
        zero, high = self.spectra[0] * there, moved * here
        power = np.sum(weights * (np.abs(zero) ** 2 - self.noise[0] * there**2))
        if power <= 0:  # nothing but noise where both see
            return 0j
        # Stripes cannot be deeper than darkness; a ratio of noises can.
        ratio = complex(np.sum(weights * np.conj(zero) * high) / power)
        return ratio / max(1.0, abs(ratio))


def _tukey(n: int) -> np.ndarray:
    """Return a window ``(n,)``, flat inside and falling to 0 over an eighth of the length at either end."""
    ramp = max(n // 8, 1)
    window = np.ones(n)
    window[:ramp] = np.sin(0.5 * np.pi * (np.arange(ramp) + 0.5) / ramp) ** 2
    window[-ramp:] = window[:ramp][::-1]
    return window
