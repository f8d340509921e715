"""What is written is read back, here and by tifffile; whole or not at all; and the same bytes each time."""

import json

import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io import write as write_module

SETTINGS = {
    "command": "restore",
    "wavelength_nm": 525,
    "notes": ["a", "µ ü"],
    "nested": {"b": None, "a": 1.5},
}
STACKS = {"YX": (9, 8), "TYX": (3, 9, 8), "ZYX": (3, 9, 8), "CYX": (2, 9, 8), "TZCYX": (2, 3, 4, 9, 8)}


def _write(path, data, axes="YX", pixel_size_nm=32.5, **options):
    io.write_image(path, data, axes=axes, pixel_size_nm=pixel_size_nm, description=SETTINGS, **options)


@pytest.mark.parametrize("axes", STACKS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tifffile_reads_it_back(tmp_path, rng, axes, dtype):
    data = rng.integers(0, 255, STACKS[axes]).astype(dtype)
    _write(tmp_path / "a.tif", data, axes)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == axes
        assert file.pages[0].compression == 1
        np.testing.assert_array_equal(file.asarray(), data)
        found, tags = file.imagej_metadata, file.pages[0].tags
    assert data.dtype == np.dtype(dtype)
    assert found["unit"] == "micron"
    counts = {"T": "frames", "Z": "slices", "C": "channels"}
    for letter, size in zip(axes[:-2], data.shape, strict=False):
        assert found[counts[letter]] == size
    for name in ("XResolution", "YResolution"):  # pixels per micron, as ImageJ has it
        numerator, denominator = tags[name].value
        assert numerator / denominator == pytest.approx(1000 / 32.5, rel=1e-6)
    assert tags["ResolutionUnit"].value == 1


@pytest.mark.parametrize("pixel_size_nm", [1.0, 15.34, 51.79, 32.5, 1000 / 3, 4999.0])
def test_round_trip(tmp_path, rng, pixel_size_nm):
    data = rng.normal(100, 10, (2, 3, 9, 8)).astype(np.float32)
    _write(tmp_path / "a.tif", data, "TZYX", pixel_size_nm, z_step_nm=120.0, frame_interval_s=0.25)
    image = io.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, data)
    assert (image.axes, image.source, image.notes) == ("TZYX", "ImageJ metadata", ())
    assert image.pixel_size_nm == pytest.approx(pixel_size_nm, rel=1e-6)
    assert (image.z_step_nm, image.frame_interval_s) == (pytest.approx(120.0), 0.25)
    assert io.read_description(tmp_path / "a.tif") == SETTINGS


def test_fiji_shows_the_settings_and_the_display_range(tmp_path, plane):
    data = plane.astype(np.float32)
    _write(tmp_path / "a.tif", data)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        found = file.imagej_metadata
    assert json.loads(found["Info"]) == {"dps_jax": SETTINGS}
    assert (found["min"], found["max"]) == (data.min(), data.max())


def test_unknown_pixel_size_stays_unknown(tmp_path, plane):
    _write(tmp_path / "a.tif", plane, pixel_size_nm=None)
    image = io.read_image(tmp_path / "a.tif")
    assert (image.pixel_size_nm, image.source, image.notes) == (None, "none", ())


def test_axes_are_put_in_imagejs_order(tmp_path, rng):
    data = rng.integers(0, 99, (2, 3, 9, 8)).astype(np.uint8)
    _write(tmp_path / "a.tif", data, "CTYX")
    image = io.read_image(tmp_path / "a.tif")
    assert image.axes == "TCYX"
    np.testing.assert_array_equal(image.data, data.swapaxes(0, 1))


@pytest.mark.parametrize(
    ("given", "stored"),
    [("bool", "uint8"), ("float16", "float32"), ("float64", "float32"), (">u2", "uint16")],
)
def test_types_are_made_imagejs(tmp_path, plane, given, stored):
    data = (plane % 2).astype(given)
    _write(tmp_path / "a.tif", data)
    image = io.read_image(tmp_path / "a.tif")
    assert image.data.dtype == np.dtype(stored)
    np.testing.assert_array_equal(image.data, data)


def test_colour_sized_images_stay_grey(tmp_path, rng):
    """Widths of 3 and 4 must not be taken for RGB samples."""
    for axes, shape in (("TYX", (5, 6, 3)), ("YX", (6, 4)), ("CYX", (3, 6, 4))):
        data = rng.integers(0, 255, shape).astype(np.uint8)
        _write(tmp_path / "a.tif", data, axes)
        image = io.read_image(tmp_path / "a.tif")
        assert image.axes == axes
        np.testing.assert_array_equal(image.data, data)


@pytest.mark.parametrize("limit", [2**31, 0], ids=["imagej", "bigtiff"])
def test_bytes_are_reproducible(tmp_path, rng, monkeypatch, limit):
    monkeypatch.setattr(write_module, "_CLASSIC_LIMIT", limit)
    data = rng.normal(size=(3, 9, 8)).astype(np.float32)
    _write(tmp_path / "a.tif", data, "TYX")
    io.write_image(
        tmp_path / "other_name.tif",
        data.copy(order="F"),
        axes="TYX",
        pixel_size_nm=32.5,
        description=dict(reversed(SETTINGS.items())),
    )
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "other_name.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert "DateTime" not in file.pages[0].tags


@pytest.mark.parametrize("axes", ["YX", "TYX", "TZYX"])
def test_bigtiff_where_the_classic_format_ends(tmp_path, rng, monkeypatch, axes):
    monkeypatch.setattr(write_module, "_CLASSIC_LIMIT", 100)
    data = rng.normal(size=(2, 3, 9, 8)[-len(axes) :]).astype(np.float32)
    _write(tmp_path / "a.ome.tif", data, axes, 51.79, z_step_nm=120.0, frame_interval_s=0.25)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_bigtiff
        assert not file.is_ome
    image = io.read_image(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(image.data, data)
    assert (image.axes, image.source) == (axes, "TIFF resolution tag")
    assert image.pixel_size_nm == pytest.approx(51.79, rel=1e-6)
    assert (image.z_step_nm, image.frame_interval_s) == (120.0, 0.25)
    assert io.read_description(tmp_path / "a.ome.tif") == SETTINGS


def test_classic_limit_leaves_room_below_4_gib():
    assert 2**32 - 2**26 < write_module._CLASSIC_LIMIT < 2**32


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True},
        {"imagej": True, "metadata": {"Info": "BitsPerPixel = 16"}},
        {"imagej": True, "metadata": {"Info": '{"other": {"a": 1}}'}},
        {"imagej": True, "metadata": {"Info": "[1]"}},
        {"description": "text", "metadata": None},
    ],
)
def test_files_of_others_have_no_description(tmp_path, plane, options):
    tifffile.imwrite(tmp_path / "a.tif", plane, **options)
    assert io.read_description(tmp_path / "a.tif") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": "XY"}, "ending with YX"),
        ({"axes": "TYX"}, "with 3 axes"),
        ({"axes": "YYX"}, "different letters"),
        ({"axes": "QYX"}, "different letters"),
        ({"pixel_size_nm": 0.0}, "pixel_size_nm"),
        ({"pixel_size_nm": np.nan}, "pixel_size_nm"),
        ({"z_step_nm": -1.0}, "z_step_nm"),
        ({"frame_interval_s": 0.0}, "frame_interval_s"),
        ({"data": np.zeros((4, 4), np.int16)}, "int16"),
        ({"data": np.zeros((4, 4), np.complex64)}, "complex64"),
        ({"data": np.zeros((0, 4), np.float32)}, r"\(0, 4\)"),
        ({"description": {"a": {1, 2}}}, "JSON"),
        ({"description": {"a": float("nan")}}, "JSON"),
    ],
)
def test_refused_arguments_leave_no_file(tmp_path, plane, change, message):
    arguments = {"data": plane, "axes": "YX", "pixel_size_nm": 65.0, "description": {}} | change
    with pytest.raises(ValueError, match=message):
        io.write_image(tmp_path / "a.tif", arguments.pop("data"), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_overwriting_is_a_choice(tmp_path, plane):
    _write(tmp_path / "a.tif", plane)
    _write(tmp_path / "a.tif", plane + 1)
    with pytest.raises(io.UserError, match="already exists"):
        _write(tmp_path / "a.tif", plane, overwrite=False)
    np.testing.assert_array_equal(io.read_image(tmp_path / "a.tif").data, plane + 1)


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_write_keeps_the_old_file(tmp_path, plane, monkeypatch, problem):
    _write(tmp_path / "a.tif", plane)
    before = (tmp_path / "a.tif").read_bytes()

    def fail(path, data, **options):
        path.write_bytes(b"half")
        raise problem

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises((io.UserError, KeyboardInterrupt)):
        _write(tmp_path / "a.tif", plane + 1)
    assert (tmp_path / "a.tif").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
