"""A small network that reads from an image's spectrum what was done to it, ring by ring."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from dps_jax.typing import Array


class RingReader(nn.Module):
    """Dense layers from what is measured of an image to two curves over the rings of its spectrum.

    Parameters
    ----------
    inputs
        Number of measures (``pipelines.rings.measures``).
    rings
        Number of rings.
    features
        Of the hidden layers.

    Notes
    -----
    Trained on pairs whose curves are known (``training.ring_reader``).
    """

    inputs: int = 264
    rings: int = 44
    features: tuple[int, ...] = (128, 128)

    @nn.compact
    def __call__(self, measures: Array) -> Array:
        """Map ``(b, inputs)`` to ``(b, 2, rings)``: by what the spectrum was raised, and noise over the dark.

        Raises
        ------
        ValueError
            For measures of another number.
        """
        if measures.ndim != 2 or measures.shape[1] != self.inputs:
            raise ValueError(f"expected measures (batch, {self.inputs}), got shape {measures.shape}")
        x = measures
        for features in self.features:
            x = nn.silu(nn.Dense(features)(x))
        small = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        return jnp.reshape(nn.Dense(2 * self.rings, kernel_init=small)(x), (-1, 2, self.rings))
