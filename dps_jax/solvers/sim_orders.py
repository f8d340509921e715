"""The orders of structured illumination: from frames to bands, and where each band belongs.

A frame is ``D_j = sum_m exp(i m phase_j) S_m`` with ``S_m = h (*) [ (a_m / 2) x exp(i 2 pi m p.r) ]`` and
``S_0 = h (*) x``; ``S_-m`` is the conjugate of ``S_m``. In frequencies, band m holds ``(a_m / 2) X(k) H(k + m p)``
once it is brought back by ``m p``. Frames are ``(..., phase, y, x)``, bands ``(..., order, y, x)``, complex, for the
orders 0 to M.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.optics.otf import RadialOtf, pixel_otf
from dps_jax.typing import Array, ArrayLike


def separate_orders(frames: ArrayLike, phases_rad: ArrayLike, *, orders: int = 1) -> Array:
    """Solve the frames of one angle for their bands.

    Parameters
    ----------
    frames
        ``(..., phase, y, x)``.
    phases_rad
        ``(phase,)``, or ``(..., phase)`` where they differ.
    orders
        Highest order M: 1 for two beams, 2 for three.

    Returns
    -------
    ``(..., M + 1, y, x)`` complex, in the unit of the frames: the least-squares solution.

    Raises
    ------
    ValueError
        For fewer than ``2 M + 1`` frames or another number of phases.
    """
    frames, phases = jnp.asarray(frames), jnp.asarray(phases_rad)
    _checks.positive_integer("orders", orders)
    if frames.ndim < 3 or frames.shape[-3] < 2 * orders + 1 or phases.shape[-1] != frames.shape[-3]:
        raise ValueError(
            f"expected frames (..., phase, y, x) with a phase each and at least {2 * orders + 1} of them, "
            f"got shape {frames.shape} and {phases.shape[-1]} phases"
        )
    m = jnp.arange(-orders, orders + 1, dtype=phases.dtype)
    mixing = jnp.exp(1j * phases[..., :, None] * m.reshape((1,) * phases.ndim + (-1,)))
    # The normal equations; a pseudo-inverse has no gradient where singular values coincide, as here they do.
    adjoint = jnp.conj(jnp.swapaxes(mixing, -1, -2))
    unmixing = jnp.linalg.solve(adjoint @ mixing, adjoint)[..., orders:, :]
    return jnp.einsum("...mj,...jyx->...myx", unmixing, frames.astype(unmixing.dtype))


def band_otf(otf: RadialOtf, fy: ArrayLike, fx: ArrayLike, shift_per_px: Array) -> Array:
    """Return the OTF, camera pixel included, that weighs the object's frequencies in a band.

    Parameters
    ----------
    otf
        Of the detection.
    fy, fx
        Frequencies of the object, ``(y, 1)`` and ``(1, x)``, in cycles per camera pixel.
    shift_per_px
        ``(2,)``: ``m p``; the object's frequency ``k`` is seen at ``k + m p``.
    """
    y, x = jnp.asarray(fy) + shift_per_px[0], jnp.asarray(fx) + shift_per_px[1]
    return otf(jnp.hypot(y, x)) * pixel_otf(y, x)


def frequencies(
    shape: tuple[int, int], *, factor: int = 1, half: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the FFT's frequencies, ``(y, 1)`` and ``(1, x)``, of a fine grid in cycles per *camera* pixel.

    ``half=True`` gives the layout of ``rfft2``.
    """
    fy, fx = (
        factor * np.fft.fftfreq(shape[0]),
        factor * (np.fft.rfftfreq if half else np.fft.fftfreq)(shape[1]),
    )
    return fy[:, None].astype(np.float32), fx[None, :].astype(np.float32)
