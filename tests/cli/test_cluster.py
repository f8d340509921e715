"""A Dask cluster does the tiles of an image or the files of a batch, with the bytes of one machine.

The workers are threads of this process, which start at once; ``tests/nightly`` has processes, and kills one.
"""

import numpy as np
import pytest

from dps_jax import io
from dps_jax.pipelines import budget

distributed = pytest.importorskip("distributed")
OPTICS = ["--na", "1.4", "--wavelength-nm", "525", "--denoise", "off"]


@pytest.fixture(scope="module")
def address():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


def test_tiles_of_an_image(address, cli, scratch, noisy_zarr, small_weights, monkeypatch):
    words = (noisy_zarr, *OPTICS, "--tile-px", "64", "--weights", small_weights)
    # One machine, tile by tile, too: in memory the levels are rounded a little otherwise.
    monkeypatch.setattr(budget.Budget, "fits_whole", False)
    assert cli("restore", *words, "-o", "one.zarr").code == 0
    ran = cli("restore", *words, "-o", "many.zarr", "--scheduler", address)
    assert (ran.code, ran.errors) == (0, []), ran.err
    one, many = (io.read_image(name).data for name in ("one.zarr", "many.zarr"))
    np.testing.assert_array_equal(one, many)
    told = [io.read_description(name)["checks"] for name in ("one.zarr", "many.zarr")]
    assert told[0] == told[1]
    assert told[0][0]["tiles"] > 4  # more than one task


def test_files_of_a_batch(address, cli, save, cell, scratch, small_weights):
    names = [save(f"{k}.tif", np.roll(cell, 7 * k, axis=1)) for k in range(3)]
    (scratch / "4.tif").write_bytes(b"no image")
    words = (*OPTICS, "--weights", small_weights)
    ran = cli("restore", "*.tif", *words, "-o", "many", "--scheduler", address)
    assert ran.code == 3
    assert "4.tif is not a TIFF" in ran.errors[0]
    assert cli("restore", *names, *words, "-o", "one").code == 0
    for k in range(3):
        one, many = (scratch / folder / f"{k}_restored.tif" for folder in ("one", "many"))
        assert one.read_bytes() == many.read_bytes()


def test_refused(address, cli, save, cell, small_weights, monkeypatch):
    monkeypatch.setattr("dps_jax.cli.cluster._PATIENCE_S", 0.5)
    save("cell.tif", cell)
    words = ("restore", "cell.tif", *OPTICS, "--weights", small_weights)
    for more, message in (
        (
            ("-o", "out.tif", "--scheduler", address),
            "expected an OME-Zarr (.zarr) as output with --scheduler",
        ),
        (
            ("-o", "out.zarr", "--adapt", "3", "--scheduler", address),
            "by the workers, and --adapt needs all of it",
        ),
        (
            ("-o", "out.zarr", "--scheduler", "tcp://127.0.0.1:9"),
            "no Dask scheduler answers at tcp://127.0.0.1:9",
        ),
    ):
        ran = cli(*words, *more)
        assert (ran.code, ran.errors) == (2, [e for e in ran.errors if message in e]), ran.err
        assert ran.errors
