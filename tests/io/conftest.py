"""Files written by tifffile or by hand, never by the package's own writer."""

import struct

import numpy as np
import pytest

_TYPES = {"H": (3, 2), "I": (4, 4), "s": (2, 1), "2I": (5, 8)}


def _entry(order, code, kind, value, tail, start):
    """Return one 12-byte directory entry; a value that does not fit goes to ``tail``, placed at ``start``."""
    number, size = _TYPES[kind]
    if kind == "s":
        count, packed = len(value), bytes(value)
    else:
        values = value if isinstance(value, (tuple, list)) else (value,)
        count = len(values) // len(kind)
        packed = struct.pack(f"{order}{len(values)}{kind[-1]}", *values)
    assert len(packed) == count * size
    if len(packed) <= 4:
        return struct.pack(order + "HHI", code, number, count) + packed.ljust(4, b"\0")
    tail += b"\0" * (len(tail) % 2)
    where = start + len(tail)
    tail += packed
    return struct.pack(order + "HHII", code, number, count, where)


def build_tiff(data, *, order="<", tags=(), next_offset=0, planes_per_page=None):
    """Return a classic TIFF of one page whose directory follows the pixels, as many microscopes write it.

    ``tags`` maps a code to (kind, value) and replaces the usual one.
    """
    data = np.asarray(data)
    plane = data if data.ndim == 2 or planes_per_page is None else data[0]
    pixels = data.astype(data.dtype.newbyteorder(order)).tobytes()
    height, width = plane.shape[-2:]
    formats = {"u": 1, "i": 2, "f": 3, "c": 6}
    fields = {
        256: ("H", width),
        257: ("H", height),
        258: ("H", data.dtype.itemsize * 8),
        259: ("H", 1),
        262: ("H", 1),
        273: ("I", 8),
        277: ("H", 1),
        278: ("H", max(height, 1)),
        279: ("I", plane.nbytes),
        339: ("H", formats[data.dtype.kind]),
        **dict(tags),
    }
    where = 8 + len(pixels) + len(pixels) % 2
    tail, start = bytearray(), where + 2 + 12 * len(fields) + 4
    entries = b"".join(_entry(order, code, *fields[code], tail, start) for code in sorted(fields))
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, where)
    directory = struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", next_offset)
    return head + pixels.ljust(where - 8, b"\0") + directory + bytes(tail)


@pytest.fixture
def raw_tiff(tmp_path):
    """Write a hand-made TIFF and return its path."""

    def write(data, *, name="raw.tif", **options):
        path = tmp_path / name
        path.write_bytes(build_tiff(data, **options))
        return path

    return write


@pytest.fixture
def plane(rng):
    """Small image whose pixels all differ, so that a lost or moved one is seen."""
    return rng.permutation(24 * 20).reshape(24, 20).astype(np.uint16)
