"""A TIFF of known shape to be filled piece by piece, in any order, which is no TIFF before it is finished.

Pixels lie in one block, plane after plane, so that a region is a few writes at known places; the first bytes of the
file, by which a TIFF is known, are written last.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from .atomic import atomic_path, check_output
from .regions import Span
from .write import _CLASSIC_LIMIT, SETTINGS, _bigtiff_options, _imagej_options, plain_json

# The types that ImageJ's format can hold.
_IMAGEJ = ("uint8", "uint16", "int16", "float32")
_DESCRIPTION = 270  # TIFF 6.0, ImageDescription


@dataclass(frozen=True, eq=False)
class TiffPlanes:
    """The pixels of a TIFF under construction, planes counted through the leading axes in their order."""

    file: Headless
    offset: int
    sides: tuple[int, int]
    dtype: np.dtype[Any]

    def write(self, plane: int, rows: Span, columns: Span, data: np.ndarray) -> None:
        """Write one region of a plane; whole rows go in one piece."""
        values = np.ascontiguousarray(data, self.dtype)
        if columns == (0, self.sides[1]):
            self.file.seek(self._place(plane, rows[0], 0))
            self.file.write(values.tobytes())
            return
        for row, line in zip(range(*rows), values, strict=True):
            self.file.seek(self._place(plane, row, columns[0]))
            self.file.write(line.tobytes())

    def read(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Read back whole rows, and return the given columns of them."""
        self.file.seek(self._place(plane, rows[0], 0))
        count = (rows[1] - rows[0]) * self.sides[1]
        data = np.frombuffer(self.file.read_all(count * self.dtype.itemsize), self.dtype)
        return data.reshape(-1, self.sides[1])[:, slice(*columns)]

    def _place(self, plane: int, row: int, column: int) -> int:
        pixels = (plane * self.sides[0] + row) * self.sides[1] + column
        return self.offset + pixels * self.dtype.itemsize


@contextlib.contextmanager
def contiguous_tiff(
    path: str | os.PathLike[str],
    *,
    shape: Sequence[int],
    dtype: Any,
    axes: str,
    description: Mapping[str, Any],
    pixel_size_nm: float | None = None,
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
) -> Iterator[TiffPlanes]:
    """Give the planes of a TIFF to fill; it appears whole or not at all.

    An ImageJ hyperstack where the type and the size (4 GB) allow it, else a TIFF or BigTIFF with the same as JSON in
    its description. What ``description`` (a dictionary) holds when the block ends is what is stored, so that it may be
    completed by what is known only then.

    Raises
    ------
    UserError
        Where the file cannot be written.
    """
    check_output(path)
    kind, count = np.dtype(dtype), int(np.prod(shape, dtype=object))
    sizes = (pixel_size_nm, z_step_nm, frame_interval_s)
    small = count * kind.itemsize <= _CLASSIC_LIMIT
    imagej = small and kind.name in _IMAGEJ
    stored = plain_json(dict(description))

    def options() -> dict[str, Any]:
        settings = {SETTINGS: dict(description)}
        plain_json(settings)
        if imagej:
            return _imagej_options(np.zeros(1, np.uint8), axes, *sizes, settings)
        return {**_bigtiff_options(axes, *sizes, settings), "bigtiff": not small}

    with atomic_path(path) as temporary:
        with Headless(temporary) as out:
            offset = _write_directory(out, shape, kind, options())
            little = kind.newbyteorder("<")
            yield TiffPlanes(out, offset, (shape[-2], shape[-1]), little)
            out.finish()
        if plain_json(dict(description)) != stored:
            _describe(temporary, shape, options(), imagej=imagej)


def _write_directory(
    out: Headless, shape: Sequence[int], dtype: np.dtype[Any], options: dict[str, Any]
) -> int:
    """Write all but the pixels, and return where these begin."""
    with tifffile.TiffWriter(
        out,
        byteorder="<",
        ome=False,
        imagej=options.pop("imagej", False),
        bigtiff=options.pop("bigtiff", False),
    ) as tiff:
        offset, _ = tiff.write(
            shape=tuple(shape),
            dtype=dtype,
            photometric="minisblack",
            software="dps_jax",
            returnoffset=True,
            **options,
        )
    return int(offset)


def _describe(path: Path, shape: Sequence[int], options: dict[str, Any], *, imagej: bool) -> None:
    """Put a new description into a finished file; a longer one goes to its end."""
    with tifffile.TiffFile(path, mode="r+") as file:
        tags, metadata = file.pages.first.tags, dict(options["metadata"])
        if imagej:
            found = tifffile.tifffile.imagej_metadata_tag({"Info": metadata["Info"]}, "<")
            for code, _, _, value, _ in found:
                tags[code].overwrite(value)
        else:
            tags[_DESCRIPTION].overwrite(json.dumps({"shape": list(shape), **metadata}))


class Headless(io.FileIO):
    """A file that holds back its first four bytes, by which a TIFF is known, until it is finished."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "r+")
        self._head = bytearray(4)

    def write(self, data: Any) -> int:
        """Write all of ``data``, with zeros in place of the file's first bytes."""
        place, view = self.tell(), memoryview(data).cast("B")
        length = len(view)
        held = max(0, min(4 - place, length))
        if held:
            self._head[place : place + held] = view[:held]
            super().write(bytes(held))
        view = view[held:]
        while len(view):
            view = view[super().write(view) or 0 :]
        return length

    def read_all(self, length: int) -> bytes:
        """Read ``length`` bytes from here."""
        out = bytearray()
        while len(out) < length:
            part = super().read(length - len(out))
            if not part:
                raise OSError(f"expected {length} bytes, got {len(out)}")
            out += part
        return bytes(out)

    def finish(self) -> None:
        """Make it a TIFF."""
        self.seek(0)
        super().write(bytes(self._head))
