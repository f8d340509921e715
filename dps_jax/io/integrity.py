"""Is every byte that a TIFF declares in the file? Asked before any pixel is read.

TIFF libraries are lenient: a missing page, strip or plane becomes zeros or a shorter stack. Here every
directory, every tag value and every strip must lie within the file, so a file that was cut short by a full
disk or a broken download is refused wherever the cut is. (Layout: TIFF Revision 6.0, Adobe, 1992.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile

from .codecs import check_codec
from .errors import UserError
from .metadata import ome_other_files, ome_pixels

_BYTES_PER_TYPE = np.ones(19, np.uint64)
_BYTES_PER_TYPE[[3, 8]] = 2
_BYTES_PER_TYPE[[4, 9, 11, 13]] = 4
_BYTES_PER_TYPE[[5, 10, 12, 16, 17, 18]] = 8
# 42 classic, 43 BigTIFF: place of the first directory's offset, formats of the tag count and of offsets.
_LAYOUTS = {42: (4, "u2", "u4"), 43: (8, "u8", "u8")}
_FALLBACK_BYTES = 4 * 2**30


def tiff_file(path: Path) -> tifffile.TiffFile:
    """Open a TIFF without what may lead anywhere or grow: parts that are named in an index beside it, and entities.

    NDTiff's index holds paths. OME's XML declares no types of document; one that does may unfold without end, and its
    parser takes 8 MiB before it refuses: such a block is not read as OME's.
    """
    file = tifffile.TiffFile(path, is_ndtiff=False)
    try:
        if file.is_ome and "<!DOCTYPE" in file.pages.first.description:
            file.is_ome = False
    except BaseException:
        file.close()
        raise
    return file


def check_file(path: Path) -> None:
    """Refuse what is not a file with a TIFF header and complete directories."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, but one TIFF file was expected; give the name of a file in it.")
    if not path.exists():
        raise UserError(f"{path} was not found; check the name and the folder.")
    check_regular(path)
    try:
        with path.open("rb") as file:
            _check_directories(path, file, os.fstat(file.fileno()).st_size)
    except OSError as problem:
        raise UserError(
            f"{path} could not be opened ({problem.strerror}); check its permissions."
        ) from problem


def check_regular(path: Path) -> None:
    """Refuse pipes and devices, which may be waited for, or read, for ever; what is not there is not looked at."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"{path} is a pipe or a device, but a file was expected; save it as a file first.")


def check_series(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """Refuse a series with planes, strips or tiles that are missing, empty or beyond the end of the file."""
    size = file.filehandle.size
    if series.is_multifile:
        raise UserError(f"{path} is one part of an image in several files; save the image as one TIFF first.")
    if series.dataoffset is None:
        for number, page in enumerate(series):
            _check_page(path, number, page, size)
            check_codec(path, number, page)
        return
    _check_page(path, 0, series[0], size)
    if series.dataoffset + series.nbytes > size:
        raise cut_short(path, f"it declares {series.nbytes} bytes of pixels and holds {size} bytes in all")


def check_planes(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries | None = None) -> None:
    """Refuse fewer planes than the OME (without ``series``) or the ImageJ metadata (with it) declare.

    The library would otherwise add planes of zeros, or return the first plane alone.
    """
    if series is None:
        others = ome_other_files(file)
        if others:
            raise UserError(
                f"{path} is one of several files: it says that planes are in {others[0][:80]!r}; save the image as one "
                "TIFF first, or give the file its own name back."
            )
        attributes = ome_pixels(file)
        declared = int(np.prod([int(attributes.get(f"Size{axis}", 1)) for axis in "TZC"], dtype=object))
        held = len(file.pages) * file.pages.first.samplesperpixel
    else:
        found = (file.imagej_metadata if file.is_imagej else None) or {}
        counts = [int(found.get(name, 1)) for name in ("frames", "slices", "channels")]
        declared = max(int(found.get("images", 1)), int(np.prod(counts, dtype=object)))
        held = series.size // (series.keyframe.imagelength * series.keyframe.imagewidth)
    if declared > held:
        raise UserError(
            f"{path} should hold {declared} planes by its metadata, but {held} are there: it was cut short "
            "or is one of several files; export the whole image as one TIFF."
        )


def check_memory(path: Path, declared_bytes: int, max_bytes: int | None) -> None:
    """Refuse an image larger than ``max_bytes``, by default half of the memory that is free."""
    limit = available_bytes() // 2 if max_bytes is None else max_bytes
    if declared_bytes > limit:
        raise UserError(
            f"{path} declares {declared_bytes / 1e9:.3g} GB of pixels, more than the limit of "
            f"{limit / 1e9:.3g} GB; crop it, or split the stack."
        )


def available_bytes() -> int:
    """Return the memory that a new program can use now; 4 GiB where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _FALLBACK_BYTES


def cut_short(path: Path, reason: str) -> UserError:
    """Return the error for a file whose end is missing."""
    return UserError(f"{path} is cut short or damaged: {reason}; copy or export it again.")


def _check_directories(path: Path, file: BinaryIO, size: int) -> None:
    """Follow the chain of image file directories and refuse one that leaves the file or loops."""
    order, count_format, offset_format, offset = _header(path, file, size)
    seen: list[int] = []
    known: set[int] = set()  # beside the list: a stack may have 100,000 pages
    while offset:
        if offset in known:
            raise cut_short(path, f"its list of pages returns to page {seen.index(offset) + 1}")
        seen.append(offset)
        known.add(offset)
        offset = _next_directory(path, file, size, offset, order + count_format, order + offset_format)
    if not seen:
        raise UserError(f"{path} is a TIFF without any image in it; export it again.")


def _header(path: Path, file: BinaryIO, size: int) -> tuple[str, str, str, int]:
    """Return byte order, formats of counts and offsets, and the first directory's offset."""
    if size == 0:
        raise UserError(f"{path} is an empty file of 0 bytes; copy or export it again.")
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
    version = int.from_bytes(start[2:4], "little" if order == "<" else "big")
    if not order or version not in _LAYOUTS:
        raise UserError(
            f"{path} is not a TIFF (its first bytes are {start[:4]!r}), whatever its name says; "
            "export it as TIFF, for example from Fiji."
        )
    place, count_format, offset_format = _LAYOUTS[version]
    if len(start) < place + int(offset_format[1]):
        raise cut_short(path, f"it ends after {size} bytes, within its header")
    return order, count_format, offset_format, int(np.frombuffer(start, order + offset_format, 1, place)[0])


def _next_directory(path: Path, file: BinaryIO, size: int, offset: int, count: str, pointer: str) -> int:
    """Refuse a directory or tag value that is not wholly in the file; return the next directory's offset."""
    width = np.dtype(pointer).itemsize
    entry = np.dtype(
        [("code", count[0] + "u2"), ("type", count[0] + "u2"), ("n", pointer), ("value", pointer)]
    )
    file.seek(min(offset, size))
    head = file.read(np.dtype(count).itemsize)
    tags = int(np.frombuffer(head, count)[0]) if len(head) == np.dtype(count).itemsize else 0
    if not tags or offset + len(head) + tags * entry.itemsize + width > size:
        raise cut_short(path, f"the page directory at byte {offset} is not complete")
    entries = np.frombuffer(file.read(tags * entry.itemsize), entry)
    known = np.where(entries["type"] < len(_BYTES_PER_TYPE), entries["type"], 0)
    # In floating point, so that an absurd count cannot wrap around to a small one.
    lengths = entries["n"].astype(np.float64) * _BYTES_PER_TYPE[known]
    outside = (lengths > width) & (entries["value"].astype(np.float64) + lengths > size)
    if outside.any():
        raise cut_short(path, f"its tag {entries['code'][outside][0]} points beyond its last byte, {size}")
    return int(np.frombuffer(file.read(width), pointer)[0])


def _check_page(
    path: Path, number: int, page: tifffile.TiffPage | tifffile.TiffFrame | None, size: int
) -> None:
    """Refuse a page with strips or tiles that are missing, empty, too short or beyond the end of the file."""
    if page is None or page.keyframe is None:
        raise cut_short(path, f"plane {number + 1} is missing")
    key = page.keyframe
    offsets, counts = (np.asarray(numbers, np.float64) for numbers in (page.dataoffsets, page.databytecounts))
    needed = 1 if key.is_contiguous else int(np.prod(key.chunked))
    if min(len(offsets), len(counts)) < needed or (offsets == 0).any() or (counts == 0).any():
        raise cut_short(path, f"part of plane {number + 1} was never written")
    bits = key.bitspersample if isinstance(key.bitspersample, int) else 8
    if key.compression == 1 and counts.sum() * 8 < float(key.size) * bits:
        raise cut_short(path, f"plane {number + 1} has fewer bytes than its size needs")
    if (offsets + counts).max() > size:
        raise cut_short(path, f"plane {number + 1} lies beyond the end of the file at byte {size}")
