"""What a camera would have recorded just outside of its frame, as far as the frame itself tells.

Light from beyond a frame falls into it, and light of what lies within falls beyond. A frame continued as its own mirror
image explains neither, and the error is largest where the image is best: at 1000 photons, in a frame of 45 Abbe
periods, half of all error of a deconvolution lies within two periods of the edge. Estimated on a wider field, of which
only the frame was measured, the object itself says what the camera would have seen there (Bertero and Boccacci 2005).

What it says is an expectation, and a camera's image is not as smooth: a network that has learned to tell structure from
noise takes a margin without noise for structure, and is the worse beside it the fewer the photons are.
"""

from __future__ import annotations

import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.operators.forward import camera_image
from dps_jax.operators.sampling import bin_area_adjoint
from dps_jax.optics.psf import airy_psf
from dps_jax.solvers.richardson_lucy import iterate, make_richardson_lucy_step
from dps_jax.typing import Array

_FACTOR = 2
_LEAST = 1e-6
# Deviations from the expectation, in standard errors, beyond which they are taken for structure that it left
# unexplained: mirrored, that would be structure which is not there.
_NOISE_LIMIT = 1.0
_PER_MEDIAN = 1.4826  # standard error over the median of the magnitudes, of normal noise


def continue_image(
    image: Array,
    measured: Array,
    *,
    abbe_px: float,
    iterations: int = 14,
    dark: float = 0.0,
    noise_from: tuple[Array, Array] | None = None,
) -> Array:
    """Replace what was not measured of an image by what the rest lets expect there.

    Parameters
    ----------
    image
        ``(..., y, x)``, background removed; any values where it was not measured.
    measured
        ``(y, x)``, 1 where it was and 0 where it was not.
    abbe_px
        Abbe period in px.
    iterations
        Accelerated Richardson-Lucy steps; what is asked for is blurred, so that few are needed: more fit the noise of
        dim images, fewer leave bright ones unexplained.
    dark
        Added to image and prediction, so that noise below zero is not cut off before it is averaged.
    noise_from
        ``(rows, columns)``, for each row ``(y,)`` and each column ``(x,)`` the measured one whose noise it is given:
        commonly its mirror image. By default there is no noise where nothing was measured.

    Returns
    -------
    ``(..., y, x)``: the image where it was measured. Farther than two or three Abbe periods from there, nothing is
    known, and the values tend to the image's mean.

    Raises
    ------
    ValueError
        If ``measured`` has other sides than the image, ``noise_from`` other lengths, or a number is out of range.
    """
    _checks.positive_integer("iterations", iterations)
    _checks.positive("abbe_px", abbe_px)
    _checks.non_negative("dark", dark)
    if noise_from is not None and tuple(len(places) for places in noise_from) != image.shape[-2:]:
        lengths = tuple(len(places) for places in noise_from)
        raise ValueError(
            f"expected noise_from of {image.shape[-2:]} rows and columns, as the image's, got {lengths}"
        )
    psf = airy_psf(abbe_px=_FACTOR * abbe_px)
    step = make_richardson_lucy_step(
        image + dark, psf, factor=_FACTOR, background=dark, measured=jnp.asarray(measured)
    )
    where = jnp.broadcast_to(measured > 0, image.shape)
    level = jnp.maximum(jnp.mean(image, axis=(-2, -1), keepdims=True, where=where), _LEAST)
    flat = bin_area_adjoint(jnp.broadcast_to(level, image.shape), _FACTOR) / _FACTOR**2
    estimate = iterate(step, flat, (-2, -1), iterations=iterations, accelerated=True)
    expected = camera_image(estimate, psf, factor=_FACTOR, boundary="reflect")
    if noise_from is not None:
        expected = expected + _noise(image, expected, noise_from, dark)
    return jnp.where(where, image, expected)


def _noise(image: Array, expected: Array, places: tuple[Array, Array], dark: float) -> Array:
    """Return how far the image deviates at other places, as noise of what is expected here: photons' noise."""
    error = jnp.sqrt(jnp.maximum(expected, 0.0) + dark + _LEAST)
    deviation = ((image - expected) / error)[..., places[0][:, None], places[1]]
    limit = _NOISE_LIMIT * _PER_MEDIAN * jnp.median(jnp.abs(deviation), axis=(-2, -1), keepdims=True)
    return jnp.clip(deviation, -limit, limit) * error
