"""One refused file per line, each with its key fact; and values that are refused or noted."""

import numpy as np
import pytest
import tifffile

from dps_jax import io

OME_100 = (
    b'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    b'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="20" SizeY="24" '
    b'SizeC="1" SizeZ="1" SizeT="100"><TiffData/></Pixels></Image></OME>\0'
)
PLANE = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
RGB = np.zeros((24, 20, 3), np.uint8)
TIFFFILE = {  # what to write with tifffile, and what the message must say
    "rgb": ((RGB, {"photometric": "rgb"}), "colour .* 3 values .* single channel"),
    "rgba": ((np.zeros((24, 20, 4), np.uint8), {"photometric": "rgb"}), "colour"),
    "planar rgb": ((RGB.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}), "colour"),
    "rgb stack": ((np.zeros((5, 24, 20, 3), np.uint8), {"photometric": "rgb"}), "colour"),
    "imagej rgb": ((RGB, {"imagej": True}), "colour"),
    "samples": ((RGB, {"photometric": "minisblack", "planarconfig": "contig"}), "colour"),
    "complex": ((PLANE.astype(np.complex64), {}), "complex64 numbers"),
    "5d": ((np.zeros((2, 2, 2, 8, 9), np.uint8), {"photometric": "minisblack"}), "5 axes .* 2 to 4"),
    "imagej 5d": ((np.zeros((2, 2, 2, 8, 9), np.uint8), {"imagej": True}), "T 2, Z 2, C 2, Y 8, X 9"),
    "1d": ((np.arange(100, dtype=np.float32), {}), "single line of 100 values"),
    "row": ((np.arange(100, dtype=np.float32)[None], {}), "single line"),
    "column": ((np.arange(100, dtype=np.float32)[:, None], {}), "single line"),
    "one pixel": ((np.ones((1, 1), np.float32), {}), "single line of 1 values"),
}
RAW = {  # tags of a hand-made file, and what the message must say
    "ome planes": ({270: ("s", OME_100)}, "100 planes .* 1 are there"),
    "imagej planes": ({270: ("s", b"ImageJ=1.53c\nimages=10\nslices=10\n\0")}, "10 planes .* 1 are there"),
    "imagej images": ({270: ("s", b"ImageJ=1.53c\nimages=10\n\0")}, "10 planes"),
    "huge imagej": (
        {270: ("s", b"ImageJ=1.53c\nimages=9999999999\nframes=9999999999\n\0")},
        "9999999999 planes",
    ),
    "strip beyond": ({273: ("I", 5000)}, "beyond the end"),
    "strip short": ({279: ("I", 100)}, "fewer bytes than its size needs"),
    "strip empty": ({279: ("I", 0)}, "never written"),
    "strip nowhere": ({273: ("I", 0)}, "never written"),
    "strips missing": ({278: ("H", 4), 273: ("I", (168, 8)), 279: ("I", (800, 160))}, "never written"),
    "no width": ({256: ("H", 0)}, "image of 0 pixels"),
    "declared giant": ({256: ("I", 2**31), 257: ("I", 2**31)}, r"GB of pixels, more than the limit"),
    "unknown codec": ({259: ("H", 65000)}, "compressed by EER_V0, .*export it uncompressed"),
    "not deflate": ({259: ("H", 8)}, "damaged"),
    "not lzw": ({259: ("H", 5)}, "damaged"),
    "wide numbers": ({258: ("H", 128)}, "128-bit numbers"),
}


@pytest.mark.parametrize("case", TIFFFILE)
def test_refused_images(tmp_path, case):
    (data, options), message = TIFFFILE[case]
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    with pytest.raises(io.UserError, match=message) as problem:
        io.read_image(tmp_path / "a.tif")
    assert "a.tif" in str(problem.value)


@pytest.mark.parametrize("case", RAW)
def test_refused_structures(raw_tiff, case):
    tags, message = RAW[case]
    path = raw_tiff(PLANE, tags=tags)
    with pytest.raises(io.UserError, match=message) as problem:
        io.read_image(path)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file of 0 bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a TIFF .*PNG.* export it as TIFF"),
        (b"hello, this is text", "not a TIFF"),
        (b"II", "not a TIFF"),
        (b"II*\0", "cut short .* header"),
        (b"II*\0\0\0\0\0", "without any image"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "cut short .* directory"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "directory at byte 8"),
    ],
)
def test_refused_contents(tmp_path, content, message):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for read in (io.read_image, io.read_description):
        with pytest.raises(io.UserError, match=message):
            read(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(io.UserError, match=r"absent\.tif was not found"):
        io.read_image(tmp_path / "absent.tif")
    with pytest.raises(io.UserError, match=r"is a folder, but one TIFF file was expected"):
        io.read_image(tmp_path)


def test_pages_in_a_circle(raw_tiff):
    where = 8 + PLANE.nbytes  # the only directory names itself as its successor
    with pytest.raises(io.UserError, match="returns to page 1"):
        io.read_image(raw_tiff(PLANE, next_offset=where))


def test_memory_limit_is_exact(raw_tiff):
    path = raw_tiff(PLANE)
    assert io.read_image(path, max_bytes=PLANE.nbytes).data.nbytes == PLANE.nbytes
    with pytest.raises(io.UserError, match="more than the limit"):
        io.read_image(path, max_bytes=PLANE.nbytes - 1)


def test_ome_set_with_other_files(tmp_path):
    text = OME_100.replace(b'SizeT="100"', b'SizeT="2"').replace(
        b"<TiffData/>",
        b'<TiffData FirstT="0"/><TiffData FirstT="1"><UUID FileName="b.tif">b</UUID></TiffData>',
    )
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PLANE, description=text[:-1], metadata=None)
    with pytest.raises(io.UserError, match="one of several files"):
        io.read_image(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({(3, 4): np.nan}, "1 values .* first at y 3, x 4"),
        ({(5, 6): np.inf, (7, 0): -np.inf}, "2 values .* first at y 5, x 6"),
        ({...: 0}, "all its pixels are zero"),
        ({...: 7}, r"all its pixels are 7"),
        ({...: np.nan}, "480 values"),
    ],
)
def test_refused_values(raw_tiff, values, message):
    data = PLANE.astype(np.float32)
    for where, value in values.items():
        data[where] = value
    with pytest.raises(io.UserError, match=message):
        io.check_values(io.read_image(raw_tiff(data)))


def test_position_in_a_stack_is_named():
    data = np.ones((4, 5, 6), np.float32)
    data[2, 3, 1] = np.nan
    with pytest.raises(io.UserError, match="t 2, y 3, x 1"):
        io.check_values(io.ImageFile("a.tif", data, "TYX"))


def _notes(data):
    return io.check_values(io.ImageFile("a.tif", data, "YX"))


def test_good_images_bring_no_notes(rng):
    assert _notes(rng.poisson(1.0, (300, 300)).astype(np.uint16)) == ()
    assert _notes(rng.poisson(1.0, (300, 300)).astype(np.float32)) == ()
    assert _notes(rng.poisson(80.0, (300, 300)).astype(np.uint16)) == ()
    assert _notes(rng.gamma(2.0, 100.0, (300, 300)).astype(np.float32)) == ()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_few_photons_are_not_clipping(dtype):
    data = np.repeat([0, 1, 2, 3], [10000, 3000, 600, 100]).astype(dtype).reshape(137, 100)
    assert _notes(data) == ()


def test_brightest_spot_of_a_small_image_is_not_clipping(rng):
    data = rng.uniform(0.0, 100.0, (50, 50)).astype(np.float32)
    data.flat[:9] = 200.0
    assert _notes(data) == ()
    data.flat[:10] = 200.0
    assert "maximum of 200" in _notes(data)[0]


def test_negative_values_are_noted(rng):
    for dtype in (np.int16, np.float32):
        data = rng.poisson(50.0, (100, 100)).astype(dtype)
        data[:3, :4] = -7
        (note,) = _notes(data)
        assert "12 pixels (0.12%)" in note
        assert "-7" in note


def test_saturated_pixels_are_noted_from_one_in_ten_thousand(rng):
    data = rng.poisson(50.0, (200, 200)).astype(np.uint16)
    data.flat[:4] = 65535  # 4 of 40,000: 0.01 %, not more
    assert _notes(data) == ()
    data.flat[:5] = 65535
    (note,) = _notes(data)
    assert "5 pixels (0.01%) are saturated at 65535" in note


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_clipped_pixels_are_noted(rng, dtype):
    data = np.minimum(rng.poisson(4000.0, (200, 200)), 4095).astype(dtype)  # a 12-bit camera
    (note,) = _notes(data)
    assert f"{np.count_nonzero(data == 4095)} pixels" in note
    assert "maximum of 4095" in note


def test_two_values_are_noted():
    assert "two values" in _notes(np.eye(5, dtype=bool))[0]
