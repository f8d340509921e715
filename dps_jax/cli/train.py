"""``dps-jax train``: an unsupervised training run, from a typed config to a weights file."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from dps_jax import __version__
from dps_jax.cli import parsing, processes, say, share_cores
from dps_jax.cli.outputs import required
from dps_jax.cli.progress import LateProgress
from dps_jax.io import UserError, check_output
from dps_jax.training.config import TrainConfig
from dps_jax.training.config_files import differences, read_config, to_dict


@dataclass(frozen=True)
class Arguments:
    """Train a network through the physics of the microscope, without ground truth.

    The run is a function of its config. Stopped at any moment, the same command goes on from the last checkpoint
    and ends with the same bits. The log is one JSON line per report in RUN/log.jsonl.
    """

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], help_behavior_hint="(required)")] = None
    """Weights file to write (.safetensors), for `dps-jax restore --weights`."""
    run: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Folder of the run (config, log, checkpoints); by default beside the output, named NAME.run."""
    config: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")] = None
    """TOML file of settings; flags override it."""
    devices: Annotated[int | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Devices of each process to share each batch; by default as many as divide it."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")] = None
    """Where the processes of one run meet: the host of process 0 and a free port there. Under SLURM, Open MPI,
    Kubernetes and on TPU pods this and the next two are found without being given."""
    processes: Annotated[int | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Number of processes of the run, which must see the same folders; 1 asks no scheduler."""
    process_id: Annotated[int | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Which of them this is, from 0; process 0 writes config, log and weights."""
    wait_s: int = 300
    """Seconds to wait for the other processes; one that is lost later is noticed within 100 s."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments, the config file first and the flags over it."""
    path = _config_path(words)
    settings = TrainConfig() if path is None else _read_file(path)
    return parsing.parse(Arguments, words, command="train", default=Arguments(settings=settings))


def _config_path(words: list[str]) -> Path | None:
    """Return the last value of --config, which is also the one that the parser takes."""
    found = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--config":
            found = following
        elif word.startswith("--config="):
            found = word.removeprefix("--config=")
    return None if found is None else Path(found)


def _read_file(path: Path) -> TrainConfig:
    if not path.is_file():
        raise UserError(f"the config file {path} was not found; check the name and the folder.")
    try:
        return read_config(path)
    except ValueError as problem:
        raise UserError(f"{path}: {problem}") from None


def run(arguments: Arguments) -> int:
    """Train and write the weights."""
    config, output = arguments.settings, required(arguments.output, "a .safetensors file")
    if output.suffix != ".safetensors":
        raise UserError(f"expected the output to be a .safetensors file, got {output}; rename it.")
    check_output(output)
    folder = arguments.run or output.with_suffix(".run")
    _check_folder(folder, config)
    found = processes.find(arguments.coordinator, arguments.processes, arguments.process_id, arguments.wait_s)
    if found is None:
        return _work(config, folder, output, arguments.devices)
    code = processes.guard(found)
    if code is not None:
        return code
    share_cores(config.common_parts // (found.processes or config.common_parts))
    processes.join(found)
    try:
        code = _work(config, folder, output, arguments.devices)
        processes.leave()
        return code
    except Exception as problem:
        raise processes.explained(problem) from problem


def _work(config: TrainConfig, folder: Path, output: Path, devices: int | None) -> int:
    """Train, alone or as one of several processes, and write the weights."""
    share_cores(config.common_parts)  # a flag that is set already stays
    from dps_jax.training.sharding import leads
    from dps_jax.training.steps import network_of
    from dps_jax.weights import save_network

    with _forgotten_if_barren(folder):
        params = _train(config, folder, devices)
    if not leads():
        return 0
    header = {
        "config": to_dict(config),
        "seed": config.seed,
        "package_version": __version__,
        "final": _final(folder),
    }
    save_network(output, network_of(config), params, abbe_px=config.scenes.abbe_px, header=header)
    say(f"wrote {output}; the log is {folder / 'log.jsonl'}")
    return 0


def _train(config: TrainConfig, folder: Path, devices: int | None) -> dict[str, Any]:
    from dps_jax.training.loop import train

    with LateProgress("training") as progress:

        def report(line: dict[str, float]) -> None:
            progress(line["step"], config.steps, f"loss {line['loss']:.4f}")
            if not sys.stderr.isatty():
                peak = f"  {line['peak_percent']:.0f} % of peak" if "peak_percent" in line else ""
                say(
                    f"step {line['step']:>7.0f}  loss {line['loss']:.5f}  {line['images_per_s']:.1f} images/s{peak}"
                )

        try:
            return train(config, folder, devices=devices, report=report)
        except FloatingPointError as problem:
            raise ValueError(
                f"{problem}; the last checkpoint is in {folder}, try a smaller --optimizer.learning-rate "
                "in a new run folder"
            ) from None


def _check_folder(folder: Path, config: TrainConfig) -> None:
    """Refuse a folder that is a file or holds a run of other settings, naming those; say if a run goes on."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if not place.is_dir():
        raise UserError(
            f"expected the run folder {folder} to be a folder, but {place} is a file; choose another."
        )
    path = folder / "config.json"
    if not path.exists():
        return
    try:
        other = differences(json.loads(path.read_text(encoding="utf-8")), config)
    except (OSError, ValueError, AttributeError, RecursionError):  # cut short, or not what was written
        raise UserError(f"{path} is damaged; remove {folder} or choose another --run folder.") from None
    if other:
        said = ", ".join(
            f"{name} {there} there and {here} here" for name, (there, here) in [*other.items()][:5]
        )
        raise UserError(
            f"{folder} holds a run of other settings ({said}); go on with its settings, or choose another --run folder."
        )
    say(f"going on with the run in {folder}")


@contextlib.contextmanager
def _forgotten_if_barren(folder: Path) -> Iterator[None]:
    """Unclaim a new run folder if training ends before a checkpoint: it would refuse the corrected command."""
    known = (folder / "config.json").exists()
    try:
        yield
    except BaseException:
        if not known and not any((folder / "checkpoints").glob("*")):
            # The folders stay: a thread of Orbax may still be looking at them.
            for name in ("config.json", "log.jsonl"):
                (folder / name).unlink(missing_ok=True)
        raise


def _final(folder: Path) -> dict[str, float]:
    """Return the last line of the log without the speed, which would make every weights file another."""
    from dps_jax.training.throughput import SPEEDS

    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return {k: v for k, v in json.loads(lines[-1]).items() if k not in SPEEDS} if lines else {}
