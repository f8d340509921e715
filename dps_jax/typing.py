"""Array aliases and the protocols that the parts of the toolkit agree on."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray | float | int
Key: TypeAlias = jax.Array
Params: TypeAlias = Any
Scalars: TypeAlias = dict[str, jax.Array]


class ForwardModel(Protocol):
    """Maps an object on the fine grid ``(..., y, x)`` to the noise-free camera image."""

    def __call__(self, image: Array, /) -> Array:
        """Return the expected camera image."""
        ...


class ApplyFunction(Protocol):
    """Maps parameters and images ``(batch, y, x, channel)`` to images on the network's output grid."""

    def __call__(self, params: Params, image: Array, /) -> Array:
        """Return the network's output."""
        ...


class LossTerm(Protocol):
    """Maps an estimate, its predicted camera image and the measured one to one value per image."""

    def __call__(self, estimate: Array, predicted: Array, measured: Array, /) -> Array:
        """Return a loss with the leading axes of ``estimate``."""
        ...
