"""The microscope inside a network: Richardson-Lucy iterates as features, and gated steps towards the data.

Images are ``(batch, y, x)`` in intensity per camera pixel, of order 1 where bright; estimates
``(batch, s y, s x)`` in intensity per fine pixel. Nothing here depends on the frame as a whole: a tile with enough
of its surroundings gives what the whole image gives.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from dps_jax.operators.sampling import bin_area, bin_area_adjoint
from dps_jax.optics.psf import airy_psf
from dps_jax.typing import Array

# Intensity, relative to the brightest structures, below which the data count as dark. It stands on both sides of the
# ratio of data and prediction, so that noise below zero is not cut off (a bias) before it is averaged.
DARK = 0.03
_LEAST = 1e-6
# Radius of the PSF in Abbe periods: it holds all but a twentieth of the light, and what is farther off is spread thin.
_RADIUS_ABBE = 3.2


class Camera:
    """Blur and binning of the canonical microscope on frames ``shape`` of camera pixels, mirrored at their edges."""

    def __init__(self, shape: tuple[int, ...], *, abbe_px: float, factor: int) -> None:
        self.factor, self.border = factor, factor * round(_RADIUS_ABBE * abbe_px)
        psf = airy_psf(abbe_px=factor * abbe_px, size=2 * self.border + 1)
        self.sides = tuple(factor * n + 2 * self.border for n in shape)
        # A mirrored border as wide as the kernel's radius: what a periodic FFT brings round never gets inside.
        grid = jnp.zeros(self.sides, jnp.float32).at[: psf.shape[0], : psf.shape[1]].set(psf)
        self.otf = jnp.fft.rfft2(jnp.roll(grid, (-self.border, -self.border), axis=(0, 1)))[None]

    def blur(self, estimate: Array) -> Array:
        """Blur an estimate ``(b, s y, s x)``; inside the border it is its own adjoint, as the kernel is symmetric."""
        b = self.border
        padded = jnp.pad(estimate, [(0, 0), (b, b), (b, b)], mode="symmetric")
        full = jnp.fft.irfft2(jnp.fft.rfft2(padded) * self.otf, s=self.sides)
        return full[:, b : self.sides[0] - b, b : self.sides[1] - b]

    def correction(self, estimate: Array, image: Array) -> Array:
        """Return the Richardson-Lucy factor ``A^T(y / A x)`` (positive) of an estimate and an image."""
        seen = bin_area(self.blur(estimate), self.factor)
        ratio = jnp.maximum(image + DARK, 0.0) / (jnp.maximum(seen, 0.0) + DARK)
        return jnp.maximum(self.blur(bin_area_adjoint(ratio, self.factor)), _LEAST)


def richardson_lucy_iterates(
    image: Array, *, after: tuple[int, ...], abbe_px: float, factor: int = 2
) -> Array:
    """Deconvolve and keep what stands after each number of steps in ``after`` (ascending).

    The steps are accelerated by an extrapolation with the momentum ``(k - 1) / (k + 2)`` of
    Nesterov 1983: some 24 reach what 100 plain ones do. A fixed schedule, unlike that of Biggs and Andrews 1997,
    needs no sum over the frame, so that tiles agree with the whole.

    Parameters
    ----------
    image
        ``(b, y, x)``, background removed; noise may be negative.
    after
        Numbers of steps at which the estimate is kept.
    abbe_px
        Abbe period in camera pixels.
    factor
        Fine pixels per camera pixel.

    Returns
    -------
    ``(b, factor y, factor x, len(after))``, not negative, in intensity per camera pixel (fine values times
    ``factor**2``), so that a smooth image and its iterates are alike.

    Raises
    ------
    ValueError
        If ``after`` is empty or not ascending from 1 or more.
    """
    if list(after) != sorted(set(after)) or min(after, default=0) < 1:
        raise ValueError(f"expected numbers of steps in ascending order from 1, got {after}")
    camera = Camera(image.shape[1:], abbe_px=abbe_px, factor=factor)
    area = factor**2
    start = jnp.maximum(camera.blur(bin_area_adjoint(jnp.maximum(image, 0.0), factor)) / area, _LEAST)

    def step(k: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        last, now = carry
        weight = jnp.maximum(k - 1.0, 0.0) / (k + 2.0)
        # An extrapolation must not reach zero, from which no factor leads back.
        ahead = jnp.maximum(now + weight * (now - last), 0.1 * now)
        return now, jnp.maximum(ahead * camera.correction(ahead, image), _LEAST)

    carry, done, kept = (start, start), 0, []
    for count in after:
        carry = jax.lax.fori_loop(done + 1, count + 1, step, carry)
        done = count
        kept.append(area * carry[1])
    return jnp.stack(kept, axis=-1)


def follow_data(estimate: Array, image: Array, trust: Array, *, abbe_px: float, factor: int = 2) -> Array:
    """Multiply an estimate ``(b, s y, s x)`` by its Richardson-Lucy correction to the power of ``trust``.

    ``trust`` is between 0 (keep the estimate) and 1 (a full step), of the estimate's shape.
    """
    correction = Camera(image.shape[1:], abbe_px=abbe_px, factor=factor).correction(estimate, image)
    return estimate * jnp.exp(trust * jnp.log(correction))


def reach_px(*, iterates: bool, steps: int, abbe_px: float) -> int:
    """Return the distance in camera pixels beyond which the physics carries nothing that counts.

    A gated step sees two radii of the PSF. The iterates see farther, ever more faintly: beyond 11 periods a
    change of the image moves them by less than 1e-5 of their range (``tests/models``).
    """
    return math.ceil(abbe_px * (11.2 * iterates + 2 * _RADIUS_ABBE * steps))
