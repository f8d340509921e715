"""Killed at any moment and started again, a run ends with the same bits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from dps_jax.training.throughput import SPEEDS

CONFIG = """
steps = 60
batch = 4
log_every = 5
checkpoint_every = 10
keep_checkpoints = 2
[network]
channels = [4]
consistency_steps = 0
iterates = []
[scenes]
patch_px = 32
[objective]
margin_px = 6
shrunk_share = 0.0
"""


class _Run:
    """``python -m dps_jax.cli train`` in a process of its own."""

    def __init__(self, folder, cache):
        folder.mkdir(exist_ok=True)
        self.run, self.weights = folder / "w.run", folder / "w.safetensors"
        (folder / "run.toml").write_text(CONFIG)
        command = [
            "-m",
            "dps_jax.cli",
            "train",
            "--config",
            str(folder / "run.toml"),
            "-o",
            str(self.weights),
        ]
        # One device and one compilation cache: the runs compile once, soon, and compute alike.
        environment = {
            **os.environ,
            "XLA_FLAGS": "--xla_backend_optimization_level=1",
            "XDG_CACHE_HOME": str(cache),
            "JAX_PLATFORMS": "cpu",
        }
        # Nobody reads what it says before its end, and what XLA remarks on cached programs would fill the pipe.
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def checkpoints(self):
        folder = self.run / "checkpoints"
        return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []

    def finish(self):
        output, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, output
        return output

    def saving(self):
        folder = self.run / "checkpoints"
        return folder.is_dir() and any(not path.name.isdigit() for path in folder.iterdir())

    def kill(self, *, after, while_saving=False):
        """Kill it once the checkpoint of a step is whole, or while the next one is written."""
        while (self.checkpoints() or [0])[-1] < after and self.process.poll() is None:
            time.sleep(0.005)
        while while_saving and not self.saving() and self.process.poll() is None:
            time.sleep(0.0005)
        self.process.kill()
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == -signal.SIGKILL, output

    def log(self):
        lines = [json.loads(line) for line in (self.run / "log.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k not in SPEEDS} for line in lines]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bits(tmp_path):
    cache = tmp_path / "cache"
    stopped = _Run(tmp_path / "stopped", cache)
    stopped.kill(after=10)
    _Run(tmp_path / "stopped", cache).kill(after=20, while_saving=True)
    assert not stopped.weights.exists()
    assert 20 <= stopped.checkpoints()[-1] < 60
    before = stopped.log()
    again, whole = _Run(tmp_path / "stopped", cache), _Run(tmp_path / "whole", cache)
    again.finish()
    whole.finish()
    assert before == whole.log()[: len(before)]
    assert again.log() == whole.log()
    assert [line["step"] for line in again.log()] == list(range(5, 65, 5))
    one, other = load_file(whole.weights), load_file(again.weights)
    assert set(one) == set(other)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert any(np.any(value) for value in one.values())
    assert again.checkpoints() == whole.checkpoints()
    assert whole.checkpoints()[-2:] == [50, 60]  # and perhaps an earlier one, the best
