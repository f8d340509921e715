"""What is done to a few frames, in compiled programs: motion found, frames moved, rounded, and measured."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.operators import jacobian_determinant, warp
from dps_jax.pipelines.flow_network import FlowNetwork
from dps_jax.pipelines.register import RegisterSettings, as_flow, find_motion, seen
from dps_jax.pipelines.register_template import correlation
from dps_jax.typing import Array

# Types whose whole range float32 holds exactly; others are rounded by the caller.
_HELD = ("uint8", "int8", "uint16", "int16")


class Measures(NamedTuple):
    """What became of a batch of frames; those with values that are not finite are not ``good``, and count as 0."""

    good: Array  # (t,) bool
    shift_px: Array  # (t, 2) mean flow
    reach_px: Array  # (t, 2) largest absolute flow
    folding: Array  # (t,) share of folded pixels
    correlation: Array  # (2, t) with the template, before and after
    total: Array  # (2, y, x) sum of the images, before and after


class Corrected(NamedTuple):
    """A batch of frames on the template."""

    frames: Array  # (t, plane, y, x)
    flow: Array | None  # (t, 2, y, x) if it was asked for
    measures: Measures


def correct_batch(
    raw: np.ndarray,
    template: Array,
    *,
    method: str,
    settings: RegisterSettings,
    count: int,
    channel: int | None = None,
    dtype: np.dtype[Any] | None = None,
    with_flow: bool = False,
    network: FlowNetwork | None = None,
) -> Corrected:
    """Correct frames ``(t, plane, y, x)`` of any type, the first ``count`` of which are real, the others a filling.

    Whole numbers of up to 16 bits are rounded to where ``dtype`` asks for them; all else comes back as float32. What
    is found for frames that are not finite is 0, and such frames come back as 0, too.
    """
    native = raw.dtype.name in (*_HELD, "float32")
    kind = dtype.name if dtype is not None and dtype.name in _HELD else "float32"
    frames, before, good = _readied(raw if native else np.asarray(raw, np.float32), count, channel=channel)
    motion = find_motion(before, template, method=method, settings=settings, network=network)
    moved, motion = _moved(frames, motion, good, order=settings.order)
    measures = _measured(good, before, moved, motion, template, channel=channel)
    flow = as_flow(motion, (raw.shape[-2], raw.shape[-1])) if with_flow else None
    return Corrected(_rounded(moved, kind=kind), flow, measures)


@functools.partial(jax.jit, static_argnames="channel")
def _readied(raw: Array, count: Array, *, channel: int | None) -> tuple[Array, Array, Array]:
    """Return frames as float32, what is looked at, and which frames can be."""
    frames = raw.astype(jnp.float32)
    good = (jnp.arange(len(raw)) < count) & jnp.isfinite(frames).all((1, 2, 3))
    frames = jnp.where(good[:, None, None, None], frames, 0.0)  # what is not finite would spread
    return frames, seen(frames, channel), good


@functools.partial(jax.jit, static_argnames="order")
def _moved(frames: Array, motion: Array, good: Array, *, order: int) -> tuple[Array, Array]:
    motion = jnp.where(good.reshape(-1, *[1] * (motion.ndim - 1)), motion, 0.0)
    return warp(frames, as_flow(motion, (frames.shape[-2], frames.shape[-1]))[:, None], order=order), motion


@functools.partial(jax.jit, static_argnames="channel")
def _measured(
    good: Array, before: Array, moved: Array, motion: Array, template: Array, *, channel: int | None
) -> Measures:
    after = seen(moved, channel)
    if motion.ndim == 2:  # one value everywhere, which cannot fold
        shift, reach, folding = motion, jnp.abs(motion), jnp.zeros(len(motion))
    else:
        shift, reach = motion.mean((-2, -1)), jnp.abs(motion).max((-2, -1))
        folding = jnp.mean(jacobian_determinant(motion) <= 0, axis=(-2, -1))
    alike = jnp.stack([correlation(before, template), correlation(after, template)])
    return Measures(good, shift, reach, folding, alike, jnp.stack([before.sum(0), after.sum(0)]))


@functools.partial(jax.jit, static_argnames="kind")
def _rounded(image: Array, *, kind: str) -> Array:
    if kind == "float32":
        return image
    limits = np.iinfo(kind)
    return jnp.clip(jnp.rint(image), limits.min, limits.max).astype(kind)
