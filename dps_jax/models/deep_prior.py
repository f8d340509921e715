"""Untrained networks that stand for a sharp image and for a blur kernel, fitted to one image.

What such a network can draw easily is what images look like; noise and artefacts it learns late (Ulyanov, Vedaldi
and Lempitsky 2018). The image network is their encoder-decoder with skip connections in the sizes of Ren et al.
2020, whose kernel network is the second one here. A batch is one image, so that batch normalisation is a
normalisation of each feature over the image, and is written as that.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from dps_jax.typing import Array

_SLOPE = 0.2


class SkipNetwork(nn.Module):
    """Encoder-decoder with 1x1 skip connections and a sigmoid at its end.

    Parameters
    ----------
    features
        Features of every convolution on every level.
    levels
        How often the grid is halved.
    skips
        Features of every skip connection.
    """

    features: int = 128
    levels: int = 5
    skips: int = 16

    @nn.compact
    def __call__(self, code: Array) -> Array:
        """Map ``(1, y, x, c)``, sides multiples of ``2**levels``, to ``(1, y, x, 1)`` between 0 and 1.

        Raises
        ------
        ValueError
            For sides that are not multiples of ``2**levels``.
        """
        multiple = 2**self.levels
        if code.shape[1] % multiple or code.shape[2] % multiple:
            raise ValueError(f"expected sides that are multiples of {multiple}, got shape {code.shape}")
        return nn.sigmoid(nn.Conv(1, (1, 1))(self._level(code, self.levels)))

    def _level(self, x: Array, below: int) -> Array:
        deep = self._layer(x, self.features, 3, stride=2)
        deep = self._layer(deep, self.features, 3)
        if below > 1:
            deep = self._level(deep, below - 1)
        side = self._layer(x, self.skips, 1)
        size = (x.shape[0], x.shape[1], x.shape[2], deep.shape[-1])
        joined = jnp.concatenate([side, jax.image.resize(deep, size, "bilinear")], axis=-1)
        return self._layer(self._layer(_normalised(self, joined), self.features, 3), self.features, 1)

    def _layer(self, x: Array, features: int, size: int, *, stride: int = 1) -> Array:
        reach = size // 2
        # Reflected, not zero: a dark frame is not part of any image.
        x = jnp.pad(x, [(0, 0), (reach, reach), (reach, reach), (0, 0)], mode="reflect")
        x = nn.Conv(features, (size, size), strides=(stride, stride), padding="VALID")(x)
        return nn.leaky_relu(_normalised(self, x), _SLOPE)


class KernelNetwork(nn.Module):
    """One hidden layer and a softmax: a kernel that is not negative and sums to 1 by construction.

    Parameters
    ----------
    shape
        Of the kernel, px.
    hidden
        Width of the hidden layer.
    """

    shape: tuple[int, int]
    hidden: int = 1000

    @nn.compact
    def __call__(self, code: Array) -> Array:
        """Map ``(c,)`` to ``(ky, kx)``."""
        x = nn.relu6(nn.Dense(self.hidden)(code))
        return nn.softmax(nn.Dense(self.shape[0] * self.shape[1])(x)).reshape(self.shape)


def _normalised(module: nn.Module, x: Array) -> Array:
    """Bring every feature to mean 0 and deviation 1 over the image, then to a learned scale and offset."""
    return nn.InstanceNorm(parent=module)(x)
