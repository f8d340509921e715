"""Small files that ask for much memory, time or other files: refused before anything is given to them.

The whole program runs under a limit of the operating system on its memory; a refusal that came after the allocation
would be a MemoryError there, and say so.
"""

import io as streams
import os
import subprocess
import sys
import zipfile

import imagecodecs
import numpy as np
import pytest
import tifffile

from dps_jax import io
from dps_jax.io.arrays import read_arrays
from dps_jax.io.frames import open_movie
from dps_jax.io.parameters import read_parameters

PLANE = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
GIANT = {256: ("I", 10**6), 257: ("I", 10**6)}
OME = b'<?xml version="1.0"?>%b<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"%b><Image ID="Image:0" %b>'
OME += (
    b'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="20" SizeY="24" SizeC="1" SizeZ="1" '
)
OME += b'SizeT="1"><TiffData>%b</TiffData></Pixels></Image></OME>\0'
LAUGHS = b"<!DOCTYPE l [<!ENTITY a0 'ha'>%b]>" % b"".join(
    b"<!ENTITY a%d '%b'>" % (i, b"&a%d;" % (i - 1) * 10) for i in range(1, 12)
)


def _segment(content, code, declared=(24, 20)):
    """Tags of a page of 8 bits whose only strip holds ``content`` compressed by ``code``."""
    return {
        256: ("I", declared[1]),
        257: ("I", declared[0]),
        258: ("H", 8),
        259: ("H", code),
        278: ("I", declared[0]),
        279: ("I", len(content)),
        339: ("H", 1),
    }


def _bytes(content):
    return np.frombuffer(content + bytes(len(content) % 2), np.uint8)[None]


def _declared(code):
    return lambda raw: raw(PLANE, tags={**GIANT, 259: ("H", code), 278: ("I", 10**6)})


def _packed(code, encode):
    """Far more than the page declares, in one strip."""

    def make(raw):
        content = encode(np.zeros((3000, 3000), np.uint8))
        return raw(_bytes(content), tags=_segment(content, code))

    return make


def _flat(encode):
    return lambda pixels: encode(pixels.tobytes())


def _ome(*parts):
    return lambda raw: raw(PLANE, tags={270: ("s", OME % parts)})


BOMBS = {  # how to make it, and what is said; None where it is read as what it declares
    "declared": (_declared(1), "2e.03 GB of pixels|fewer bytes"),
    "declared, lzw": (_declared(5), "2e.03 GB of pixels"),
    "declared, deflate": (_declared(8), "2e.03 GB of pixels"),
    "declared, zstd": (_declared(50000), "2e.03 GB of pixels"),
    "declared, jpeg": (_declared(7), "2e.03 GB of pixels"),
    "packed, lzw": (_packed(5, _flat(imagecodecs.lzw_encode)), None),
    "packed, deflate": (_packed(8, _flat(imagecodecs.deflate_encode)), "damaged"),
    "packed, zstd": (_packed(50000, _flat(imagecodecs.zstd_encode)), "damaged"),
    "packed, lzma": (_packed(34925, _flat(imagecodecs.lzma_encode)), None),
    "packed, jpeg": (_packed(7, imagecodecs.jpeg_encode), "24x20 px and holds one of 3000x3000"),
    "packed, jpeg 2000": (_packed(33003, imagecodecs.jpeg2k_encode), "24x20 px and holds one of 3000x3000"),
    "packed, png": (_packed(34933, imagecodecs.png_encode), "24x20 px and holds one of 3000x3000"),
    "packed, jpeg xl": (_packed(50002, imagecodecs.jpegxl_encode), "compressed by JPEGXL"),
    "jpeg without a size": (
        lambda raw: raw(_bytes(b"\xff\xd8\xff\xd9"), tags=_segment(b"1234", 7)),
        "unknown size",
    ),
    "jpeg of nothing": (lambda raw: raw(_bytes(b"\xff"), tags=_segment(b"1", 7)), "unknown size"),
    "entities in the xml": (_ome(LAUGHS, b"", b'Name="&a11;"', b""), None),
    "other file": (
        _ome(b"", b' UUID="a"', b"", b'<UUID FileName="pipe.tif">b</UUID>'),
        "planes are in 'pipe.tif'",
    ),
    "absolute path": (
        _ome(b"", b"", b"", b'<UUID FileName="/dev/zero">b</UUID>'),
        "planes are in '/dev/zero'",
    ),
    "path upwards": (_ome(b"", b' UUID="a"', b"", b'<UUID FileName="../x.tif">b</UUID>'), "'../x.tif'"),
    "sub-directory loop": (lambda raw: raw(PLANE, tags={330: ("I", 8 + PLANE.nbytes)}), None),
    "page loop": (lambda raw: raw(PLANE, next_offset=8 + PLANE.nbytes), "returns to page 1"),
}


def _read_movie(path):
    with open_movie(path) as movie:
        return movie.frame(0)[0]


READERS = {"image": lambda path: io.read_image(path).data, "movie": _read_movie}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", BOMBS)
def test_bombs(raw_tiff, tmp_path, peak, case, reader):
    make, message = BOMBS[case]
    os.mkfifo(tmp_path / "pipe.tif")  # whoever opens it waits for ever
    path = make(raw_tiff)
    with peak(8e6):  # a thousandth of what the smallest of them asks for, or less
        if message is None:
            assert READERS[reader](path).shape == (24, 20)
        else:
            with pytest.raises(io.UserError, match=message) as problem:
                READERS[reader](path)
            assert "MemoryError" not in str(problem.value)


@pytest.mark.parametrize(
    "options", [{"compression": "jpeg"}, {"compression": "jpeg", "tile": (16, 16)}, {"compression": "png"}]
)
def test_honest_pictures_are_read(tmp_path, options):
    data = (PLANE % 251).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    found = io.read_image(tmp_path / "a.tif").data
    assert found.shape == data.shape
    assert np.corrcoef(found.ravel(), data.ravel())[0, 1] > 0.9  # JPEG is lossy


def test_honest_jpeg_2000_is_read(raw_tiff):
    content = imagecodecs.jpeg2k_encode((PLANE % 251).astype(np.uint8), reversible=True)
    path = raw_tiff(_bytes(content), tags=_segment(content, 33003))
    np.testing.assert_array_equal(io.read_image(path).data, PLANE % 251)


def test_many_pages_take_no_long(tmp_path, peak):
    """1,500 pages of 4 pixels in one file."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(1500):
            file.write(np.zeros((2, 2), np.uint8), contiguous=False, metadata=None)
    with peak(3e7):
        assert io.read_image(tmp_path / "a.tif").data.shape == (1500, 2, 2)


@pytest.mark.parametrize(
    "read", [io.read_image, read_parameters, lambda p: read_arrays(p, ["a"]), _read_movie]
)
def test_pipes_and_devices_are_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(io.UserError, match="is a pipe or a device, but a file was expected"):
            read(path)


def test_an_archive_that_unpacks_to_much(tmp_path, monkeypatch, peak):
    """40 MB of zeros in 40 kB, where 30 MB are free."""
    header = streams.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**7,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", header.getvalue() + bytes(4 * 10**7))
    monkeypatch.setattr("dps_jax.io.arrays.available_bytes", lambda: 3 * 10**7)
    with peak(4e6), pytest.raises(io.UserError, match=r"unpack to 0\.04 GB, more than half"):
        read_arrays(tmp_path / "a.npz", ["a"])


COMMANDS = """
import contextlib, io, os, resource, sys
from dps_jax.cli import main
from dps_jax.cli import restore, solve, evaluate, sim, register, train
import dps_jax.pipelines.restore_file, dps_jax.pipelines.solve_file, dps_jax.pipelines.evaluate_file
import dps_jax.pipelines.sim_file, dps_jax.pipelines.register_file, dps_jax.training.loop
import jax
jax.block_until_ready(jax.numpy.ones(3))
used = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
optics = ["--na", "1.4", "--wavelength-nm", "525", "--pixel-size-nm", "65"]
for name in sys.argv[1:]:
    for words in (
        ["restore", name, "-o", "out.tif", *optics],
        ["solve", "richardson-lucy", name, "-o", "out.tif", *optics],
        ["solve", "rolling-ball", "good.tif", "-o", "out.tif", "--psf", name, *optics],
        ["solve", "wiener", "good.tif", "-o", "out.tif", "--psf", name, *optics],
        ["evaluate", name, "--raw", "good.tif"],
        ["evaluate", "good.tif", "--raw", name],
        ["sim", name, "-o", "out.tif"],
        ["sim", "good.tif", "-o", "out.tif", "--otf", name],
        ["register", name, "-o", "out.tif"],
        ["register", "good.tif", "-o", "out.tif", "--reference", name],
        ["train", "-o", "w.safetensors", "--images.folder", os.path.dirname(name), "--images.na", "1.4",
         "--images.wavelength-nm", "525"],
    ):
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(words)
        print(code, "|", " ".join(words[:3]), "|", said.getvalue().strip().splitlines()[-1])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_every_command_under_a_memory_limit(raw_tiff, tmp_path):
    """512 MB more than the program has when it has started, where the files ask for 2 TB."""
    names = []
    for case in ("declared", "declared, lzw", "packed, jpeg 2000"):
        folder = tmp_path / case.replace(", ", "-").replace(" ", "-")
        folder.mkdir()
        names.append(str(BOMBS[case][0](raw_tiff).rename(folder / "bomb.tif")))
    stack = np.random.default_rng(0).poisson(20.0, (9, 64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "good.tif", stack, imagej=True, metadata={"axes": "TYX"})
    ran = subprocess.run(
        [os.environ.get("DPS_JAX_PYTHON", sys.executable), "-c", COMMANDS, *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line.split(" | ") for line in ran.stdout.splitlines()]
    assert len(lines) == 11 * len(names)
    assert "Traceback" not in ran.stderr
    for code, words, said in lines:
        unused = words.startswith("solve rolling-ball")  # has no PSF, so the file is not looked at
        assert code == ("0" if unused else "2"), (words, said)
        assert unused or "bomb.tif" in said, (words, said)
        assert "MemoryError" not in said, (words, said)
        assert "not enough memory" not in said, (words, said)
    assert not (tmp_path / "w.safetensors").exists()
