"""TIFF and BigTIFF of any size, region by region: only the rows, strips or tiles that a region touches are read."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from .axes import to_image_axes
from .errors import UserError, explained, library_warnings
from .integrity import check_file, check_memory, check_planes, check_series, cut_short, tiff_file
from .metadata import read_calibration
from .regions import RegionImage, RegionReader, Span
from .tiff import _first_series, _page_notes, read_image

# Decoded strips or tiles that are kept: a row of tiles of the restoration touches the same ones again and again.
_CACHE_BYTES = 2**28


@contextlib.contextmanager
def open_tiff(path: str | os.PathLike[str]) -> Iterator[RegionImage]:
    """Open the first image of a TIFF for reading region by region; whatever :func:`read_image` reads.

    Raises
    ------
    UserError
        As :func:`dps_jax.io.tiff.read_image`; of the size, only what is stored as one compressed block, or in an
        order of its own, has to fit into the memory.
    """
    path = Path(path)
    check_file(path)
    with contextlib.ExitStack() as stack:
        with explained(path), library_warnings("tifffile") as warnings:
            file = stack.enter_context(tiff_file(path))
            check_planes(path, file)
            series = _first_series(path, file)
            check_series(path, file, series)
            check_planes(path, file, series)
            calibration, notes = read_calibration(file), _page_notes(file, series)
            axes = series.axes if "C" in series.axes else series.axes.replace("S", "C")
            stand_in = np.broadcast_to(np.zeros((), series.dtype), series.shape)
            view, letters, axis_notes = to_image_axes(str(path), stand_in, axes)
            reader, kept = _reader(path, file, series, stack)
        if reader is None:
            yield _whole(path)
            return
        yield RegionImage(
            path,
            letters,
            view.shape,
            series.dtype.newbyteorder("="),
            reader,
            calibration.pixel_size_yx_nm,
            calibration.frame_interval_s,
            calibration.z_step_nm,
            calibration.source,
            axis_notes + calibration.notes + notes + tuple(warnings),
            kept,
        )


def _whole(path: Path) -> RegionImage:
    """Read a file whose layout has no planes to read from, and keep it."""
    image = read_image(path)
    data = image.data.reshape(-1, *image.data.shape[-2:])

    def read(plane: int, rows: Span, columns: Span) -> np.ndarray:
        return data[plane, slice(*rows), slice(*columns)]

    return RegionImage(
        path,
        image.axes,
        image.data.shape,
        image.data.dtype,
        read,
        image.pixel_size_yx_nm,
        image.frame_interval_s,
        image.z_step_nm,
        image.source,
        image.notes,
        image.data.nbytes,
    )


def _reader(
    path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries, stack: contextlib.ExitStack
) -> tuple[RegionReader | None, int]:
    """Return a reader of regions and the bytes that it keeps, or None where planes do not lie one by one."""
    squeezed = "".join(a for a, n in zip(series.axes, series.shape, strict=True) if n != 1 or a in "YX")
    if not squeezed.endswith("YX"):
        return None, 0
    height, width = series.shape[series.axes.index("Y")], series.shape[series.axes.index("X")]
    descriptor = os.open(path, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    if series.dataoffset is not None:
        stored = series.dtype.newbyteorder(file.byteorder)
        return _raw_reader(path, descriptor, series.dataoffset, (height, width), stored), 0
    page = series.keyframe
    if len(series) * height * width != series.size or page.imagedepth != 1:
        return None, 0
    segments = _Segments(path, descriptor, series, (height, width))
    check_memory(path, 2 * segments.bytes_each, None)  # one is unpacked whole, and put in order
    return segments.read, min(series.nbytes, max(_CACHE_BYTES, 2 * segments.bytes_each))


def _raw_reader(
    path: Path, descriptor: int, start: int, sides: tuple[int, int], stored: np.dtype[Any]
) -> RegionReader:
    """Read uncompressed planes that follow each other: row by row, or all rows at once where most of them is asked."""
    height, width = sides

    def pixels(place: int, count: int) -> np.ndarray:
        data = os.pread(descriptor, count * stored.itemsize, start + place * stored.itemsize)
        if len(data) != count * stored.itemsize:
            raise cut_short(path, "its pixels end before they should")
        return np.frombuffer(data, stored)

    def read(plane: int, rows: Span, columns: Span) -> np.ndarray:
        first, count = plane * height + rows[0], rows[1] - rows[0]
        if 2 * (columns[1] - columns[0]) >= width:
            region = pixels(first * width, count * width).reshape(count, width)[:, slice(*columns)]
        else:
            lines = (
                pixels((first + row) * width + columns[0], columns[1] - columns[0]) for row in range(count)
            )
            region = np.stack(list(lines))
        return np.ascontiguousarray(region, stored.newbyteorder("="))

    return read


class _Segments:
    """Strips or tiles, decoded as they are needed, the last ones kept."""

    def __init__(
        self, path: Path, descriptor: int, series: tifffile.TiffPageSeries, sides: tuple[int, int]
    ) -> None:
        self.path, self.descriptor, self.series, self.sides = path, descriptor, series, sides
        page = series.keyframe
        self._decode = page.decode  # made now: threads would each make one
        self.step = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, sides[1])
        self.step = (min(self.step[0], sides[0]), self.step[1])
        self.across = -(-sides[1] // self.step[1])
        self.bytes_each = self.step[0] * self.step[1] * series.dtype.itemsize
        self._kept: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, plane: int, rows: Span, columns: Span) -> np.ndarray:
        """Return a region, put together from the segments it touches."""
        out = np.empty((rows[1] - rows[0], columns[1] - columns[0]), self.series.dtype.newbyteorder("="))
        for y in range(rows[0] // self.step[0], -(-rows[1] // self.step[0])):
            for x in range(columns[0] // self.step[1], -(-columns[1] // self.step[1])):
                top, left = y * self.step[0], x * self.step[1]
                part = self._segment(plane, y * self.across + x)
                a = max(rows[0], top), max(columns[0], left)
                b = min(rows[1], top + part.shape[0]), min(columns[1], left + part.shape[1])
                out[a[0] - rows[0] : b[0] - rows[0], a[1] - columns[0] : b[1] - columns[0]] = part[
                    a[0] - top : b[0] - top, a[1] - left : b[1] - left
                ]
        return out

    def _segment(self, plane: int, number: int) -> np.ndarray:
        with self._lock:
            found = self._kept.get((plane, number))
            if found is not None:
                self._kept.move_to_end((plane, number))
                return found
        decoded = self._decoded(plane, number)
        with self._lock:
            self._kept[plane, number] = decoded
            while len(self._kept) > max(1, _CACHE_BYTES // self.bytes_each):
                self._kept.popitem(last=False)
        return decoded

    def _decoded(self, plane: int, number: int) -> np.ndarray:
        with explained(self.path), library_warnings("tifffile"):
            page = self.series[plane]
            data = os.pread(self.descriptor, page.databytecounts[number], page.dataoffsets[number])
            values, _, shape = self._decode(data, number, jpegtables=page.jpegtables)
            height, width = min(self.step[0], self.sides[0] - number // self.across * self.step[0]), shape[2]
            if values is None or shape[1] < height:
                raise UserError(f"{self.path} has a damaged plane {plane + 1}; copy or export it again.")
            return np.ascontiguousarray(values[0, :height, :width, 0], values.dtype.newbyteorder("="))
