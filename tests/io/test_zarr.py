"""OME-Zarr: what others wrote is read, what we write others read, and nothing leaves the folder or runs code."""

import builtins
import json
import os
import pickle

import numpy as np
import pytest

from dps_jax import io
from dps_jax.io import UserError, read_description, read_image, write_image
from dps_jax.io.zarr_read import open_zarr
from dps_jax.io.zarr_write import CHUNKS_PX, zarr_writer

zarr = pytest.importorskip("zarr")

AXES = [
    {"name": "t", "type": "time", "unit": "millisecond"},
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "nanometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]
SCALE = [500.0, 1.0, 0.3, 65.0, 0.065]


def multiscales(axes=AXES, scale=SCALE, path="0", **more):
    level = {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {"multiscales": [{"axes": axes, "datasets": [level], **more}]}


def by_hand(folder, data, about, *, cut=None, **array):
    """Write Zarr 2 without any library: raw bytes, one file per chunk."""
    chunks = cut or data.shape
    (folder / "0").mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    (folder / ".zattrs").write_text(json.dumps(about))
    described = {
        "zarr_format": 2,
        "shape": data.shape,
        "chunks": chunks,
        "dtype": data.dtype.str,
        "compressor": None,
        "filters": None,
        "fill_value": None if data.dtype.kind in "cU" else 0,
        "order": "C",
        **array,
    }
    (folder / "0" / ".zarray").write_text(json.dumps(described))
    for index in np.ndindex(*(-(-n // c) for n, c in zip(data.shape, chunks, strict=True))):
        part = data[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))]
        full = np.zeros(chunks, data.dtype)
        full[tuple(slice(0, n) for n in part.shape)] = part
        (folder / "0" / ".".join(map(str, index))).write_bytes(full.tobytes())
    return folder


@pytest.fixture
def stack(rng):
    return rng.integers(0, 4000, (2, 3, 4, 18, 21)).astype(np.uint16)


@pytest.fixture
def plane(rng):
    return rng.integers(1, 4000, (18, 21)).astype(np.uint16)


YX = (AXES[3:], [65.0, 0.065])


@pytest.mark.parametrize("order", ["<", ">"])
def test_five_axes_units_and_byte_orders(tmp_path, stack, order):
    data = stack.astype(stack.dtype.newbyteorder(order))
    path = by_hand(tmp_path / "a.zarr", data, multiscales(), cut=(1, 1, 2, 10, 10))
    image = read_image(path)
    assert (image.axes, image.notes, image.source) == ("TCZYX", (), "OME-Zarr metadata")
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, stack)
    assert image.pixel_size_nm == pytest.approx(65)
    assert (image.z_step_nm, image.frame_interval_s) == pytest.approx((300, 0.5))
    # Region by region, planes counted through the leading axes.
    with open_zarr(path) as regions:
        assert (regions.planes, regions.sides, regions.dtype) == (24, (18, 21), np.uint16)
        np.testing.assert_array_equal(regions.read(23, (5, 16), (9, 11)), stack[1, 2, 3, 5:16, 9:11])


@pytest.mark.parametrize("version", [2, 3])
def test_what_the_library_writes(tmp_path, stack, version):
    """NGFF 0.4 in Zarr 2 and 0.5 in Zarr 3, compressed; the scale is that of level times image."""
    about = multiscales(
        AXES[1:],
        [1.0, 0.15, 130, 0.13],
        coordinateTransformations=[{"type": "scale", "scale": [1, 2, 0.5, 0.5]}],
    )
    about = about if version == 2 else {"ome": {"version": "0.5", **about}}
    group = zarr.create_group(store=str(tmp_path / "folder"), zarr_format=version, attributes=about)
    group.create_array("0", shape=stack.shape[1:], chunks=(1, 1, 8, 8), dtype="u2")[:] = stack[0]
    image = read_image(tmp_path / "folder")
    assert (image.axes, image.pixel_size_nm, image.z_step_nm) == ("CZYX", 65, pytest.approx(300))
    np.testing.assert_array_equal(image.data, stack[0])


def test_older_and_barer_folders(tmp_path, stack, plane):
    # 0.3 names its axes by letters, 0.1 not at all, a bare array has no metadata, and no unit is no size.
    for name, about in (
        ("a", multiscales(list("tczyx"))),
        ("b", {"multiscales": [{"datasets": [{"path": "0"}]}]}),
    ):
        image = read_image(by_hand(tmp_path / f"{name}.zarr", stack, about))
        assert (image.axes, image.pixel_size_nm, image.z_step_nm) == ("TCZYX", None, None)
    bare = by_hand(tmp_path / "c.zarr", plane, {}) / "0"
    np.testing.assert_array_equal(read_image(bare).data, plane)
    assert (
        "not all named; read as TYX"
        in read_image(by_hand(tmp_path / "d.zarr", stack[0, 0], {}) / "0").notes[0]
    )


def test_y_and_x_in_another_place(tmp_path, stack):
    axes = [AXES[4], AXES[1], AXES[3]]
    image = read_image(by_hand(tmp_path / "a.zarr", stack[0, 0].T, multiscales(axes, [0.065, 1, 65])))
    assert image.axes == "CYX"
    np.testing.assert_array_equal(image.data, stack[0, 0].T.transpose(1, 2, 0))


def test_a_series_of_images(tmp_path, plane):
    by_hand(tmp_path / "a.zarr" / "0", plane, multiscales(*YX))
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "a.zarr" / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    image = read_image(tmp_path / "a.zarr")
    assert "holds a series of images" in image.notes[0]
    np.testing.assert_array_equal(image.data, plane)


def test_chunks_that_are_not_stored_are_said(tmp_path, plane):
    path = by_hand(tmp_path / "a.zarr", plane, multiscales(*YX), cut=(9, 7))
    (path / "0" / "1.2").unlink()
    image = read_image(path)
    assert image.notes[0].startswith("1 of its 6 chunks are not stored")
    assert not image.data[9:, 14:].any()


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64", "bool"])
def test_written_and_read_back(tmp_path, rng, kind):
    data = (60 + 50 * rng.standard_normal((2, 3, 20, 30))).clip(0).astype(np.float32).astype(kind)
    sizes = {"pixel_size_nm": 32.5, "z_step_nm": 300.0, "frame_interval_s": 0.1}
    write_image(tmp_path / "a.ome.zarr", data, axes="TZYX", description={"a": [1]}, **sizes)
    image = read_image(tmp_path / "a.ome.zarr")
    assert (image.axes, image.notes) == ("TZYX", ())
    np.testing.assert_array_equal(image.data, data)
    assert (image.pixel_size_nm, image.z_step_nm, image.frame_interval_s) == pytest.approx((32.5, 300, 0.1))
    assert read_description(tmp_path / "a.ome.zarr") == {"a": [1]}
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_the_pyramid_is_what_ngff_asks_for(tmp_path, rng):
    """Every level means of 2 x 2 pixels, and its scale and translation put pixel centres where they are."""
    data = rng.random((2, CHUNKS_PX[0] + 1, 2 * CHUNKS_PX[0] + 3)).astype(np.float32)
    write_image(tmp_path / "a.zarr", data, axes="CYX", pixel_size_nm=50.0, description={})
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    ome = group.attrs["ome"]
    (scales,) = ome["multiscales"]
    assert ome["version"] == "0.5"
    assert [a["name"] for a in scales["axes"]] == ["c", "y", "x"]
    assert [level["path"] for level in scales["datasets"]] == ["0", "1", "2"]
    assert group["2"].shape == (2, 129, 257)
    even = np.pad(data, [(0, 0), (0, 1), (0, 1)], mode="edge")
    expected = even.reshape(2, even.shape[1] // 2, 2, even.shape[2] // 2, 2).mean((2, 4))
    np.testing.assert_allclose(group["1"][:], expected, rtol=1e-6)
    for level, entry in enumerate(scales["datasets"]):
        found = {t["type"]: t[t["type"]] for t in entry["coordinateTransformations"]}
        np.testing.assert_allclose(found["scale"], [1, 0.05 * 2**level, 0.05 * 2**level])
        centre = 0.05 * (2**level - 1) / 2  # of the first pixel, from that of the finest level's first
        np.testing.assert_allclose(found.get("translation", [0, 0, 0]), [0, centre, centre])
        assert group[entry["path"]].metadata.dimension_names == ("c", "y", "x")


def _bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_equal_data_equal_bytes(tmp_path, rng):
    data = rng.random((2, 600, 70)).astype(np.float32)
    data[0, :512] = 0  # empty chunks are stored too: one that is missing was lost
    for name in ("a.zarr", "b.zarr"):
        write_image(tmp_path / name, data, axes="TYX", pixel_size_nm=50.0, description={"k": 1})
    one, other = (_bytes(tmp_path / name) for name in ("a.zarr", "b.zarr"))
    assert one == other
    assert sum(name.startswith("0/c/") for name in one) == 4


def test_an_existing_image_is_replaced_by_the_whole_new_one(tmp_path, plane):
    for factor in (1, 2):
        write_image(
            tmp_path / "a.zarr", plane * np.uint16(factor), axes="YX", pixel_size_nm=50.0, description={}
        )
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").data, 2 * plane)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("existed", [False, True])
def test_nothing_half_written_is_left(tmp_path, plane, monkeypatch, existed, exchange):
    path = tmp_path / "a.zarr"
    if existed:
        write_image(path, plane, axes="YX", pixel_size_nm=50.0, description={})
    if not exchange:
        monkeypatch.setattr("dps_jax.io.atomic_folder._exchanged", lambda *_: False)

    def stopped(problem):
        with zarr_writer(path, shape=plane.shape, dtype="f4", axes="YX", description={}) as planes:
            planes.write(0, (0, 9), (0, 9), plane[:9, :9])
            raise problem

    for problem in (KeyboardInterrupt(), ValueError("x")):
        with pytest.raises(type(problem)):
            stopped(problem)
        assert [p.name for p in tmp_path.iterdir()] == (["a.zarr"] if existed else [])
    usual = os.rename
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="disk is full"):
        write_image(path, plane, axes="YX", pixel_size_nm=50.0, description={})
    monkeypatch.undo()
    assert os.rename is usual
    assert [p.name for p in tmp_path.iterdir()] == (["a.zarr"] if existed else [])
    if existed:
        np.testing.assert_array_equal(read_image(path).data, plane)


def test_places_that_are_refused(tmp_path, plane):
    (tmp_path / "other.zarr").write_text("a file")
    (tmp_path / "plain.zarr2").mkdir()
    (tmp_path / "a.zarr").mkdir()
    by_hand(tmp_path / "in.zarr", plane, multiscales(*YX))
    for name, message in (("other.zarr", "is no Zarr image"), ("absent/b.zarr", "create it first")):
        with pytest.raises(UserError, match=message):
            io.check_output(tmp_path / name)
    for name in ("in.zarr", "in.zarr/0/x.zarr"):
        with pytest.raises(UserError, match="the same file as the input"):
            io.check_output(tmp_path / name, inputs=[tmp_path / "in.zarr"])
    with pytest.raises(UserError, match="already exists"):
        io.check_output(tmp_path / "in.zarr", overwrite=False)


@pytest.mark.parametrize("where", ["../outside", "/etc", "0/../../outside", "link", "", 7, "..", "a\\..\\b"])
def test_arrays_outside_the_folder_are_not_opened(tmp_path, plane, where):
    by_hand(tmp_path / "outside.zarr", plane, {})
    os.rename(tmp_path / "outside.zarr" / "0", tmp_path / "outside")
    path = by_hand(tmp_path / "a.zarr", plane, multiscales(*YX, path=where))
    (path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"outside of its own folder|which is not in it"):
        read_image(path)


def _pipe(chunk, _):
    os.mkfifo(chunk)


def _sparse(chunk, _):
    with chunk.open("wb") as file:
        file.truncate(2**40)


FILES = {
    "pipe": (_pipe, "is a pipe or a device"),
    "device": (lambda chunk, _: chunk.symlink_to("/dev/zero"), "is a link that leads out of"),
    "link": (lambda chunk, other: chunk.symlink_to(other), "is a link that leads out of .*cp -rL"),
    "terabyte": (_sparse, r"has 1.1e\+12 bytes, more than"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("options", [{"zarr_format": 2}, {}, {"shards": (24, 20)}], ids=["2", "3", "shards"])
def test_chunks_that_are_no_files_of_the_image(tmp_path, plane, peak, options, kind):
    """They are neither waited for, nor read to their end, nor shown."""
    make, message = FILES[kind]
    for folder in ("a.zarr", "b.zarr"):
        made = zarr.create_array(
            tmp_path / folder, shape=plane.shape, chunks=(12, 20), dtype=plane.dtype, **options
        )
        made[:] = plane
    chunk, other = (sorted((tmp_path / f).rglob("[0-9]*"))[-1] for f in ("a.zarr", "b.zarr"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").data, plane)
    chunk.unlink()
    make(chunk, other)
    with peak(8e6), pytest.raises(UserError, match=message):
        read_image(tmp_path / "a.zarr")


def test_links_within_the_image_are_followed(tmp_path, plane):
    path = by_hand(tmp_path / "a.zarr", plane, multiscales(*YX))
    os.rename(path / "0" / "0.0", path / "pixels")
    (path / "0" / "0.0").symlink_to(path / "pixels")
    np.testing.assert_array_equal(read_image(path).data, plane)


class _Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_pickled_chunks_are_never_loaded(tmp_path, plane, place):
    codec = {"id": "pickle", "protocol": 5}
    array = {place: codec if place == "compressor" else [codec]}
    path = by_hand(tmp_path / "a.zarr", plane, multiscales(*YX), **array)
    (path / "0" / "0.0").write_bytes(pickle.dumps(_Malicious(tmp_path / "ran")))
    with pytest.raises(UserError, match="the codec 'pickle', which is not known here"):
        read_image(path)
    assert not (tmp_path / "ran").exists()


def test_codecs_within_shards_are_looked_at(tmp_path, plane):
    path = tmp_path / "a.zarr"
    array = zarr.create_array(store=str(path), shape=(18, 21), chunks=(9, 7), shards=(18, 21), dtype="u2")
    array[:] = plane
    np.testing.assert_array_equal(read_image(path).data, plane)
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"zstd"', '"numcodecs.pickle"'))
    with pytest.raises(UserError, match="the codec 'pickle'"):
        read_image(path)


def test_bombs_are_refused_before_any_allocation(tmp_path, plane):
    million = {"shape": [10**6, 10**6]}
    path = by_hand(tmp_path / "a.zarr", plane, multiscales(*YX), **million)
    with pytest.raises(UserError, match=r"declares 2e\+03 GB of pixels, more than the limit"):
        read_image(path)
    path = by_hand(tmp_path / "b.zarr", plane, multiscales(*YX), **million | {"chunks": [10**6, 10**6]})
    with pytest.raises(UserError, match=r"stored in chunks of 2e\+03 GB"), open_zarr(path):
        pass
    path = by_hand(tmp_path / "c.zarr", plane, multiscales(*YX), shape=[10**30, 10**30], chunks=[9, 9])
    with pytest.raises(UserError, match=r"2e\+60 bytes of pixels, more than any disk"), open_zarr(path):
        pass


REFUSED = {
    "text": ("zattrs", "no json", "it is not JSON"),
    "list": ("zattrs", "[1]", "a JSON object was expected"),
    "nested": ("zattrs", "[" * 100_000, "it is not JSON"),
    "no multiscales": ("zattrs", '{"a": 1}', "multiscales with axes and datasets"),
    "no datasets": (
        "zattrs",
        json.dumps({"multiscales": [{"axes": ["y", "x"], "datasets": []}]}),
        "multiscales",
    ),
    "other scale": ("zattrs", json.dumps(multiscales(AXES[3:], [1.0])), "multiscales"),
    "three axes": (
        "zattrs",
        json.dumps(multiscales(AXES[2:], [1.0, 1, 1])),
        "names 3 axes for an array of 2",
    ),
    "plate": ("zattrs", '{"plate": {}}', "a plate of many images"),
    "no array": ("zattrs", json.dumps(multiscales(*YX, path="1")), "names the array 1, which is not in it"),
    "no shape": ("zarray", '{"zarr_format": 2}', "damaged or of an unknown kind"),
    "nothing": ("zarray", "", "it is not JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_metadata_that_are_refused(tmp_path, plane, case):
    name, text, message = REFUSED[case]
    path = by_hand(tmp_path / "a.zarr", plane, multiscales(*YX))
    (path / (".zattrs" if name == "zattrs" else "0/.zarray")).write_text(text)
    with pytest.raises(UserError, match=message) as found:
        read_image(path)
    assert str(path) in str(found.value)


@pytest.mark.parametrize("change", ["cut", "complex", "empty", "text", "no folder"])
def test_pixels_that_are_refused(tmp_path, plane, change):
    data = {"complex": plane.astype(np.complex64), "text": plane.astype("U4")}.get(change, plane)
    options = {"shape": [0, 21]} if change == "empty" else {}
    path = by_hand(tmp_path / "a.zarr", data, multiscales(*YX), **options)
    if change == "cut":
        (path / "0" / "0.0").write_bytes(b"\1" * 100)
    if change == "no folder":
        (tmp_path / "b.zarr").mkdir()
        path = tmp_path / "b.zarr"
    message = {"cut": "damaged", "empty": "0 pixels", "no folder": "without Zarr metadata"}.get(
        change, "real ones"
    )
    with pytest.raises(UserError, match=message):
        read_image(path)


def test_without_the_package(tmp_path, plane, monkeypatch):
    path = by_hand(tmp_path / "a.zarr", plane, multiscales(*YX))
    usual = builtins.__import__

    def absent(name, *rest, **options):
        if name.split(".")[0] == "zarr":
            raise ImportError(name)
        return usual(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    for work in (lambda: read_image(path), lambda: io.check_output(tmp_path / "b.zarr")):
        with pytest.raises(UserError, match=r"pip install 'dps-jax\[zarr\]'"):
            work()
