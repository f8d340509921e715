"""Strict numerics for the whole suite: four simulated devices, no silent broadcasting of ranks."""

import contextlib
import ctypes
import os
import re

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    # Threaded products on the CPU do not repeat to the bit; the command line switches them off too. Half of the
    # suite's time goes to LLVM, which at its first level takes a third less; its programs are as fast.
    " --xla_force_host_platform_device_count=4 --xla_cpu_multi_thread_eigen=false --xla_backend_optimization_level=1"
)
# As on the command line: two workers whose NumPy has threads of its own fight for the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "standard")


def pytest_configure(config):
    """Let the workers of one run share what they compile, which is more than half of its time."""
    if "compiled" in getattr(config, "workerinput", {}):
        jax.config.update("jax_compilation_cache_dir", config.workerinput["compiled"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    elif not hasattr(config, "workerinput"):
        config.compiled = tempfile.TemporaryDirectory(prefix="dps_jax_compiled_", ignore_cleanup_errors=True)
        config.add_cleanup(config.compiled.cleanup)


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is at work
def pytest_configure_node(node):
    """Tell a worker where."""
    node.workerinput["compiled"] = node.config.compiled.name


# Folders by the time their files take, longest first: a file is one worker's, and a long one that begins last is
# waited for by the others. (xdist's own order, files of many tests first, puts the trainings last.)
LONGEST = ("training", "pipelines", "cli", "solvers", "models")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest."""

    def place(item):
        folder = item.path.parent.name
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture
def rng():
    """NumPy generator with a fixed seed."""
    return np.random.default_rng(20240501)


@pytest.fixture
def key():
    """JAX random key with a fixed seed."""
    return jax.random.key(20240501)


@pytest.fixture(scope="session")
def data_folder():
    """Folder of real images, or a skip that says where it was looked for."""
    here = Path(os.environ.get("DPS_JAX_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not here.is_dir():
        pytest.skip(f"real images not found at {here} (set DPS_JAX_DATA)")
    return here


def _memory(kind):
    return int(re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.fixture
def peak():
    """Hold a block to an amount of memory: bytes that the process takes at the most, decoders and all.

    The kernel's own mark, since ``tracemalloc.stop`` beside threads that allocate crashes Python before 3.13.2 (its
    issue 128679), and knows nothing of what decoders take.
    """
    reset = Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        pytest.skip("the most memory that a block takes is measured on Linux only")

    @contextlib.contextmanager
    def hold(limit):
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before is taken again unseen
        reset.write_text("5")
        before = _memory("VmRSS")
        yield
        assert _memory("VmHWM") - before < limit

    return hold
