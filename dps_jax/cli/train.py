"""``dps-jax train``: an unsupervised training run, from a typed config to a weights file."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dps_jax import __version__
from dps_jax.cli import say
from dps_jax.cli.progress import LateProgress
from dps_jax.io import check_output
from dps_jax.training.config import TrainConfig, read_config, to_dict


@dataclass(frozen=True)
class Arguments:
    """Train a network through the physics of the microscope, without ground truth.

    The run is a function of its config. Stopped at any moment, the same command goes on from the last checkpoint
    and ends with the same bits. The log is one JSON line per report in RUN/log.jsonl.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Weights file to write (.safetensors), for `dps-jax restore --weights`."""
    run: Path | None = None
    """Folder of the run (config, log, checkpoints); by default beside the output, named NAME.run."""
    config: Path | None = None
    """TOML file of settings; flags override it."""
    devices: int | None = None
    """Local devices to share each batch; by default all."""
    settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments, the config file first and the flags over it."""
    base = Arguments(output=Path("weights.safetensors"))
    path = _config_path(words)
    if path is not None:
        base = dataclasses.replace(base, settings=read_config(path))
    required = dataclasses.replace(base, output=tyro.MISSING)
    return tyro.cli(Arguments, args=words, prog="dps-jax train", default=required)


def _config_path(words: list[str]) -> Path | None:
    for i, word in enumerate(words):
        if word == "--config" and i + 1 < len(words):
            return Path(words[i + 1])
        if word.startswith("--config="):
            return Path(word.removeprefix("--config="))
    return None


def run(arguments: Arguments) -> int:
    """Train and write the weights."""
    config, output = arguments.settings, arguments.output
    check_output(output)
    folder = arguments.run or output.with_suffix(".run")
    from dps_jax.training.loop import train
    from dps_jax.training.steps import network_of
    from dps_jax.weights import save_network

    last: dict[str, float] = {}
    with LateProgress("training") as progress:

        def report(line: dict[str, float]) -> None:
            last.update(line)
            progress(line["step"], config.steps, f"loss {line['loss']:.4f}")
            if not sys.stderr.isatty():
                say(f"step {line['step']:>7.0f}  loss {line['loss']:.5f}  {line['images_per_s']:.1f} images/s")

        try:
            params = train(config, folder, devices=arguments.devices, report=report)
        except FloatingPointError as problem:
            raise ValueError(f"{problem}; the last checkpoint is in {folder}, try a smaller learning rate") from None
    header = {"config": to_dict(config), "seed": config.seed, "package_version": __version__, "final": last}
    save_network(output, network_of(config), params, abbe_px=config.scenes.abbe_px, header=header)
    say(f"wrote {output}")
    return 0
