"""Whether the network or the patches come nearer to the motion of a movie, measured on the movie itself."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from dps_jax.pipelines.flow_network import FlowNetwork
from dps_jax.pipelines.register import RegisterSettings, find_motion
from dps_jax.pipelines.register_template import Template, filled_up, one_colour
from dps_jax.typing import Array

# Frames that the choice is made on, and at a time: more tell little, and the network is the slowest part.
_LOOKED_AT, _BATCH = 16, 4


@dataclass(frozen=True)
class Rivalry:
    """Root mean square distances, in pixels, from what the patches find in the other half of the pixels."""

    patches_px: float
    network_px: float

    @property
    def network_is_nearer(self) -> bool:
        """Tell whether the network predicts the patches' own finding better than the patches do."""
        return self.network_px < self.patches_px


def rivalry(
    sample: np.ndarray, template: Template, network: FlowNetwork, *, settings: RegisterSettings
) -> Rivalry:
    """Let patches and network, in one colour of a checkerboard, predict what patches find in the other.

    The noise of the other colour is new to both and costs both the same; what is left is how far each is from the
    motion. That the patches' habits are in what is predicted favours them: the network is chosen where it wins all the
    same. Of frames ``(t, y, x)`` at most 16 are looked at.
    """
    kept = np.flatnonzero(template.kept)
    chosen = kept[np.linspace(0, len(kept) - 1, min(len(kept), _LOOKED_AT)).round().astype(int)]
    image = jnp.asarray(template.image, jnp.float32)
    squares = []
    for start in range(0, len(chosen), _BATCH):
        part = np.asarray(sample[chosen[start : start + _BATCH]], np.float32)
        found = _distances(jnp.asarray(filled_up(part, _BATCH)), image, network, settings=settings)
        squares.append(np.asarray(found)[: len(part)])
    patches, flow = np.sqrt(np.concatenate(squares).mean(0))
    return Rivalry(float(patches), float(flow))


def _distances(frames: Array, template: Array, network: FlowNetwork, *, settings: RegisterSettings) -> Array:
    """Return the mean squares ``(t, 2)`` of the differences between the colours: patches, and network from patches."""
    found = {
        (method, colour): _deviation(
            find_motion(
                one_colour(frames, colour=colour),
                one_colour(template, colour=colour),
                method=method,
                settings=settings,
                network=network,
            )
        )
        for method in ("patches", "flow")
        for colour in (0, 1)
    }
    pairs = [
        [(found[method, a] - found["patches", 1 - a]) ** 2 for a in (0, 1)] for method in ("patches", "flow")
    ]
    return jnp.stack([(p[0] + p[1]).sum(1).mean((-2, -1)) / 2 for p in pairs], axis=1)


def _deviation(flow: Array) -> Array:
    return flow - flow.mean((-2, -1), keepdims=True)
