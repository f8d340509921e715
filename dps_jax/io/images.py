"""One way in and one way out for images: TIFF files and OME-Zarr folders, told apart by kind and by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import atomic, tiff, write
from .contiguous import TiffPlanes, contiguous_tiff
from .errors import UserError
from .regions import RegionImage
from .tiff import ImageFile
from .tiff_regions import open_tiff
from .zarr_metadata import is_zarr
from .zarr_read import open_zarr, read_zarr, read_zarr_description
from .zarr_write import CHUNKS_PX, NGFF_AXES, ZarrPlanes, check_zarr_output, write_zarr, zarr_writer

PathLike = str | os.PathLike[str]


def names_zarr(path: PathLike) -> bool:
    """Tell whether an output of this name is to be an OME-Zarr folder."""
    return Path(path).suffix.lower() == ".zarr"


def read_image(path: PathLike, *, max_bytes: int | None = None) -> ImageFile:
    """Read the first image of a TIFF, BigTIFF, ImageJ or OME-TIFF file, or the finest level of an OME-Zarr folder.

    ``max_bytes`` bounds the pixels read, by default half of the free memory.

    Raises
    ------
    UserError
        Where the file is missing, neither of the two, incomplete, empty, too large, in colour, of complex numbers,
        or has fewer than 2 or more than 4 axes (OME-Zarr: 5).
    """
    if is_zarr(Path(path)):
        return read_zarr(path, max_bytes=max_bytes)
    return tiff.read_image(path, max_bytes=max_bytes)


def write_image(
    path: PathLike,
    data: np.ndarray,
    *,
    axes: str,
    pixel_size_nm: float | None,
    description: Mapping[str, Any],
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
    overwrite: bool = True,
) -> None:
    """Write an ImageJ TIFF, or an OME-Zarr folder where ``path`` ends with ``.zarr``; whole or not at all.

    ``axes`` has one letter of T, Z, C, Y, X per axis of ``data`` and ends with YX; they are stored in the order TZCYX
    (OME-Zarr: TCZYX). uint8, uint16 and float32 are kept, bool becomes uint8, other floats float32. ``description``
    is stored as JSON; equal arguments give equal bytes. See :mod:`dps_jax.io.write` and :mod:`dps_jax.io.zarr_write`.

    Raises
    ------
    UserError
        Where the output cannot be written, or exists although ``overwrite`` is False.
    ValueError
        Where shape, axes, type, a size or the description are not as above.
    """
    sizes: dict[str, Any] = {
        "pixel_size_nm": pixel_size_nm,
        "z_step_nm": z_step_nm,
        "frame_interval_s": frame_interval_s,
    }
    if names_zarr(path):
        check_output(path, overwrite=overwrite)
        write_zarr(path, data, axes=axes, description=description, **sizes)
    else:
        write.write_image(path, data, axes=axes, description=description, overwrite=overwrite, **sizes)


@contextlib.contextmanager
def open_image(path: PathLike) -> Iterator[RegionImage]:
    """Open what :func:`read_image` reads, of any size, for reading region by region.

    Raises
    ------
    UserError
        As :func:`read_image`.
    """
    opened = open_zarr(path) if is_zarr(Path(path)) else open_tiff(path)
    with opened as image:
        yield image


@contextlib.contextmanager
def image_writer(
    path: PathLike,
    *,
    shape: Sequence[int],
    axes: str,
    pixel_size_nm: float | None,
    description: Mapping[str, Any],
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
    chunk_px: int | None = None,
) -> Iterator[TiffPlanes | ZarrPlanes]:
    """Give a float32 TIFF or OME-Zarr of a known shape to fill region by region; it appears whole or not at all.

    ``axes`` must be in the order of :func:`stored_axes`. ``description`` may be completed until the block ends.
    ``chunk_px`` is the side of the chunks of an OME-Zarr.

    Raises
    ------
    UserError
        Where the output cannot be written.
    """
    options: dict[str, Any] = {
        "shape": shape,
        "dtype": np.float32,
        "axes": axes,
        "description": description,
        "pixel_size_nm": pixel_size_nm,
        "z_step_nm": z_step_nm,
        "frame_interval_s": frame_interval_s,
    }
    if names_zarr(path):
        with zarr_writer(path, **options, chunk_px=chunk_px or CHUNKS_PX[0]) as planes:
            yield planes
    else:
        with contiguous_tiff(path, **options) as pages:
            yield pages


def stored_axes(path: PathLike, axes: str) -> str:
    """Return ``axes`` in the order in which an output of this name stores them."""
    return "".join(sorted(axes, key=(NGFF_AXES if names_zarr(path) else write.AXES).index))


def check_output(path: PathLike, *, inputs: Sequence[PathLike] = (), overwrite: bool = True) -> None:
    """Refuse, before any computing, an output that cannot be written or would destroy an input.

    Raises
    ------
    UserError
        As :func:`dps_jax.io.atomic.check_output` for files and :func:`dps_jax.io.zarr_write.check_zarr_output` for
        OME-Zarr folders.
    """
    if not names_zarr(path):
        atomic.check_output(path, inputs=inputs, overwrite=overwrite)
        return
    check_zarr_output(path, inputs=inputs)
    if os.path.exists(path) and not overwrite:
        raise UserError(f"The output {path} already exists; choose another name or allow overwriting.")


def read_description(path: PathLike) -> dict[str, Any] | None:
    """Return the description that :func:`write_image` stored, ``None`` where there is none.

    Raises
    ------
    UserError
        Where the file is missing, of an unknown kind or incomplete.
    """
    if is_zarr(Path(path)):
        return read_zarr_description(path, write.SETTINGS)
    return write.read_description(path)
