"""OME-Zarr (NGFF 0.4, 0.5 and older; Zarr 2 and 3) to arrays, whole or region by region.

The package ``zarr`` does the decoding and is imported only here and where such files are written; the metadata are
this package's own reading (``zarr_metadata``): they are one JSON object, and ``ome-zarr`` would bring thirty packages
(a cloud client among them) to parse it.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .axes import to_image_axes
from .errors import UserError, explained
from .integrity import available_bytes, check_memory
from .regions import RegionImage, RegionReader, Span
from .tiff import ImageFile
from .zarr_metadata import ZarrImage, find_image, read_node

_MOST_BYTES = 2**60
_MISSING = "OME-Zarr needs the package zarr, which is not installed: pip install 'dps-jax[zarr]'."


def import_zarr() -> Any:
    """Return the package ``zarr``; ``UserError`` with the command to install it where it is not there."""
    try:
        import zarr
    except ImportError:
        raise UserError(_MISSING) from None
    return zarr


@contextlib.contextmanager
def open_zarr(path: str | os.PathLike[str]) -> Iterator[RegionImage]:
    """Open the finest level of an OME-Zarr image for reading region by region.

    Raises
    ------
    UserError
        Where it is no image that can be read: see :func:`find_image`; or ``zarr`` is not installed, the array is
        empty, of complex numbers or text, or has a chunk that does not fit into the memory. Reading raises it as well,
        for a chunk that is damaged, or that unpacks to more than the metadata declare.
    """
    path = Path(path)
    found = find_image(path)
    array = _open_array(path, found.array)
    with explained(path):
        image = _as_regions(path, found, array)
    yield image


def read_zarr(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> ImageFile:
    """Read the finest level of an OME-Zarr image; ``max_bytes`` as in :func:`dps_jax.io.read_image`.

    Raises
    ------
    UserError
        As :func:`open_zarr`, or where the image is too large.
    """
    with open_zarr(path) as image:
        check_memory(image.path, image.nbytes, max_bytes)
        height, width = image.sides
        data = np.empty((image.planes, height, width), image.dtype)
        for plane in range(image.planes):
            data[plane] = image.read(plane, (0, height), (0, width))
    return ImageFile(
        image.path,
        data.reshape(image.shape),
        image.axes,
        image.pixel_size_yx_nm,
        image.frame_interval_s,
        image.z_step_nm,
        image.source,
        image.notes,
    )


def read_zarr_description(path: str | os.PathLike[str], key: str) -> dict[str, Any] | None:
    """Return what was stored under ``key`` of the attributes of a Zarr folder, ``None`` where nothing was."""
    found = read_node(Path(path))[0].get(key)
    return found if isinstance(found, dict) else None


def _open_array(path: Path, where: Path) -> Any:
    zarr = import_zarr()
    from .zarr_bounded import bounded  # which needs it, and so do the files
    from .zarr_files import ImageFiles

    with explained(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on codecs that are not in every program
        array = bounded(path, zarr.open_array(store=ImageFiles(where, image=path), mode="r"))
        sizes, chunks = [int(n) for n in array.shape], [int(n) for n in array.chunks]
        kind = np.dtype(array.dtype)
    if kind.kind not in "biuf":
        raise UserError(
            f"{path} holds {kind} numbers, but real ones of 8 to 64 bits were expected; convert it "
            "(a complex image: save its magnitude)."
        )
    if not sizes or min(sizes) < 1:
        raise UserError(f"{path} holds an image of 0 pixels; export it again.")
    declared = int(np.prod(sizes, dtype=object)) * kind.itemsize
    if declared > _MOST_BYTES:
        raise UserError(
            f"{path} declares {declared:.3g} bytes of pixels, more than any disk holds; export it again."
        )
    _check_chunk(path, chunks, kind.itemsize)
    return array


def _check_chunk(path: Path, chunks: list[int], itemsize: int) -> None:
    """Refuse chunks larger than the memory: one of them is decoded whole to read a pixel of it."""
    needed, limit = int(np.prod(chunks, dtype=object)) * itemsize, available_bytes() // 2
    if needed > limit:
        raise UserError(
            f"{path} is stored in chunks of {needed / 1e9:.3g} GB, more than the limit of {limit / 1e9:.3g} GB; "
            "store it in chunks of a few megabytes."
        )


def _as_regions(path: Path, found: ZarrImage, array: Any) -> RegionImage:
    letters = found.axes or "Q" * (array.ndim - 2) + "YX"
    if len(letters) != array.ndim or array.ndim < 2:
        raise UserError(
            f"{path} names {len(letters)} axes for an array of {array.ndim}; export it again as OME-Zarr."
        )
    # A stand-in without memory: only its axes are looked at.
    stand_in = np.broadcast_to(np.zeros((), array.dtype), array.shape)
    view, axes, notes = to_image_axes(str(path), stand_in, letters, most=5)
    dtype = np.dtype(array.dtype).newbyteorder("=")
    sizes = found.calibration
    return RegionImage(
        path,
        axes,
        view.shape,
        dtype,
        _reader(path, array, letters, dtype),
        sizes.pixel_size_yx_nm,
        sizes.frame_interval_s,
        sizes.z_step_nm,
        sizes.source,
        found.notes + notes + _unwritten(path, found.array, array),
        # A row of chunks is decoded for every row of tiles; the decoder holds a few at a time.
        4 * int(np.prod(array.chunks, dtype=object)) * dtype.itemsize,
    )


def _reader(path: Path, array: Any, letters: str, dtype: np.dtype[Any]) -> RegionReader:
    y, x = letters.index("Y"), letters.index("X")
    lead = [i for i in range(array.ndim) if i not in (y, x)]
    counts = [array.shape[i] for i in lead]

    def read(plane: int, rows: Span, columns: Span) -> np.ndarray:
        index: list[Any] = [slice(None)] * array.ndim
        for axis, position in zip(lead, np.unravel_index(plane, counts) if counts else (), strict=True):
            index[axis] = int(position)
        index[y], index[x] = slice(*rows), slice(*columns)
        with explained(path):
            region = np.asarray(array[tuple(index)])
        return np.ascontiguousarray(region if y < x else region.T, dtype)

    return read


def _unwritten(path: Path, where: Path, array: Any) -> tuple[str, ...]:
    """Note chunks that are not stored, which Zarr reads as one value: empty background, or a copy cut short."""
    wanted = int(np.prod([-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)], dtype=object))
    stored = sum(not name.startswith((".", "zarr.json")) for _, _, names in os.walk(where) for name in names)
    if getattr(array, "shards", None) or stored >= wanted:
        return ()
    if not stored:
        raise UserError(
            f"{path} holds no pixels: none of its {wanted} chunks is stored; copy or export it again."
        )
    return (
        f"{wanted - stored} of its {wanted} chunks are not stored; Zarr reads them as {array.fill_value}: "
        "if that is not how the file was made, copy it again",
    )
