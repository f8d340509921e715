"""Every way in which a pixel size is written down, made with tifffile or by hand."""

import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io.metadata import nm_per_unit

# A rational of two 32-bit integers holds a number near 10 to 1e-9; the float's own error is less.
RATIONAL = 1e-8


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1),
        ("micron", 1e3),
        ("microns", 1e3),
        ("um", 1e3),
        ("\\u00B5m", 1e3),
        ("\\u00b5m", 1e3),
        ("µm", 1e3),
        ("\N{GREEK SMALL LETTER MU}m", 1e3),
        ("Âµm", 1e3),
        ("Micron", 1e3),
        (" um ", 1e3),
        ("mm", 1e6),
        ("cm", 1e7),
        ("inch", 25.4e6),
        ("Å", 0.1),
        ("pixel", None),
        ("", None),
        ("furlong", None),
        (3, None),
    ],
)
def test_units(unit, nm):
    assert nm_per_unit(unit) == nm


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("unit", "nm"),
    [("nm", 1), ("micron", 1e3), ("um", 1e3), ("\\u00B5m", 1e3), ("mm", 1e6), ("cm", 1e7), ("inch", 25.4e6)],
)
def test_imagej_units(tmp_path, plane, unit, nm, order):
    per_unit = nm / 65.0
    tifffile.imwrite(
        tmp_path / "a.tif",
        plane,
        imagej=True,
        byteorder=order,
        resolution=(per_unit, per_unit),
        metadata={"unit": unit},
    )
    image = io.read_image(tmp_path / "a.tif")
    assert image.pixel_size_nm == pytest.approx(65.0, rel=1e-6 if unit == "nm" else RATIONAL)
    assert image.source == "ImageJ metadata"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_imagej_micro_sign_in_either_encoding(raw_tiff, plane, encoding):
    text = "ImageJ=1.53c\nunit=µm\n\0".encode(encoding)
    path = raw_tiff(plane, tags={270: ("s", text), 282: ("2I", (10, 1)), 283: ("2I", (10, 1))})
    assert io.read_image(path).pixel_size_nm == 100.0


def test_imagej_spacing_and_interval(tmp_path):
    data = np.arange(2 * 3 * 6 * 5, dtype=np.uint16).reshape(2, 3, 6, 5)
    metadata = {"axes": "TZYX", "unit": "um", "spacing": 0.3, "finterval": 2.5}
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, resolution=(10, 10), metadata=metadata)
    image = io.read_image(tmp_path / "a.tif")
    assert (image.pixel_size_nm, image.frame_interval_s) == (100.0, 2.5)
    assert image.z_step_nm == pytest.approx(300.0, rel=1e-12)


def test_imagej_units_per_axis_and_backward_stack(raw_tiff, plane):
    text = b"ImageJ=1.53c\nunit=micron\nyunit=nm\nzunit=nm\nspacing=-200\nfinterval=50\ntunit=ms\n\0"
    tags = {270: ("s", text), 282: ("2I", (10, 1)), 283: ("2I", (1, 100))}
    image = io.read_image(raw_tiff(plane, tags=tags))
    assert (image.pixel_size_nm, image.z_step_nm, image.frame_interval_s) == (100.0, 200.0, 0.05)


@pytest.mark.parametrize(
    ("unit", "size"),
    [("nm", 65.0), ("µm", 0.065), ("um", 0.065), ("mm", 6.5e-5), ("Å", 650.0), (None, 0.065)],
)
def test_ome_units(tmp_path, plane, unit, size):
    metadata = {"axes": "YX", "PhysicalSizeX": size, "PhysicalSizeY": size}
    if unit is not None:
        metadata |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", plane, metadata=metadata)
    image = io.read_image(tmp_path / "a.ome.tif")
    assert image.pixel_size_nm == pytest.approx(65.0, rel=1e-12)
    assert image.source == "OME metadata"


def test_ome_step_interval_and_lone_x(tmp_path):
    data = np.arange(2 * 3 * 6 * 5, dtype=np.uint16).reshape(2, 3, 6, 5)
    metadata = {
        "axes": "TZYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeZ": 0.25,
        "TimeIncrement": 40,
        "TimeIncrementUnit": "ms",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="minisblack", metadata=metadata)
    image = io.read_image(tmp_path / "a.ome.tif")
    assert (image.pixel_size_nm, image.z_step_nm) == (100.0, 250.0)
    assert image.frame_interval_s == pytest.approx(0.04, rel=1e-12)


def test_ome_comes_before_resolution_tags(tmp_path, plane):
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        plane,
        resolution=(1e5, 1e5),
        resolutionunit="CENTIMETER",
        metadata={"axes": "YX", "PhysicalSizeX": 65, "PhysicalSizeXUnit": "nm"},
    )
    assert io.read_image(tmp_path / "a.ome.tif").pixel_size_nm == 65.0


@pytest.mark.parametrize(("unit", "nm"), [("CENTIMETER", 1e7), ("INCH", 25.4e6)])
@pytest.mark.parametrize("size_nm", [1.01, 65.0, 4990.0])
def test_plausible_resolution_tags(tmp_path, plane, unit, nm, size_nm):
    per_unit = nm / size_nm
    tifffile.imwrite(tmp_path / "a.tif", plane, resolution=(per_unit, per_unit), resolutionunit=unit)
    image = io.read_image(tmp_path / "a.tif")
    # Numbers up to 2.5e7 leave two digits of a 32-bit integer for the denominator: 1e-6 is what is kept.
    assert image.pixel_size_nm == pytest.approx(size_nm, rel=1e-6)
    assert image.source == "TIFF resolution tag"


@pytest.mark.parametrize(
    ("resolution", "unit", "noted"),
    [
        ((72, 72), "INCH", True),
        ((300, 300), "INCH", True),
        ((1, 1), "CENTIMETER", True),
        ((2e7, 2e7), "CENTIMETER", True),  # 0.5 nm
        ((1e5, 1e5), "NONE", False),
    ],
)
@pytest.mark.parametrize("imagej", [False, True])
def test_screen_defaults_are_ignored(tmp_path, plane, resolution, unit, noted, imagej):
    tifffile.imwrite(tmp_path / "a.tif", plane, resolution=resolution, resolutionunit=unit, imagej=imagej)
    image = io.read_image(tmp_path / "a.tif")
    assert (image.pixel_size_nm, image.source) == (None, "none")
    assert any("ignored" in note for note in image.notes) == noted


def test_imagej_screen_default_in_inches_is_ignored(tmp_path, plane):
    tifffile.imwrite(tmp_path / "a.tif", plane, imagej=True, resolution=(72, 72), metadata={"unit": "inch"})
    image = io.read_image(tmp_path / "a.tif")
    assert image.pixel_size_nm is None
    assert "352778 nm" in image.notes[0]


@pytest.mark.parametrize("rational", [(0, 1), (1, 0), (0, 0)])
def test_zero_rationals_tell_nothing(raw_tiff, plane, rational):
    tags = {270: ("s", b"ImageJ=1.53c\nunit=um\n\0"), 282: ("2I", rational), 283: ("2I", rational)}
    assert io.read_image(raw_tiff(plane, tags=tags)).pixel_size_nm is None


def test_pixels_must_be_square(tmp_path, plane):
    for ratio, square in ((1.009, True), (1.02, False)):
        tifffile.imwrite(
            tmp_path / "a.tif", plane, imagej=True, resolution=(10, 10 / ratio), metadata={"unit": "um"}
        )
        image = io.read_image(tmp_path / "a.tif")
        assert image.pixel_size_yx_nm == pytest.approx((100 * ratio, 100), rel=1e-6)
        if square:
            assert 100 < image.pixel_size_nm < 100 * ratio
        else:
            with pytest.raises(io.UserError, match=r"102 nm in y and 100 nm in x .*resample"):
                _ = image.pixel_size_nm
