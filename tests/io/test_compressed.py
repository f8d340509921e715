"""Compressed TIFFs written plane by plane: one series with its axes, smaller, and no TIFF before it is whole."""

import numpy as np
import pytest
import tifffile

from dps_jax.io import read_description, read_image
from dps_jax.io.compressed import compressed_tiff


def write(path, data, stop=None):
    with compressed_tiff(
        path, shape=data.shape, axes="TCYX", description={"a": 1}, pixel_size_nm=500.0, frame_interval_s=0.1
    ) as plane:
        for number, image in enumerate(data.reshape(-1, *data.shape[-2:])):
            if number == stop:
                raise KeyboardInterrupt
            plane(image)


def test_planes_read_back(tmp_path):
    data = np.round(np.linspace(0, 3, 5 * 2 * 32 * 40).reshape(5, 2, 32, 40) * 64).astype(np.float32) / 64
    write(tmp_path / "f.tif", data)
    with tifffile.TiffFile(tmp_path / "f.tif") as file:
        assert len(file.series) == 1
        assert file.series[0].axes == "TCYX"
    image = read_image(tmp_path / "f.tif")
    assert (image.axes, image.data.dtype) == ("TCYX", np.float32)
    np.testing.assert_array_equal(image.data, data)
    assert image.frame_interval_s == pytest.approx(0.1)
    assert image.pixel_size_nm == pytest.approx(500, rel=1e-4)
    assert read_description(tmp_path / "f.tif") == {"a": 1}
    assert (tmp_path / "f.tif").stat().st_size < data.nbytes / 3


def test_a_run_that_stops_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "f.tif", np.zeros((5, 2, 32, 40)), stop=3)
    assert list(tmp_path.iterdir()) == []
