"""Everything that can be read: types, byte orders, compressions, axes; real files."""

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io.integrity import available_bytes

DTYPES = ["uint8", "uint16", "uint32", "int16", "float16", "float32", "float64", "bool"]
DATA_FILES = {  # name: (shape, axes, nm per pixel, source); sizes from data/MANIFEST.md
    "fluorescence/confocal_mt_au1.2_a.tif": ((512, 512), "YX", 51.79, "ImageJ metadata"),
    "fluorescence/sted_cos7_tubulin.tif": ((1001, 1001), "YX", 15.34, "ImageJ metadata"),
    "calcium/lightsheet_fish_20f.tif": ((20, 2, 76, 87), "TZYX", None, "none"),
    "calcium/twophoton_20f.tif": ((20, 128, 256), "TYX", None, "none"),
    "fluorescence/beads_widefield.tif": ((1020, 1020), "YX", None, "none"),
    "sim/raw_sim3d_phantom.tif": ((135, 64, 64), "ZYX", 80.0, "ImageJ metadata"),
}


def test_import_is_light():
    code = "import sys, dps_jax.io; sys.exit('jax' in sys.modules or 'flax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_and_byte_orders(tmp_path, plane, dtype, order):
    data = plane > 200 if dtype == "bool" else (plane % 250).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=order, photometric="minisblack")
    image = io.read_image(tmp_path / "a.tif")
    assert image.data.dtype == np.dtype(dtype)
    assert image.data.dtype.isnative  # JAX takes no other
    assert (image.axes, image.notes) == ("YX", ())
    np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize("order", ["<", ">"])
def test_directory_after_the_pixels(raw_tiff, plane, order):
    np.testing.assert_array_equal(io.read_image(raw_tiff(plane, order=order)).data, plane)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "packbits"},
        {"compression": "zstd"},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "lzw"},
        {"rowsperstrip": 5},
        {"bigtiff": True},
        {"bigtiff": True, "byteorder": ">"},
        {"metadata": None},
        {"imagej": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("frames", [1, 3])
def test_storage_forms(tmp_path, plane, options, frames):
    data = np.stack([plane + 7 * i for i in range(frames)]).astype(np.uint16).squeeze()
    axes = {} if options.get("metadata", 0) is None or frames == 1 else {"metadata": {"axes": "TYX"}}
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", **(options | axes))
    image = io.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, data)
    assert image.axes == ("YX" if frames == 1 else "TYX")


@pytest.mark.parametrize(
    ("shape", "given", "axes", "noted"),
    [
        ((3, 6, 5), "TYX", "TYX", False),
        ((3, 6, 5), "ZYX", "ZYX", False),
        ((3, 6, 5), "CYX", "CYX", False),
        ((2, 3, 6, 5), "TCYX", "TCYX", False),
        ((2, 3, 6, 5), "ZCYX", "ZCYX", False),
        ((1, 3, 6, 5), "TZYX", "ZYX", False),
        ((2, 1, 3, 1, 6, 5), "TAZCYX", "TZYX", False),
        ((3, 6, 5), None, "TYX", True),
        ((2, 3, 6, 5), None, "TZYX", True),
        ((2, 3, 6, 5), "QTYX", "ZTYX", True),
        ((2, 3, 6, 5), "TTYX", "TZYX", True),
    ],
)
def test_axes(tmp_path, shape, given, axes, noted):
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    metadata = {} if given is None else {"axes": given}
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", metadata=metadata)
    image = io.read_image(tmp_path / "a.tif")
    assert image.axes == axes
    np.testing.assert_array_equal(image.data, data.squeeze())
    assert any(f"read as {axes}" in note for note in image.notes) == noted


def test_y_and_x_go_last(tmp_path):
    data = np.arange(6 * 5 * 7, dtype=np.uint16).reshape(6, 5, 7)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", metadata={"axes": "YXT"})
    image = io.read_image(tmp_path / "a.tif")
    assert image.axes == "TYX"
    np.testing.assert_array_equal(image.data, np.moveaxis(data, -1, 0))


@pytest.mark.parametrize("axes", ["TYX", "ZYX", "CYX", "TZYX", "TCYX", "ZCYX"])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_hyperstacks(tmp_path, rng, axes, kind):
    shape = (*range(2, len(axes)), 9, 8)
    data = rng.integers(0, 1000, shape).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", data, photometric="minisblack", metadata={"axes": axes}, **{kind: True}
    )
    image = io.read_image(tmp_path / "a.tif")
    assert (image.axes, image.notes) == (axes, ())
    np.testing.assert_array_equal(image.data, data)


def test_planar_samples_become_channels(tmp_path, rng):
    data = rng.integers(0, 99, (5, 9, 8)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", data, photometric="minisblack", planarconfig="separate", metadata=None
    )
    image = io.read_image(tmp_path / "a.tif")
    assert image.axes == "CYX"
    assert any("channels" in note for note in image.notes)
    np.testing.assert_array_equal(image.data, data)


def test_palette_and_inverted_files_are_noted(tmp_path, plane):
    data = plane.astype(np.uint8)
    tifffile.imwrite(tmp_path / "p.tif", data, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    tifffile.imwrite(tmp_path / "w.tif", data, photometric="miniswhite")
    for name, fact in (("p.tif", "colour table"), ("w.tif", "0 as white")):
        image = io.read_image(tmp_path / name)
        np.testing.assert_array_equal(image.data, data)
        assert any(fact in note for note in image.notes)


def test_second_image_is_noted(tmp_path, plane):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(plane, metadata=None)
        file.write(plane[:10, :12], metadata=None)
    image = io.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, plane)
    assert any("2 images" in note for note in image.notes)


def test_path_may_be_text_and_the_extension_any(raw_tiff, plane):
    path = raw_tiff(plane, name="image.dat")
    np.testing.assert_array_equal(io.read_image(str(path)).data, plane)


@pytest.mark.parametrize("name", DATA_FILES)
def test_real_files(data_folder, name):
    shape, axes, pixel_size_nm, source = DATA_FILES[name]
    path = data_folder / name
    if not path.exists():
        pytest.skip(f"{name} is not in the data folder")
    image = io.read_image(path)
    assert (image.data.shape, image.axes, image.source) == (shape, axes, source)
    # 0.1 %: the catalogue's sizes are rounded to four digits.
    assert image.pixel_size_nm == (None if pixel_size_nm is None else pytest.approx(pixel_size_nm, rel=1e-3))
    np.testing.assert_array_equal(image.data, tifffile.imread(path))


def test_available_bytes_is_this_computers_memory():
    assert 2**27 < available_bytes() < 2**50
