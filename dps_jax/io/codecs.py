"""Does a compressed part of a TIFF unpack to what the file declares? Asked before it is unpacked.

A decoder that is told how much to expect (LZW, deflate, zstd and their kind) refuses more by itself. Picture formats
inside a TIFF carry sizes of their own: 500 bytes of JPEG 2000 can ask for 10 GB. Those sizes are read here from their
headers (ITU-T T.81 for JPEG, T.800 for JPEG 2000, RFC 2083 for PNG).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from .errors import UserError

_JPEG, _JPEG_2000, _PNG = (6, 7, 33007), (33003, 33004, 33005, 34712), (34933,)
# Compressions whose decoders are told the size: none, CCITT, LZW, deflate, PackBits, LZMA, zstd.
_BOUNDED = (1, 2, 3, 4, 5, 8, 32946, 50013, 32773, 32809, 34925, 34926, 50000)
# Encoders pad to whole blocks; beyond this many times the pixels that the TIFF declares it is another picture.
_PADDING = 4


def check_codec(path: Path, number: int, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Refuse pictures in page ``number`` (from 0) that are larger than declared, or whose size cannot be read.

    Raises
    ------
    UserError
        For such a picture, and for compressions that no microscope is known to write intensities in.
    """
    key = page.keyframe
    code = int(key.compression)
    if code in _BOUNDED:
        return
    if code not in (*_JPEG, *_JPEG_2000, *_PNG):
        name = getattr(key.compression, "name", str(code))
        raise UserError(
            f"{path} is compressed by {name}, whose size cannot be checked before it is unpacked; export it "
            "uncompressed, or with LZW or deflate."
        )
    read = _png_size if code in _PNG else _jpeg_2000_size if code in _JPEG_2000 else _jpeg_size
    declared = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
    handle = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        handle.seek(offset)
        size = read(handle.read(count))
        if size is None or np.prod(size, dtype=object) > _PADDING * np.prod(declared, dtype=object):
            found = "one of unknown size" if size is None else f"one of {size[0]}x{size[1]} px"
            raise UserError(
                f"{path} is damaged: plane {number + 1} declares pictures of {declared[0]}x{declared[1]} px and holds "
                f"{found}; export it again."
            )


def _pair(data: bytes, place: int, width: int) -> tuple[int, int] | None:
    """Return two big-endian numbers of ``width`` bytes."""
    if len(data) < place + 2 * width:
        return None
    parts = (data[place : place + width], data[place + width : place + 2 * width])
    return int.from_bytes(parts[0], "big"), int.from_bytes(parts[1], "big")


def _png_size(data: bytes) -> tuple[int, int] | None:
    size = _pair(data, 16, 4) if data[12:16] == b"IHDR" else None
    return size[::-1] if size else None


def _jpeg_2000_size(data: bytes) -> tuple[int, int] | None:
    """Read the image and tile size segment, which every codestream begins with."""
    start = data.find(b"\xff\x4f\xff\x51")
    size = _pair(data, start + 8, 4) if start >= 0 else None
    return size[::-1] if size else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walk the markers to the start of a frame; the largest of several counts."""
    found, place = None, 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xFF:  # fill
            place += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            found = max(filter(None, (found, _pair(data, place + 5, 2))), default=None, key=np.prod)
        if marker in (0xDA, 0xD9):  # the pixels, or the end
            break
        place += 2 + length
    return found
