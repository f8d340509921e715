"""Camera noise. Images are expected or counted photons ``(..., y, x)``; the random key comes first."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.typing import Array, Key


def add_poisson_noise(key: Key, image: Array) -> Array:
    """Draw photon counts whose expectation is ``image``; values below 0 count as 0. Returns float32.

    Poisson numbers have no useful gradient: the result is a constant for differentiation.
    """
    expected = jax.lax.stop_gradient(jnp.maximum(image, 0.0))
    return jax.random.poisson(key, expected).astype(jnp.float32)


def add_read_noise(key: Key, image: Array, *, sigma_photons: float = 1.0) -> Array:
    """Add Gaussian read noise of standard deviation ``sigma_photons`` (in the unit of the image).

    Raises
    ------
    ValueError
        If ``sigma_photons`` is negative.
    """
    _checks.non_negative("sigma_photons", sigma_photons)
    return image + sigma_photons * jax.random.normal(key, image.shape, image.dtype)


def split_photons(key: Key, counts: Array, *, share: float = 0.5) -> tuple[Array, Array]:
    """Split photon counts at random into two images, ``(kept, rest)``, with ``kept + rest = counts``.

    Each photon goes to ``rest`` with probability ``share``. Of Poisson counts with expectation m the two are
    independent Poisson images with expectations ``(1 - share) m`` and ``share m`` (binomial thinning): two
    exposures of one scene from one, which is what lets a network be scored on photons it has not seen.

    Raises
    ------
    ValueError
        If ``share`` is not between 0 and 1.
    """
    if _checks.is_concrete_number(share) and not 0 < share < 1:
        raise ValueError(f"expected share to be between 0 and 1, got {share!r}")
    rest = jax.random.binomial(key, counts, share).astype(jnp.float32)
    return counts - rest, rest
