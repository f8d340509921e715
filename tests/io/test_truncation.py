"""A file cut anywhere, or damaged, is refused or read right: no pixel is ever made up."""

import numpy as np
import pytest
import tifffile

from dps_jax import io

# Cut positions as fractions of the file, from the header to the last bytes.
CUTS = [*np.linspace(0.0, 1.0, 38, endpoint=False), -1, -2, -8]


def _uncompressed(path, data):
    tifffile.imwrite(path, data[0], resolution=(1e5, 1e5), resolutionunit="CENTIMETER")


def _deflate(path, data):
    tifffile.imwrite(path, data[0], compression="zlib", rowsperstrip=4)


def _pages(path, data):
    with tifffile.TiffWriter(path) as file:
        for plane in data:
            file.write(plane, contiguous=False, metadata=None)


def _shaped(path, data):
    tifffile.imwrite(path, data, photometric="minisblack", metadata={"axes": "TYX"})


def _imagej(path, data):
    tifffile.imwrite(path, data, imagej=True, resolution=(10, 10), metadata={"axes": "TYX", "unit": "um"})


def _ome(path, data):
    tifffile.imwrite(path, data, ome=True, photometric="minisblack", metadata={"axes": "TYX"})


def _big_tiles(path, data):
    tifffile.imwrite(path, data[0], bigtiff=True, tile=(16, 16), compression="lzw")


WRITERS = [_uncompressed, _deflate, _pages, _shaped, _imagej, _ome, _big_tiles]


@pytest.fixture
def stack(rng):
    return rng.integers(1, 4000, (3, 24, 20)).astype(np.uint16)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("write", WRITERS)
def test_cut_files(tmp_path, stack, write, cut):
    path = tmp_path / "a.tif"
    write(path, stack)
    whole, content = io.read_image(path), path.read_bytes()
    keep = int(cut * len(content)) if cut >= 0 else len(content) + cut
    path.write_bytes(content[:keep])
    try:
        image = io.read_image(path)
    except io.UserError:
        return
    # Only what follows the last pixel and the last tag can be missing unnoticed.
    np.testing.assert_array_equal(image.data, whole.data)
    assert (image.axes, image.pixel_size_yx_nm) == (whole.axes, whole.pixel_size_yx_nm)


@pytest.mark.parametrize("write", WRITERS)
def test_cut_within_the_pixels_is_refused(tmp_path, stack, write):
    path = tmp_path / "a.tif"
    write(path, stack)
    with tifffile.TiffFile(path) as file:
        last = file.pages[-1]
        end = last.dataoffsets[-1] + last.databytecounts[-1]
    path.write_bytes(path.read_bytes()[: end - 1])
    with pytest.raises(io.UserError, match="cut short"):
        io.read_image(path)


def test_directory_at_the_end(raw_tiff, stack):
    path = raw_tiff(stack[0])
    content = path.read_bytes()
    for keep in range(0, len(content), 7):
        path.write_bytes(content[:keep])
        with pytest.raises(io.UserError):
            io.read_image(path)


def test_lost_metadata_is_a_cut_too(raw_tiff, stack):
    """The pixels are complete, but the description at the end of the file, with the pixel size, is not."""
    tags = {270: ("s", b"ImageJ=1.53c\nunit=um\n\0"), 282: ("2I", (10, 1)), 283: ("2I", (10, 1))}
    path = raw_tiff(stack[0], tags=tags)
    assert io.read_image(path).pixel_size_nm == 100.0
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(io.UserError, match=r"cut short .* tag 283"):
        io.read_image(path)


def test_stack_under_one_directory(tmp_path, stack):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "TYX"}, truncate=True)
    np.testing.assert_array_equal(io.read_image(path).data, stack)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(io.UserError, match=f"cut short .* declares {stack.nbytes} bytes"):
        io.read_image(path)


def test_imagej_stack_without_page_directories(raw_tiff, stack):
    """ImageJ describes a stack over 4 GB by its first page alone; tifffile then returns that page, if cut."""
    text = b"ImageJ=1.53c\nimages=3\nframes=3\nhyperstack=true\n\0"
    path = raw_tiff(stack, planes_per_page=1, tags={270: ("s", text)})
    image = io.read_image(path)
    assert image.axes == "TYX"
    np.testing.assert_array_equal(image.data, stack)
    path = raw_tiff(stack[:2], planes_per_page=1, tags={270: ("s", text)})
    with pytest.raises(io.UserError, match=r"3 planes"):
        io.read_image(path)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd", "lzma"])
def test_strip_that_ends_early(tmp_path, stack, compression):
    """The strip lies in the file, but its stream was cut: a decoder must not fill the rest with zeros."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack[0], compression=compression)
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags["StripByteCounts"]
        tag.overwrite(tag.value[0] * 2 // 3)
    with pytest.raises(io.UserError, match="damaged"):
        io.read_image(path)


def test_flipped_bytes_bring_no_other_error(tmp_path, rng, stack):
    """200 files with one wrong byte each: an image or a UserError, and nothing else."""
    path, refused = tmp_path / "a.tif", 0
    for write in (_imagej, _deflate, _pages, _big_tiles):
        write(path, stack)
        content = path.read_bytes()
        for position in rng.integers(0, min(len(content), 1500), 50):
            damaged = bytearray(content)
            damaged[position] ^= int(rng.integers(1, 256))
            path.write_bytes(damaged)
            try:
                assert io.read_image(path, max_bytes=10**7).data.ndim in (2, 3, 4)
            except io.UserError:
                refused += 1
    assert refused > 20  # a reader that took everything would prove nothing
