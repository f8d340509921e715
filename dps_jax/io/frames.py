"""Movies frame by frame, so that a file far larger than the memory can be read and written.

Contract: a frame is ``(plane, y, x)`` in the file's type; its planes are the file's z or its channels, or a single
one. Reading keeps one frame in memory; what is written is no TIFF before its last frame is in it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from .axes import to_image_axes
from .contiguous import contiguous_tiff
from .errors import UserError, explained, library_warnings
from .integrity import check_file, check_memory, check_planes, check_series, tiff_file
from .metadata import Calibration, read_calibration
from .tiff import SQUARE_TOLERANCE, _first_series, _page_notes

PlaneReader = Callable[[int], np.ndarray]
FrameWriter = Callable[[int, np.ndarray], None]


@dataclass(frozen=True, eq=False)
class Movie:
    """An open movie: ``axes`` is TYX, TZYX, TCYX or, for a single frame, the same without T."""

    path: Path
    axes: str
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    read: PlaneReader
    pixel_size_nm: float | None = None
    frame_interval_s: float | None = None
    z_step_nm: float | None = None
    notes: tuple[str, ...] = ()

    def frame(self, index: int) -> np.ndarray:
        """Return frame ``index`` (from 0), ``(plane, y, x)``; ``UserError`` where it cannot be decoded."""
        try:
            with library_warnings("tifffile"):
                data = self.read(index)
        except Exception as problem:  # decoders raise their own, struct's, zlib's and NumPy's errors
            reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:160]
            raise UserError(
                f"frame {index + 1} of {self.path} is damaged ({reason}); export the movie again, or cut it there."
            ) from problem
        return np.ascontiguousarray(data, data.dtype.newbyteorder("="))


@contextlib.contextmanager
def open_movie(path: str | os.PathLike[str]) -> Iterator[Movie]:
    """Open a TIFF, BigTIFF, ImageJ or OME-TIFF movie of any length for reading frame by frame.

    Without a T axis, z planes are read as frames, as many programs save movies that way; a note says so.

    Raises
    ------
    UserError
        Where the file is missing, no TIFF, incomplete, empty, in colour or of complex numbers, its pages differ in
        size, or it has channels but no time.
    """
    path = Path(path)
    check_file(path)
    with contextlib.ExitStack() as stack:
        with explained(path), library_warnings("tifffile") as warnings:
            file = stack.enter_context(tiff_file(path))
            shape, letters, dtype, read, notes = _planes(path, file)
            calibration = read_calibration(file)
        # A stand-in without memory: only its axes are looked at.
        stand_in = np.broadcast_to(np.zeros((), dtype), shape)
        data, axes, axis_notes = to_image_axes(str(path), stand_in, letters)
        time, axes, time_notes = _time_axis(path, axes)
        pixel, pixel_notes = _pixel_size(calibration)
        lead = data.shape[:-2] if time is not None else (1, *data.shape[:-2])
        frames = lead[time or 0]
        size = (frames, int(np.prod(lead)) // frames, *data.shape[-2:])
        check_memory(path, int(np.prod(size[1:], dtype=object)) * dtype.itemsize, None)
        notes = axis_notes + time_notes + calibration.notes + pixel_notes + notes + tuple(warnings)
        yield Movie(
            path,
            axes,
            size,
            dtype,
            _frame_reader(read, size, time_first=not time),
            pixel,
            calibration.frame_interval_s,
            calibration.z_step_nm,
            notes,
        )


@contextlib.contextmanager
def frame_writer(
    path: str | os.PathLike[str],
    *,
    shape: Sequence[int],
    dtype: Any,
    axes: str,
    description: Mapping[str, Any],
    pixel_size_nm: float | None = None,
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
) -> Iterator[FrameWriter]:
    """Give a function ``write(index, frame)`` that fills a TIFF of a known shape; it appears whole or not at all.

    An ImageJ hyperstack where the type and the size (4 GB) allow it, else a TIFF or BigTIFF with the same as JSON in
    its description. Even of a run that was killed outright, what stays behind in a hidden file is no TIFF: the first
    bytes are written last.

    Raises
    ------
    UserError
        Where the file cannot be written.
    """
    frame_bytes = int(np.prod(shape[1:], dtype=object)) * np.dtype(dtype).itemsize
    with contiguous_tiff(
        path,
        shape=shape,
        dtype=dtype,
        axes=axes,
        description=description,
        pixel_size_nm=pixel_size_nm,
        z_step_nm=z_step_nm,
        frame_interval_s=frame_interval_s,
    ) as planes:

        def write(index: int, frame: np.ndarray) -> None:
            planes.file.seek(planes.offset + index * frame_bytes)
            planes.file.write(np.ascontiguousarray(frame, planes.dtype).tobytes())

        yield write


def _planes(
    path: Path, file: tifffile.TiffFile
) -> tuple[tuple[int, ...], str, np.dtype[Any], PlaneReader, tuple[str, ...]]:
    """Return shape, axes, type and a reader of single planes, in the order of the file."""
    check_planes(path, file)
    series = _first_series(path, file)
    if series.keyframe.samplesperpixel > 1:
        raise UserError(
            f"{path} holds {series.keyframe.samplesperpixel} samples in each pixel; save its channels as planes."
        )
    check_memory(path, series.keyframe.nbytes, None)
    every = list(file.series)
    if len(every) > 1 and not file.is_ome:
        _check_alike(path, every)
        for one in every:
            check_series(path, file, one)
        note = f"the file holds {len(every)} images of one size; they were read as frames"
        sides = series.keyframe.shape[-2:]
        return (
            (len(every), *sides),
            "TYX",
            series.dtype,
            lambda k: every[k].asarray().reshape(sides),
            (note,),
        )
    check_series(path, file, series)
    check_planes(path, file, series)
    axes = series.axes.replace("S", "C") if "C" not in series.axes else series.axes
    return series.shape, axes, series.dtype, _series_reader(path, file, series), _page_notes(file, series)


def _check_alike(path: Path, every: list[tifffile.TiffPageSeries]) -> None:
    """Refuse pages of different sizes, which are no frames of one movie."""
    sizes = [(*one.keyframe.shape[-2:], str(one.dtype)) for one in every]
    other = next((size for size in sizes if size != sizes[0]), None)
    if other is not None or any(np.prod(one.shape) != np.prod(sizes[0][:2]) for one in every):
        found = other or sizes[0]
        raise UserError(
            f"{path} holds pages of different size or type, the first of {sizes[0][0]}x{sizes[0][1]} px "
            f"({sizes[0][2]}), another of {found[0]}x{found[1]} px ({found[2]}); a movie's frames are all alike: "
            "save them as one stack."
        )


def _series_reader(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> PlaneReader:
    sides = series.shape[-2:]
    if series.axes[-2:] != "YX":
        raise UserError(f"{path} has the axes {series.axes}, but y and x were expected last; save it so.")
    dtype, pixels = series.dtype.newbyteorder(file.byteorder), int(np.prod(sides))
    if series.dataoffset is not None:
        handle, start = file.filehandle, series.dataoffset

        def read(number: int) -> np.ndarray:
            handle.seek(start + number * pixels * dtype.itemsize)
            return handle.read_array(dtype, pixels).reshape(sides)

        return read
    if len(series) * pixels != series.size:
        raise UserError(f"{path} stores volumes, but one plane per page was expected; save it as a stack.")
    return lambda number: series[number].asarray().reshape(sides)


def _frame_reader(read: PlaneReader, size: tuple[int, int, int, int], *, time_first: bool) -> PlaneReader:
    """Gather the planes of a frame, which follow each other or lie a whole movie apart."""
    frames, planes = size[:2]
    step, stride = (planes, 1) if time_first else (1, frames)
    return lambda index: np.stack([read(index * step + plane * stride) for plane in range(planes)])


def _time_axis(path: Path, axes: str) -> tuple[int | None, str, tuple[str, ...]]:
    """Return where time is among the axes, the axes with it first, and a note where another was taken for it."""
    if axes == "YX":
        return None, "YX", ()
    if "T" in axes:
        return axes.index("T"), "T" + axes.replace("T", ""), ()
    if "Z" in axes:
        return (
            axes.index("Z"),
            "T" + axes.replace("Z", ""),
            (f"there is no time axis in {axes}; z was read as time",),
        )
    raise UserError(f"{path} has the axes {axes} and no time; give a movie, with its frames along T.")


def _pixel_size(calibration: Calibration) -> tuple[float | None, tuple[str, ...]]:
    if calibration.pixel_size_yx_nm is None:
        return None, ()
    y, x = calibration.pixel_size_yx_nm
    if abs(y - x) > SQUARE_TOLERANCE * max(y, x):
        return None, (f"pixels of {y:.6g} nm in y and {x:.6g} nm in x: the pixel size is not passed on",)
    return float(np.sqrt(x * y)), ()
