"""Results as OME-Zarr (NGFF 0.5, Zarr 3), block by block, with pixel sizes, axes, a pyramid and the settings.

Contract: blocks of the finest level may be written in any order and from any process, as long as two that are written
at once do not share a chunk; the pyramid is made from them at the end, and only then does the folder get its name.
Equal arguments give equal bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _checks
from .atomic_folder import atomic_folder, check_folder_output
from .errors import UserError
from .regions import Span
from .write import SETTINGS, in_order, plain_json, storable
from .zarr_metadata import is_zarr
from .zarr_read import import_zarr

CHUNKS_PX = (512, 256, 128, 64)  # sides of chunks, the usual one first; small tiles take small ones
NGFF_AXES = "TCZYX"  # time, channels, space, as NGFF asks for
_KINDS = {"T": "time", "C": "channel", "Z": "space", "Y": "space", "X": "space"}
_UNITS = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}


@dataclass(frozen=True, eq=False)
class ZarrPlanes:
    """The levels of an OME-Zarr under construction; ``levels[0]`` is the image itself."""

    folder: Path
    levels: tuple[Any, ...]

    def write(self, plane: int, rows: Span, columns: Span, data: np.ndarray, *, level: int = 0) -> None:
        """Write one block of a plane, planes counted through the leading axes in their order."""
        self.levels[level][self._index(plane, rows, columns)] = data

    def read(self, plane: int, rows: Span, columns: Span, *, level: int = 0) -> np.ndarray:
        """Read back one block of a plane."""
        return np.asarray(self.levels[level][self._index(plane, rows, columns)])

    def _index(self, plane: int, rows: Span, columns: Span) -> tuple[Any, ...]:
        lead = self.levels[0].shape[:-2]
        return (*(np.unravel_index(plane, lead) if lead else ()), slice(*rows), slice(*columns))

    def shrink(self) -> None:
        """Make every level but the finest: means of 2 x 2 pixels of the one before, chunk by chunk."""
        planes = int(np.prod(self.levels[0].shape[:-2], dtype=object))
        for level in range(1, len(self.levels)):
            for plane in range(planes):
                for rows, columns in blocks(self.levels[level].shape[-2:], CHUNKS_PX[0]):
                    finer = self.read(plane, _doubled(rows), _doubled(columns), level=level - 1)
                    self.write(plane, rows, columns, _halved(finer), level=level)


@contextlib.contextmanager
def zarr_writer(
    path: str | os.PathLike[str],
    *,
    shape: Sequence[int],
    dtype: Any,
    axes: str,
    description: Mapping[str, Any],
    pixel_size_nm: float | None = None,
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
    chunk_px: int = CHUNKS_PX[0],
) -> Iterator[ZarrPlanes]:
    """Give an OME-Zarr of a known shape to fill; it gets its pyramid and its name when the block ends well.

    What ``description`` holds then is what is stored, so that it may be completed by what is known only at the end.

    Raises
    ------
    UserError
        Where the folder cannot be written, something else stands in its place, or ``zarr`` is not installed.
    """
    for name, value in (
        ("pixel_size_nm", pixel_size_nm),
        ("z_step_nm", z_step_nm),
        ("frame_interval_s", frame_interval_s),
    ):
        if value is not None:
            _checks.positive(name, value)
    import_zarr()
    steps = {"T": frame_interval_s, "Z": z_step_nm and z_step_nm / 1000}
    steps |= dict.fromkeys("YX", pixel_size_nm and pixel_size_nm / 1000)
    with atomic_folder(path, replaceable=is_zarr) as folder:
        sizes = _level_sizes((shape[-2], shape[-1]), chunk_px)
        _make(folder, tuple(shape[:-2]), sizes, chunk_px, np.dtype(dtype), axes, steps, description)
        planes = open_planes(folder)
        yield planes
        planes.shrink()
        stored = json.loads(plain_json(dict(description)))
        import_zarr().open_group(store=str(folder), mode="r+").attrs[SETTINGS] = stored


def open_planes(folder: Path) -> ZarrPlanes:
    """Open the OME-Zarr that another process is making in ``folder``, to write blocks of it."""
    zarr = import_zarr()
    group = zarr.open_group(store=str(folder), mode="r+", zarr_format=3)
    names = [level["path"] for level in group.attrs["ome"]["multiscales"][0]["datasets"]]
    # Chunks of zeros are stored too: one that is not there is then one that was lost.
    stored = [group[name].with_config({"write_empty_chunks": True}) for name in names]
    return ZarrPlanes(folder, tuple(stored))


def write_zarr(
    path: str | os.PathLike[str],
    data: np.ndarray,
    *,
    axes: str,
    pixel_size_nm: float | None,
    description: Mapping[str, Any],
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
) -> None:
    """Write an array to OME-Zarr; as :func:`dps_jax.io.write_image`, with a folder in place of a file.

    Raises
    ------
    UserError
        As :func:`zarr_writer`.
    ValueError
        Where shape, axes, type, a size or the description are not as :func:`dps_jax.io.write_image` has them.
    """
    data, axes = in_order(storable(np.asarray(data)), axes, order=NGFF_AXES)
    with zarr_writer(
        path,
        shape=data.shape,
        dtype=data.dtype,
        axes=axes,
        description=description,
        pixel_size_nm=pixel_size_nm,
        z_step_nm=z_step_nm,
        frame_interval_s=frame_interval_s,
    ) as planes:
        for number, plane in enumerate(data.reshape(-1, *data.shape[-2:])):
            for rows, columns in blocks(plane.shape, CHUNKS_PX[0]):
                planes.write(number, rows, columns, plane[slice(*rows), slice(*columns)])


def check_zarr_output(path: str | os.PathLike[str], *, inputs: Sequence[str | os.PathLike[str]] = ()) -> None:
    """Refuse, before any computing, an output folder that cannot be written or would destroy an input.

    Raises
    ------
    UserError
        Where ``path`` is, holds or lies within one of ``inputs``, is something else than a Zarr folder, or its
        parent is missing or read-only; or ``zarr`` is not installed.
    """
    import_zarr()
    final = Path(os.path.realpath(path))
    for source in inputs:
        other = Path(os.path.realpath(source))
        if final.is_relative_to(other) or other.is_relative_to(final):
            raise UserError(
                f"The output {path} is the same file as the input {source}, or within it; "
                "choose another output name, so that the original is kept."
            )
    check_folder_output(path, replaceable=is_zarr)


def blocks(sides: Sequence[int], side: int) -> Iterator[tuple[Span, Span]]:
    """Yield the rows and columns of blocks of ``side`` px, the last of them shorter, in reading order."""
    for y in range(0, sides[0], side):
        for x in range(0, sides[1], side):
            yield (y, min(y + side, sides[0])), (x, min(x + side, sides[1]))


def _level_sizes(sides: tuple[int, int], chunk_px: int) -> list[tuple[int, int]]:
    """Return the sides of all levels: halved, rounded up, until one fits into a chunk."""
    sizes = [sides]
    while max(sizes[-1]) > chunk_px:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _make(
    folder: Path,
    lead: tuple[int, ...],
    sizes: list[tuple[int, int]],
    chunk_px: int,
    dtype: np.dtype[Any],
    axes: str,
    steps: Mapping[str, float | None],
    description: Mapping[str, Any],
) -> None:
    """Write the metadata of all levels."""
    zarr = import_zarr()
    attributes = {
        "ome": {"version": "0.5", "multiscales": [_multiscale(axes, len(sizes), steps)]},
        SETTINGS: json.loads(plain_json(dict(description))),
    }
    group = zarr.create_group(store=str(folder), zarr_format=3, attributes=attributes)
    for level, (height, width) in enumerate(sizes):
        group.create_array(
            str(level),
            shape=(*lead, height, width),
            chunks=(*(1 for _ in lead), min(chunk_px, height), min(chunk_px, width)),
            dtype=dtype,
            # Not blosc: its threads put blocks into a chunk in the order in which they are done.
            compressors=zarr.codecs.ZstdCodec(level=1),
            fill_value=0,
            dimension_names=[letter.lower() for letter in axes],
        )


def _multiscale(axes: str, levels: int, steps: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the NGFF 0.5 metadata of an image; an axis without a known step has no unit."""
    names = []
    for letter in axes:
        unit = {"unit": _UNITS[letter]} if steps.get(letter) else {}
        names.append({"name": letter.lower(), "type": _KINDS[letter], **unit})
    datasets = []
    for level in range(levels):
        factors = [2.0**level if letter in "YX" else 1.0 for letter in axes]
        sizes = [steps.get(letter) or 1.0 for letter in axes]
        scale = [float(f * s) for f, s in zip(factors, sizes, strict=True)]
        # The origin is the centre of the first pixel, which moves as pixels grow.
        shift = [float((f - 1) / 2 * s) for f, s in zip(factors, sizes, strict=True)]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if level:
            transforms.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return {
        "name": "image",
        "axes": names,
        "datasets": datasets,
        "type": "mean",
        "metadata": {"method": "mean of 2 x 2 pixels of the level before"},
    }


def _doubled(span: Span) -> Span:
    return 2 * span[0], 2 * span[1]  # a slice beyond the end stops there


def _halved(block: np.ndarray) -> np.ndarray:
    """Return the means of 2 x 2 pixels; at an odd border of those that are there."""
    pads = [(0, n % 2) for n in block.shape]
    even = np.pad(block, pads, mode="edge").astype(np.float32 if block.dtype.kind == "f" else np.float64)
    means = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean(axis=(1, 3))
    return means.astype(block.dtype) if block.dtype.kind == "f" else np.rint(means).astype(block.dtype)
