"""One of two processes is killed in the middle of a run: the other says so and ends, and both go on when started again.

The processes find each other as SLURM would tell them to. Off in the suite; ``make nightly`` runs it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

CONFIG = """
steps = 60
batch = 8
log_every = 1
checkpoint_every = 5
[network]
channels = [4]
consistency_steps = 0
iterates = []
[scenes]
patch_px = 20
[objective]
margin_px = 4
shrunk_share = 0.5
"""


def _start(folder, cache, which, job):
    slurm = {"SLURM_NTASKS": "2", "SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "127.0.0.1"}
    slurm |= {"SLURM_PROCID": str(which), "SLURM_LOCALID": str(which)}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "dps_jax.cli", "train"),
            *("--config", "c.toml", "-o", "w.safetensors", "--devices", "1"),
        ],
        cwd=folder,
        env={**os.environ, "XLA_FLAGS": "", "XDG_CACHE_HOME": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
        | (slurm if job else {}),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _losses(folder):
    lines = (folder / "w.run" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def _folder(path):
    path.mkdir()
    (path / "c.toml").write_text(CONFIG)
    return path


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_is_lost(tmp_path, lost):
    folder, cache, jobs = _folder(tmp_path / "both"), tmp_path / "cache", random.Random()
    job = jobs.randrange(1, 4000)
    both = [_start(folder, cache, which, job) for which in range(2)]
    while not (folder / "w.run" / "checkpoints" / "5").is_dir() and both[0].poll() is None:
        time.sleep(0.01)
    os.killpg(both[lost].pid, signal.SIGKILL)
    killed = time.monotonic()
    both[lost].communicate()
    said = both[1 - lost].communicate(timeout=300)[1]
    assert both[1 - lost].returncode == 2, said
    assert "error: another process of this run was lost" in said
    assert "Traceback" not in said
    assert "@ 0x" not in said
    waited = time.monotonic() - killed
    print(f"\nthe loss of process {lost} was said after {waited:.0f} s")
    assert waited < 160  # 100 s of silence, and what two processes take to end
    again = [_start(folder, cache, which, job + 1) for which in range(2)]
    said = [process.communicate(timeout=900)[1] for process in again]
    assert [process.returncode for process in again] == [0, 0], said
    whole = _start(_folder(tmp_path / "one"), cache, 0, 0)
    said = whole.communicate(timeout=900)[1]
    assert whole.returncode == 0, said
    np.testing.assert_allclose(_losses(folder), _losses(tmp_path / "one"), rtol=1e-5)
