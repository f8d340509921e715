"""Many files, large files, OME-Zarr: what the command line does with them, and a limit of memory that holds."""

import json
import os
import re
import sys

import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.cli import batch
from dps_jax.cli.parsing import size
from dps_jax.io.manifest import NAME

OPTICS = ["--na", "1.4", "--wavelength-nm", "525", "--denoise", "off"]


@pytest.fixture
def words(small_weights):
    return [*OPTICS, "--weights", small_weights]


@pytest.fixture
def three(save, cell, scratch):
    (scratch / "in").mkdir()
    for k, name in enumerate("abc"):
        save(f"in/{name}.tif", np.roll(cell, 9 * k, axis=0))
    return "in/*.tif"


def test_a_pattern_in_quotes_and_a_batch_that_goes_on(cli, words, three, scratch, cell, save):
    first = cli("restore", three, "-o", "out", *words)
    assert (first.code, first.errors) == (0, [])
    names = [f"{k}_restored.tif" for k in "abc"]
    assert sorted(p.name for p in (scratch / "out").iterdir()) == [*names, NAME]
    before = {name: (scratch / "out" / name).stat().st_mtime_ns for name in names}
    # Nothing changed: nothing is done. One input changed, one result lost: these two are done again.
    again = cli("restore", three, "-o", "out", *words)
    assert again.code == 0
    assert again.err.count("done before with the same settings") == 3
    save("in/b.tif", cell + 1)
    (scratch / "out" / "c_restored.tif").unlink()
    third = cli("restore", three, "-o", "out", *words)
    assert third.err.count("done before with the same settings") == 1
    changed = [name for name in names if (scratch / "out" / name).stat().st_mtime_ns != before[name]]
    assert changed == names[1:]
    # Other settings: all are done again.
    assert "done before" not in cli("restore", three, "-o", "out", *words, "--background", "20").err
    assert len(json.loads((scratch / "out" / NAME).read_text())["files"]) == 3


def test_an_interrupted_batch_keeps_what_is_done(cli, words, three, scratch, monkeypatch):
    work, begun = batch.attempt, []

    def interrupted(task, outcome):
        begun.append(outcome.source.name)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return work(task, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "attempt", interrupted)
        assert cli("restore", three, "-o", "out", *words).code == 130
    left = sorted(p.name for p in (scratch / "out").iterdir())
    assert left[0] == "a_restored.tif"
    assert NAME in left
    ran = cli("restore", three, "-o", "out", *words)
    assert (ran.code, ran.err.count("done before")) == (0, 1), ran.err
    assert len(list((scratch / "out").iterdir())) == 4


def test_one_bad_file_is_said_at_the_end(cli, words, three, scratch):
    (scratch / "in" / "b.tif").write_bytes(b"no image")
    ran = cli("restore", three, "-o", "out", *words)
    assert ran.code == 3
    assert ran.err.splitlines()[-2:] == ran.errors
    assert "in/b.tif is not a TIFF" in ran.errors[0]
    assert "1 of 3 files could not be restored" in ran.errors[1]
    assert sorted(p.name for p in (scratch / "out").glob("*.tif")) == ["a_restored.tif", "c_restored.tif"]


def test_a_damaged_manifest_is_said(cli, words, three, scratch):
    (scratch / "out").mkdir()
    (scratch / "out" / NAME).write_text("{")
    ran = cli("restore", three, "-o", "out", *words)
    assert (ran.code, "is damaged or of another version" in ran.errors[0]) == (2, True)


def test_zarr_in_and_out(cli, words, noisy_zarr, scratch):
    assert cli("restore", noisy_zarr, "-o", "a.ome.zarr", *words).code == 0
    assert cli("restore", noisy_zarr, "-o", "a.tif", *words).code == 0
    one, other = io.read_image("a.ome.zarr"), io.read_image("a.tif")
    np.testing.assert_array_equal(one.data, other.data)
    assert one.pixel_size_nm == other.pixel_size_nm == pytest.approx(32.5)
    assert io.read_description("a.ome.zarr")["checks"] == io.read_description("a.tif")["checks"]
    # A folder of results gets an OME-Zarr of an OME-Zarr.
    assert cli("restore", noisy_zarr, "-o", "out", *words).code == 0
    assert (scratch / "out" / "noisy_restored.ome.zarr").is_dir()
    ran = cli("restore", noisy_zarr, "-o", noisy_zarr, *words)
    assert (ran.code, "the same file as the input" in ran.errors[0]) == (2, True)


def test_dry_run_writes_nothing(cli, words, three, scratch, listing):
    before = listing()
    ran = cli("restore", three, "-o", "out", "--dry-run", "--memory-limit", "2 GB", *words)
    assert (ran.code, ran.errors) == (0, [])
    for name in "abc":
        assert f"{name}.tif: YX 64x64" in ran.out
    assert len(re.findall(r"memory: about \d+ MB of the limit of 2 GB", ran.out)) == 3
    assert len(re.findall(r"time: about [\d.]+ \w+ \(", ran.out)) == 3
    assert listing() == before


@pytest.mark.parametrize(
    ("word", "count"),
    [("3GB", 3 * 10**9), ("1.5 gb", 1500 * 10**6), ("2GiB", 2**31), ("700M", 7 * 10**8), ("12", 12)],
)
def test_sizes(word, count):
    assert size(word, "--memory-limit") == count


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--memory-limit", "much"], "--memory-limit to be a size such as 3GB or 500MB, got 'much'"),
        (["--memory-limit", "0GB"], "got '0GB'"),
        (["--memory-limit", "10MB"], "even in the smallest tiles, more than the limit of 10 MB"),
    ],
)
def test_refused(cli, words, save, cell, more, message):
    save("cell.tif", cell)
    ran = cli("restore", "cell.tif", "-o", "out.tif", *words, *more)
    assert ran.code == 2
    assert re.search(message, ran.errors[0]), ran.errors


def test_a_pattern_without_a_match(cli, words):
    ran = cli("restore", "absent*.tif", "-o", "out", *words)
    assert (ran.code, "files that match absent*.tif, found none" in ran.errors[0]) == (2, True)


# Not what getrusage says: it counts what the process had been before it became this program.
_MEASURED = """
import re, sys
from pathlib import Path
from dps_jax.cli import main
code = main(sys.argv[1:])
(peak,) = re.findall(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(code, int(peak) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_limit_holds(run_program, words, tmp_path, rng):
    """2,500 px a side within 1 GB, of which two thirds are Python, JAX and the first look; in memory it takes more."""
    side, limit = 2500, 10**9
    data = np.tile(rng.poisson(20 + 80 * rng.random((250, 250)) ** 4).astype(np.uint16), (10, 10))
    tifffile.imwrite(
        tmp_path / "large.tif",
        data,
        imagej=True,
        resolution=(50.0, 50.0),
        metadata={"unit": "um", "axes": "YX"},
    )
    ran = run_program(
        *("restore", "large.tif", "-o", "out.tif", "--memory-limit", "1GB", *words), code=("-c", _MEASURED)
    )
    assert "tile by tile" in ran.err, ran.err
    code, peak = map(int, ran.out.split())
    assert code == 0
    assert peak < limit
    with io.open_image(tmp_path / "out.tif") as image:
        assert image.shape == (2 * side, 2 * side)
        inner = image.read(0, (2000, 3000), (2000, 3000))
    assert inner.min() >= 0
    assert inner.std() > 0
    assert os.path.getsize(tmp_path / "out.tif") >= 4 * 4 * side**2
