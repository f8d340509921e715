"""Where things lie: one mesh ``data`` x ``model`` over the devices of all processes.

Every device works on its own share of the batch. Parameters and optimiser state are whole on every device or, with
more than one device along ``model``, divided: each large array along its longest divisible axis, gathered within the
step (ZeRO, Rajbhandari et al. 2020). One device is the special case of a mesh of 1 x 1; nothing else in the training
code knows the number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

DATA, MODEL = "data", "model"
# The batch is divided among all devices, those that share one copy of the parameters included.
AXES = (DATA, MODEL)


def leads() -> bool:
    """Tell whether this process is the one that writes config, log and weights."""
    return jax.process_index() == 0


def make_mesh(*, devices: int | None = None, model_shards: int = 1) -> Mesh:
    """Return a mesh ``("data", "model")`` over the first ``devices`` devices of every process, by default all.

    Raises
    ------
    ValueError
        If more devices are asked for than a process has, or they are no multiple of ``model_shards``.
    """
    available = len(jax.local_devices())
    count = available if devices is None else devices
    if not 1 <= count <= available:
        raise ValueError(f"expected between 1 and {available} devices, got {count}")
    by_process: dict[int, list[Any]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    chosen = [device for _, those in sorted(by_process.items()) for device in those[:count]]
    if len(chosen) % model_shards:
        raise ValueError(
            f"expected a number of devices that is a multiple of parallel.model_shards ({model_shards}), "
            f"got {len(chosen)}"
        )
    shape = (len(chosen) // model_shards, model_shards)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=chosen)


def spec_of(shape: tuple[int, ...], *, shards: int = 1, above: int = 0) -> PartitionSpec:
    """Return how an array of the state is divided: along its longest axis that ``shards`` divides, or not at all."""
    divisible = [i for i, n in enumerate(shape) if n % shards == 0]
    if shards == 1 or not divisible or math.prod(shape) < above:
        return PartitionSpec()
    longest = max(divisible, key=lambda i: shape[i])
    return PartitionSpec(*[None] * longest, MODEL)


def state_layout(mesh: Mesh, state: Any, *, above: int = 0) -> Any:
    """Return the sharding of every array of a state, which is a function of its shape alone."""
    shards = mesh.shape[MODEL]
    return jax.tree.map(
        lambda leaf: NamedSharding(mesh, spec_of(np.shape(leaf), shards=shards, above=above)), state
    )


def split_over(mesh: Mesh) -> NamedSharding:
    """Sharding of an array whose first axis is the batch."""
    return NamedSharding(mesh, PartitionSpec(AXES))


def mean_over_devices(
    mesh: Mesh, loss: Callable[[Any, Any], tuple[Any, Any]], *, above: int = 0
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Make ``loss(params, batch) -> (loss, diagnostics)`` run on each device's share, and average the answers.

    Left to itself the compiler gathers the whole batch on every device before each FFT. The loss is averaged
    and not its gradient, which would come back as many times too large as there are devices. Of parameters that are
    divided (``above``, as :func:`spec_of`) the gradient comes back divided alike: its sum is a scattered one.
    """
    shards = mesh.shape[MODEL]

    def shared(params: Any, batch: Any) -> tuple[Any, Any]:
        leaves, tree = jax.tree.flatten(params)
        specs = [spec_of(leaf.shape, shards=shards, above=above) for leaf in leaves]

        def local(leaves: list[Any], batch: Any) -> tuple[Any, Any]:
            whole = [_gathered(leaf, spec) for leaf, spec in zip(leaves, specs, strict=True)]
            return jax.lax.pmean(loss(jax.tree.unflatten(tree, whole), batch), AXES)

        inputs = (specs, PartitionSpec(AXES))
        return jax.shard_map(local, mesh=mesh, in_specs=inputs, out_specs=PartitionSpec())(leaves, batch)

    return shared


def _gathered(leaf: Any, spec: PartitionSpec) -> Any:
    """Return an array whole, of which the device holds a part."""
    return jax.lax.all_gather(leaf, MODEL, axis=len(spec) - 1, tiled=True) if len(spec) else leaf


def put_batch(mesh: Mesh, batch: Mapping[str, np.ndarray], *, accumulate: int = 1) -> dict[str, jax.Array]:
    """Lay out this process's rows of a batch, which are all rows where there is one process.

    With ``accumulate`` above 1 every array gets a leading axis of so many parts, each divided among all devices.

    Raises
    ------
    ValueError
        If the batch cannot be divided evenly among the devices.
    """
    processes = jax.process_count()
    parts = mesh.size // processes * accumulate
    for name, value in batch.items():
        if len(value) % parts:
            among = f"the {mesh.size} devices" + (f" and {accumulate} parts" if accumulate > 1 else "")
            raise ValueError(
                f"expected a batch that is a multiple of {among}, got {len(value) * processes} in {name!r}"
            )
    layout = split_over(mesh)
    if accumulate > 1:
        batch = {k: v.reshape(accumulate, -1, *v.shape[1:]) for k, v in batch.items()}
        layout = NamedSharding(mesh, PartitionSpec(None, AXES))
    if processes == 1:
        return {name: jax.device_put(value, layout) for name, value in batch.items()}
    return {name: jax.make_array_from_process_local_data(layout, value) for name, value in batch.items()}


def put_state(mesh: Mesh, state: Any, *, above: int = 0) -> Any:
    """Lay a training state, the same in every process, out over the mesh (``above`` as :func:`spec_of`)."""
    layout = state_layout(mesh, state, above=above)
    if jax.process_count() == 1:
        return jax.device_put(state, layout)
    return jax.tree.map(_from_host, jax.device_get(state), layout)


def _from_host(value: Any, layout: NamedSharding) -> jax.Array:
    array = np.asarray(value)
    return jax.make_array_from_callback(array.shape, layout, lambda part: array[part])


def whole(state: Any) -> Any:
    """Return arrays on the host, whole in every process, wherever their parts lie."""
    layout = jax.tree.map(lambda a: NamedSharding(a.sharding.mesh, PartitionSpec()), state)
    return jax.device_get(jax.device_put(state, layout))
