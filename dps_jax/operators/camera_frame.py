"""The camera of ``operators.forward`` for iterations: objects and images stay in the frame of its FFT.

The frame is the object, at its beginning, and a rim behind it on every axis, half of which stands for what lies before
the object, since an FFT goes around. What a camera sees there is known inside only: a method that works with ratios or
residuals sets them to 0 in the rim, and the adjoint needs nothing else. What the object goes on with beyond its borders
is written into the rim in place, and folded back from there: nothing is padded or cropped at each step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax

from dps_jax import _checks
from dps_jax.operators.convolve import BOUNDARIES, check_kernel
from dps_jax.operators.in_place import in_place
from dps_jax.operators.sampling import bin_area, bin_area_adjoint
from dps_jax.typing import Array

# Where a run of a rim's pixels comes from: (first of them, first of their sources, how many, 1, -1 or 0 for sources
# that go on, back or stay).
_Run = tuple[int, int, int, int]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["spectrum"],
    meta_fields=["shape", "reach", "sides", "steps", "boundary"],
)
@dataclass(frozen=True)
class CameraFrame:
    """Maps between objects ``(..., s y, s x)`` and camera images, both in the frame; see :func:`camera_frame`."""

    spectrum: Array
    shape: tuple[int, ...]
    reach: tuple[int, ...]
    sides: tuple[int, ...]
    steps: tuple[int, ...]
    boundary: str

    def open(self, image: Array) -> Array:
        """Put an object into the frame, 0 outside."""
        return self._padded(image, (1,) * len(self.shape), self.shape)

    def place(self, image: Array) -> Array:
        """Put an image of the camera's own shape into its frame, 0 outside."""
        return self._padded(image, self.steps, [n // s for n, s in zip(self.shape, self.steps, strict=True)])

    def inside(self, frame: Array) -> Array:
        """Return the object that is in a frame."""
        return frame[..., *(slice(n) for n in self.shape)]

    def continued(self, frame: Array) -> Array:
        """Write into the rim, whatever is there, what the boundary says that the object goes on with."""
        for axis, runs in self._runs():
            if runs:
                # All of a rim at once: several writes to a frame that is read between them make copies of it.
                frame = _put(frame, self._rim(frame, axis, runs), self.shape[axis], axis)
        return frame

    def forward(self, frame: Array) -> Array:
        """Return the image of a ``continued`` object in the camera's frame, right inside alone."""
        return bin_area(self._filtered(frame, jnp.multiply), self.steps[-1])

    def backward(self, frame: Array) -> Array:
        """Apply the adjoint of ``forward`` after ``continued`` to an image that is 0 outside; right inside alone."""
        frame = self._filtered(bin_area_adjoint(frame, self.steps[-1]), _times_conjugate)
        for axis, runs in reversed(self._runs()):
            for start, source, length, way in runs:
                rim = _taken(frame, start, length, axis, way or 1)
                if not way:
                    rim = jnp.sum(rim, axis=axis, keepdims=True)
                frame = _put(frame, _taken(frame, source, rim.shape[axis], axis, 1) + rim, source, axis)
        return frame

    def _padded(self, image: Array, steps: Sequence[int], shape: Sequence[int]) -> Array:
        ends = [(0, side // s - n) for side, s, n in zip(self.sides, steps, shape, strict=True)]
        return jnp.pad(image, [(0, 0)] * (image.ndim - len(ends)) + ends)

    def _runs(self) -> list[tuple[int, list[_Run]]]:
        """Return the runs of each axis, counted from the end."""
        first, each = -len(self.shape), zip(self.reach, self.shape, self.sides, strict=True)
        return [(first + i, _runs_of(*lengths, self.boundary)) for i, lengths in enumerate(each)]

    def _rim(self, frame: Array, axis: int, runs: list[_Run]) -> Array:
        end, parts = self.shape[axis], []
        for start, source, length, way in runs:
            if start > end:  # farther from the object than light reaches
                gap = [start - end if i == frame.ndim + axis else n for i, n in enumerate(frame.shape)]
                parts.append(jnp.zeros(gap, frame.dtype))
            parts.append(_taken(frame, source, length, axis, way))
            end = start + length
        return jnp.concatenate(parts, axis)

    def _filtered(self, frame: Array, product: Callable[[Array, Array], Array]) -> Array:
        axes = tuple(range(-len(self.sides), 0))
        by = self.spectrum.reshape((1,) * (frame.ndim - self.spectrum.ndim) + self.spectrum.shape)
        spectrum = in_place(product, jnp.fft.rfftn(frame, axes=axes), by)
        return jnp.fft.irfftn(spectrum, s=self.sides, axes=axes).astype(frame.dtype)


def camera_frame(
    psf: Array, shape: Sequence[int], *, factor: int = 2, boundary: str = "constant"
) -> CameraFrame:
    """Return the camera of ``psf`` for objects whose last sides are ``shape``; parameters as ``camera``.

    Raises
    ------
    ValueError
        For a kernel with an even side, a shape of another number of axes or that ``factor`` does not divide, or an
        unknown boundary.
    """
    _checks.one_of("boundary", boundary, tuple(BOUNDARIES))
    _checks.positive_integer("factor", factor)
    check_kernel(psf)
    psf, shape, dimensions = jnp.asarray(psf), tuple(shape), jnp.ndim(psf)
    steps = (1,) * (dimensions - 2) + (factor, factor)  # planes of a volume are binned one by one
    if len(shape) != dimensions or any(n % s for n, s in zip(shape, steps, strict=True)):
        raise ValueError(f"expected {dimensions} sides, y and x multiples of {factor}, got shape {shape}")
    reach = tuple(k // 2 for k in psf.shape)
    rims = reach if boundary == "constant" else [2 * r for r in reach]
    # An even number of rows for the camera as well: pointwise maps take the halves.
    multiples = [*steps[:-2], 2 * steps[-2], steps[-1]]
    sides = tuple(
        _fast(max(n + rim, k), s) for n, rim, k, s in zip(shape, rims, psf.shape, multiples, strict=True)
    )
    spectrum = jnp.fft.rfftn(_around_origin(psf, reach, sides))
    return CameraFrame(spectrum, shape, reach, sides, steps, boundary)


def _around_origin(psf: Array, reach: Sequence[int], sides: Sequence[int]) -> Array:
    """Lay a kernel's parts into the corners of a frame of zeros, its centre at the first pixel."""
    grid = jnp.zeros(sides, psf.dtype)
    parts = [((slice(r, None), 0), (slice(0, r), side - r)) for r, side in zip(reach, sides, strict=True)]
    for corner in itertools.product(*parts):
        cut, start = zip(*corner, strict=True)
        grid = lax.dynamic_update_slice(grid, psf[cut], start)
    return grid


def _times_conjugate(spectrum: Array, by: Array) -> Array:
    return spectrum * jnp.conj(by)


def _taken(frame: Array, start: int, length: int, axis: int, way: int) -> Array:
    part = lax.slice_in_dim(frame, start, start + (length if way else 1), axis=frame.ndim + axis)
    if way:
        return jnp.flip(part, axis) if way < 0 else part
    return jnp.repeat(part, length, axis=axis)


def _put(frame: Array, part: Array, start: int, axis: int) -> Array:
    return lax.dynamic_update_slice_in_dim(frame, part, start, axis=frame.ndim + axis)


def _runs_of(reach: int, length: int, side: int, boundary: str) -> list[_Run]:
    """Return the runs of the rim of an axis of ``side`` pixels, the first ``length`` of which are the object's."""
    if boundary == "constant" or reach == 0:
        return []
    # mypy knows NumPy's modes by name only.
    around = np.pad(np.arange(length), reach, mode=BOUNDARIES[boundary])  # type: ignore[call-overload]
    runs: list[_Run] = []
    for start, sources in ((length, around[reach + length :]), (side - reach, around[:reach])):
        while len(sources):
            way = int(sources[1] - sources[0]) if len(sources) > 1 else 1
            way = way if abs(way) <= 1 else 1  # rims longer than the object are of several runs
            on = sources == sources[0] + way * np.arange(len(sources))
            count = len(sources) if on.all() else int(np.argmin(on))
            runs.append((start, int(sources[0] if way >= 0 else sources[count - 1]), count, way))
            start, sources = start + count, sources[count:]
    return runs


def _fast(length: int, multiple: int) -> int:
    """Return the next length that ``multiple`` divides and the FFT is fast for.

    Beyond ``multiple``, factors of 2, 3 and 5 alone, on every axis: with 7 and 11 an FFT rounds twice as much.
    """
    return int(multiple * scipy.fft.next_fast_len(-(-length // multiple), real=True))
