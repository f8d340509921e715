"""What a network is shown of raw SIM frames: reconstructions of two strengths, whatever the number of frames.

Stripes of any direction, period and phase are undone by the physics, which knows them; what is left to learn is to tell
structure from the noise that the physics amplifies, and that looks alike for every microscope.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from dps_jax.operators.sampling import space_to_depth
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf
from dps_jax.solvers.sim_reconstruction import FACTOR, sim_wiener
from dps_jax.typing import Array

# Mean frame, two reconstructions of four fine pixels per camera pixel, and the noise.
CHANNELS = 2 + 2 * FACTOR**2
# The second reconstruction is regularised so many times more strongly.
_SMOOTHER = 20.0


def sim_features(
    frames: Array,
    illumination: Illumination,
    otfs: RadialOtf | Sequence[RadialOtf],
    *,
    noise_to_signal: float | Array,
) -> Array:
    """Return ``(y, x, channel)``: the mean frame, the smoother and the sharper reconstruction, the noise's magnitude.

    Parameters
    ----------
    frames
        ``(angle, phase, y, x)`` without background, bright structures about 1.
    illumination, otfs
        As :func:`dps_jax.solvers.sim_wiener`.
    noise_to_signal
        Of the sharper reconstruction; see :func:`dps_jax.solvers.noise_to_signal`.

    Returns
    -------
    All in intensity per camera pixel; the last channel is ``log10(noise_to_signal) / 4``, the same everywhere.
    """
    sharp = jnp.minimum(jnp.asarray(noise_to_signal, jnp.float32), 1.0)
    images = [
        FACTOR**2 * sim_wiener(frames, illumination, otfs, noise_to_signal=strength, apodisation=0.5)
        for strength in (_SMOOTHER * sharp, sharp)
    ]
    fine = space_to_depth(jnp.stack(images)[..., None], FACTOR)
    level = jnp.full((*frames.shape[-2:], 1), jnp.log10(sharp) / 4)
    return jnp.concatenate([frames.mean((0, 1))[..., None], fine[0], fine[1], level], axis=-1)
