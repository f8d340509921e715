"""Two worker processes of a Dask cluster, one of them killed in the middle: nothing is lost, and the bytes are those
of one machine."""

import logging
import os
import signal
import threading
import time

import numpy as np
import pytest

from dps_jax import io
from dps_jax.pipelines import budget

distributed = pytest.importorskip("distributed")
OPTICS = ["--na", "1.4", "--wavelength-nm", "525", "--denoise", "off"]


@pytest.fixture(scope="module")
def workers(small_weights):
    """Two processes with one thread each; a third takes the place of one that dies."""
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            protocol="tcp",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield cluster, client


def _kill_one(client, ran):
    """Kill a worker by SIGKILL as soon as ``ran`` says that it has begun to work."""
    deadline = time.monotonic() + 120
    while not ran() and time.monotonic() < deadline:
        time.sleep(0.01)
    pids = client.run(os.getpid)
    busy = [address for address, tasks in client.processing().items() if tasks] or list(pids)
    os.kill(pids[busy[0]], signal.SIGKILL)


def test_tiles_of_an_image_and_a_killed_worker(workers, cli, scratch, noisy_zarr, small_weights, monkeypatch):
    cluster, client = workers
    words = (noisy_zarr, *OPTICS, "--tile-px", "64", "--weights", small_weights)
    # One machine, tile by tile, too: in memory the levels are rounded a little otherwise.
    monkeypatch.setattr(budget.Budget, "fits_whole", False)
    assert "tile by tile" in cli("restore", *words, "-o", "one.zarr").err
    killer = threading.Thread(target=_kill_one, args=(client, lambda: any(client.processing().values())))
    killer.start()
    ran = cli("restore", *words, "-o", "many.zarr", "--scheduler", cluster.scheduler_address)
    killer.join()
    assert (ran.code, ran.errors) == (0, []), ran.err
    one, many = (io.read_image(name).data for name in ("one.zarr", "many.zarr"))
    np.testing.assert_array_equal(one, many)
    checks = [io.read_description(name)["checks"] for name in ("one.zarr", "many.zarr")]
    assert checks[0] == checks[1]


def test_files_of_a_batch(workers, cli, save, cell, scratch, small_weights):
    cluster, _ = workers
    names = [save(f"{k}.tif", np.roll(cell, 7 * k, axis=1)) for k in range(4)]
    (scratch / "4.tif").write_bytes(b"no image")
    words = ("*.tif", *OPTICS, "--weights", small_weights)
    ran = cli("restore", *words, "-o", "many", "--scheduler", cluster.scheduler_address)
    assert ran.code == 3
    assert "4.tif is not a TIFF" in ran.errors[0]
    assert cli("restore", *names, *words[1:], "-o", "one").code == 0
    for k in range(4):
        one, many = (scratch / folder / f"{k}_restored.tif" for folder in ("one", "many"))
        assert one.read_bytes() == many.read_bytes()


def test_refused(workers, cli, save, cell, small_weights):
    cluster, _ = workers
    save("cell.tif", cell)
    words = ("restore", "cell.tif", *OPTICS, "--weights", small_weights)
    ran = cli(*words, "-o", "out.tif", "--scheduler", cluster.scheduler_address)
    assert (ran.code, "expected an OME-Zarr" in ran.errors[0]) == (2, True)
    ran = cli(*words, "-o", "out.zarr", "--adapt", "3", "--scheduler", cluster.scheduler_address)
    assert (ran.code, "by the workers, and --adapt needs all of it" in ran.errors[0]) == (2, True)


def test_nobody_answers(cli, save, cell, monkeypatch, small_weights):
    monkeypatch.setattr("dps_jax.cli.cluster._PATIENCE_S", 0.2)
    save("cell.tif", cell)
    words = ("restore", "cell.tif", "-o", "out.zarr", *OPTICS, "--weights", small_weights)
    ran = cli(*words, "--scheduler", "tcp://127.0.0.1:9")
    assert (ran.code, "no Dask scheduler answers at tcp://127.0.0.1:9" in ran.errors[0]) == (2, True)
