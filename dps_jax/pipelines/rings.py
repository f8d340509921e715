"""What is read from the rings of an image's spectrum: by what a filter raised them, and noise of one ring.

The measures are those that both leave behind: the power of each ring, in the whole image and where it is dark, what the
network for artefacts makes of it, how many values are 0 and how much lies below.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from dps_jax.solvers.hammer_stroke import dark_powers
from dps_jax.solvers.ringing import ring_powers
from dps_jax.weights import Network

# Rings, the lowest, to which the power of others is relative.
_LOWEST = 4
# Brings measures to a spread of about 1.
_LEVEL, _STEP, _SHARE = 0.25, 3.0, 3.0
_LEAST_POWER = 1e-12


@dataclass(frozen=True, eq=False)
class Rings:
    """Curves over ``solvers.ringing.RADII``.

    ``raised`` is the logarithm of a filter's factor, ``excess`` that of the ratio of powers by which noise makes the
    dark brighter.
    """

    raised: np.ndarray
    excess: np.ndarray


def measures(plane: np.ndarray, answer: np.ndarray, *, abbe_px: float) -> np.ndarray:
    """Return what a :class:`dps_jax.models.RingReader` is shown of an image.

    Parameters
    ----------
    plane
        ``(y, x)``, background removed, of any unit.
    answer
        ``(y, x)``, what the network for artefacts makes of it.
    abbe_px
        Abbe period in px of the image that was super-resolved.

    Returns
    -------
    ``(264,)``, float32.
    """
    scale = max(float(np.sqrt(np.mean(np.square(plane, dtype=float)))), 1e-30)
    parts = []
    for powers in (ring_powers, dark_powers):
        own, made = (
            np.log(powers(np.asarray(i, float) / scale, abbe_px=abbe_px) + _LEAST_POWER)
            for i in (plane, answer)
        )
        change = own - made
        parts += [
            _LEVEL * (own - own[:_LOWEST].mean()),
            _STEP * np.diff(own),
            _STEP * (change - change[:_LOWEST].mean()),
        ]
    below = float(np.sqrt(np.mean(np.minimum(plane, 0.0, dtype=float) ** 2))) / scale
    parts.append(_SHARE * np.array([np.mean(np.asarray(plane) == 0), below]))
    return np.concatenate(parts).astype(np.float32)


def read_rings(plane: np.ndarray, answer: np.ndarray, reader: Network, *, abbe_px: float) -> Rings:
    """Read the two curves of an image; as :func:`measures`, with a network from ``load_network(task="rings")``."""
    raised, excess = np.asarray(reader(jnp.asarray(measures(plane, answer, abbe_px=abbe_px)[None])))[0]
    return Rings(raised.astype(float), excess.astype(float))
