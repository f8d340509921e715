"""Ctrl-C and SIGTERM at any moment: a message, the exit code of the signal, nothing left behind; faults of the disk."""

import os
import signal
import time

import pytest

from dps_jax import cli as command_line
from dps_jax.io import UserError, atomic

SIMULATE = ["simulate", "-o", "s", "--size-px", "16", "--seed", "3"]
ENDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}
EVERY_SIGNAL = pytest.mark.parametrize("number", ENDS)


@pytest.fixture(autouse=True)
def usual_handlers():
    """As a user's shell starts a program; a test runner's workers may be deaf to Ctrl-C."""
    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield defaults
    after = {number: signal.getsignal(number) for number in defaults}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert after == defaults  # the command line leaves none of its own


def _signalled(number):
    def stop(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(5)  # Python hears it between two instructions
        pytest.fail("the signal was not heard")

    return stop


def _in_an_import(patch, number):
    patch.setattr(command_line.importlib, "import_module", _signalled(number))


def _wrapped_by_an_import(patch, number):
    def fail(*_):
        try:
            _signalled(number)()
        except KeyboardInterrupt as problem:  # as C code does whose own import fails
            raise ImportError("numpy.core.multiarray failed to import") from problem

    patch.setattr(command_line.importlib, "import_module", fail)


def _while_computing(patch, number):
    patch.setattr("dps_jax.pipelines.simulate.acquire", _signalled(number))


def _while_writing(patch, number):
    patch.setattr("dps_jax.io.write.tifffile.imwrite", _signalled(number))


def _in_a_destructor(patch, number):
    class Dropped:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(0.001)

    def compute(*_, **__):
        Dropped()  # what it raises is dropped by Python
        for _ in range(100):
            time.sleep(0.05)
        pytest.fail("the signal was lost")

    patch.setattr("dps_jax.pipelines.simulate.acquire", compute)


MOMENTS = [_in_an_import, _wrapped_by_an_import, _while_computing, _while_writing, _in_a_destructor]


@EVERY_SIGNAL
@pytest.mark.parametrize("moment", MOMENTS)
def test_stopped_at(cli, listing, monkeypatch, number, moment):
    code, word = ENDS[number]
    with monkeypatch.context() as patch:
        moment(patch, number)
        ran = cli(*SIMULATE)
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == f"\n{word}; finished files are whole, and nothing half-written was left behind.\n"
    assert listing() == []


def test_ignored_signals_stay_ignored(cli, monkeypatch):
    """What a shell starts in the background, or nohup, is deaf to Ctrl-C, and its programs leave it so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr("dps_jax.cli.simulate.run", lambda *_: os.kill(os.getpid(), signal.SIGINT) or 0)
        assert cli(*SIMULATE).code == 0
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("failing", [1, 2])
def test_the_disk_fills_up_between_two_files(cli, scratch, monkeypatch, failing):
    """``simulate`` writes two files over older ones: those it reaches are new, those it does not are old."""
    (scratch / "s").mkdir()
    files = [scratch / "s" / f"scene_0003_{name}.tif" for name in ("image", "truth")]
    for path in files:
        path.write_bytes(b"old")
    usual, count = atomic._flush, []

    def flush(path):
        count.append(path)
        if len(count) == failing:
            raise OSError(28, "No space left on device")
        usual(path)

    monkeypatch.setattr(atomic, "_flush", flush)
    ran = cli(*SIMULATE)
    assert ran.code == 2
    assert ran.errors == [
        f"error: the disk is full, so s/{files[failing - 1].name} could not be written; free some space or choose "
        "another disk."
    ]
    assert sorted((scratch / "s").iterdir()) == files
    assert [path.read_bytes() == b"old" for path in files] == [failing == 1, True]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (
            OSError(28, "No space left on device", "run/log.jsonl"),
            "No space left on device: run/log.jsonl; free",
        ),
        (OSError(28, "No space left on device"), "No space left on device, while writing; free some space"),
        (
            ValueError("RESOURCE_EXHAUSTED: ... No space left on device [28]"),
            "the disk is full; free some space",
        ),
        (UserError("a sentence"), "a sentence."),
    ],
)
def test_other_troubles_of_the_disk(cli, monkeypatch, problem, said):
    def fail(*_):
        raise problem

    monkeypatch.setattr("dps_jax.cli.simulate.run", fail)
    ran = cli(*SIMULATE)
    assert ran.code == 2
    assert said in ran.errors[0]


def test_a_missing_file_of_ours_is_no_fault_of_the_disk(cli, monkeypatch):
    def fail(*_):
        raise FileNotFoundError(2, "No such file", "ours")

    monkeypatch.setattr("dps_jax.cli.simulate.run", fail)
    with pytest.raises(FileNotFoundError):
        cli(*SIMULATE)


WARNING = (
    "Error {} persistent compilation cache entry for 'jit_f': ValueError: incomplete or truncated stream"
)


@pytest.mark.parametrize(("kind", "notes"), [("reading", 0), ("writing", 1)])
def test_a_broken_compiled_program_is_removed(cli, scratch, monkeypatch, kind, notes):
    """JAX warns of an entry that a killed run left half-written, compiles anew, and would never replace it."""
    import warnings

    folder = scratch / "xla"
    folder.mkdir()
    for name in ("jit_f-0123-cache", "jit_f-4567-cache", "jit_ff-0123-cache", "other"):
        (folder / name).write_bytes(b"half")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))

    def run(_):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            for _ in range(2):
                warnings.warn(WARNING.format(kind), UserWarning, stacklevel=1)
        return 0

    with warnings.catch_warnings():  # pytest's recorder replaces what the command line would hook into
        warnings.simplefilter("always")
        monkeypatch.setattr("dps_jax.cli.simulate.run", run)
        ran = cli(*SIMULATE)
    assert ran.code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["jit_ff-0123-cache", "other"]
    assert len(ran.notes) == notes
    assert len(ran.err.splitlines()) == notes


REAL = """
import os
from dps_jax.cli import configure_jax
from dps_jax.cli.compiled import cache_folder, mending_cache
configure_jax()
import jax
f = jax.jit(lambda x: x @ x + 1)
sizes = []
with mending_cache(print):
    for _ in range(3):
        f(jax.numpy.ones((3, 3))).block_until_ready()
        (entry,) = (e for e in os.scandir(cache_folder()) if e.name.startswith("jit__lambda"))
        sizes.append(entry.stat().st_size)
        os.truncate(entry.path, 100)
        jax.clear_caches()
print(*sizes)
"""


def test_a_truncated_entry_is_compiled_and_kept_again(run_program, tmp_path):
    """JAX itself, with a cache of its own."""
    folder = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    kept = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = run_program(code=("-c", REAL), env={**folder, **kept})
    assert (ran.code, ran.err) == (0, "")
    sizes = [int(size) for size in ran.out.split()]
    assert len(sizes) == 3  # the second and third found a truncated one
    assert min(sizes) > 100
