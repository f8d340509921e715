"""How fast a run is, and how much of what the device can do: images, floating-point operations and their share.

A *model FLOP* is one that the step asks for as it is written, additions and multiplications counted apart, by XLA's own
count of the program before it is optimised. The peak is that of a large matrix product on the same device, measured and
not looked up.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

# Sides of the matrices: as large as takes a CPU core some 50 ms, and fills an accelerator.
_SIDES = {"cpu": 1024}
_LARGE_SIDE = 8192
_ROUNDS = 3


# What of a line of the log is the machine's and not the run's.
SPEEDS = ("images_per_s", "model_gflop_per_s", "peak_percent")


def model_flops(lowered: Any, mesh: Mesh) -> float:
    """Return the floating-point operations of one step on all devices, of a step that was lowered for ``mesh``.

    XLA counts what one device does, and all do the same; an optimiser that every device repeats counts on each. Loops
    count as one turn: Richardson-Lucy inside a network, which no gradient goes through, is all but left out.
    """
    return float((lowered.cost_analysis() or {}).get("flops", 0.0)) * mesh.size


@functools.cache
def matmul_peak(dtype: str) -> float:
    """Return the operations per second of a large product of matrices of ``dtype`` on one device, the best of three."""
    side = _SIDES.get(jax.default_backend(), _LARGE_SIDE)
    device = jax.local_devices()[0]
    ones = jax.device_put(jnp.full((side, side), 1 / side, dtype), device)
    multiply = jax.jit(lambda a: a @ a)
    jax.block_until_ready(multiply(ones))
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(multiply(ones))
        times.append(time.perf_counter() - start)
    return 2.0 * side**3 / max(min(times), 1e-9)


@dataclass(frozen=True)
class Speed:
    """What a step asks for and what the devices could do, to tell one from the other."""

    flops: float = 0.0
    """Operations of one step, on all devices; 0 where it is not known."""
    peak: float = 0.0
    """Operations per second that all devices could do."""

    def of(self, steps_per_s: float, batch: int) -> dict[str, float]:
        """Return what the log says of so many steps per second with so many images each."""
        said = {"images_per_s": round(steps_per_s * batch, 2)}
        if self.flops and self.peak:
            rate = steps_per_s * self.flops
            said |= {
                "model_gflop_per_s": round(rate / 1e9, 2),
                "peak_percent": round(100 * rate / self.peak, 2),
            }
        return said


def speed_of(lowered: Any, mesh: Mesh, *, dtype: str = "float32", accumulate: int = 1) -> Speed:
    """Return what a step, lowered for ``mesh``, asks for, and what the devices of the mesh could do in ``dtype``."""
    return Speed(model_flops(lowered, mesh) * accumulate, matmul_peak(dtype) * mesh.size)
