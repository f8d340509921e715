"""The canonical image beyond the edges of a plane: a few Abbe periods of what the camera would have seen there.

Rows and columns count from the plane's corner, so that those outside are negative or not below its sides. The margin
is found along each edge in stretches of one length, from the pixels near that edge alone: a plane of any size costs
one compiled program and as much time as its edges are long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.models.physics import DARK
from dps_jax.pipelines.tiling import mirrored
from dps_jax.solvers.surroundings import continue_image
from dps_jax.typing import Array

# In Abbe periods: the width of the margin (light from farther off hardly reaches the plane), and how far inside the
# plane the pixels lie that tell of it.
_MARGIN_ABBE, _DEPTH_ABBE = 4.8, 9.6
# In px: what a stretch answers for, and what it sees beyond on either side.
_STRETCH_PX, _BEYOND_PX = 208, 24

See = Callable[[np.ndarray, np.ndarray], np.ndarray]


@partial(jax.jit, static_argnames="abbe_px")
def _continued(image: Array, measured: Array, mirror: tuple[Array, Array], abbe_px: float) -> Array:
    return continue_image(image, measured, abbe_px=abbe_px, dark=DARK, noise_from=mirror)


class Surroundings:
    """A canonical plane of ``shape`` in a margin, each stretch of which is found when it is first asked for.

    ``see(rows, columns)`` gives any pixels of the plane, as a new float32 array.
    """

    def __init__(self, see: See, shape: tuple[int, int], *, abbe_px: float) -> None:
        self._see, self.shape, self._abbe_px = see, shape, abbe_px
        self.margin, self._depth = (round(periods * abbe_px) for periods in (_MARGIN_ABBE, _DEPTH_ABBE))
        self._found: dict[tuple[int, bool, int], np.ndarray] = {}

    def indices(self, start: int, stop: int, axis: int) -> np.ndarray:
        """Return which row or column of the wider image each of ``start .. stop - 1`` is: beyond it, its mirror."""
        m = self.margin
        return mirrored(start + m, stop + m, self.shape[axis] + 2 * m) - m

    def look(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the wider image at rows and columns from :meth:`indices`."""
        places = (rows, columns)
        image = self._see(*(np.clip(p, 0, n - 1) for p, n in zip(places, self.shape, strict=True)))
        corners = np.zeros(image.shape, bool)
        for axis in (0, 1):
            across, along = places[axis], places[1 - axis]
            turned, met = (image.T, corners.T) if axis else (image, corners)
            for far in (False, True):
                outside = across >= self.shape[axis] if far else across < 0
                if outside.any():
                    values = self._edge(across[outside], along, axis, far=far)
                    # Corners are seen from two edges, and neither comes first: a turned image has turned surroundings.
                    turned[outside] = np.where(met[outside], (turned[outside] + values) / 2, values)
                    met[outside] = True
        return image

    def _edge(self, across: np.ndarray, along: np.ndarray, axis: int, *, far: bool) -> np.ndarray:
        """Return the margin at one edge, at places outside (``across``) and along it."""
        first = self._first(axis)
        number = (along - first) // _STRETCH_PX
        values = np.empty((len(across), len(along)), np.float32)
        row = across - self.shape[axis] if far else across + self.margin
        for one in np.unique(number):
            here = number == one
            strip = self._stretch(axis, far, int(one))
            values[:, here] = strip[row[:, None], along[here] - first - one * _STRETCH_PX]
        return values

    def _first(self, axis: int) -> int:
        """Return where the first stretch of an edge begins: they lie evenly about its middle."""
        length = self.shape[1 - axis]
        stretches = -(-(length + 2 * self.margin) // _STRETCH_PX)
        return (length - stretches * _STRETCH_PX) // 2

    def _stretch(self, axis: int, far: bool, number: int) -> np.ndarray:
        """Return one stretch of an edge, ``(margin, stretch)``, as a function of the plane alone."""
        key = (axis, far, number)
        if key not in self._found:
            length, first = self.shape[axis], self._first(axis) + number * _STRETCH_PX
            across = np.arange(-self.margin, self._depth)
            if far:
                across = np.arange(length - self._depth, length + self.margin)
            along = np.arange(first - _BEYOND_PX, first + _STRETCH_PX + _BEYOND_PX)
            wide = self._continue(across, along, axis)[:, _BEYOND_PX:-_BEYOND_PX]
            self._found[key] = wide[-self.margin :] if far else wide[: self.margin]
        return self._found[key]

    def _continue(self, across: np.ndarray, along: np.ndarray, axis: int) -> np.ndarray:
        """Return a strip ``(across, along)`` of the plane, continued where it lies outside, with its mirror's noise."""
        places = (along, across) if axis else (across, along)
        # Of a narrow plane the mirror image may lie beyond the strip: the nearest that is there will do.
        mirror = [
            jnp.asarray(np.clip(mirrored(p[0], p[-1] + 1, n), max(p[0], 0), min(p[-1], n - 1)) - p[0])
            for p, n in zip(places, self.shape, strict=True)
        ]
        inside = [(p >= 0) & (p < n) for p, n in zip(places, self.shape, strict=True)]
        image = self._see(*(np.clip(p, 0, n - 1) for p, n in zip(places, self.shape, strict=True)))
        measured = (inside[0][:, None] & inside[1]).astype(np.float32)
        if axis:
            image, measured, mirror = image.T, measured.T, mirror[::-1]
        return np.asarray(
            _continued(jnp.asarray(image), jnp.asarray(measured), (mirror[0], mirror[1]), self._abbe_px)
        )
