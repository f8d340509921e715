"""Chunks of a Zarr array that unpack to what its metadata declare, and to no more.

A few kilobytes may hold gigabytes, and decoders take the memory before anyone can compare. So each of them is wrapped
for reading: of a format that tells its size the size is looked at first, and the others are unpacked here, up to the
size that is expected. Chunks within shards have the same codecs, and are met alike.
"""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zarr
from numcodecs.abc import Codec
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.storage import StorePath

from .errors import UserError

# Checksums, the index of a shard, and what a compressor adds to noise that another one is given.
_SPARE_BYTES, _SPARE_SHARE = 2**16, 8
# Filters of Zarr 2 may store numbers of one byte as ones of eight.
_WIDEST = 8
# Of a chunk within a shard: its place in the index, a checksum, and what a compressor adds.
_BESIDE_EACH = 256


def bounded(path: Path, array: Any) -> Any:
    """Return a Zarr array that reads as ``array`` does, but refuses chunks that unpack to more than declared.

    ``array`` is one of :class:`ImageFiles`, which are held to what such chunks can take, packed. What reads it then
    raises :class:`UserError`, which names ``path``.
    """
    metadata, place = array.metadata, array.store_path
    if metadata.zarr_format == 2:
        declared = int(np.prod(array.chunks, dtype=object)) * np.dtype(array.dtype).itemsize
        bound = _Bound(path, declared, _WIDEST if metadata.filters else 1)
        filters = metadata.filters and [_of_version_2(codec, bound) for codec in metadata.filters]
        metadata = replace(metadata, filters=filters, compressor=_of_version_2(metadata.compressor, bound))
    else:
        metadata = replace(metadata, codecs=[_of_version_3(c, path) for c in metadata.codecs])
    return zarr.Array(
        zarr.AsyncArray(metadata, StorePath(place.store.at_most(_largest_file(array)), place.path))
    )


def _largest_file(array: Any) -> int:
    """Return the most bytes that a file of chunks can have, whatever packs them."""
    stored = int(np.prod(array.shards or array.chunks, dtype=object))
    numbers = stored * np.dtype(array.dtype).itemsize * _WIDEST
    count = stored // max(int(np.prod(array.chunks, dtype=object)), 1)
    return numbers + numbers // _SPARE_SHARE + _SPARE_BYTES + _BESIDE_EACH * count


def _of_version_2(codec: Any, bound: _Bound) -> Any:
    return _OfVersion2(codec, bound) if getattr(codec, "codec_id", None) in _FORMATS else codec


def _of_version_3(codec: Any, path: Path) -> Any:
    if isinstance(codec, ShardingCodec):
        return replace(codec, codecs=tuple(_of_version_3(inner, path) for inner in codec.codecs))
    return _OfVersion3(codec, path) if _name(codec) in _FORMATS else codec


def _name(codec: Any) -> str:
    return str(codec.to_dict()["name"]).removeprefix("numcodecs.")


@dataclass(frozen=True)
class _Bound:
    """How much a chunk may unpack to, and what is said of one that holds more."""

    path: Path
    declared: int
    widest: int = 1

    @property
    def most(self) -> int:
        """Return the most bytes that an honest chunk can have at any place of the chain of codecs."""
        return self.declared * self.widest + self.declared // _SPARE_SHARE + _SPARE_BYTES

    def unpack(self, name: str, options: dict[str, Any], data: Any) -> bytes | None:
        """Return a chunk unpacked, or None where that can be left to the compressor itself."""
        content, found = memoryview(data).cast("B"), None
        if name in _TOLD:
            size = _TOLD[name](content)
        else:
            found = _UNPACKING[name](content, self.most + 1, options)
            size = len(found)
        if size > self.most:
            raise UserError(
                f"{self.path} is damaged: a chunk of it unpacks to more than the {self.declared} bytes that its "
                "metadata declare; copy or export it again."
            )
        return found


class _OfVersion2(Codec):
    """Stands in the place of a compressor of Zarr 2."""

    codec_id = "bounded"  # of the class; each has that of its compressor

    def __init__(self, codec: Any, bound: _Bound) -> None:
        self._codec, self._bound = codec, bound
        self.codec_id = codec.codec_id

    def get_config(self) -> dict[str, Any]:
        """Describe the compressor itself."""
        about: dict[str, Any] = self._codec.get_config()
        return about

    def encode(self, buf: Any) -> Any:
        """Pack a chunk."""
        return self._codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Unpack a chunk."""
        found = self._bound.unpack(self.codec_id, self.get_config(), buf)
        return self._codec.decode(buf, out) if found is None else found


@dataclass(frozen=True)
class _OfVersion3(BytesBytesCodec):
    """Stands in the place of a compressor of Zarr 3, which is told the size with each chunk."""

    codec: Any
    path: Path
    is_fixed_size = False

    def to_dict(self) -> dict[str, Any]:
        """Describe the compressor itself."""
        about: dict[str, Any] = self.codec.to_dict()
        return about

    def evolve_from_array_spec(self, array_spec: Any) -> _OfVersion3:
        """Fill in what the compressor takes from the array."""
        return replace(self, codec=self.codec.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Raise what the compressor raises: its size is not known before."""
        return int(self.codec.compute_encoded_size(input_byte_length, chunk_spec))

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        options = self.to_dict().get("configuration", {})
        itemsize = chunk_spec.dtype.to_native_dtype().itemsize
        bound = _Bound(self.path, int(np.prod(chunk_spec.shape, dtype=object)) * itemsize)
        found = await asyncio.to_thread(bound.unpack, _name(self), options, chunk_data.as_numpy_array())
        if found is None:
            return await self.codec._decode_single(chunk_data, chunk_spec)
        return chunk_spec.prototype.buffer.from_bytes(found)


def _blosc_size(content: memoryview) -> int:
    """Return the size in the header, and refuse a chunk that ends early: the decoder would read on behind it."""
    packed = int.from_bytes(content[12:16], "little")
    if len(content) < max(packed, 16):
        raise ValueError("a chunk is cut short")
    return int.from_bytes(content[4:8], "little")


def _unpack_zstd(content: memoryview, most: int, _: dict[str, Any]) -> bytes:
    """Unpack all frames; the first may tell its size, and say nothing of those that follow."""
    try:
        return bytes(imagecodecs.zstd_decode(bytes(content), out=most))
    except imagecodecs.ZstdError as problem:
        if "too small" not in str(problem):
            raise
        return bytes(most)


def _unpack_zlib(content: memoryview, most: int, _: dict[str, Any]) -> bytes:
    decoder = zlib.decompressobj()
    found = decoder.decompress(content, most)
    if len(found) < most and not decoder.eof:
        raise ValueError("a chunk is cut short")
    return found


def _unpack_lzma(content: memoryview, most: int, options: dict[str, Any]) -> bytes:
    kind, filters = options.get("format", lzma.FORMAT_XZ), options.get("filters")
    return lzma.LZMAFile(io.BytesIO(content), format=kind, filters=filters).read(most)


# Formats that tell the size, which their decoders keep to.
_TOLD: dict[str, Callable[[memoryview], int]] = {
    "blosc": _blosc_size,
    "lz4": lambda content: int.from_bytes(content[:4], "little"),
}
# Others: content, the most bytes to return, the compressor's options -> bytes.
_UNPACKING: dict[str, Callable[[memoryview, int, dict[str, Any]], bytes]] = {
    "zstd": _unpack_zstd,
    "zlib": _unpack_zlib,
    "lzma": _unpack_lzma,
    "gzip": lambda content, most, _: gzip.GzipFile(fileobj=io.BytesIO(content)).read(most),
    "bz2": lambda content, most, _: bz2.BZ2File(io.BytesIO(content)).read(most),
}
_FORMATS = {*_TOLD, *_UNPACKING}
