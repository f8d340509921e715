"""Strict numerics for the whole suite: four simulated devices, no silent broadcasting of ranks."""

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    # Threaded products on the CPU do not repeat to the bit; the command line switches them off too.
    " --xla_force_host_platform_device_count=4 --xla_cpu_multi_thread_eigen=false"
)

from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "standard")


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
