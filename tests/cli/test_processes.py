"""``dps-jax train`` as two real processes on one machine: the run of one, and a sentence when one is missing."""

import json
import os
import re
import shutil
import socket

import numpy as np
import pytest
from safetensors.numpy import load_file

from dps_jax.cli.processes import find
from dps_jax.io.errors import UserError

CONFIG = """
steps = 6
batch = 8
log_every = 1
checkpoint_every = 2
[network]
channels = [4]
consistency_steps = 0
iterates = []
[scenes]
patch_px = 20
[objective]
margin_px = 4
shrunk_share = 0.5
ssim = 0.0
hessian = 0.0
sparsity = 0.0
[optimizer]
warmup_steps = 2
"""
# Processes share one compilation cache; the second finds what the first has compiled.
WORDS = ("train", "--config", "c.toml", "--devices", "1", "--coordinator")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def losses(folder, name):
    lines = (folder / f"{name}.run" / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.slow
def test_two_processes_are_one_run(program, folder):
    where = f"127.0.0.1:{free_port()}"
    both = [
        program(
            *WORDS, where, "--processes", "2", "--process-id", str(i), "-o", "two.safetensors", cwd=folder
        )
        for i in range(2)
    ]
    alone = program("train", "--config", "c.toml", "--devices", "1", "-o", "one.safetensors", cwd=folder)
    said = [process.communicate(timeout=600)[1] for process in (*both, alone)]
    assert [process.returncode for process in (*both, alone)] == [0, 0, 0], said
    assert "wrote two.safetensors" in said[0]
    assert "wrote" not in said[1]
    assert "step" not in said[1]
    one, two = (losses(folder, name) for name in ("one", "two"))
    assert len(one) == 6
    np.testing.assert_allclose(two, one, rtol=1e-5)
    weights, others = (load_file(folder / f"{name}.safetensors") for name in ("one", "two"))
    for name, value in weights.items():
        np.testing.assert_allclose(others[name], value, atol=1e-5)
    # Two processes stopped after step 4, and one goes on.
    shutil.rmtree(folder / "two.run" / "checkpoints" / "6")
    (folder / "two.safetensors").unlink()
    resumed = program("train", "--config", "c.toml", "--devices", "1", "-o", "two.safetensors", cwd=folder)
    told = resumed.communicate(timeout=600)[1]
    assert resumed.returncode == 0, told
    assert re.findall(r"step +(\d)", told) == ["5", "6"]
    np.testing.assert_allclose(losses(folder, "two"), one, rtol=1e-5)


def test_a_missing_process_is_said_in_time(program, folder):
    process = program(
        *WORDS,
        f"127.0.0.1:{free_port()}",
        *("--processes", "2", "--process-id", "0", "--wait-s", "1", "-o", "w.safetensors"),
        cwd=folder,
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("error: expected 2 processes of this run to meet at 127.0.0.1:")
    assert err.count("\n") == 1  # no trace
    assert "within 1 s, and not all of them came" in err
    assert [path.name for path in folder.iterdir()] == ["c.toml"]


PAGE = """F1126 07:41:36.3 5231 client.h:80] Terminating process because the JAX distributed service detected errors.
:UNKNOWN:Error received from peer  {grpc_status:14}
"""
CHILD = """
import os, sys
from dps_jax.cli import complain, processes
code = processes.guard(processes.Cluster("h:1", 2, 0))
if code is not None:
    sys.exit(code)
say = lambda text: os.write(2, text.encode())  # as C++ does
joined = lambda: os.write(2, b"\\0joined\\n")
page = sys.argv[1]
"""
LOSS = "raise processes.explained(RuntimeError('Gloo all-reduce failed'))"
LOST = "error: another process of this run was lost, and the run stopped; "
ENDS = {  # of a child, and what is said of it
    "the abort comes first": ("joined(); say(page); os.abort()", 2, LOST),
    "the exception comes first": (f"joined(); {LOSS}", 2, LOST),
    "the exception cuts the page short": (f"joined(); say(page[:90]); {LOSS}", 2, LOST),
    "the abort cuts the exception short": (
        "joined(); error = processes.explained(OSError('coordination')); say(page); os.abort()",
        2,
        LOST,
    ),
    "what closes the run fails as well": (
        "joined()\ntry:\n raise RuntimeError('Gloo')\nexcept RuntimeError as first:\n"
        " try: {}['x']\n except KeyError as second: raise processes.explained(second)",
        2,
        LOST,
    ),
    "nobody came": ("say(page); os.abort()", 2, "error: expected 2 processes of this run to meet at h:1 "),
    "an error of its own": (
        "joined(); say(page); sys.exit(complain('the disk is full'))",
        2,
        "error: the disk is full.",
    ),
    "an abort of another kind": (
        "joined(); say('F1126 1.cc:3] Check failed: x'); os.abort()",
        134,
        "F1126 1.cc",
    ),
    "a line of Python": ("joined(); print('step 1', file=sys.stderr)", 0, "step 1"),
    "a warning of C++": ("joined(); say('E1126 noise\\nNCCL version 2\\n')", 0, "NCCL version 2"),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="one process there")
@pytest.mark.parametrize("end", ENDS)
def test_how_a_child_ended_is_said_once(program, folder, end):
    does, code, said = ENDS[end]
    process = program(PAGE, code=("-c", CHILD + does), cwd=folder)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, ""), err
    assert err.startswith(said)
    assert err.count("\n") <= 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("h:1", 2, None, 9),
            "--coordinator HOST:PORT, --processes N and --process-id I together.* no --pro",
        ),
        ((None, 2, 0, 9), "together, got no --coordinator"),
        (("h", 2, 0, 9), "--coordinator as HOST:PORT, got h"),
        (("h:1", 2, 2, 9), r"--process-id from 0 to one below --processes \(2\), got 2"),
        (("h:1", 0, 0, 9), r"--process-id from 0 to one below --processes \(0\)"),
        ((None, None, None, 0), "--wait-s to be 1 or more, got 0"),
    ],
)
def test_flags_that_make_no_cluster(flags, message):
    with pytest.raises(UserError, match=message):
        find(*flags)


SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:9",
}


@pytest.mark.parametrize(
    ("environment", "scheduler", "processes"),
    [
        ({}, None, None),
        (SLURM, "SLURM", 4),
        ({**SLURM, "SLURM_NTASKS": "1"}, None, None),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, None, None),  # a batch script, not a step of it
        (MPI, "Open MPI", 2),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes", None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None, None),  # a pod, but not of an indexed job
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "the TPU pod", None),
    ],
)
def test_clusters_are_found_in_the_environment(monkeypatch, environment, scheduler, processes):
    for name in {*SLURM, *MPI, "KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX", "TPU_WORKER_HOSTNAMES"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = find(None, None, None, 9)
    assert (found and found.scheduler, found and found.processes) == (scheduler, processes)
    assert find(None, 1, None, 9) is None
