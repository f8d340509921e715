"""What the frames of a movie are brought onto, made of a sample of them, and whether to follow more than a shift.

Samples are ``(t, y, x)``; frames are worked on a few at a time, so that only the sample itself is in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.operators import rigid_flow, warp
from dps_jax.pipelines.flow_network import FlowNetwork
from dps_jax.pipelines.parallel import in_order
from dps_jax.pipelines.register import RegisterSettings, find_motion
from dps_jax.typing import Array

# Frames at a time, and their pixels: a compiled program has one size, the last batch is filled up.
BATCH, BATCH_PIXELS = 8, 2**22
# Deviations from the rigid shift below this are not worth following: resampling costs more than they do.
_WORTHWHILE_PX = 0.1


@dataclass(frozen=True, eq=False)
class Template:
    """What frames are brought onto: ``image`` ``(y, x)``, and which of the sampled frames are in it."""

    image: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """Deviations from the rigid shift that two halves of the pixels find, independently of each other.

    ``common_px`` is the part on which they agree, ``apart_px`` the error that their difference lets expect of both
    together, each a root mean square.
    """

    common_px: float
    apart_px: float

    @property
    def patches_help(self) -> bool:
        """Tell whether following the deviations brings frames nearer to the truth than leaving them."""
        return self.common_px > max(self.apart_px, _WORTHWHILE_PX)


def build_template(
    sample: np.ndarray, *, settings: RegisterSettings, first: np.ndarray | None = None
) -> Template:
    """Build a template of sampled frames ``(t, y, x)`` by rigid registration, round by round.

    It starts from ``first`` ``(y, x)``, a frame whose place is kept; by default from the frames most alike, and is
    moved to where half of the frames lie on either side. From each round's mean, frames are left out that correlate
    with the template far less than most do (below the median by more than 4 standard deviations, estimated from the
    median deviation).
    """
    image = _most_alike(sample) if first is None else np.asarray(first, np.float32)
    kept = np.ones(len(sample), bool)
    for _ in range(settings.rounds):
        look = functools.partial(find_motion, template=jnp.asarray(image), method="rigid", settings=settings)
        shift = _gathered(look, sample)
        if first is None:
            shift = shift - np.median(shift[kept], axis=0)
        kept = _not_far_below(_gathered(functools.partial(_correlations, template=image), sample, shift))
        total = _added(_shifted_sum, sample, shift, kept.astype(np.float32))
        image = (total / kept.sum()).astype(np.float32)
    return Template(image, kept)


def refine_template(
    sample: np.ndarray,
    template: Template,
    *,
    settings: RegisterSettings,
    method: str = "patches",
    centred: bool = True,
    network: FlowNetwork | None = None,
) -> Template:
    """Make the template anew, its frames brought onto it by a method that deforms: sharper where they deformed.

    ``centred`` moves it to the mean of the frames' flows, pixel by pixel.
    """
    count = template.kept.sum()
    work = functools.partial(
        _followed_sum,
        template=jnp.asarray(template.image),
        network=network,
        method=method,
        settings=settings,
    )
    total = _added(work, sample, template.kept.astype(np.float32)) / count
    image, flow = total[0].astype(np.float32), total[1:].astype(np.float32)
    if centred:
        # The mean of the frames lies where their mean flow says; it is smooth, and moves the mean as it would them.
        image = np.asarray(_moved(image, -flow))
    return Template(image, template.kept)


def agreement(sample: np.ndarray, template: Template, *, settings: RegisterSettings) -> Agreement:
    """Compare what the two colours of a checkerboard, each without the other's pixels, find beyond the rigid shift.

    The noise of one pixel tells nothing about its neighbours': what both colours find is motion (or a change of the
    scene); what they find apart is noise. In frames ``(t, y, x)``.
    """
    work = functools.partial(_agreements, template=jnp.asarray(template.image), settings=settings)
    common, apart = _gathered(work, sample)[template.kept].mean(0)
    return Agreement(float(np.sqrt(max(common, 0.0))), float(np.sqrt(apart)))


@functools.partial(jax.jit, static_argnames="colour")
def one_colour(image: Array, *, colour: int) -> Array:
    """Keep the pixels of one colour of a checkerboard; each of the others becomes the mean of its neighbours."""
    wide = jnp.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)], mode="reflect")
    around = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
    y, x = np.indices(image.shape[-2:])
    own = jnp.broadcast_to(jnp.asarray((y + x) % 2 == colour), image.shape)
    return jnp.where(own, image, around / 4)


def batch_size(shape: tuple[int, ...]) -> int:
    """Return how many frames of a shape ``(..., y, x)`` are worked on at a time."""
    return int(np.clip(BATCH_PIXELS // np.prod(shape), 1, BATCH))


def filled_up(frames: np.ndarray, count: int) -> np.ndarray:
    """Repeat the last frame until there are ``count``."""
    return np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), 0)])


def correlation(image: Array, template: Array) -> Array:
    """Return Pearson's correlation of each image ``(..., y, x)`` with the template, 0 for one without contrast."""
    a = image - image.mean((-2, -1), keepdims=True)
    b = jnp.broadcast_to(template - template.mean(), a.shape)
    norm = jnp.sqrt((a * a).sum((-2, -1)) * (b * b).sum((-2, -1)))
    return jnp.where(norm > 0, (a * b).sum((-2, -1)) / jnp.where(norm > 0, norm, 1.0), 0.0)


@jax.jit
def _correlations(frames: Array, shift: Array, *, template: Array) -> Array:
    return correlation(warp(frames, rigid_flow(frames.shape[-2:], shift)), template)


@jax.jit
def _shifted_sum(frames: Array, shift: Array, weight: Array) -> Array:
    moved = warp(frames, rigid_flow(frames.shape[-2:], shift))
    return jnp.sum(weight[:, None, None] * moved, axis=0)


def _followed_sum(
    frames: Array,
    weight: Array,
    *,
    template: Array,
    network: FlowNetwork | None,
    method: str,
    settings: RegisterSettings,
) -> Array:
    flow = find_motion(frames, template, method=method, settings=settings, network=network)
    return _weighted_sum(frames, flow, weight)


@jax.jit
def _weighted_sum(frames: Array, flow: Array, weight: Array) -> Array:
    """Add up moved frames, and flows: ``(3, y, x)``."""
    parts = jnp.concatenate([warp(frames, flow)[:, None], flow], axis=1)
    return jnp.sum(weight[:, None, None, None] * parts, axis=0)


def _agreements(frames: Array, *, template: Array, settings: RegisterSettings) -> Array:
    """Return the mean squares ``(t, 2)`` of what both colours find alike, and apart."""
    one, other = (
        find_motion(
            one_colour(frames, colour=c),
            one_colour(template, colour=c),
            method="patches",
            settings=settings,
        )
        for c in (0, 1)
    )
    return _mean_squares(one, other)


@jax.jit
def _mean_squares(one: Array, other: Array) -> Array:
    one, other = (flow - flow.mean((-2, -1), keepdims=True) for flow in (one, other))
    common, apart = (one * other).sum(1), ((one - other) ** 2).sum(1) / 4
    return jnp.stack([common.mean((-2, -1)), apart.mean((-2, -1))], axis=1)


@jax.jit
def _moved(image: Array, flow: Array) -> Array:
    return warp(image, flow, order=3)


def _batches(arrays: tuple[np.ndarray, ...], *, blank: bool) -> Any:
    """Cut arrays into batches of one size; a last one is filled up, with weights of 0 if they are ``blank``."""
    size = batch_size(arrays[0].shape[1:])
    for start in range(0, len(arrays[0]), size):
        parts = [filled_up(np.asarray(a[start : start + size], np.float32), size) for a in arrays]
        if blank:
            parts[-1] = np.where(np.arange(size) < len(arrays[0]) - start, parts[-1], 0).astype(np.float32)
        yield parts


def _gathered(work: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Return what ``work`` gives for each frame."""
    results = in_order(lambda parts: np.asarray(work(*parts)), _batches(arrays, blank=False))
    return np.concatenate(list(results))[: len(arrays[0])]


def _added(work: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Return the sum of what ``work`` gives for each batch; the last array holds the frames' weights."""
    total = np.zeros(())
    for result in in_order(lambda parts: np.asarray(work(*parts)), _batches(arrays, blank=True)):
        total = total + result
    return total


def _most_alike(sample: np.ndarray) -> np.ndarray:
    """Return the mean of a frame and those most like it, for the frame that is most like others."""
    factor = max(1, min(sample.shape[-2:]) // 64)
    height, width = (n // factor for n in sample.shape[-2:])
    cut = sample[:, : height * factor, : width * factor]
    small = cut.reshape(len(sample), height, factor, width, factor).mean((2, 4)).reshape(len(sample), -1)
    small = small - small.mean(1, keepdims=True)
    norm = np.linalg.norm(small, axis=1, keepdims=True)
    small = small / np.where(norm > 0, norm, 1.0)
    likeness = small @ small.T
    count = max(2, len(sample) // 4)
    nearest = np.argsort(-likeness, axis=1)[:, :count]
    best = int(np.argmax(np.take_along_axis(likeness, nearest, axis=1).mean(1)))
    return np.asarray(sample[nearest[best]].mean(0), np.float32)


def _not_far_below(values: np.ndarray) -> np.ndarray:
    middle = np.median(values)
    # The median deviation of normal numbers is their standard deviation over 1.4826.
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.asarray(values >= middle - max(4 * spread, 1e-3))
