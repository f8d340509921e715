"""The program as its users start it: streams, exit codes, Ctrl-C, and what ``--help`` imports.

The interpreter is that of the tests, or the one named by DPS_JAX_PYTHON.
"""

import signal

import numpy as np
import pytest
import tifffile

OPTICS = ["--na", "1.4", "--wavelength-nm", "525"]
# What only a command's work needs. tifffile and rich are light; tyro makes the help.
HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "scipy", "matplotlib", "safetensors", "tensorstore")
IMPORTED = """
import sys
from dps_jax.cli import main
main(sys.argv[1:])
print("\\n".join(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "--version",
        *(f"{c} --help" for c in ("restore", "train", "simulate", "solve", "evaluate", "demo")),
    ],
)
def test_help_is_light(run_program, words):
    ran = run_program(*words.split(), code=("-c", IMPORTED))
    assert ran.code == 0
    assert "usage: dps-jax" in ran.out or words == "--version"
    loaded = {name.partition(".")[0] for name in ran.err.split()}
    assert "dps_jax" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_simulate_then_restore(run_program, tmp_path):
    ran = run_program("simulate", "-o", "s", "--size-px", "64", "--seed", "1")
    assert (ran.code, ran.out, ran.errors) == (0, "", [])
    ran = run_program("restore", "s/scene_0001_image.tif", "-o", "out.tif", *OPTICS)
    assert (ran.code, ran.out) == (0, "")
    # Exactly the log: no warning of a library among it, and no bar where there is no terminal.
    starts = (
        "scene_0001_image.tif: YX 64x64, pixel 65.00 nm",
        "denoise off: ",
        "Abbe period 188 nm",
        "about ",
        "wrote out.tif: pixel 32.50 nm",
    )
    lines = ran.err.splitlines()
    assert len(lines) == len(starts)
    assert all(line.startswith(start) for line, start in zip(lines, starts, strict=True))
    data = tifffile.imread(tmp_path / "out.tif")
    assert (data.shape, data.dtype) == ((128, 128), np.float32)


def test_refused(run_program, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no image")
    ran = run_program("restore", "a.tif", "-o", "out.tif", *OPTICS)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("error: a.tif is not a TIFF")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_refused_words(run_program):
    ran = run_program("restore", "a.tif", "-o", "out.tif", "--nna", "1.4")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == "error: unknown option --nna; did you mean --na? See `dps-jax restore --help`.\n"


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_stopped(program, tmp_path, rng, number, code, word):
    """Ctrl-C, and what a batch system sends, in the middle of a stack that would take minutes."""
    stack = rng.poisson(50.0, (60, 256, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "TYX"})
    words = ("restore", "stack.tif", "-o", "out/a.tif", *OPTICS, "--pixel-size-nm", "65")
    (tmp_path / "out").mkdir()
    process = program(*words, cwd=tmp_path)
    assert process.stderr.readline().startswith("stack.tif: TYX 60x256x256")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    assert word in err
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []


def test_reader_that_leaves(program, tmp_path):
    """``dps-jax train --help | head -1``."""
    process = program("train", "--help", cwd=tmp_path)
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "Error" not in err
