"""Two worker processes of a Dask cluster, one of them killed in the middle: nothing is lost, and the result is that of
one machine, to the bit. (In the suite the workers are threads, which nobody can kill.)"""

import logging
import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import io, models
from dps_jax.cli import main
from dps_jax.pipelines import budget
from dps_jax.weights import save_network

distributed = pytest.importorskip("distributed")


@pytest.fixture
def place(tmp_path, monkeypatch, rng):
    """A working folder with an image of several tasks and the weights of a network of a few features."""
    monkeypatch.chdir(tmp_path)
    data = rng.poisson(5 + 100 * rng.random((400, 420)) ** 4).astype(np.uint16)
    io.write_image(tmp_path / "noisy.zarr", data, axes="YX", pixel_size_nm=65.0, description={})
    module = models.build("res_u_dbpn", {"channels": (4, 8), "iterates": (2,), "abbe_px": 2.5})
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    save_network(tmp_path / "small.safetensors", module, params, abbe_px=2.5, header={})
    return tmp_path


def restore(target, *more):
    words = ["--na", "1.4", "--wavelength-nm", "525", "--denoise", "off", "--tile-px", "64"]
    return main(["restore", "noisy.zarr", "-o", target, *words, "--weights", "small.safetensors", *more])


def test_a_killed_worker_loses_nothing(place, monkeypatch, capsys):
    killed = []

    def kill(client):
        """Kill a worker by SIGKILL, once it has tasks."""
        pids, deadline = client.run(os.getpid), time.monotonic() + 300
        while not killed and time.monotonic() < deadline:
            busy = [address for address, tasks in client.processing().items() if tasks]
            # Not before blocks of the result are there: a worker that dies before its work loses none.
            if busy and any(place.glob(".many-*/0/c/*/*")):
                os.kill(pids[busy[0]], signal.SIGKILL)
                killed.append(pids[busy[0]])
            time.sleep(0.01)

    # One machine, tile by tile, too: in memory the levels are rounded a little otherwise.
    monkeypatch.setattr(budget.Budget, "fits_whole", False)
    assert restore("one.zarr") == 0
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        killer = threading.Thread(target=kill, args=(client,))
        killer.start()
        assert restore("many.zarr", "--scheduler", cluster.scheduler_address) == 0
        killer.join()
    assert len(killed) == 1
    one, many = (io.read_image(name).data for name in ("one.zarr", "many.zarr"))
    np.testing.assert_array_equal(one, many)
    told = [io.read_description(name)["checks"] for name in ("one.zarr", "many.zarr")]
    assert told[0] == told[1]
    assert "tile by tile" in capsys.readouterr().err
