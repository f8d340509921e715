"""Microscope images from TIFF files of every common kind, with their axes and physical sizes.

Contract: the array keeps the file's type (in this computer's byte order) and has up to two leading axes out
of T, Z, C before Y, X. What was assumed on the way is said in ``notes``; what cannot be read is refused.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from .axes import to_image_axes
from .errors import UserError, explained, library_warnings
from .integrity import check_file, check_memory, check_planes, check_series, tiff_file
from .metadata import read_calibration

# Two sizes further apart than this would stretch a round spot by more than any resampling error.
SQUARE_TOLERANCE = 0.01
_COLOUR_PHOTOMETRICS = (2, 5, 6, 8, 9, 10, 32803, 34892)  # RGB, CMYK, YCbCr, three Lab's, two raw mosaics


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image as read: one letter of ``axes`` per axis of ``data``; ``source`` gave the pixel size."""

    path: Path
    data: np.ndarray
    axes: str
    pixel_size_yx_nm: tuple[float, float] | None = None
    frame_interval_s: float | None = None
    z_step_nm: float | None = None
    source: str = "none"
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """One size per axis."""
        return self.data.shape

    @property
    def pixel_size_nm(self) -> float | None:
        """Side of the square pixel, ``None`` if unknown; ``UserError`` where y and x differ by over 1 %."""
        return square_pixel_nm(self.path, self.pixel_size_yx_nm, self.source)


def square_pixel_nm(path: Path, sides_nm: tuple[float, float] | None, source: str) -> float | None:
    """Return the side of pixels of ``sides_nm`` (y, x); ``UserError`` where the two differ by over 1 %."""
    if sides_nm is None:
        return None
    y, x = sides_nm
    if abs(y - x) > SQUARE_TOLERANCE * max(y, x):
        raise UserError(
            f"{path} has pixels of {y:.6g} nm in y and {x:.6g} nm in x ({source}), but square "
            "ones were expected; resample it, or give the pixel size yourself if the metadata are wrong."
        )
    return x if x == y else float(np.sqrt(x * y))


def read_image(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> ImageFile:
    """Read the first image of a TIFF, BigTIFF, ImageJ or OME-TIFF file.

    ``max_bytes`` bounds the pixels read, by default half of the free memory.

    Raises
    ------
    UserError
        Where the file is missing, no TIFF, incomplete, empty, too large, in colour, of complex numbers,
        or has fewer than 2 or more than 4 axes.
    """
    path = Path(path)
    check_file(path)
    with (
        explained(path),
        library_warnings("tifffile") as warnings,
        tiff_file(path) as file,
    ):
        check_planes(path, file)
        series = _first_series(path, file)
        check_memory(path, series.nbytes, max_bytes)
        check_series(path, file, series)
        check_planes(path, file, series)
        calibration = read_calibration(file)
        notes = _page_notes(file, series)
        data, axes = series.asarray(), series.axes
    if data.shape != series.shape:
        raise UserError(f"{path} declares the shape {series.shape} but holds {data.shape}; export it again.")
    data, axes, axis_notes = to_image_axes(str(path), data, axes if "C" in axes else axes.replace("S", "C"))
    return ImageFile(
        path,
        np.ascontiguousarray(data, data.dtype.newbyteorder("=")),
        axes,
        calibration.pixel_size_yx_nm,
        calibration.frame_interval_s,
        calibration.z_step_nm,
        calibration.source,
        axis_notes + calibration.notes + notes + tuple(warnings),
    )


def read_numbers(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the first array of a TIFF as it lies, a single line of numbers too; checked as an image is.

    Raises
    ------
    UserError
        As :func:`read_image`, but for the axes.
    """
    path = Path(path)
    check_file(path)
    with explained(path), library_warnings("tifffile"), tiff_file(path) as file:
        check_planes(path, file)
        series = _first_series(path, file)
        check_memory(path, series.nbytes, None)
        check_series(path, file, series)
        return np.asarray(series.asarray())


def _first_series(path: Path, file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the file's first image, refused where it is empty, in colour or of an unreadable type."""
    if not file.series or not file.series[0].size:
        raise UserError(f"{path} holds an image of 0 pixels; export it again.")
    series = file.series[0]
    page = series.keyframe
    samples = dict(zip(series.axes, series.shape, strict=True)).get("S", 1)
    if page.photometric in _COLOUR_PHOTOMETRICS or samples in (3, 4):
        raise UserError(
            f"{path} is a colour (RGB) picture with {page.samplesperpixel} values per pixel, but intensities "
            "were expected; split its channels, or convert it to a single channel."
        )
    if page.dtype is None or series.dtype.kind not in "biuf":
        found = f"{page.bitspersample}-bit" if page.dtype is None else str(series.dtype)
        raise UserError(
            f"{path} holds {found} numbers, but real ones of 8 to 64 bits were expected; convert it "
            "(a complex image: save its magnitude)."
        )
    return series


def _page_notes(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, ...]:
    """Say what about the file was passed over."""
    notes = []
    if len(file.series) > 1:
        notes.append(f"the file holds {len(file.series)} images; the first was read")
    if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        notes.append("the file has a colour table; the stored numbers were read as intensities")
    if series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        notes.append("the file shows 0 as white; the stored numbers were read as they are")
    if "S" in series.axes:
        notes.append("the samples of each pixel were read as channels")
    return tuple(notes)
