"""Chunks of an OME-Zarr that unpack to far more than its metadata declare: refused before they get the memory."""

import json

import numpy as np
import pytest

from dps_jax.io import UserError, read_image

zarr = pytest.importorskip("zarr")
numcodecs = pytest.importorskip("numcodecs")  # comes with it

LARGE, SMALL = (6000, 5000), (24, 20)
PEAK = 6e6  # a fifth of what is packed
REFUSED = r"a\.zarr is damaged: a chunk of it unpacks to more than the \d+ bytes that its metadata declare"


V2 = {
    "blosc": numcodecs.Blosc(),
    "zstd": numcodecs.Zstd(),
    "lz4": numcodecs.LZ4(),
    "gzip": numcodecs.GZip(),
    "zlib": numcodecs.Zlib(),
    "bz2": numcodecs.BZ2(),
    "lzma": numcodecs.LZMA(preset=0),
    "lzma alone": numcodecs.LZMA(format=2, preset=0),
}
V3 = {
    "blosc": lambda: zarr.codecs.BloscCodec(),
    "zstd": lambda: zarr.codecs.ZstdCodec(),
    "gzip": lambda: zarr.codecs.GzipCodec(),
    "lz4": lambda: zarr.codecs.numcodecs.LZ4(),
    "zlib": lambda: zarr.codecs.numcodecs.Zlib(),
    "bz2": lambda: zarr.codecs.numcodecs.BZ2(),
    "lzma": lambda: zarr.codecs.numcodecs.LZMA(preset=0),
}


def version_2(path, shape, compressor, **more):
    zarr.create_array(
        path,
        shape=shape,
        chunks=shape,
        dtype="u1",
        zarr_format=2,
        compressors=compressor,
        fill_value=9,
        **more,
    )[:] = image(shape)


def version_3(path, shape, *compressors, chunks=None, shards=None):
    zarr.create_array(
        path,
        shape=shape,
        chunks=chunks or shape,
        shards=shards,
        dtype="u1",
        compressors=compressors,
        fill_value=9,
    )[:] = image(shape)


def halves(shape):
    return shape[0], shape[1] // 2


def image(shape):
    found = np.zeros(shape, np.uint8)
    found[:24, :20] = np.arange(480).reshape(24, 20) % 251
    return found


CASES = (
    {f"version 2, {name}": lambda p, s, c=codec: version_2(p, s, c) for name, codec in V2.items()}
    | {f"version 3, {name}": lambda p, s, c=codec: version_3(p, s, c()) for name, codec in V3.items()}
    | {
        f"shards, {name}": lambda p, s, c=V3[name]: version_3(p, s, c(), chunks=halves(s), shards=s)
        for name in ("blosc", "zstd", "gzip")
    }
    | {
        "a filter of version 2": lambda p, s: version_2(p, s, None, filters=[numcodecs.Zlib()]),
        "packed twice": lambda p, s: version_3(p, s, V3["gzip"](), V3["zstd"]()),
    }
)


def declare(path, sizes):
    """Change the sizes that the metadata declare."""
    (where,) = (path / name for name in (".zarray", "zarr.json") if (path / name).is_file())

    def changed(value):
        if isinstance(value, dict):
            return {k: changed(v) for k, v in value.items()}
        if isinstance(value, list):
            return [changed(v) for v in value]
        return sizes.get(value, value) if isinstance(value, int) else value

    where.write_text(json.dumps(changed(json.loads(where.read_text()))))


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize("case", CASES)
def test_chunks_that_unpack_to_more_than_declared(tmp_path, peak, case):
    """30 MB in a chunk of 480 bytes; the same, honestly declared, is read."""
    path = tmp_path / "a.zarr"
    CASES[case](path, LARGE)
    np.testing.assert_array_equal(read_image(path).data, image(LARGE))
    declare(path, {6000: 24, 5000: 20, 2500: 10})
    with peak(PEAK), pytest.raises(UserError, match=REFUSED):
        read_image(path)
    CASES[case](tmp_path / "small.zarr", SMALL)
    np.testing.assert_array_equal(read_image(tmp_path / "small.zarr").data, image(SMALL))


def zstd_of_unknown_size(count):
    """Return a Zstandard frame without a size (RFC 8878): so many blocks of 128 kB, in 4 bytes each."""
    block = 2**17
    blocks = [(((i == count - 1) | 1 << 1 | block << 3).to_bytes(3, "little") + b"\7") for i in range(count)]
    return b"\x28\xb5\x2f\xfd\x00\x70" + b"".join(blocks)


def with_chunk(path, content, shape=SMALL):
    version_2(path, shape, numcodecs.Zstd())
    (path / "0.0").write_bytes(content)
    return path


def test_frames_without_a_size_are_unpacked_to_the_end_of_the_chunk(tmp_path, peak):
    honest = with_chunk(tmp_path / "honest.zarr", zstd_of_unknown_size(2), (512, 512))
    assert (read_image(honest).data == 7).all()
    frames = b"".join(numcodecs.Zstd().encode(bytes([i]) * 240) for i in range(2))
    several = with_chunk(tmp_path / "several.zarr", frames)
    np.testing.assert_array_equal(np.unique(read_image(several).data, return_counts=True)[1], [240, 240])
    path = with_chunk(tmp_path / "a.zarr", zstd_of_unknown_size(240))
    with peak(PEAK), pytest.raises(UserError, match=REFUSED):
        read_image(path)


@pytest.mark.parametrize(
    "first",
    [numcodecs.Zstd().encode(bytes(480)), b"\x50\x2a\x4d\x18\x04\0\0\0skip"],
    ids=["known", "skipped"],
)
def test_frames_after_the_first_count(tmp_path, peak, first):
    path = with_chunk(tmp_path / "a.zarr", bytes(first) + zstd_of_unknown_size(240))
    with peak(PEAK), pytest.raises(UserError, match=r"a\.zarr is damaged"):
        read_image(path)


@pytest.mark.parametrize("name", V2)
def test_chunks_that_are_cut_short(tmp_path, name):
    path = tmp_path / "a.zarr"
    version_2(path, SMALL, V2[name])
    content = (path / "0.0").read_bytes()
    for end in {0, 1, 3, 5, 9, len(content) // 2, len(content) - 1}:
        (path / "0.0").write_bytes(content[:end])
        with pytest.raises(UserError, match=r"a\.zarr is damaged"):
            read_image(path)
