"""Frames onto a template by the flow network: whole pixels first, then the network, and no folds.

Frames are ``(t, y, x)`` in any unit, flows ``(t, 2, y, x)`` in pixels: ``corrected(r) = frame(r + flow(r))``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators import estimate_shift
from dps_jax.operators.differences import first_difference
from dps_jax.operators.sampling import bin_area
from dps_jax.typing import Array, Params
from dps_jax.weights import Network

# Frames this large are halved to look for their rigid motion, which is wanted in whole pixels only.
_HALVED_FROM_PX = 256
# A flow whose slopes stay below 1 does not fold; tissue's are of some hundredths.
_STEEPEST = 0.9


@partial(jax.tree_util.register_dataclass, data_fields=("params",), meta_fields=("module",))
@dataclass(frozen=True, eq=False)
class FlowNetwork:
    """The network as compiled programs take it: its parameters are data, its layers part of the program."""

    module: Any
    params: Params


def flow_network(network: Network) -> FlowNetwork:
    """Return a network of the task "flow", loaded by :func:`dps_jax.weights.load_network`, for compiled programs."""
    return FlowNetwork(network.module, network.params)


def network_flow(
    frames: np.ndarray | Array,
    template: np.ndarray | Array,
    network: FlowNetwork,
    *,
    largest_shift_px: float = 15.0,
) -> Array:
    """Return the flow that brings frames onto a template.

    Parameters
    ----------
    frames
        ``(t, y, x)``.
    template
        ``(y, x)``, better the mean of many frames.
    network
        From :func:`flow_network`.
    largest_shift_px
        Bound of the rigid shift along each axis; what the network adds to it is not bound.

    Returns
    -------
    ``(t, 2, y, x)`` float32, free of folds.

    Raises
    ------
    ValueError
        For arrays of other axes, or sizes that differ.

    Notes
    -----
    The rigid shift is taken out by whole pixels: between pixels, interpolation would average the noise of some places
    more than of others, and frames moved so look alike. Frames are worked on one after the other, in the memory of one.
    """
    if jnp.ndim(frames) != 3 or jnp.ndim(template) != 2:
        raise ValueError(
            f"expected frames (t, y, x) and a template (y, x), got shapes {jnp.shape(frames)} and {jnp.shape(template)}"
        )
    if jnp.shape(frames)[1:] != jnp.shape(template):
        raise ValueError(
            f"expected frames and template of one size, got {jnp.shape(frames)[1:]} and {jnp.shape(template)}"
        )
    _checks.positive("largest_shift_px", largest_shift_px)
    return _flows(
        network,
        jnp.asarray(frames, jnp.float32),
        jnp.asarray(template, jnp.float32),
        largest_shift_px=float(largest_shift_px),
    )


@partial(jax.jit, static_argnames=("largest_shift_px",))
def _flows(network: FlowNetwork, frames: Array, template: Array, *, largest_shift_px: float) -> Array:
    module, params = network.module, network.params
    shape = (template.shape[0], template.shape[1])
    shifts = _whole_shifts(frames, template, largest_shift_px)
    ones = jnp.ones(shape, jnp.float32)
    there = _filled_up(ones, module.grid_multiple)
    wanted = module.apply(
        {"params": params},
        _filled_up(template, module.grid_multiple)[None],
        there[None],
        method="features",
    )

    def one(frame_and_shift: tuple[Array, Array]) -> Array:
        frame, shift = frame_and_shift
        seen, known = shifted(frame, shift)
        seen, known = (_filled_up(i, module.grid_multiple) for i in (seen, known))
        features = module.apply({"params": params}, seen[None], known[None], method="features")
        flow = module.apply({"params": params}, wanted, features, method="match")[-1][0]
        return without_folds(jnp.moveaxis(flow, -1, 0)[:, : shape[0], : shape[1]])

    # One frame's features at a time: those of a batch would take gigabytes where frames are large.
    flows = jax.lax.map(one, (frames, shifts))
    return flows + jnp.broadcast_to(shifts[:, :, None, None], flows.shape).astype(flows.dtype)


def _whole_shifts(frames: Array, template: Array, largest_shift_px: float) -> Array:
    """Return the rigid shift of each frame in whole pixels, int32 ``(t, 2)``."""
    factor = 2 if min(template.shape) >= _HALVED_FROM_PX else 1
    height, width = (n // factor * factor for n in template.shape)
    small, wanted = (bin_area(i[..., :height, :width], factor) for i in (frames, template))
    found = factor * estimate_shift(small, wanted, largest_shift_px=largest_shift_px / factor)
    return jnp.round(found).astype(jnp.int32)


def shifted(frame: Array, shift_px: Array) -> tuple[Array, Array]:
    """Read a frame ``(y, x)`` at ``r + shift_px``, whole pixels: the image, and 1 where it was there, else 0."""
    index = [jnp.arange(n, dtype=jnp.int32) + shift_px[i] for i, n in enumerate(frame.shape)]
    inside = [(i >= 0) & (i < n) for i, n in zip(index, frame.shape, strict=True)]
    moved = jnp.take(jnp.take(frame, index[0], axis=0, mode="clip"), index[1], axis=1, mode="clip")
    return moved, (inside[0][:, None] & inside[1][None, :]).astype(frame.dtype)


def without_folds(flow_px: Array) -> Array:
    """Return a flow ``(2, y, x)`` drawn towards its mean as far as it takes to have no slope of 0.9 or more.

    With slopes below 1 the map ``r -> r + flow(r)`` is one to one. Flows of tissue are returned as they are.
    """
    squares = [
        jnp.pad(jnp.sum(first_difference(flow_px, axis) ** 2, axis=0), pad, mode="edge")
        for axis, pad in (("y", ((0, 1), (0, 0))), ("x", ((0, 0), (0, 1))))
    ]
    steepest = jnp.sqrt(jnp.max(squares[0] + squares[1]))
    mean = jnp.mean(flow_px, axis=(-2, -1), keepdims=True)
    return mean + (flow_px - mean) * jnp.minimum(1.0, _STEEPEST / jnp.maximum(steepest, 1e-6))


def _filled_up(image: Array, multiple: int) -> Array:
    """Pad ``(y, x)`` with zeros at the end of each axis to sides that are multiples."""
    return jnp.pad(image, [(0, -n % multiple) for n in image.shape])
