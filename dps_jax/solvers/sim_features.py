"""What a network is shown of raw SIM frames: two reconstructions, whatever the number of frames.

Stripes of any direction, period and phase are undone by the physics, which knows them; what is left to learn is to tell
structure from the noise that the physics amplifies, and that looks alike for every microscope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dps_jax.operators.sampling import space_to_depth
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf
from dps_jax.solvers.sim_reconstruction import FACTOR, seen_at_stripes_resolution, sim_wiener
from dps_jax.solvers.sim_richardson_lucy import raised, sim_richardson_lucy
from dps_jax.typing import Array

# Mean frame, two reconstructions of four fine pixels per camera pixel, and the noise.
CHANNELS = 2 + 2 * FACTOR**2
# Steps of Richardson-Lucy by the noise that was measured: within 0.1 dB, in the mean, of the best number for the truth
# at 5 to 1000 photons of the structures for training.
_STEPS, _POWER, _LEAST, _MOST = 2.5, -0.35, 4, 60


def sim_features(
    frames: Array,
    illumination: Illumination,
    otfs: RadialOtf | Sequence[RadialOtf],
    *,
    noise_to_signal: float | Array,
) -> Array:
    """Return ``(y, x, channel)``: the mean frame, the likeliest and the linear reconstruction, the noise's magnitude.

    Parameters
    ----------
    frames
        ``(angle, phase, y, x)`` without background, bright structures about 1.
    illumination, otfs
        As :func:`dps_jax.solvers.sim_wiener`.
    noise_to_signal
        Of the linear reconstruction; see :func:`dps_jax.solvers.noise_to_signal`. Richardson-Lucy is stopped by it.

    Returns
    -------
    All in intensity per camera pixel; the last channel is ``log10(noise_to_signal) / 4``, the same everywhere.
    """
    noise = jnp.minimum(jnp.asarray(noise_to_signal, jnp.float32), 1.0)
    above, pedestal = raised(frames)
    likely = sim_richardson_lucy(above, illumination, otfs, iterations=_steps(noise), background=pedestal)
    images = [
        FACTOR**2 * seen_at_stripes_resolution(likely, illumination, otfs),
        FACTOR**2 * sim_wiener(frames, illumination, otfs, noise_to_signal=noise, apodisation=0.5),
    ]
    fine = space_to_depth(jnp.stack(images)[..., None], FACTOR)
    level = jnp.full((*frames.shape[-2:], 1), jnp.log10(noise) / 4)
    return jnp.concatenate([frames.mean((0, 1))[..., None], fine[0], fine[1], level], axis=-1)


def turned(image: Any, way: int) -> Any:
    """Flip and turn ``(y, x, ...)`` one of eight ways: bits 0 and 1 flip y and x, bit 2 transposes after that."""
    image = image[:: -1 if way & 1 else 1, :: -1 if way & 2 else 1]
    return image.swapaxes(0, 1) if way & 4 else image


def turned_back(image: Any, way: int) -> Any:
    """Undo :func:`turned`."""
    image = image.swapaxes(0, 1) if way & 4 else image
    return image[:: -1 if way & 1 else 1, :: -1 if way & 2 else 1]


def turned_features(features: Any, way: int) -> Any:
    """Return the features ``(y, x, channel)`` of what :func:`turned` makes of an object; NumPy's or JAX's."""
    fine = np.arange(1, CHANNELS - 1).reshape(2, FACTOR, FACTOR)  # image, row, column
    order = turned(np.moveaxis(fine, 0, -1), way)
    return turned(features, way)[..., [0, *np.moveaxis(order, -1, 0).ravel(), CHANNELS - 1]]


def _steps(noise_to_signal: Array) -> Array:
    return jnp.clip(jnp.round(_STEPS * noise_to_signal**_POWER), _LEAST, _MOST).astype(jnp.int32)
