"""Images region by region: what is read is what the whole file holds, and what is filled in any order is whole."""

import numpy as np
import pytest
import tifffile

from dps_jax.io import UserError, image_writer, open_image, read_description, read_image, write_image
from dps_jax.io.images import stored_axes
from dps_jax.io.tiff_regions import open_tiff

REGIONS = [
    ((0, 50), (0, 61)),
    ((3, 9), (5, 20)),
    ((15, 17), (31, 61)),
    ((49, 50), (0, 1)),
    ((10, 40), (2, 60)),
]
LAYOUTS = {
    "plain": {},
    "ImageJ": {"imagej": True},
    "BigTIFF": {"bigtiff": True},
    "strips": {"rowsperstrip": 7},
    "one block": {"compression": "zlib"},
    "compressed strips": {"compression": "lzw", "rowsperstrip": 7, "predictor": True},
    "tiles": {"tile": (16, 32)},
    "compressed tiles": {"tile": (16, 32), "compression": "zstd"},
}


@pytest.fixture
def stack(rng):
    return rng.integers(0, 3000, (3, 50, 61)).astype(np.uint16)


def _equal(path, expected):
    whole = read_image(path)
    with open_image(path) as image:
        same = (whole.axes, whole.data.shape, whole.notes, whole.pixel_size_nm)
        assert (image.axes, image.shape, image.notes, image.pixel_size_nm) == same
        for plane, data in enumerate(expected.reshape(-1, *expected.shape[-2:])):
            for rows, columns in REGIONS:
                region = image.read(plane, rows, columns)
                assert region.dtype == image.dtype == whole.data.dtype
                np.testing.assert_array_equal(region, data[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["<u2", ">f4"])
def test_regions_are_those_of_the_whole(tmp_path, stack, layout, kind):
    data = stack.astype(kind[1:])
    order = {} if layout == "ImageJ" else {"byteorder": kind[0]}
    options = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}, **order, **LAYOUTS[layout]}
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    _equal(tmp_path / "a.tif", data)


def test_the_same_from_zarr_and_from_samples(tmp_path, stack):
    write_image(tmp_path / "a.zarr", stack, axes="TYX", pixel_size_nm=50.0, description={})
    _equal(tmp_path / "a.zarr", stack)
    # Two samples in each pixel have no planes to read from: such a file is read whole.
    tifffile.imwrite(
        tmp_path / "b.tif", np.moveaxis(stack[:2], 0, -1), photometric="minisblack", planarconfig=1
    )
    _equal(tmp_path / "b.tif", stack[:2])


def test_only_what_is_asked_for_is_decoded(tmp_path, stack, monkeypatch):
    decoded, decode = [], tifffile.TiffPage.decode.func
    tifffile.imwrite(tmp_path / "a.tif", stack[0], tile=(16, 16), compression="zlib")

    def counted(page):
        inner = decode(page)
        return lambda data, number, **more: (decoded.append(number), inner(data, number, **more))[1]

    monkeypatch.setattr(tifffile.TiffPage, "decode", property(counted))
    with open_tiff(tmp_path / "a.tif") as image:
        for _ in range(3):  # and kept
            image.read(0, (17, 30), (0, 20))
    assert sorted(decoded) == [4, 5]


def test_damaged_strips_are_said(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack[0], compression="zlib", rowsperstrip=10)
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[2]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 20)
    with open_image(path) as image:
        image.read(0, (0, 20), (0, 61))
        with pytest.raises(UserError, match="is damaged"):
            image.read(0, (15, 25), (0, 61))


@pytest.mark.parametrize(
    ("name", "axes"), [("a.tif", "YX"), ("a.tif", "TCYX"), ("a.ome.zarr", "ZYX"), ("a.ome.zarr", "TZCYX")]
)
def test_regions_in_any_order_make_a_whole(tmp_path, rng, name, axes):
    axes = stored_axes(name, axes)
    shape = (2, 3, 2, 50, 61)[5 - len(axes) :]
    data = rng.random(shape).astype(np.float32)
    planes = data.reshape(-1, 50, 61)
    sizes = {"pixel_size_nm": 32.5, "z_step_nm": 300.0, "frame_interval_s": 0.5}
    told = {"operation": "test"}
    with image_writer(tmp_path / name, shape=shape, axes=axes, description=told, **sizes) as out:
        assert not list(tmp_path.glob("[!.]*"))
        for plane in map(int, rng.permutation(len(planes))):
            for rows in ((30, 50), (0, 30)):
                for columns in ((0, 61),) if plane % 2 else ((0, 7), (7, 61)):
                    out.write(plane, rows, columns, planes[plane, slice(*rows), slice(*columns)])
            np.testing.assert_array_equal(out.read(plane, (4, 9), (3, 60)), planes[plane, 4:9, 3:60])
        told["checks"] = ["known only now, " * 50]
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.data.reshape(data.shape), data)
    assert (image.axes, image.pixel_size_nm) == (axes, pytest.approx(32.5))
    if "Z" in axes:
        assert image.z_step_nm == pytest.approx(300)
    assert read_description(tmp_path / name) == told
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_big_one_is_a_bigtiff_with_its_last_words(tmp_path):
    told, part = {"a": 1}, np.full((2, 50_000), 7, np.float32)
    # The file is sparse: what is not written takes no room on the disk.
    with image_writer(
        tmp_path / "a.tif", shape=(50_000, 50_000), axes="YX", pixel_size_nm=10.0, description=told
    ) as out:
        out.write(0, (49_998, 50_000), (0, 50_000), part)
        told["b"] = 2
    assert read_description(tmp_path / "a.tif") == {"a": 1, "b": 2}
    with open_image(tmp_path / "a.tif") as image:
        assert (image.shape, image.nbytes) == ((50_000, 50_000), 10**10)
        np.testing.assert_array_equal(image.read(0, (49_998, 50_000), (3, 9)), part[:, :6])
