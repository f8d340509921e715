"""A scratch folder, small microscope images in it, and two ways to run the command line."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile

from dps_jax import io, models
from dps_jax.cli import main
from dps_jax.weights import save_network

PIXEL_NM = 65.0
PYTHON = os.environ.get("DPS_JAX_PYTHON", sys.executable)
_ENVIRONMENT = (
    "TF_CPP_MIN_LOG_LEVEL",
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_RAISE_PERSISTENT_CACHE_ERRORS",
    "OPENBLAS_NUM_THREADS",
    "NPROC",
)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    @property
    def notes(self):
        return [line for line in self.err.splitlines() if "note: " in line]


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Every training compiles its own step, and most are the same program."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty working folder; what the command line does to the environment is undone after the test."""
    for name in _ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(scratch, capsys):
    """Run a command in this process."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Run a command as a user does: another process, outside the checkout, no option of the tests set."""
    cache = tmp_path_factory.mktemp("cache")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_", "TF_CPP_", "PYTHON"))}

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts its background jobs deaf to Ctrl-C and their children inherit it; a user's are not.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*words, cwd, code=("-m", "dps_jax.cli"), **options):
        command = [PYTHON, *code, *map(str, words)]
        env = {**plain, "XDG_CACHE_HOME": str(cache), **options.pop("env", {})}
        return subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )

    return start


@pytest.fixture
def run_program(program, tmp_path):
    def run(*words, **options):
        process = program(*words, cwd=tmp_path, **options)
        out, err = process.communicate(timeout=300)
        return Ran(process.returncode, out, err)

    return run


@pytest.fixture
def cell(rng):
    """64 x 64 counts: a few blurred lines over a background of 20."""
    y, x = np.mgrid[:64, :64].astype(float)
    light = np.zeros((64, 64))
    for angle, offset in ((0.3, 20.0), (1.1, 5.0), (2.2, -10.0)):
        across = np.cos(angle) * (x - 8) + np.sin(angle) * (y - 8) - offset
        light += 150 * np.exp(-0.5 * (across / 1.2) ** 2)
    return rng.poisson(20 + light).astype(np.uint16)


@pytest.fixture
def save(scratch):
    """Write an ImageJ TIFF with tifffile and return its name."""

    def write(name, data, axes="YX", pixel_nm=PIXEL_NM, **metadata):
        options = {} if pixel_nm is None else {"resolution": (1000 / pixel_nm, 1000 / pixel_nm)}
        unit = {} if pixel_nm is None else {"unit": "um"}
        tifffile.imwrite(
            scratch / name, data, imagej=True, metadata={"axes": axes, **unit, **metadata}, **options
        )
        return name

    return write


@pytest.fixture
def listing(scratch):
    """Names of all files and folders below the working folder, hidden ones included."""
    return lambda: sorted(str(path.relative_to(scratch)) for path in scratch.rglob("*"))


@pytest.fixture
def opened():
    """Read a TIFF with tifffile alone: pixels, axes, pixel size in nm and ImageJ's metadata."""

    def read(path):
        with tifffile.TiffFile(path) as file:
            tags = file.pages[0].tags
            (nx, dx), (ny, dy) = tags["XResolution"].value, tags["YResolution"].value
            metadata = file.imagej_metadata
            micron = 1000 * np.array([dy / ny, dx / nx])
            return file.asarray(), file.series[0].axes, micron, metadata

    return read


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory):
    """A file of an untrained network of a few features: quick to compile, and its geometry is that of a trained one."""
    module = models.build("res_u_dbpn", {"channels": (4, 8), "iterates": (2,), "abbe_px": 2.5})
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(path, module, params, abbe_px=2.5, header={})
    return path


@pytest.fixture
def noisy_zarr(scratch, rng):
    """An OME-Zarr of 200 x 260 counts, larger than a few tiles of 64 px."""
    data = rng.poisson(5 + 100 * rng.random((200, 260)) ** 4).astype(np.uint16)
    io.write_image(scratch / "noisy.zarr", data, axes="YX", pixel_size_nm=PIXEL_NM, description={})
    return "noisy.zarr"
