"""The training loop: data -> step -> log -> checkpoint, resumable at any moment."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dps_jax.io.atomic import atomic_path
from dps_jax.training import data, sharding, steps
from dps_jax.training.checkpoint import Checkpoints
from dps_jax.training.config import TrainConfig
from dps_jax.training.config_files import to_dict
from dps_jax.weights import load_network

Report = Callable[[dict[str, float]], None]

# A gradient falls as a network learns, by a factor of ten or so; one that has died is millions of times smaller.
_DEAD_SHARE, _DEAD_LINES = 1e-3, 3


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
    run that was stopped goes on from its last checkpoint and ends with the same bits as one that was not.

    Parameters
    ----------
    config
        What to train.
    folder
        Run folder; created, or resumed if it holds a run of the same config.
    devices
        Number of local devices to share the batch; by default as many as divide it.
    report
        Called with each log line.
    images
        Stand in the place of the config's folder, as for :func:`dps_jax.training.data.make_batches`; a run that is
        resumed must be given the same.

    Raises
    ------
    ValueError
        If the folder holds a run of another config, or the batch does not divide among the devices.
    FloatingPointError
        If the loss is not finite, or the gradient has died: its norm stayed below a thousandth of its first
        for three log lines. The last checkpoint stays.
    """
    make_batch = data.make_batches(config, images=images)  # first: images that cannot be used leave no folder
    return run(
        config,
        Path(folder),
        make_batch=make_batch,
        initial_state=lambda: _initial_state(config),
        make_step=lambda mesh: steps.make_step(config, mesh=mesh),
        devices=_count_devices(config.common_parts) if devices is None else devices,
        report=report,
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
    make_step: Callable[[Mesh], Callable[[steps.State, dict[str, Any]], tuple[steps.State, dict[str, Any]]]],
    devices: int | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Run or resume any training, given its parts; see :func:`train` for the folder and what is raised.

    Parameters
    ----------
    config
        Lengths of the run; it is what tells one run from another, so everything must follow from it.
    folder, report
        As :func:`train`.
    make_batch
        From a step number to its batch; pure.
    initial_state, make_step
        The state before the first step, and the step function on a mesh of devices.
    devices
        Number of local devices to share the batch; by default as many as divide it.
    """
    _claim(folder, config)
    mesh = sharding.make_mesh(devices=_count_devices(config.batch) if devices is None else devices)
    state = sharding.put_state(mesh, initial_state())
    step_function = make_step(mesh)
    with Checkpoints(folder / "checkpoints", keep=config.keep_checkpoints) as checkpoints:
        if checkpoints.latest_step() is not None:
            state = checkpoints.load(state)
        start = int(state["step"])
        log = _Log(folder / "log.jsonl", start, report)
        for i, batch in enumerate(data.prefetch(make_batch, start, config.steps), start=start):
            state, diagnostics = step_function(state, sharding.put_batch(mesh, batch))
            done = i + 1
            if done % config.log_every == 0 or done == config.steps:
                log.write(done, diagnostics, config.batch)
            if done % config.checkpoint_every == 0 or done == config.steps:
                _refuse_non_finite(done, diagnostics)  # or broken parameters would replace the good ones
                checkpoints.save(state)
    return jax.device_get(state["params"])


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


def _claim(folder: Path, config: Any) -> None:
    """Write the config into a new folder; refuse a folder that belongs to another config."""
    folder.mkdir(parents=True, exist_ok=True)
    path, mine = folder / "config.json", json.dumps(to_dict(config), indent=1)
    if path.exists():
        if path.read_text(encoding="utf-8") != mine:
            raise ValueError(
                f"expected {folder} to be empty or a run of this config, found a run of another one"
            )
        return
    with atomic_path(path) as temporary:  # half a config would make the run look like another one's
        temporary.write_text(mine, encoding="utf-8")


def _refuse_non_finite(step: int, diagnostics: dict[str, jax.Array]) -> None:
    # The loss is that of the parameters before the update, the norm that of those after it.
    for what, name in (("loss", "loss"), ("norm of the parameters", "parameter_norm")):
        value = float(diagnostics[name])
        if not math.isfinite(value):
            raise FloatingPointError(f"expected a finite {what}, got {value} at step {step}")


class _Log:
    """JSON lines, one per report; lines after the resumed step are dropped, since they will come again.

    It refuses what no log should go on from: numbers that are not finite, and a gradient that has died. Of the
    latter the loss alone tells nothing; it goes up and down with the batches as it does in a training that learns.
    """

    def __init__(self, path: Path, start: int, report: Report | None) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= start]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._path, self._report = path, report
        self._gradients = [float(json.loads(line).get("gradient_norm", math.nan)) for line in kept]
        self._clock, self._step = time.perf_counter(), start

    def write(self, step: int, diagnostics: dict[str, jax.Array], batch: int) -> None:
        """Append one line; refuse a loss that is not finite."""
        _refuse_non_finite(step, diagnostics)
        values = {name: float(value) for name, value in diagnostics.items()}
        self._refuse_dead_gradient(step, values["gradient_norm"])
        now = time.perf_counter()
        rate = (step - self._step) * batch / max(now - self._clock, 1e-9)
        self._clock, self._step = now, step
        line = {"step": step, **values, "images_per_s": round(rate, 2)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._report is not None:
            self._report(line)

    def _refuse_dead_gradient(self, step: int, norm: float) -> None:
        self._gradients.append(norm)
        first, last = self._gradients[0], self._gradients[-_DEAD_LINES:]
        if len(self._gradients) > _DEAD_LINES and max(last) < _DEAD_SHARE * first:
            raise FloatingPointError(
                f"expected a gradient that trains the network, got a norm of {norm:.2g} at step {step}, "
                f"{first:.2g} at first: the network no longer depends on its parameters; "
                "train anew with a smaller learning rate or another seed"
            )


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line cut short by a kill
        return math.inf
