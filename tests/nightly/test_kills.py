"""Killed twenty times, in the middle of checkpoints too, a training ends with the bits of one that was left alone.

Off in the suite: some ten minutes. ``make nightly`` runs it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

from safetensors.numpy import load_file

KILLS, STEPS = 20, 400
# A checkpoint at every third step, so that a kill at any moment has a good chance to fall into one.
CONFIG = f"""
steps = {STEPS}
batch = 4
log_every = 5
checkpoint_every = 3
keep_checkpoints = 2
[network]
channels = [4, 8]
consistency_steps = 0
iterates = []
[scenes]
patch_px = 20
[objective]
margin_px = 4
shrunk_share = 0.5
[optimizer]
ema_decay = 0.9
"""
SPEEDS = ("images_per_s", "model_gflop_per_s", "peak_percent")


def _start(folder, cache):
    folder.mkdir(exist_ok=True)
    (folder / "run.toml").write_text(CONFIG)
    words = ["--config", str(folder / "run.toml"), "-o", str(folder / "w.safetensors"), "--devices", "1"]
    environment = {**os.environ, "XLA_FLAGS": "", "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "dps_jax.cli", "train", *words],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )


def _checkpoints(folder):
    there = folder / "w.run" / "checkpoints"
    names = [path.name for path in there.iterdir()] if there.is_dir() else []
    whole = max((int(name) for name in names if name.isdigit()), default=0)
    return whole, [name for name in names if not name.isdigit()]


def _kill_within(folder, cache, seconds, *, while_saving):
    """Start the run, let it get on, and kill it after so long, or at the next moment at which it is saving."""
    before, _ = _checkpoints(folder)
    process = _start(folder, cache)
    while process.poll() is None and _checkpoints(folder)[0] <= before:  # it has gone on from where it was
        time.sleep(0.005)
    time.sleep(seconds)
    while while_saving and process.poll() is None and not _checkpoints(folder)[1]:
        time.sleep(0.0005)
    caught = bool(_checkpoints(folder)[1])
    process.kill()
    assert process.wait() == -signal.SIGKILL, (folder / "said.txt").read_text()
    return caught


def _finish(folder, cache):
    process = _start(folder, cache)
    assert process.wait(timeout=1800) == 0, (folder / "said.txt").read_text()
    lines = [json.loads(line) for line in (folder / "w.run" / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in SPEEDS} for line in lines]


def test_twenty_kills(tmp_path):
    moments, cache = random.Random(20240501), tmp_path / "cache"
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    caught = [
        _kill_within(cut, cache, moments.uniform(0, 1.5), while_saving=i % 2 == 1) for i in range(KILLS)
    ]
    reached, _ = _checkpoints(cut)
    assert reached < STEPS, "the run was over before its kills were: give it more steps"
    logs = [_finish(folder, cache) for folder in (cut, whole)]
    print(
        f"\n{KILLS} kills up to step {reached} of {STEPS}, {sum(caught)} of them while a checkpoint was written"
    )
    assert sum(caught) >= KILLS // 4
    assert logs[0] == logs[1]
    assert (cut / "w.safetensors").read_bytes() == (whole / "w.safetensors").read_bytes()
    weights = load_file(cut / "w.safetensors")
    assert weights
    assert [path.name for path in sorted((cut / "w.run" / "checkpoints").iterdir())] == [
        path.name for path in sorted((whole / "w.run" / "checkpoints").iterdir())
    ]
