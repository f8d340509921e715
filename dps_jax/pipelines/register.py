"""Bring the frames of a movie onto a template: the ways there are, and their settings.

Frames are ``(t, y, x)`` or ``(t, plane, y, x)``, flows ``(t, 2, y, x)`` in pixels:
``corrected(r) = frame(r + flow(r))``.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators import estimate_shift, rigid_flow
from dps_jax.pipelines.flow_network import FlowNetwork, network_flow
from dps_jax.solvers import piecewise_rigid
from dps_jax.typing import Array

# A third, "flow", needs a network.
METHODS = ("rigid", "patches")
# Frames this large are halved to look for motion: four times as fast, and patches of more photons.
_HALVED_FROM_PX = 256


@dataclass(frozen=True, kw_only=True)
class RegisterSettings:
    """How motion is looked for; lengths in pixels of the frames.

    ``patch_px`` and ``stride_px`` are doubled for frames of 256 px or more, which are halved to look for motion.
    ``order`` is that of the interpolation: 1 (linear) or 3 (cubic, sharper, may fall below 0). ``rounds`` is how often
    the template is made anew.
    """

    largest_shift_px: float = 15.0
    patch_px: int = 24
    stride_px: int = 12
    order: int = 1
    rounds: int = 3

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _checks.positive("largest_shift_px", self.largest_shift_px)
        for name in ("patch_px", "stride_px", "rounds"):
            _checks.positive_integer(name, getattr(self, name))
        _checks.one_of("order", self.order, (1, 3))


def find_motion(
    image: Array,
    template: Array,
    *,
    method: str,
    settings: RegisterSettings,
    network: FlowNetwork | None = None,
) -> Array:
    """Return what brings frames ``(t, y, x)`` onto the template ``(y, x)``: a flow, or the shift of a rigid method.

    Several compiled programs, one after the other: in a single one, XLA computes on a CPU what it could keep again
    wherever it is read, and takes twice as long. Call it outside of others. The method "flow" is the given network's.

    Returns
    -------
    ``(t, 2)`` for ``"rigid"``, else ``(t, 2, y, x)``; in pixels. :func:`as_flow` makes a flow of either.

    Raises
    ------
    ValueError
        For an unknown method, "flow" without a network, or sizes that differ.
    """
    _checks.one_of("method", method, METHODS if network is None else (*METHODS, "flow"))
    if network is not None and method == "flow":
        return network_flow(image, template, network, largest_shift_px=settings.largest_shift_px)
    shape = (image.shape[-2], image.shape[-1])
    factor = 2 if min(shape) >= _HALVED_FROM_PX else 1
    image, template = _binned(image, factor), _binned(template, factor)
    if method == "rigid":
        return _find_shift(image, template, factor=factor, settings=settings)
    return _find_patches(image, template, factor=factor, shape=shape, settings=settings)


def as_flow(motion: Array, shape: tuple[int, int]) -> Array:
    """Return the flow ``(t, 2, y, x)`` of shifts ``(t, 2)``, or the flow that is given."""
    return motion if motion.ndim == 4 else rigid_flow(shape, motion)


def seen(frames: Array, channel: int | None) -> Array:
    """Return the images ``(..., y, x)`` of frames ``(..., plane, y, x)`` in which motion is looked for, float32."""
    frames = jnp.asarray(frames, jnp.float32)
    return frames.mean(-3) if channel is None else frames[..., channel, :, :]


@functools.partial(jax.jit, static_argnames=("factor", "settings"))
def _find_shift(image: Array, template: Array, *, factor: int, settings: RegisterSettings) -> Array:
    return factor * estimate_shift(image, template, largest_shift_px=settings.largest_shift_px / factor)


@functools.partial(jax.jit, static_argnames=("factor", "shape", "settings"))
def _find_patches(
    image: Array, template: Array, *, factor: int, shape: tuple[int, int], settings: RegisterSettings
) -> Array:
    return piecewise_rigid(
        image,
        template,
        patch_px=settings.patch_px,
        stride_px=settings.stride_px,
        largest_shift_px=settings.largest_shift_px / factor,
        finer=None if factor == 1 else (factor, shape),
    )


@functools.partial(jax.jit, static_argnames="factor")
def _binned(image: Array, factor: int) -> Array:
    image = jnp.asarray(image, jnp.float32)
    if factor == 1:
        return image
    height, width = (n // factor * factor for n in image.shape[-2:])
    image = image[..., :height, :width]
    # Sums of every other row and column: twice as fast on a CPU as the mean over axes of squares.
    rows = sum((image[..., k::factor, :] for k in range(1, factor)), image[..., ::factor, :])
    columns = sum((rows[..., k::factor] for k in range(1, factor)), rows[..., ::factor])
    return columns / factor**2
