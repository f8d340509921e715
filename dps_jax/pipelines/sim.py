"""Raw SIM frames to an image of twice the resolution: check, find stripes, refine them, reconstruct, account for it.

Frames are ``(plane, angle, phase, y, x)`` in any unit; all planes (depths or times) share the stripes, which are found
in their mean. The result has half the pixel, and the light of the mean frame above its background.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.io import UserError
from dps_jax.metrics.light import background_level
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf
from dps_jax.pipelines.sim_checks import check_frames, check_planes, check_stripes
from dps_jax.pipelines.sim_learned import learned_sim
from dps_jax.pipelines.sim_refine import refine
from dps_jax.solvers.sim_estimation import Stripes, estimate_illumination, noise_to_signal
from dps_jax.solvers.sim_reconstruction import (
    FACTOR,
    faded,
    per_order,
    periodic_frames,
    sim_wiener,
)
from dps_jax.solvers.sim_richardson_lucy import raised, sim_richardson_lucy
from dps_jax.typing import Array
from dps_jax.weights import load_network

METHODS = ("wiener", "richardson-lucy", "network")
Progress = Callable[[int, int], None]

_PLANES_LOOKED_AT = 9
# Where noise cannot be told from light: what a good exposure has.
_USUAL_NOISE = 3e-3


@dataclass(frozen=True)
class SimSettings:
    """How to reconstruct; see ``solvers.sim_wiener`` and ``solvers.sim_richardson_lucy``.

    ``noise_to_signal`` and ``background`` are measured where they are None; ``apodisation``, ``notch`` and
    ``noise_to_signal`` are the Wiener filter's, ``iterations`` are Richardson-Lucy's.
    """

    method: str = "wiener"
    orders: int = 1
    noise_to_signal: float | None = None
    apodisation: float = 0.2
    notch: float = 0.8
    notch_width: float = 0.2
    iterations: int = 40
    background: float | None = None
    refine: bool = True

    def __post_init__(self) -> None:
        _checks.one_of("method", self.method, METHODS)
        _checks.one_of("orders", self.orders, (1, 2))
        _checks.positive("noise_to_signal", self.noise_to_signal)
        _checks.positive_integer("iterations", self.iterations)
        _checks.non_negative("apodisation", self.apodisation)
        if not 0 <= self.notch <= 1:
            raise ValueError(f"expected notch from 0 to 1, got {self.notch!r}")


@dataclass(frozen=True, eq=False)
class SimReconstruction:
    """The reconstruction ``(plane, 2 y, 2 x)`` and everything that it rests on.

    ``residual`` is the root mean square, over frames, of what the reconstruction leaves unexplained, ``(y, x)`` of the
    first plane, in the frames' unit; ``residual_share`` the same of all pixels over the mean light. ``extension`` is
    the extended cut-off over the microscope's.
    """

    image: np.ndarray
    mean: np.ndarray
    stripes: Stripes
    refined: bool
    background: float
    noise_to_signal: float
    light_out_over_in: float
    residual: np.ndarray
    residual_share: float
    extension: float
    notes: tuple[str, ...]

    @property
    def illumination(self) -> Illumination:
        """The stripes that were found."""
        return self.stripes.illumination

    def angles(self) -> list[dict[str, float | list[float]]]:
        """Return the stripes of each angle in plain numbers."""
        found = self.illumination
        period, direction = np.asarray(found.period_px), np.degrees(np.asarray(found.angle_rad))
        return [
            {
                "wavevector_y_per_px": float(found.wavevectors[a, 0]),
                "wavevector_x_per_px": float(found.wavevectors[a, 1]),
                "period_px": float(period[a]),
                "direction_degrees": float(direction[a]),
                "phases_degrees": [float(p) for p in np.degrees(np.asarray(found.phases_rad[a])) % 360],
                "modulation": [float(m) for m in found.modulation[a]],
                "significance": float(self.stripes.significance[a]),
            }
            for a in range(len(period))
        ]


def reconstruct_sim(
    frames: np.ndarray,
    otfs: RadialOtf | Sequence[RadialOtf],
    *,
    settings: SimSettings | None = None,
    near: np.ndarray | None = None,
    progress: Progress | None = None,
) -> SimReconstruction:
    """Reconstruct raw SIM frames.

    Parameters
    ----------
    frames
        ``(plane, angle, phase, y, x)``, any real type and unit.
    otfs
        OTF of the detection, or one for each order.
    settings
        Method and its options.
    near
        ``(angle, 2)`` wavevectors of the first order, in cycles per pixel, to look about; by default none is known.
    progress
        Called with (planes done, planes in all).

    Raises
    ------
    UserError
        For frames without stripes, in another order, saturated, or of very unequal brightness.
    ValueError
        For another shape, or numbers out of range.
    """
    settings = settings or SimSettings()
    frames = np.asarray(frames)
    if frames.ndim != 5:
        raise ValueError(f"expected frames (plane, angle, phase, y, x), got shape {frames.shape}")
    each = per_order(otfs, settings.orders)
    notes = check_frames(frames)
    stack = frames.astype(np.float32)
    pooled = stack.mean(0)
    level = settings.background
    if level is None:
        level = background_level(pooled.mean((0, 1)), abbe_px=1 / float(each[0].cutoff))
    stack, pooled = _even(stack - level), _even(pooled - level)
    stripes = estimate_illumination(pooled, each[0], orders=settings.orders, near=near)
    check_stripes(stripes, pooled, each[0], settings.orders)
    check_planes(stack, stripes, each[0], settings.orders)
    refined = False
    if settings.refine:
        better, gain = refine(pooled, stripes.illumination, each)
        refined = gain > 0
        stripes = dataclasses.replace(stripes, illumination=better)
    strength = settings.noise_to_signal
    if strength is None:
        strength = _noise(stack, each[0], settings.orders)
        if strength is None:
            strength = _USUAL_NOISE
            notes += (
                "the pixels leave no frequencies that hold noise alone; --noise-to-signal was not measured",
            )
    images, left, light, shown = [], 0.0, 0.0, None
    for number, plane in enumerate(stack):
        image, factor = _reconstructed(plane, stripes.illumination, each, settings, strength)
        unexplained = np.asarray(
            _unexplained(jnp.asarray(image), jnp.asarray(plane), stripes.illumination, each)
        )
        shown = unexplained if shown is None else shown
        left, light = left + float(np.sqrt(np.mean(unexplained**2))), light + float(plane.mean())
        images.append((image, factor))
        if progress is not None:
            progress(number + 1, len(stack))
    longest = float(settings.orders * jnp.max(jnp.linalg.norm(stripes.illumination.wavevectors, axis=1)))
    return SimReconstruction(
        image=np.stack([i for i, _ in images]),
        mean=stack.mean((1, 2)),
        stripes=stripes,
        refined=refined,
        background=float(level),
        noise_to_signal=float(strength),
        light_out_over_in=float(np.mean([f for _, f in images])),
        residual=shown if shown is not None else np.zeros(frames.shape[-2:]),
        residual_share=left / light if light > 0 else 0.0,
        extension=1 + longest / float(each[0].cutoff),
        notes=notes,
    )


def _noise(stack: np.ndarray, otf: RadialOtf, orders: int) -> float | None:
    """Return the noise over signal of a single plane: the median of some, whose mean would have less."""
    some = np.unique(np.linspace(0, len(stack) - 1, _PLANES_LOOKED_AT).astype(int))
    values = [noise_to_signal(stack[i], otf, orders=orders) for i in some]
    return None if values[0] is None else float(np.median([v for v in values if v is not None]))


def _even(stack: np.ndarray) -> np.ndarray:
    """Scale the frames ``(..., angle, phase, y, x)`` of one plane to one mean: lamps flicker, and dyes bleach."""
    means = stack.mean((-2, -1), keepdims=True)
    whole = stack.mean((-4, -3, -2, -1), keepdims=True)
    # Frames without light to speak of are left as they are: their means are noise.
    factors = np.where(means > 0, whole / np.where(means > 0, means, 1.0), 1.0)
    return np.asarray(stack * np.clip(factors, 0.5, 2.0), np.float32)


@partial(jax.jit, static_argnames=("apodisation", "notch", "notch_width"))
def _wiener(
    frames: Array,
    illumination: Illumination,
    otfs: tuple[RadialOtf, ...],
    strength: Array,
    apodisation: float,
    notch: float,
    notch_width: float,
) -> Array:
    return sim_wiener(
        frames,
        illumination,
        otfs,
        noise_to_signal=strength,
        apodisation=apodisation,
        notch=notch,
        notch_width=notch_width,
    )


@jax.jit
def _richardson_lucy(
    frames: Array, illumination: Illumination, otfs: tuple[RadialOtf, ...], iterations: Array
) -> Array:
    above, pedestal = raised(frames)
    return sim_richardson_lucy(above, illumination, otfs, iterations=iterations, background=pedestal)


def _reconstructed(
    plane: np.ndarray,
    illumination: Illumination,
    otfs: tuple[RadialOtf, ...],
    settings: SimSettings,
    strength: float,
) -> tuple[np.ndarray, float]:
    """Return one plane's image with the light of its mean frame, and its light before that over that of the frame."""
    frames = jnp.asarray(plane)
    if settings.method == "wiener":
        shape = (settings.apodisation, settings.notch, settings.notch_width)
        image = _wiener(frames, illumination, otfs, jnp.asarray(strength, jnp.float32), *shape)
    elif settings.method == "network":
        image = learned_sim(plane, illumination, otfs, load_network(task="sim"), noise_to_signal=strength)
    else:
        image = _richardson_lucy(frames, illumination, otfs, jnp.asarray(settings.iterations))
    image = np.asarray(image)
    light_in, light_out = float(plane.mean((0, 1)).sum(dtype=np.float64)), float(image.sum(dtype=np.float64))
    ratio = light_out / light_in if light_in > 0 else 1.0
    return (image / ratio if 0.5 < ratio < 2 else image), ratio


@jax.jit
def _unexplained(
    image: Array, frames: Array, illumination: Illumination, otfs: tuple[RadialOtf, ...]
) -> Array:
    """Return the root mean square over frames of what an object ``(2 y, 2 x)`` leaves unexplained."""
    wide, margins = faded(image)
    before = tuple(m // FACTOR for m in margins)  # in camera pixels
    inner = tuple(slice(m, m + n) for m, n in zip(before, frames.shape[-2:], strict=True))
    made = periodic_frames(wide, illumination, otfs, (before[0], before[1]))[..., *inner]
    return jnp.sqrt(jnp.mean((made - frames) ** 2, axis=(0, 1)))


def check_count(pages: int, angles: int, phases: int) -> int:
    """Return how many planes so many pages are.

    Raises
    ------
    UserError
        If they are no whole number of planes.
    """
    if pages % (angles * phases):
        raise UserError(
            f"expected {angles} angles x {phases} phases = {angles * phases} frames for each plane, got {pages} in "
            "all; check --angles and --phases, and that no frame is missing."
        )
    return pages // (angles * phases)
