"""Simulate raw SIM: a scene with known truth under stripes, as the camera would record it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.illumination import sim_frames
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.simulate import FACTOR, fine_psf, margin_px
from dps_jax.synthetic import structures
from dps_jax.typing import Array


@dataclass(frozen=True, eq=False)
class SimAcquisition:
    """Simulated raw SIM.

    ``truth`` is the object ``(2 y, 2 x)`` in photons per fine pixel under even light, ``frames`` and ``expected`` are
    the counts with and without noise ``(angle, phase, y, x)``; phases of ``illumination`` belong to the first pixel.
    """

    truth: np.ndarray
    frames: np.ndarray
    expected: np.ndarray
    illumination: Illumination
    background: float
    system: OpticalSystem


@jax.jit
def _seen(scene: Array, psf: Array, illumination: Illumination) -> Array:
    return sim_frames(scene, psf, illumination)


def draw_illumination(
    rng: np.random.Generator,
    system: OpticalSystem,
    *,
    angles: int = 3,
    phases: int = 3,
    modulation: float | Sequence[float] = 0.8,
    relative_frequency: float = 0.9,
    phase_error_rad: float = 0.0,
) -> Illumination:
    """Draw stripes in directions evenly apart, from a random one on, with random first phases.

    Parameters
    ----------
    modulation
        Depth of the one order; or of each.
    relative_frequency
        Frequency of the finest stripes over the cut-off of the optics, give or take 3 %.
    phase_error_rad
        Standard deviation of every frame's phase about equal steps.

    Raises
    ------
    ValueError
        For too few phases.
    """
    depths = np.atleast_1d(np.asarray(modulation, np.float32))
    directions = rng.uniform(0, np.pi) + np.arange(angles) * np.pi / angles
    length = relative_frequency * rng.uniform(0.97, 1.03, angles) / float(system.abbe_px) / len(depths)
    steps = 2 * np.pi * np.arange(phases) / phases
    phase = (
        rng.uniform(0, 2 * np.pi, (angles, 1)) + steps + phase_error_rad * rng.normal(size=(angles, phases))
    )
    return Illumination(
        wavevectors=jnp.asarray(
            length[:, None] * np.stack([np.sin(directions), np.cos(directions)], 1), jnp.float32
        ),
        phases_rad=jnp.asarray(phase, jnp.float32),
        modulation=jnp.asarray(np.tile(depths, (angles, 1))),
    )


def acquire_sim(
    seed: int,
    system: OpticalSystem,
    *,
    shape: tuple[int, int] = (128, 128),
    photons: float = 100.0,
    background: float = 0.0,
    modulation: float | Sequence[float] = 0.8,
    relative_frequency: float = 0.9,
    phases: int = 3,
    phase_error_rad: float = 0.0,
    families: Sequence[str] = structures.WITHHELD_FAMILIES,
) -> SimAcquisition:
    """Draw a scene and take its raw SIM frames.

    Parameters
    ----------
    seed
        Everything random follows from it.
    system
        Optics and camera pixel size.
    shape
        Camera ``(y, x)``.
    photons
        Expected photons in the brightest pixel of one frame under even light, background not counted.
    background
        Constant background in photons per pixel and frame.
    modulation, relative_frequency, phases, phase_error_rad
        Of the stripes; see :func:`draw_illumination`.
    families
        Structure families to draw from; by default those that no released network was trained on.

    Raises
    ------
    ValueError
        For numbers out of range or unknown families.
    """
    _checks.positive("photons", photons)
    _checks.non_negative("background", background)
    rng = np.random.default_rng([seed, 1])
    margin = margin_px(system)
    wide = (FACTOR * (shape[0] + 2 * margin), FACTOR * (shape[1] + 2 * margin))
    scene = structures.scene(
        np.random.default_rng(seed), wide, abbe_px=FACTOR * float(system.abbe_px), families=families
    )
    illumination = draw_illumination(
        rng,
        system,
        phases=phases,
        modulation=modulation,
        relative_frequency=relative_frequency,
        phase_error_rad=phase_error_rad,
    )
    # The wide scene's first pixel lies ``margin`` before the frame's.
    turn = 2 * np.pi * margin * np.asarray(illumination.wavevectors, np.float64).sum(1)
    shifted = jnp.asarray(np.asarray(illumination.phases_rad) - turn[:, None], jnp.float32)
    seen = np.asarray(
        _seen(jnp.asarray(scene), fine_psf(system), dataclasses.replace(illumination, phases_rad=shifted))
    )[..., margin:-margin, margin:-margin]
    brightest = float(seen.mean((0, 1)).max())
    _checks.positive("the scene's brightest pixel", brightest)
    expected = np.maximum(seen * (photons / brightest), 0.0) + background
    inner = slice(FACTOR * margin, -FACTOR * margin)
    return SimAcquisition(
        truth=(scene[inner, inner] * (photons / brightest)).astype(np.float32),
        frames=rng.poisson(expected).astype(np.float32),
        expected=expected.astype(np.float32),
        illumination=illumination,
        background=background,
        system=system,
    )
