"""The learned SIM reconstruction of one plane: physics to features, features through the network, units undone.

The network's answer is the mean of its answers to the eight flips and turns of the plane: what it owes to the direction
in which it happened to look averages out (+0.05 to +0.3 dB at 5 to 1000 photons).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.metrics.light import brightness
from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf
from dps_jax.solvers.sim_features import sim_features, turned_back, turned_features
from dps_jax.typing import Array, Params
from dps_jax.weights import Network


@partial(jax.jit, static_argnames="module")
def _learned(
    module: Any,
    params: Params,
    frames: Array,
    illumination: Illumination,
    otfs: tuple[RadialOtf, ...],
    strength: Array,
) -> Array:
    features = sim_features(frames, illumination, otfs, noise_to_signal=strength)
    ny, nx, _ = features.shape
    halo, multiple = module.reach, module.grid_multiple
    ends = [(halo, halo + -n % multiple) for n in (ny, nx)]
    padded = jnp.pad(features, [*ends, (0, 0)], mode="symmetric")

    def answered(shown: Array) -> Array:
        return module.apply({"params": params}, shown[None])[0, :, :, 0]

    answers = []
    for ways in (range(4), range(4, 8)):  # each four have one shape, and take turns
        four = jax.lax.map(answered, jnp.stack([turned_features(padded, way) for way in ways]))
        answers += [turned_back(a, way) for a, way in zip(four, ways, strict=True)]
    answer, s = sum(answers[1:], start=answers[0]) / len(answers), module.scale
    return answer[s * halo : s * (halo + ny), s * halo : s * (halo + nx)]


def learned_sim(
    plane: np.ndarray,
    illumination: Illumination,
    otfs: tuple[RadialOtf, ...],
    network: Network,
    *,
    noise_to_signal: float,
) -> np.ndarray:
    """Reconstruct frames ``(angle, phase, y, x)`` without background by the network of the task "sim".

    Parameters
    ----------
    plane
        Any unit; sides longer than the network's reach.
    illumination, otfs
        As :func:`dps_jax.solvers.sim_wiener`.
    network
        From :func:`dps_jax.weights.load_network`.
    noise_to_signal
        Measured of the frames; see :func:`dps_jax.solvers.noise_to_signal`.

    Returns
    -------
    ``(2 y, 2 x)`` in the frames' unit per fine pixel, not negative.

    Raises
    ------
    ValueError
        For fields smaller than the network's reach.
    """
    if min(plane.shape[-2:]) < network.module.reach:
        raise ValueError(
            f"expected a field of at least {network.module.reach} px a side for the network, got {plane.shape[-2:]}"
        )
    unit = brightness(plane.mean((0, 1)), abbe_px=1 / float(otfs[0].cutoff))
    if unit <= 0:
        return np.zeros([2 * n for n in plane.shape[-2:]], np.float32)
    strength = jnp.asarray(noise_to_signal, jnp.float32)
    frames = jnp.asarray(plane / unit, jnp.float32)
    image = _learned(network.module, network.params, frames, illumination, otfs, strength)
    # The network works in light per camera pixel.
    return np.maximum(np.asarray(image), 0.0) * (unit / network.module.scale**2)
