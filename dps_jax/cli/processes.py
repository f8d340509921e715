"""Several processes as one run: how they find each other, and one sentence when they do not.

JAX's coordination service ends a process outright (``abort``) when another one is missing or lost, with a page of
addresses on standard error. So the work is done in a child, and the parent, which holds back what C++ says there, says
what happened. Each process of a run has such a pair. Which comes first when another one is lost, an exception in
Python or the abort of a thread of C++, is chance, and one may cut the other short: so the child never says it itself.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from dps_jax.cli import complain
from dps_jax.io.errors import UserError

# Whether this process has met others, and whether it is a child whose parent says how that ended.
JOINED, GUARDED = threading.Event(), threading.Event()
# How long JAX lets a process be silent, and processes wait for each other at the end, in seconds.
SILENCE_S = 100
_SHUTDOWN_S = 60
_MARK = b"\0joined\n"
# What a child ends with to have its parent say that another process is missing or lost; no other code of ours.
_LOST_CODE = 75
# What a progress bar owes the terminal when it is cut short: an empty line and the cursor.
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"
# What C++ says before it ends a process, down to the end of its trace.
_FATAL = re.compile(rb"^(F\d{4} |\*\*\* Check failure|\s+@\s+0x)")
_NOISE = re.compile(rb"^([EW]\d{4} |WARNING: All log messages before absl::InitializeLog)")
_LOSS = re.compile(
    r"gloo|coordination|distributed service|heartbeat|nccl|unavailable|deadline_exceeded", re.IGNORECASE
)
_LOST = (
    "another process of this run was lost, and the run stopped; start all of them again: "
    "the same commands go on from the last checkpoint."
)


@dataclass(frozen=True)
class Cluster:
    """Where the processes of a run meet; without an address JAX finds it in the environment."""

    coordinator: str | None = None
    processes: int | None = None
    process_id: int | None = None
    wait_s: int = 300
    scheduler: str = ""

    @property
    def missing(self) -> str:
        """Return the sentence for processes that did not come."""
        count = "all" if self.processes is None else f"{self.processes}"
        where = f"at {self.coordinator}" if self.coordinator else f"as {self.scheduler} says"
        remedy = (
            "start every one, with the same --coordinator and --processes and its own --process-id from 0"
            if self.coordinator
            else "see what became of the others, give --processes 1 if this one is to work alone"
        )
        return (
            f"expected {count} processes of this run to meet {where} within {self.wait_s} s, and not all of them came; "
            f"{remedy}, or wait longer (--wait-s)."
        )


def find(
    coordinator: str | None, processes: int | None, process_id: int | None, wait_s: int
) -> Cluster | None:
    """Return the cluster that the flags or the environment speak of, None for a run of one process.

    Raises
    ------
    UserError
        For flags that do not make a cluster.
    """
    if wait_s < 1:
        raise UserError(f"expected --wait-s to be 1 or more, got {wait_s}.")
    if processes == 1 and not process_id:
        return None
    given = {"--coordinator": coordinator, "--processes": processes, "--process-id": process_id}
    if all(value is None for value in given.values()):
        return _from_environment(wait_s)
    lacking = [name for name, value in given.items() if value is None]
    if lacking:
        raise UserError(
            f"expected --coordinator HOST:PORT, --processes N and --process-id I together, got no {lacking[0]}."
        )
    if not re.fullmatch(r".+:\d{1,5}", str(coordinator)):
        raise UserError(f"expected --coordinator as HOST:PORT, got {coordinator}.")
    if not 0 <= int(process_id or 0) < int(processes or 0):
        raise UserError(
            f"expected --process-id from 0 to one below --processes ({processes}), got {process_id}."
        )
    return Cluster(coordinator, processes, process_id, wait_s)


def _from_environment(wait_s: int) -> Cluster | None:
    """Return the cluster of a scheduler whose environments JAX knows, where it started more than one process."""
    known = os.environ
    for scheduler, count, needed in (
        ("SLURM", "SLURM_NTASKS", ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")),
        ("Open MPI", "OMPI_COMM_WORLD_SIZE", ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK")),
    ):
        number = known.get(count, "")
        if number.isdigit() and int(number) > 1 and all(name in known for name in needed):
            return Cluster(processes=int(number), wait_s=wait_s, scheduler=scheduler)
    if "KUBERNETES_SERVICE_HOST" in known and "JOB_COMPLETION_INDEX" in known:
        return Cluster(wait_s=wait_s, scheduler="Kubernetes")
    if "," in known.get("TPU_WORKER_HOSTNAMES", "") or "MEGASCALE_COORDINATOR_ADDRESS" in known:
        return Cluster(wait_s=wait_s, scheduler="the TPU pod")
    return None


def join(cluster: Cluster) -> None:
    """Meet the other processes; to be called in the child, before anything is computed.

    Raises
    ------
    UserError
        If the environment lacks what JAX needs to know.
    """
    os.environ.setdefault("JAX_CPU_COLLECTIVES_IMPLEMENTATION", "gloo")
    import jax

    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.processes,
            cluster.process_id,
            initialization_timeout=cluster.wait_s,
            heartbeat_timeout_seconds=SILENCE_S,
            shutdown_timeout_seconds=_SHUTDOWN_S,
        )
    except (ValueError, RuntimeError) as problem:
        if "DEADLINE" in str(problem):
            raise _told(cluster.missing) from None
        raise UserError(
            f"the processes of this run could not be found as {cluster.scheduler or 'the flags'} says "
            f"({str(problem).splitlines()[0]}); give --coordinator, --processes and --process-id."
        ) from None
    JOINED.set()
    os.write(2, _MARK)


def leave() -> None:
    """Wait for the other processes to end their work as well; here, where the loss of one can still be said."""
    import jax

    jax.distributed.shutdown()


def explained(problem: BaseException) -> BaseException:
    """Return an error of the network between processes as one that a user can act on; others as they are."""
    cause: BaseException | None = problem
    while cause is not None:  # closing what was open may have failed as well, and hides the first
        if _LOSS.search(str(cause)):
            return _told(_LOST)
        cause = cause.__cause__ or cause.__context__
    return problem


def _told(sentence: str) -> BaseException:
    """Return what ends this process so that ``sentence`` is said once: by its parent, where it has one."""
    return SystemExit(_LOST_CODE) if GUARDED.is_set() else UserError(sentence)


def guard(cluster: Cluster) -> int | None:
    """Go on in a child, None there; return its exit code in the parent once it ended, everything said.

    Where there is no ``fork`` (Windows) the process goes on by itself.
    """
    if not hasattr(os, "fork"):
        return None
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    parent, child = os.getpid(), os.fork()
    if not child:
        _leave_stderr_to_cpp(write)
        os.close(read)
        os.close(write)
        GUARDED.set()
        threading.Thread(target=_end_without, args=(parent,), daemon=True).start()
        return None
    os.close(write)
    # Ctrl-C reaches the child by itself, which says so; what ends the parent politely is to end the child.
    own: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.SIG_IGN,
        signal.SIGTERM: lambda *_: os.kill(child, signal.SIGTERM),
    }
    before = {number: signal.signal(number, action) for number, action in own.items()}
    try:
        joined, last = _pass_on(read)
        _, status = os.waitpid(child, 0)
    finally:
        for number, action in before.items():
            signal.signal(number, action)
    code = os.waitstatus_to_exitcode(status)
    if code < 0 and sys.stderr.isatty():
        sys.stderr.write(_SHOW_CURSOR)
    if code == _LOST_CODE or (code < 0 and _LOSS.search(last)):
        return complain(_LOST if joined else cluster.missing)
    if code < 0:
        sys.stderr.write(last)
    return 128 - code if code < 0 else code


def _leave_stderr_to_cpp(write: int) -> None:
    """Let C++, which knows only the number 2, write into the pipe, and Python to where 2 has led."""
    usual = sys.stderr
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=usual.encoding, errors=usual.errors)
    os.dup2(write, 2)


def _end_without(parent: int) -> None:
    """End this process when its parent is gone: nobody would say how it ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _pass_on(read: int) -> tuple[bool, str]:
    """Copy what C++ says in a child to our standard error until it ends, but its last words.

    Returns
    -------
    tuple
        Whether the child had joined the others, and the last words.
    """
    joined, last = False, b""
    with os.fdopen(read, "rb") as lines:
        for line in lines:
            if line.endswith(_MARK):
                joined = True
            elif last or _FATAL.match(line):
                last += line
            elif not _NOISE.match(line):
                sys.stderr.buffer.write(line)
                sys.stderr.flush()
    return joined, last.decode(errors="replace")
