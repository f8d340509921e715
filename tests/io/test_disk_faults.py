"""A disk that fills up, a file that may not grow, a process that is killed: the old file or the new one, never half.

The faults are the operating system's own: a small tmpfs where one may be mounted, and a limit on the size of files.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io import atomic, frames, write
from dps_jax.io.parameters import read_parameters, write_parameters

NOISE = np.random.default_rng(3).random((6, 96, 96), np.float32)  # 220 kB that no format makes small
ABOUT = {"operation": "test"}


def _image(path):
    io.write_image(path, NOISE, axes="TYX", pixel_size_nm=65.0, description=ABOUT)


def _bigtiff(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "_CLASSIC_LIMIT", 0)
        _image(path)


def _movie(path):
    with frames.frame_writer(path, shape=NOISE.shape, dtype=np.float32, axes="TYX", description=ABOUT) as put:
        for index, frame in enumerate(NOISE):
            put(index, frame)


def _weights(path):
    write_parameters(path, {"layer": {"kernel": NOISE}}, header=ABOUT)


def _text(path):
    io.write_text(path, "0123456789\n" * 20_000)


def _figure(path):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    figure.figimage(NOISE[0], resize=True)
    figure.set_size_inches(4, 4)
    with io.atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


WRITERS = {
    "a.tif": (_image, lambda p: tifffile.imread(p)),
    "big.tif": (_bigtiff, lambda p: tifffile.imread(p)),
    "movie.tif": (_movie, lambda p: tifffile.imread(p)),
    "w.safetensors": (_weights, lambda p: read_parameters(p)),
    "report.json": (_text, lambda p: p.read_text()),
    "figure.png": (_figure, lambda p: p.read_bytes()),
}


@contextlib.contextmanager
def _small_disk(folder):
    """A disk of 32 kB, with 20 kB taken."""
    if os.name != "posix" or os.geteuid() or not sys.platform.startswith("linux"):
        pytest.skip("only root may mount a small disk")
    said = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", folder], capture_output=True)
    if said.returncode:
        pytest.skip(f"no small disk can be mounted here: {said.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def _short_files(folder):
    """No file may grow beyond 2 kB: what a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


FAULTS = {"disk full": (_small_disk, "disk is full"), "file limit": (_short_files, "could not be written")}


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", WRITERS)
def test_the_old_file_stays(tmp_path, name, fault, existed):
    write_it, _ = WRITERS[name]
    short, message = FAULTS[fault]
    folder = tmp_path / "disk"
    folder.mkdir()
    with short(folder):
        if existed:
            (folder / name).write_bytes(b"an earlier result")
        with pytest.raises(io.UserError, match=message) as problem:
            write_it(folder / name)
        assert [p.name for p in folder.iterdir()] == ([name] if existed else [])
        assert not existed or (folder / name).read_bytes() == b"an earlier result"
    assert "\n" not in str(problem.value)
    assert name in str(problem.value)


@pytest.mark.parametrize("name", WRITERS)
def test_without_a_fault_they_write(tmp_path, name):
    write_it, read_it = WRITERS[name]
    write_it(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 32 * 1024  # more than either fault lets through
    read_it(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == [name]


KILLED = """
import os, signal, sys
import numpy as np
from dps_jax.io import atomic_path
from dps_jax.io.frames import frame_writer
path, how = sys.argv[1:]
if how == "movie":
    with frame_writer(path, shape=(6, 64, 64), dtype=np.uint16, axes="TYX", description={}) as put:
        put(0, np.ones((64, 64), np.uint16))
        os.kill(os.getpid(), signal.SIGKILL)
with atomic_path(path) as temporary:
    temporary.write_bytes(b"half")
    if how == "alive":
        print("writing", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _start(path, how):
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.parametrize("how", ["movie", "plain"])
def test_killed_while_writing(tmp_path, how):
    path = tmp_path / "a.tif"
    path.write_bytes(b"an earlier result")
    (tmp_path / ".a-0123456789abcdef.tiff").write_bytes(b"of another file")
    process = _start(path, how)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"an earlier result"
    left = {p for p in tmp_path.iterdir() if p.name.startswith(".a-")}
    assert len(left) == 2
    _image(path)  # the next run of the same command
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a-0123456789abcdef.tiff", "a.tif"]
    np.testing.assert_array_equal(tifffile.imread(path), NOISE)


@pytest.mark.skipif(atomic.fcntl is None, reason="this system has no file locks")
def test_what_a_living_process_writes_stays(tmp_path):
    path = tmp_path / "a.tif"
    process = _start(path, "alive")
    try:
        assert process.stdout.readline() == b"writing\n"
        _image(path)
        (left,) = (p for p in tmp_path.iterdir() if p.name.startswith(".a-"))
        assert left.read_bytes() == b"half"
    finally:
        process.communicate(timeout=60)  # its standard input ends, and it kills itself
    _image(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_an_orphan_taken_before_it_was_locked_is_made_anew(tmp_path, monkeypatch):
    """Another process may clean up between the making and the locking of a temporary file."""
    usual, taken = atomic.lock, []

    def lock(descriptor, *, wait=False):
        if wait and not taken:
            (orphan,) = tmp_path.iterdir()
            orphan.unlink()
            taken.append(orphan)
        return usual(descriptor, wait=wait)

    monkeypatch.setattr(atomic, "lock", lock)
    io.write_text(tmp_path / "a.txt", "whole")
    assert len(taken) == 1
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_folder_that_is_locked_meanwhile(tmp_path, monkeypatch):
    """Permission lost between the check and the rename."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", refuse)
        with pytest.raises(io.UserError, match="not permitted here"):
            io.write_text(path, "new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
