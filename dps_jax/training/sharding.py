"""Data parallelism: one mesh over the local devices, batches split over it, parameters on every device.

One device is the special case of a mesh of length 1; nothing else in the training code knows the number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "data"


def make_mesh(*, devices: int | None = None) -> Mesh:
    """Return a one-axis mesh ``("data",)`` over the first ``devices`` local devices, by default all.

    Raises
    ------
    ValueError
        If more devices are asked for than there are.
    """
    available = jax.local_devices()
    count = len(available) if devices is None else devices
    if not 1 <= count <= len(available):
        raise ValueError(f"expected between 1 and {len(available)} devices, got {count}")
    return jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,), devices=available[:count])


def split_over(mesh: Mesh) -> NamedSharding:
    """Sharding of an array whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def on_every(mesh: Mesh) -> NamedSharding:
    """Sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def mean_over_devices(
    mesh: Mesh, loss: Callable[[Any, Any], tuple[Any, Any]]
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Make ``loss(state, batch) -> (loss, diagnostics)`` run on each device's share, and average the answers.

    Left to itself the compiler gathers the whole batch on every device before each FFT. The loss is averaged
    and not its gradient, which would come back as many times too large as there are devices.
    """

    def local(state: Any, batch: Any) -> tuple[Any, Any]:
        return jax.lax.pmean(loss(state, batch), AXIS)

    return jax.shard_map(
        local, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec(AXIS)), out_specs=PartitionSpec()
    )


def put_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Lay a batch out over the mesh.

    Raises
    ------
    ValueError
        If the batch cannot be divided evenly among the devices.
    """
    for name, value in batch.items():
        if len(value) % mesh.size:
            raise ValueError(
                f"expected a batch that is a multiple of the {mesh.size} devices, got {len(value)} in {name!r}"
            )
    return {name: jax.device_put(value, split_over(mesh)) for name, value in batch.items()}


def put_state(mesh: Mesh, state: Any) -> Any:
    """Lay a training state out over the mesh, whole on every device."""
    return jax.device_put(state, on_every(mesh))
