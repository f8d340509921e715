"""Movies frame by frame: what is read is what the file holds, and what was not finished is no TIFF."""

import numpy as np
import pytest
import tifffile

from dps_jax.io import UserError, read_description, read_image
from dps_jax.io.frames import frame_writer, open_movie


@pytest.fixture
def stack(rng):
    return rng.integers(0, 4000, (6, 2, 16, 18)).astype(np.uint16)


def whole(path):
    with open_movie(path) as movie:
        return movie.axes, np.stack([movie.frame(i) for i in range(movie.shape[0])]), movie


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["TZYX", "TCYX", "CTYX"])
def test_frames_are_those_of_the_file(tmp_path, stack, axes, compression):
    data = stack if axes[0] == "T" else stack.swapaxes(0, 1)
    tifffile.imwrite(tmp_path / "m.tif", data, metadata={"axes": axes}, compression=compression)
    found, frames, movie = whole(tmp_path / "m.tif")
    assert found == ("TZYX" if "Z" in axes else "TCYX")
    assert movie.dtype == np.uint16
    np.testing.assert_array_equal(frames, stack)


def test_byte_order_bigtiff_and_pages_written_one_by_one(tmp_path, stack):
    tifffile.imwrite(tmp_path / "m.tif", stack[:, 0], byteorder=">", bigtiff=True)
    np.testing.assert_array_equal(whole(tmp_path / "m.tif")[1][:, 0], stack[:, 0])
    with tifffile.TiffWriter(tmp_path / "n.tif") as tiff:
        for frame in stack[:, 0]:
            tiff.write(frame)
    axes, frames, movie = whole(tmp_path / "n.tif")
    assert axes == "TYX"
    assert "were read as frames" in " ".join(movie.notes)
    np.testing.assert_array_equal(frames[:, 0], stack[:, 0])


def test_z_is_time_where_there_is_no_other(tmp_path, stack):
    tifffile.imwrite(tmp_path / "m.tif", stack[:, 0], imagej=True, metadata={"axes": "ZYX"})
    axes, frames, movie = whole(tmp_path / "m.tif")
    assert (axes, frames.shape) == ("TYX", (6, 1, 16, 18))
    assert any("z was read as time" in note for note in movie.notes)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_written_frames_read_back(tmp_path, rng, kind):
    data = (60 + 50 * rng.standard_normal((3, 2, 9, 12))).clip(0).astype(kind)
    with frame_writer(
        tmp_path / "m.tif",
        shape=data.shape,
        dtype=kind,
        axes="TZYX",
        description={"a": 1},
        pixel_size_nm=500.0,
        z_step_nm=2000.0,
        frame_interval_s=0.1,
    ) as write:
        for index in (2, 0, 1):
            write(index, data[index])
    image = read_image(tmp_path / "m.tif")
    assert (image.axes, image.data.dtype) == ("TZYX", np.dtype(kind))
    np.testing.assert_array_equal(image.data, data)
    assert (image.z_step_nm, image.frame_interval_s) == pytest.approx((2000, 0.1))
    assert image.pixel_size_nm == pytest.approx(500, rel=1e-4)
    assert read_description(tmp_path / "m.tif") == {"a": 1}


def test_beyond_4_gb_the_file_is_a_bigtiff(tmp_path, peak):
    # The file is sparse: what is not written takes no room on the disk.
    shape, frame = (1100, 2048, 1024), np.full((2048, 1024), 7, np.uint16)
    with frame_writer(tmp_path / "m.tif", shape=shape, dtype=np.uint16, axes="TYX", description={}) as write:
        write(1099, frame)
    with open_movie(tmp_path / "m.tif") as movie:
        assert movie.shape == (1100, 1, 2048, 1024)
        # One frame, its copy and the comparison, of 4.6 GB.
        with peak(10 * frame.nbytes):
            np.testing.assert_array_equal(movie.frame(1099)[0], frame)
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        assert file.is_bigtiff


def test_nothing_unfinished_is_a_tiff(tmp_path, stack):
    path = tmp_path / "m.tif"

    def stopped():
        shape = stack[:, 0].shape
        with frame_writer(path, shape=shape, dtype=stack.dtype, axes="TYX", description={}) as write:
            write(0, stack[0, 0])
            (left,) = tmp_path.iterdir()
            with pytest.raises(tifffile.TiffFileError):
                tifffile.TiffFile(left)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not list(tmp_path.iterdir())


def test_a_damaged_page_is_named(tmp_path, stack):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack[:, 0], compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[3].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 20)
    with open_movie(path) as movie:
        movie.frame(2)
        with pytest.raises(UserError, match=r"frame 4 of .* is damaged"):
            movie.frame(3)


def test_refused(tmp_path, stack):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(stack[0, 0])
        tiff.write(stack[0, 0, 1:])
    with pytest.raises(UserError, match="pages of different size"), open_movie(path):
        pass
    tifffile.imwrite(path, stack[0], imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(UserError, match="and no time"), open_movie(path):
        pass
    path.write_bytes(b"")
    with pytest.raises(UserError, match="empty file"), open_movie(path):
        pass
