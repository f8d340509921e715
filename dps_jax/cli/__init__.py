"""The command line, ``dps-jax COMMAND ...``; the only place that sets JAX options or environment flags.

Each command is a module with a dataclass of its arguments and a ``run``; it is imported only when it is asked
for, and heavy packages only when it runs, so that ``--help`` answers at once.

Exit codes: 0 done, 2 the user can mend it (one sentence on standard error), 3 some of several files failed,
130 interrupted by Ctrl-C, 143 asked to end by SIGTERM.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from dps_jax.cli.compiled import cache_folder, mending_cache
from dps_jax.cli.signals import heeding_signals

COMMANDS = {
    "restore": "sharpen TIFF images with the released, or your own, network",
    "train": "train a network without ground truth on scenes and your own images",
    "simulate": "write scenes with known truth as a microscope would see them",
    "solve": "the field's methods: Richardson-Lucy, Wiener, sparse-Hessian, MSSR, blind deconvolution",
    "sim": "raw structured-illumination frames to an image of twice the resolution",
    "register": "a calcium movie, corrected for motion: rigid, patch by patch, or by a network",
    "evaluate": "score a result: resolution, fidelity, and truth where it is known",
    "demo": "simulate, restore and score a scene; leaves TIFFs, a picture and a table",
}

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_TOO_LITTLE_MEMORY = "there is not enough memory; crop the image, or give restore a smaller --tile-px."
# What no writer has put into words already: a log that cannot grow, standard output into a file on a full disk.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
_NO_SPACE = os.strerror(errno.ENOSPC)
_FAREWELL = {
    "train": "the same command goes on from the last checkpoint, if there is one.",
    "": "finished files are whole, and nothing half-written was left behind.",
}


def usage() -> str:
    """Return the text of ``dps-jax --help``."""
    from dps_jax import __version__

    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        f"usage: dps-jax COMMAND [options]\n\n"
        f"Differentiable physics for microscopy, version {__version__}.\n\ncommands:\n{lines}\n\n"
        f"`dps-jax COMMAND --help` explains a command.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] == "--version":
        from dps_jax import __version__

        print(f"dps-jax {__version__}")
        return 0
    if words[0] not in COMMANDS:
        return complain(f"unknown command {words[0]!r}; expected one of {', '.join(COMMANDS)}.")
    code = _stoppable(words[0], words[1:])
    stopped = code in (INTERRUPTED, TERMINATED)
    if arguments is None and (stopped or (code and _one_of_several())):
        # Stopped in the middle of its work, XLA can crash while Python shuts down, and the exit code is lost; and one
        # of several processes would wait there for the others, which wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _stoppable(command: str, words: list[str]) -> int:
    """Run a command that Ctrl-C or SIGTERM may stop at any moment, also while it imports."""
    with heeding_signals() as heard, mending_cache(say):
        try:
            return _guarded(command, words)
        except BaseException as problem:
            # Libraries may wrap what a signal raised in them, NumPy's import for one.
            if not heard and not isinstance(problem, KeyboardInterrupt):
                raise
            for number in heard:  # what is left is to say so
                signal.signal(number, signal.SIG_IGN)
            ended = heard == {signal.SIGTERM}
            what = "terminated" if ended else "interrupted"
            print(f"\n{what}; {_FAREWELL.get(command, _FAREWELL[''])}", file=sys.stderr)
            return TERMINATED if ended else INTERRUPTED


def _one_of_several() -> bool:
    processes = sys.modules.get("dps_jax.cli.processes")
    return processes is not None and processes.JOINED.is_set()


def _guarded(command: str, words: list[str]) -> int:
    """Run a command; turn what a user can cause into one sentence."""
    if command == "train":
        keep_numpy_to_one_thread()
    from dps_jax.io.errors import UserError

    try:
        module = importlib.import_module(f"dps_jax.cli.{command}")
        parsed = module.parse(words)
        configure_jax()
        code = int(module.run(parsed))
        sys.stdout.flush()  # here, where a full disk can still be said
        return code
    except SystemExit as stop:  # after --help
        return int(stop.code or 0)
    except (UserError, ValueError) as problem:
        if _NO_SPACE in str(problem):  # Orbax's threads say it in a long report
            return complain(f"the disk is full; free some space, then {_FAREWELL.get(command, 'try again')}")
        return complain(str(problem))
    except MemoryError:
        return complain(_TOO_LITTLE_MEMORY)
    except RuntimeError as problem:
        if "RESOURCE_EXHAUSTED" not in str(problem):  # XLA's word for it
            raise
        return complain(_TOO_LITTLE_MEMORY)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        if problem.errno not in _OF_THE_DISK:
            raise
        return complain(f"{problem.strerror}{_naming(problem)}; free some space, or choose another place.")


def _naming(problem: OSError) -> str:
    return f": {problem.filename}" if problem.filename else ", while writing"


def complain(sentence: str) -> int:
    """Print one sentence as an error and return exit code 2."""
    line = " ".join(sentence.split())
    line = "the " + line[4:] if line.startswith("The ") else line
    print(f"error: {line}{'' if line.endswith(('.', '?', '!')) else '.'}", file=sys.stderr)
    return 2


def say(text: str) -> None:
    """Print one line of the log, on standard error."""
    print(text, file=sys.stderr, flush=True)


def configure_jax() -> None:
    """Keep compiled programs between runs, in the user's cache folder; make the CPU's results repeat to the bit.

    XLA's threaded matrix products on the CPU add up in the order in which threads finish: about one run in forty
    differed in its last bits. One thread per device costs nothing here, since a device is one core.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _add_xla_flag("--xla_cpu_multi_thread_eigen", "false")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache_folder())
    # The small programs too: there are dozens of them in a command, of some 10 kB each.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_RAISE_PERSISTENT_CACHE_ERRORS", "false")


def keep_numpy_to_one_thread() -> None:
    """Stop NumPy's own threads from fighting XLA's for the cores; call before NumPy is imported.

    Scenes are drawn by NumPy while the step before is trained on; its matrices are too small to gain by threads.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def share_cores(parts: int) -> None:
    """Make the CPU look like one device per core, as many as divide ``parts``; call before JAX starts.

    A training step on one CPU device uses little more than one core; the batch shared by two devices is trained
    on 1.7 times as fast on two. Accelerators are not affected.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(n for n in range(1, cores + 1) if parts % n == 0)
    _add_xla_flag("--xla_force_host_platform_device_count", str(count))
    # One thread per core is what XLA takes, and each device blocks one while it waits for the others in a sum.
    # What the thread that makes the batches has in flight then waits for a thread, and the devices for it: for ever.
    os.environ.setdefault("NPROC", str(4 * max(cores, 2)))


def _add_xla_flag(flag: str, value: str) -> None:
    """Add a flag to those the user has set; theirs win."""
    flags = os.environ.get("XLA_FLAGS", "")
    if flag not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}={value}".strip()
