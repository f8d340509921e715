"""The training loop: data -> step -> log -> checkpoint, resumable at any moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dps_jax.io.atomic import atomic_path
from dps_jax.training import data, sharding, steps
from dps_jax.training.checkpoint import Checkpoints
from dps_jax.training.config import ParallelConfig, TrainConfig
from dps_jax.training.config_files import to_dict
from dps_jax.training.run_log import Report, RunLog
from dps_jax.training.throughput import speed_of
from dps_jax.training.watch import Watch
from dps_jax.weights import load_network


def train(
    config: TrainConfig,
    folder: Path,
    *,
    devices: int | None = None,
    report: Report | None = None,
    images: data.PatchSource | None = None,
) -> dict[str, Any]:
    """Run or resume a training in ``folder`` and return its parameters.

    ``folder`` receives ``config.json``, ``log.jsonl`` (one line per ``log_every`` steps) and ``checkpoints/``. A
    run that was stopped goes on from its last checkpoint and ends with the same bits as one that was not. Of several
    processes (``jax.distributed``), which must see the same folder, each makes and works on its rows of every batch.

    Parameters
    ----------
    config
        What to train.
    folder
        Run folder; created, or resumed if it holds a run of the same config.
    devices
        Number of devices of each process to share the batch; by default as many as divide it.
    report
        Called with each log line, in the first process.
    images
        Stand in the place of the config's folder, as for :func:`dps_jax.training.data.make_batches`; a run that is
        resumed must be given the same.

    Raises
    ------
    ValueError
        If the folder holds a run of another config, or the batch does not divide among the devices.
    FloatingPointError
        If the loss or the gradient of ``config.most_skipped`` steps in a row is not finite, which are skipped and
        change nothing, or the gradient has died: its norm stayed below a thousandth of its first for three log lines.
        The last checkpoint stays.
    """
    share = (jax.process_index(), jax.process_count())
    # First: images that cannot be used leave no folder.
    make_batch = data.make_batches(config, images=images, share=share)
    return run(
        config,
        Path(folder),
        make_batch=make_batch,
        initial_state=lambda: _initial_state(config),
        make_step=lambda mesh: steps.make_step(config, mesh=mesh),
        devices=_count_devices(config.common_parts // share[1]) if devices is None else devices,
        report=report,
        parallel=config.parallel,
        most_skipped=config.most_skipped,
        dtype=config.network.dtype,
    )


class Schedule(Protocol):
    """What the loop itself must know of a config, which is a dataclass."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        ...

    @property
    def batch(self) -> int:
        """Images per step."""
        ...

    @property
    def log_every(self) -> int:
        """Steps per line of the log."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Steps per checkpoint."""
        ...

    @property
    def keep_checkpoints(self) -> int:
        """Number of checkpoints that stay."""
        ...


def run(
    config: Schedule,
    folder: Path,
    *,
    make_batch: Callable[[int], data.Batch],
    initial_state: Callable[[], steps.State],
    make_step: Callable[[Mesh], Any],
    devices: int | None = None,
    report: Report | None = None,
    parallel: ParallelConfig | None = None,
    most_skipped: int = 10,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Run or resume any training, given its parts; see :func:`train` for the folder and what is raised.

    Parameters
    ----------
    config
        Lengths of the run; it is what tells one run from another, so everything must follow from it.
    folder, report, devices
        As :func:`train`.
    make_batch
        From a step number to this process's rows of its batch; pure.
    initial_state, make_step
        The state before the first step, and the step function on a mesh of devices.
    parallel
        How state and batches are laid out; by default whole on every device, and at once.
    most_skipped
        Steps in a row that may be skipped.
    dtype
        In what the network computes, for the share of the device's peak in the log.
    """
    parallel = parallel or ParallelConfig()
    leads = sharding.leads()
    _claim(folder, config, writes=leads)
    mesh = sharding.make_mesh(
        devices=_count_devices(config.batch) if devices is None else devices,
        model_shards=parallel.model_shards,
    )
    state = sharding.put_state(mesh, initial_state(), above=parallel.shard_above)
    with Checkpoints(folder / "checkpoints", keep=config.keep_checkpoints) as checkpoints:
        if checkpoints.latest_step() is not None:
            state = checkpoints.load(state)
        start = int(state["step"])
        step_function, log, watch = make_step(mesh), None, Watch(folder, most=most_skipped)
        for done, batch in enumerate(data.prefetch(make_batch, start, config.steps), start=start + 1):
            given = sharding.put_batch(mesh, batch, accumulate=parallel.accumulate)
            if log is None:
                lowered = step_function.lower(state, given)
                step_function = lowered.compile()
                speed = speed_of(lowered, mesh, dtype=dtype, accumulate=parallel.accumulate)
                log = RunLog(
                    folder / "log.jsonl", start, report if leads else None, speed=speed, writes=leads
                )
            state, diagnostics = step_function(state, given)
            watch.see(done, batch, diagnostics)
            if done % config.log_every == 0 or done == config.steps:
                log.write(done, diagnostics, config.batch)
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoints.save(state, loss=watch.settle())
    return sharding.whole(steps.result_of(state))


def _initial_state(config: TrainConfig) -> steps.State:
    """Return the state before the first step, with the weights of another run if the config names them."""
    state = steps.init_state(config)
    if config.initial is None:
        return state
    network = load_network(path=config.initial)
    if network.module != steps.network_of(config):
        raise ValueError(
            f"expected initial weights of the config's network ({steps.network_of(config)}), "
            f"got {network.module} in {config.initial}"
        )
    return {**state, "params": jax.tree.map(jnp.asarray, network.params)}


def _count_devices(parts: int) -> int:
    """Return the most local devices that so many parts of a batch can be shared by."""
    return max(n for n in range(1, len(jax.local_devices()) + 1) if parts % n == 0)


def _claim(folder: Path, config: Any, *, writes: bool) -> None:
    """Write the config into a new folder; refuse a folder that belongs to another config.

    The layout over devices is no part of what a run is: it may go on with another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, mine = folder / "config.json", to_dict(config)
    if path.exists():
        if _essence(json.loads(path.read_text(encoding="utf-8"))) != _essence(mine):
            raise ValueError(
                f"expected {folder} to be empty or a run of this config, found a run of another one"
            )
    elif writes:
        with atomic_path(path) as temporary:  # half a config would make the run look like another one's
            temporary.write_text(json.dumps(mine, indent=1), encoding="utf-8")


def _essence(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "parallel"}
