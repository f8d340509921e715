"""Pairs for learned registration: a template, a frame of it that moved, and the flow that undoes the motion.

``batch(step)`` is a function of the config and the step alone. Scenes are two-photon fields whose cells fire; a pair
is cut from one of a store of them at a random place and orientation, moved by a smooth flow, and photographed. Some
frames do not move, some move as a whole, in some the lines of the scan do. A template is a mean of frames, slightly
blurred, as one that was built of frames not quite in register. Where a frame was shifted out of view it is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from dps_jax.operators.flow_fields import invert
from dps_jax.operators.warp import warp
from dps_jax.synthetic import deformations, two_photon
from dps_jax.training.data import Batch
from dps_jax.training.flow_config import FlowConfig, MotionConfig
from dps_jax.training.scale_transfer import log_uniform
from dps_jax.typing import Array

_STATES = 8  # frames of each scene, of different activity
SLACK_PX = 32  # a scene is wider than what is cut from it by this
MARGIN_PX = 16  # what may move into the frame


@dataclass(frozen=True, eq=False)
class Pair:
    """One scene cut out, its states and its flows on a field wider than the frame by a margin on each side."""

    template: np.ndarray  # (y, x) clean, on the frame
    states: np.ndarray  # (k, y + 2 m, x + 2 m)
    flows: np.ndarray  # (k, 2, y + 2 m, x + 2 m)


@jax.jit
def _moved(states: Array, flows: Array) -> Array:
    """Return the frames that ``flows`` bring back onto the states, without the margin."""
    # The steepest flows change by a fifth of a pixel per pixel: eight iterations leave a millionth.
    back = invert(flows, iterations=8).flow_px
    frames = jax.vmap(lambda s, f: warp(s, f, order=3, mode="mirror"))(states, back)
    return frames[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


class Scenes:
    """A store of clean scenes, each drawn when it is first asked for; a function of the seed."""

    def __init__(self, seed: int, count: int, side_px: int) -> None:
        self.seed, self.count, self.side_px = seed, count, side_px + 2 * MARGIN_PX + SLACK_PX
        self._drawn: dict[int, np.ndarray] = {}

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the states ``(t, y, x)`` of one scene."""
        if index not in self._drawn:
            rng = np.random.default_rng([self.seed, self.count, index])
            # At three frames a second every frame has an activity of its own, a decay of the last one's.
            self._drawn[index] = two_photon.movie(
                rng,
                (self.side_px, self.side_px),
                frames=_STATES,
                radius_px=rng.uniform(3.5, 8.0),
                density=rng.uniform(0.08, 0.4),
                neuropil=rng.uniform(0.15, 0.6),
                frame_rate_hz=3.0,
                spikes_hz=rng.uniform(0.1, 0.6),
            )[0]
        return self._drawn[index]


class GivenScenes:
    """Scenes cut from the states ``(t, y, x)`` of one field of view, in units of what is bright there.

    A field smaller than a scene goes on as its mirror image.
    """

    def __init__(self, states: np.ndarray, side_px: int) -> None:
        wide = side_px + 2 * MARGIN_PX + SLACK_PX
        lacking = [max(0, wide - n) for n in states.shape[-2:]]
        pads = [(0, 0), *((n // 2, n - n // 2) for n in lacking)]
        self._states, self._side_px = np.pad(states, pads, mode="symmetric"), wide
        # A slack apart: a pair is cut at random within it, so that every place is reached.
        self._places = [
            (y, x)
            for y in _starts(self._states.shape[-2], wide)
            for x in _starts(self._states.shape[-1], wide)
        ]
        self.count = len(self._places)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the states ``(t, y, x)`` of one scene."""
        y, x = self._places[index]
        return self._states[:, y : y + self._side_px, x : x + self._side_px]


def _starts(length: int, wide: int) -> list[int]:
    return [*range(0, length - wide, SLACK_PX), length - wide]


def make_batches(config: FlowConfig, *, scenes: Scenes | GivenScenes | None = None) -> Callable[[int], Batch]:
    """Return ``batch(step)``: ``n`` templates with ``k`` frames each, in photons.

    Pairs are cut from ``scenes``, by default simulated ones as the config says.

    ``template`` and ``template_known`` ``(n, y, x)``, ``frame`` and ``known`` ``(n, k, y, x)``, and the true ``flow``
    ``(n, k, 2, y, x)`` in pixels: ``frame(r + flow(r))`` lies on ``template(r)``.
    """
    source = Scenes(config.seed, config.scenes, config.side_px) if scenes is None else scenes

    def batch(step: int) -> Batch:
        rngs = [np.random.default_rng([config.seed, step, i]) for i in range(config.batch)]
        pairs = [_pair(rng, source, config) for rng in rngs]
        states, flows = (np.concatenate([getattr(p, name) for p in pairs]) for name in ("states", "flows"))
        frames = np.asarray(_moved(jnp.asarray(states, jnp.float32), jnp.asarray(flows, jnp.float32)))
        frames = np.maximum(frames, 0).reshape(config.batch, config.frames, *frames.shape[1:])
        rows = [_photographed(r, p.template, f, config) for r, p, f in zip(rngs, pairs, frames, strict=True)]
        out = {name: np.stack([row[name] for row in rows]).astype(np.float32) for name in rows[0]}
        inner = slice(MARGIN_PX, -MARGIN_PX)
        out["flow"] = np.stack([p.flows[..., inner, inner] for p in pairs]).astype(np.float32)
        return out

    return batch


def _pair(rng: np.random.Generator, scenes: Scenes | GivenScenes, config: FlowConfig) -> Pair:
    side = config.side_px + 2 * MARGIN_PX
    scene = scenes[int(rng.integers(scenes.count))]
    y, x = rng.integers(0, SLACK_PX + 1, 2)
    turned = np.rot90(scene[:, y : y + side, x : x + side], int(rng.integers(4)), (1, 2))
    turned = turned[:, ::-1] if rng.random() < 0.5 else turned
    count = len(turned)
    seen = rng.choice(count, int(rng.integers(1, count + 1)), replace=False)
    template = turned[seen].mean(0)
    blur = rng.uniform(0, config.template_blur_px)
    template = gaussian_filter(template, blur, mode="mirror")[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    states = turned[rng.integers(0, count, config.frames)]
    flows = np.stack([draw_flow(rng, side, config.motion) for _ in range(config.frames)])
    return Pair(template, states, flows)


def draw_flow(rng: np.random.Generator, side_px: int, motion: MotionConfig) -> np.ndarray:
    """Draw what is left of a motion after its whole pixels are taken out: ``(2, side, side)``."""
    kind = rng.random()
    if kind < motion.still:
        return np.zeros((2, side_px, side_px))
    shift = rng.normal(0, motion.shift_px, (2, 1, 1))
    if kind < motion.still + motion.rigid:
        return np.broadcast_to(shift, (2, side_px, side_px))
    flow = _bumps(rng, side_px, motion) + shift
    return flow + _scan_lines(rng, side_px, motion) if rng.random() < motion.scan_lines else flow


def _bumps(rng: np.random.Generator, side_px: int, motion: MotionConfig) -> np.ndarray:
    """Draw a deformation of the published kind as a patch of a wider field sees it, of any width."""
    sigma = log_uniform(rng, motion.sigma_px)
    wide = side_px + 2 * int(2 * sigma)
    # Ten bumps on a field whose side they are 0.18 of.
    count = max(1, round(10 * (wide * deformations.WIDTH_SHARE / sigma) ** 2))
    flow = deformations.bump_flow(
        rng, (wide, wide), bumps=count, shift_px=log_uniform(rng, motion.vector_px), sigma_px=sigma
    )
    inner = slice(int(2 * sigma), int(2 * sigma) + side_px)
    return flow[:, inner, inner]


def _scan_lines(rng: np.random.Generator, side_px: int, motion: MotionConfig) -> np.ndarray:
    """Draw what a motion during the scan does: every line has a shift of its own, near its neighbours'."""
    course = gaussian_filter1d(rng.standard_normal((2, 2 * side_px)), log_uniform(rng, (8.0, 40.0)), axis=1)
    course = course[:, :side_px] / max(float(course.std()), 1e-6) * rng.uniform(0, motion.scan_line_px)
    return np.broadcast_to(course[:, :, None], (2, side_px, side_px))


def _photographed(
    rng: np.random.Generator, template: np.ndarray, frames: np.ndarray, config: FlowConfig
) -> dict[str, np.ndarray]:
    """Count photons of a template and its frames, of other gain and shading, and hide what was shifted out of view."""
    photons, count = log_uniform(rng, config.photons), log_uniform(rng, config.template_frames)
    shown: dict[str, Any] = {"template": rng.poisson(photons * count * template) / count}
    side = template.shape[-1]
    known_template = np.ones((side, side), np.float32)
    if rng.random() < 0.25:  # a frame that is no multiple of the grid is filled up
        rows, columns = (side - rng.integers(0, 16, 2)).tolist()
        known_template[rows:], known_template[:, columns:] = 0, 0
    gains = np.array([log_uniform(rng, (1 / config.gain, config.gain)) for _ in frames])[:, None, None]
    shading = np.stack([_shading(rng, side, config.shading) for _ in frames])
    noise = rng.normal(0, rng.uniform(0, config.read_noise), frames.shape)
    shown["frame"] = rng.poisson(photons * gains * shading * frames) + noise
    shown["template_known"] = known_template
    shown["known"] = np.stack([known_template * _in_view(rng, side) for _ in frames])
    return shown


def _shading(rng: np.random.Generator, side_px: int, size: float) -> np.ndarray:
    """Draw a slow change of brightness over the field, as of focus or light: about 1."""
    sigma = rng.uniform(0.15, 0.5) * side_px
    bumps = deformations.bump_flow(rng, (side_px, side_px), bumps=4, shift_px=2 * np.pi, sigma_px=sigma)[0]
    return np.exp(rng.uniform(0, size) * np.tanh(bumps))


def _in_view(rng: np.random.Generator, side_px: int) -> np.ndarray:
    """Return where a frame shifted by whole pixels is known: half of them are shifted, by up to 12 px."""
    known = np.ones((side_px, side_px), np.float32)
    if rng.random() < 0.5:
        for axis in (0, 1):
            width = int(12 * rng.random() ** 2)
            edge = slice(0, width) if rng.random() < 0.5 else slice(side_px - width, side_px)
            known[edge if axis == 0 else slice(None), edge if axis == 1 else slice(None)] = 0
    return known
