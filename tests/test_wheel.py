"""What a user installs: the wheel holds what it must, and works outside the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dps_jax.weights import RELEASED

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
# How pip says that there is no package index to be reached.
OFFLINE = (
    "No matching distribution",
    "Could not find a version",
    "Connection",
    "Temporary failure in name resolution",
)


def _run(*command, cwd, **options):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_", "PYTHON", "DPS_JAX_"))}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**plain, "XDG_CACHE_HOME": str(cwd), **options.pop("env", {})},
        capture_output=True,
        text=True,
        timeout=600,
    )


def _needing_network(what, *command, cwd):
    done = _run(*command, cwd=cwd)
    if done.returncode and any(sign in done.stdout + done.stderr for sign in OFFLINE):
        pytest.skip(
            f"{what} needs a package index, and none was reached: {done.stderr.strip().splitlines()[-1]}"
        )
    assert done.returncode == 0, done.stdout + done.stderr


def _sources():
    """Files that git tracks, or would: never a build folder or an environment."""
    listed = _run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=ROOT)
    if listed.returncode:
        pytest.skip("the wheel is built from what git lists, and this is no git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    for name in _sources():
        target = place / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    command = (sys.executable, "-m", "build", "--wheel", "--outdir", place, place / "source")
    _needing_network("building a wheel", *command, cwd=place)
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel and the dependencies that it declares; returns its folder of programs."""
    place = tmp_path_factory.mktemp("user")
    assert _run(sys.executable, "-m", "venv", place / "venv", cwd=place).returncode == 0
    programs = place / "venv" / ("Scripts" if os.name == "nt" else "bin")
    command = (programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    _needing_network("installing the wheel", *command, cwd=place)
    return programs


def test_content(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(n).decode() for n in names if n.endswith(".dist-info/METADATA"))
        weights = [info for info in archive.infolist() if info.filename.endswith(".safetensors")]
    # Every released file, and nothing that lies about in the checkout besides.
    assert sorted(info.filename for info in weights) == sorted(
        f"dps_jax/weights/{n}" for n in RELEASED.values()
    )
    assert all(info.file_size == (ROOT / info.filename).stat().st_size for info in weights)
    assert "dps_jax/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Dist: jax!=0.10.2,>=0.10.1" in metadata
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"dps_jax"}
    modules = {str(Path(n)) for n in _sources() if n.startswith("dps_jax/") and n.endswith(".py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_the_installed_program(installed, tmp_path):
    """Every command from the console script, in a folder that has nothing to do with the checkout."""

    def run(*words):
        return _run(installed / "dps-jax", *words, cwd=tmp_path)

    code = "import dps_jax; print(dps_jax.__file__)"
    where = Path(_run(installed / "python", "-c", code, cwd=tmp_path).stdout.strip())
    assert installed.parent in where.parents
    assert ROOT not in where.parents
    assert "usage: dps-jax COMMAND" in run("--help").stdout
    assert run("--version").stdout.startswith("dps-jax ")
    done = run("simulate", "-o", "s", "--size-px", "64")
    assert done.returncode == 0, done.stderr
    optics = ("--na", "1.4", "--wavelength-nm", "525")
    done = run("restore", "s/scene_0000_image.tif", "-o", "out.tif", *optics)
    assert done.returncode == 0, done.stderr
    data = tifffile.imread(tmp_path / "out.tif")
    assert (data.shape, data.dtype) == ((128, 128), np.float32)
    done = run("restore", "s/absent.tif", "-o", "refused.tif", *optics)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: s/absent.tif was not found; check the name and the folder.\n"
    assert not (tmp_path / "refused.tif").exists()


def test_the_program_tests_against_the_wheel(installed, tmp_path):
    """The suite's own tests of the program, with the environment's interpreter in place of the checkout's."""
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml")
    command = (sys.executable, "-m", "pytest", *options, ROOT / "tests" / "cli" / "test_program.py")
    done = _run(*command, cwd=tmp_path, env={"DPS_JAX_PYTHON": str(installed / "python")})
    assert done.returncode == 0, done.stdout + done.stderr
