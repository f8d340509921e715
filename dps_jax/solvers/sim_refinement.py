"""How well an illumination explains its frames, as a function to descend: object and stripes fitted together.

For any illumination the best object is known in closed form (``sim_reconstruction``); what its frames, made anew
through the microscope, leave unexplained is a function of the illumination alone, and JAX differentiates it (variable
projection: Golub and Pereyra 1973). Steps of phase that were not equal, which separation mistakes for stripes in the
object, show here, since no object explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from dps_jax.optics.illumination import Illumination
from dps_jax.optics.otf import RadialOtf
from dps_jax.solvers.sim_reconstruction import faded, per_order, periodic_frames, wide_estimate
from dps_jax.typing import Array, ArrayLike


def make_misfit(
    frames: ArrayLike, otfs: RadialOtf | Sequence[RadialOtf], *, noise_to_signal: float = 1e-3
) -> Callable[[Illumination], Array]:
    """Return ``misfit(illumination)``: the mean squared difference of the frames and of those made anew.

    Parameters
    ----------
    frames
        ``(angle, phase, y, x)`` without background.
    otfs
        As :func:`dps_jax.solvers.sim_wiener`.
    noise_to_signal
        Of the object that is fitted.

    Raises
    ------
    ValueError
        As :func:`dps_jax.solvers.sim_wiener` does, when the function is called.
    """
    frames = jnp.asarray(frames, jnp.float32)
    wide, margins = faded(frames)
    inner = tuple(slice(m, m + n) for m, n in zip(margins, frames.shape[-2:], strict=True))

    def misfit(illumination: Illumination) -> Array:
        each = per_order(otfs, illumination.orders)
        x = wide_estimate(wide, margins, illumination, each, noise_to_signal=noise_to_signal)
        made = periodic_frames(x, illumination, each, margins)[..., *inner]
        return jnp.mean((made - frames) ** 2)

    return misfit
