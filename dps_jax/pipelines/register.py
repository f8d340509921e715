"""Bring the frames of a movie onto one template: the template itself, the flow of each frame, and which method helps.

Frames are ``(t, y, x)`` or ``(t, plane, y, x)``, flows ``(t, 2, y, x)`` in pixels:
``corrected(r) = frame(r + flow(r))``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import uniform_filter

from dps_jax import _checks
from dps_jax.metrics import template_correlation
from dps_jax.operators import estimate_shift, rigid_flow, warp
from dps_jax.solvers import piecewise_rigid
from dps_jax.typing import Array

METHODS = ("rigid", "patches")
# Frames this large are halved to look for motion: four times as fast, and patches of more photons.
_HALVED_FROM_PX = 256
# Frames at a time: a compiled program has one size, the last batch is filled up.
BATCH = 8
# Deviations from the rigid shift below this are not worth following: resampling costs more than they do.
_WORTHWHILE_PX = 0.1


@dataclass(frozen=True, kw_only=True)
class RegisterSettings:
    """How motion is looked for; lengths in pixels of the frames.

    ``patch_px`` and ``stride_px`` are doubled for frames of 256 px or more, which are halved to look for motion.
    ``order`` is that of the interpolation: 1 (linear) or 3 (cubic, sharper, may fall below 0). ``rounds`` is how often
    the template is made anew.
    """

    largest_shift_px: float = 15.0
    patch_px: int = 32
    stride_px: int = 16
    order: int = 1
    rounds: int = 3

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        _checks.positive("largest_shift_px", self.largest_shift_px)
        for name in ("patch_px", "stride_px", "rounds"):
            _checks.positive_integer(name, getattr(self, name))
        _checks.one_of("order", self.order, (1, 3))


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


def find_flow(image: Array, template: Array, *, method: str, settings: RegisterSettings) -> Array:
    """Return the flow ``(t, 2, y, x)`` that brings frames ``(t, y, x)`` onto the template ``(y, x)``.

    Raises
    ------
    ValueError
        For an unknown method or sizes that differ.
    """
    _checks.one_of("method", method, METHODS)
    shape = (image.shape[-2], image.shape[-1])
    factor = 2 if min(shape) >= _HALVED_FROM_PX else 1
    image, template = _binned(image, factor), _binned(template, factor)
    largest = settings.largest_shift_px / factor
    if method == "rigid":
        return rigid_flow(shape, factor * estimate_shift(image, template, largest_shift_px=largest))
    flow = piecewise_rigid(
        image,
        template,
        patch_px=settings.patch_px,
        stride_px=settings.stride_px,
        largest_shift_px=largest,
    )
    return flow if factor == 1 else _enlarged(flow, factor, shape)


def register_frames(
    frames: Array, template: Array, *, method: str, settings: RegisterSettings, channel: int | None = None
) -> tuple[Array, Array]:
    """Return corrected frames and their flows, by the compiled programs that also make the template.

    Parameters
    ----------
    frames
        ``(t, plane, y, x)``; one flow moves all planes of a frame.
    template
        ``(y, x)``.
    method, settings
        As :func:`find_flow`.
    channel
        The plane that is looked at; by default the mean of all.

    Returns
    -------
    ``(t, plane, y, x)`` and ``(t, 2, y, x)``.
    """
    image = frames.mean(1) if channel is None else frames[:, channel]
    flow = _found(image, template, method=method, settings=settings)
    return _warp(frames, flow[:, None], order=settings.order), flow


def build_template(
    sample: np.ndarray, *, settings: RegisterSettings, first: np.ndarray | None = None
) -> Template:
    """Build a template of sampled frames ``(t, y, x)`` by rigid registration, round by round.

    It starts from ``first`` ``(y, x)``, a frame whose place is kept; by default from the frames most alike, and is
    moved to where half of the frames lie on either side. From each round's mean, frames are left out that correlate
    with the template far less than most do (below the median by more than 4 standard deviations, estimated from the
    median deviation).
    """
    sample = np.asarray(sample, np.float32)
    image = _most_alike(sample) if first is None else np.asarray(first, np.float32)
    kept = np.ones(len(sample), bool)
    for _ in range(settings.rounds):
        flow = _flows(sample, image, method="rigid", settings=settings)
        if first is None:
            flow = flow - np.median(flow[kept], axis=0)
        moved = _in_batches(_warp, sample, flow)
        correlation = template_correlation(moved, image)
        kept = _not_far_below(correlation)
        image = moved[kept].mean(0)
    return Template(image, kept)


def refine_template(
    sample: np.ndarray, template: Template, *, settings: RegisterSettings, centred: bool = True
) -> Template:
    """Make the template anew, its frames brought onto it patch by patch: sharper where they deformed.

    ``centred`` moves it to the mean of the frames' flows, pixel by pixel.
    """
    sample = np.asarray(sample[template.kept], np.float32)
    flow = _flows(sample, template.image, method="patches", settings=settings)
    flow = flow - flow.mean(0) if centred else flow
    return Template(_in_batches(_warp, sample, flow).mean(0), template.kept)


def agreement(sample: np.ndarray, template: Template, *, settings: RegisterSettings) -> Agreement:
    """Compare what the two colours of a checkerboard, each without the other's pixels, find beyond the rigid shift.

    The noise of one pixel tells nothing about its neighbours': what both colours find is motion (or a change of the
    scene); what they find apart is noise. In frames ``(t, y, x)``.
    """
    sample = np.asarray(sample[template.kept], np.float32)
    halves = []
    for colour in (0, 1):
        flow = _flows(
            _one_colour(sample, colour),
            _one_colour(template.image, colour),
            method="patches",
            settings=settings,
        )
        halves.append(flow - flow.mean((-2, -1), keepdims=True))
    common = float((halves[0] * halves[1]).sum(1).mean())
    apart = float(((halves[0] - halves[1]) ** 2).sum(1).mean()) / 4
    return Agreement(float(np.sqrt(max(common, 0.0))), float(np.sqrt(apart)))


@functools.partial(jax.jit, static_argnames=("method", "settings"))
def _found(image: Array, template: Array, *, method: str, settings: RegisterSettings) -> Array:
    return find_flow(image, template, method=method, settings=settings)


_warp = jax.jit(warp, static_argnames=("order",))


def _flows(
    sample: np.ndarray, template: np.ndarray, *, method: str, settings: RegisterSettings
) -> np.ndarray:
    return _in_batches(
        lambda frames: _found(frames, jnp.asarray(template), method=method, settings=settings), sample
    )


def _in_batches(work: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Apply ``work`` to a few frames at a time, all batches of one size."""
    count = len(arrays[0])
    results = []
    for start in range(0, count, BATCH):
        parts = [filled_up(array[start : start + BATCH], BATCH) for array in arrays]
        results.append(np.asarray(work(*parts))[: count - start])
    return np.concatenate(results)


def filled_up(frames: np.ndarray, count: int) -> np.ndarray:
    """Repeat the last frame until there are ``count``."""
    return np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), 0)])


def _binned(image: Array, factor: int) -> Array:
    image = jnp.asarray(image, jnp.float32)
    if factor == 1:
        return image
    height, width = (n // factor * factor for n in image.shape[-2:])
    image = image[..., :height, :width]
    return image.reshape(*image.shape[:-2], height // factor, factor, width // factor, factor).mean((-3, -1))


def _enlarged(flow: Array, factor: int, shape: tuple[int, int]) -> Array:
    """Interpolate the flow of binned images on the whole grid, linearly; beyond the outermost centres it is kept."""
    rows, columns = (
        jnp.asarray(_linear(n, short, factor), flow.dtype)
        for n, short in zip(shape, flow.shape[-2:], strict=True)
    )
    return factor * jnp.einsum("yp,...pq,xq->...yx", rows, flow, columns)


def _linear(length: int, short: int, factor: int) -> np.ndarray:
    place = np.clip((np.arange(length) - (factor - 1) / 2) / factor, 0, short - 1)
    return np.maximum(1 - np.abs(place[:, None] - np.arange(short)), 0)


def _most_alike(sample: np.ndarray) -> np.ndarray:
    """Return the mean of a frame and those most like it, for the frame that is most like others."""
    factor = max(1, min(sample.shape[-2:]) // 64)
    small = uniform_filter(sample, (0, factor + 1, factor + 1))[:, ::factor, ::factor].reshape(
        len(sample), -1
    )
    small = small - small.mean(1, keepdims=True)
    norm = np.linalg.norm(small, axis=1, keepdims=True)
    small = small / np.where(norm > 0, norm, 1.0)
    likeness = small @ small.T
    count = max(2, len(sample) // 4)
    nearest = np.argsort(-likeness, axis=1)[:, :count]
    best = int(np.argmax(np.take_along_axis(likeness, nearest, axis=1).mean(1)))
    return sample[nearest[best]].mean(0)


def _not_far_below(values: np.ndarray) -> np.ndarray:
    middle = np.median(values)
    # The median deviation of normal numbers is their standard deviation over 1.4826.
    spread = 1.4826 * np.median(np.abs(values - middle))
    return values >= middle - max(4 * spread, 1e-3)


def _one_colour(image: np.ndarray, colour: int) -> np.ndarray:
    """Keep the pixels of one colour of a checkerboard; each of the others becomes the mean of its neighbours."""
    wide = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(1, 1), (1, 1)], mode="reflect")
    around = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
    y, x = np.indices(image.shape[-2:])
    return np.where((y + x) % 2 == colour, image, around / 4).astype(np.float32)
