"""Results as TIFF files that Fiji opens with the right pixel size, axes and the settings that made them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from .. import _checks
from .atomic import atomic_path, check_output
from .errors import explained, library_warnings
from .integrity import check_file, tiff_file

AXES = "TZCYX"  # ImageJ's order
SETTINGS = "dps_jax"
_TYPES = ("uint8", "uint16", "float32")  # those that ImageJ shows as they are
# Classic TIFF has 32-bit offsets; 32 MiB are left for directories and metadata.
_CLASSIC_LIMIT = 2**32 - 2**25


def write_image(
    path: str | os.PathLike[str],
    data: np.ndarray,
    *,
    axes: str,
    pixel_size_nm: float | None,
    description: Mapping[str, Any],
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
    overwrite: bool = True,
) -> None:
    """Write an uncompressed ImageJ TIFF, whole or not at all; equal arguments give equal bytes.

    ``axes`` has one letter of T, Z, C, Y, X per axis of ``data``, and ends with YX; they are stored in the
    order TZCYX. uint8, uint16 and float32 are kept, bool becomes uint8, other floats float32. ``description``
    is stored as JSON in ImageJ's "Info" (Fiji: Image > Show Info). Above 4 GB, where the ImageJ format ends,
    the file is a BigTIFF with resolution tags in centimetres and all else as JSON in its description; Fiji
    opens it through Bio-Formats.

    Raises
    ------
    UserError
        Where the file cannot be written, or exists although ``overwrite`` is False.
    ValueError
        Where shape, axes, type, a size or the description are not as above.
    """
    data, axes = in_order(storable(np.asarray(data)), axes)
    for name, value in (
        ("pixel_size_nm", pixel_size_nm),
        ("z_step_nm", z_step_nm),
        ("frame_interval_s", frame_interval_s),
    ):
        if value is not None:
            _checks.positive(name, value)
    check_output(path, overwrite=overwrite)
    settings = {SETTINGS: json.loads(plain_json(dict(description)))}
    if data.nbytes <= _CLASSIC_LIMIT:
        options = _imagej_options(data, axes, pixel_size_nm, z_step_nm, frame_interval_s, settings)
    else:
        options = _bigtiff_options(axes, pixel_size_nm, z_step_nm, frame_interval_s, settings)
    with atomic_path(path) as temporary:
        # A fixed byte order and no date: the bytes depend on the arguments alone.
        tifffile.imwrite(
            temporary, data, byteorder="<", ome=False, photometric="minisblack", software="dps_jax", **options
        )


def read_description(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the description that :func:`write_image` stored, ``None`` where a TIFF has none.

    Raises
    ------
    UserError
        Where the file is missing, no TIFF or incomplete.
    """
    path = Path(path)
    check_file(path)
    with explained(path), library_warnings("tifffile"), tiff_file(path) as file:
        imagej = (file.imagej_metadata if file.is_imagej else None) or {}
        shaped: Any = (file.shaped_metadata if file.is_shaped else None) or ({},)
    try:
        found = json.loads(imagej["Info"]) if "Info" in imagej else shaped[0]
    except (TypeError, ValueError):
        return None
    settings = found.get(SETTINGS) if isinstance(found, dict) else None
    return settings if isinstance(settings, dict) else None


def storable(data: np.ndarray) -> np.ndarray:
    """Return ``data`` in a type that ImageJ shows as it is."""
    if data.dtype.kind == "f":
        return data.astype(np.float32, copy=False)
    if data.dtype == bool:
        return data.astype(np.uint8)
    if data.dtype.name not in _TYPES:
        raise ValueError(f"expected data of type {', '.join(_TYPES)}, bool or float, got {data.dtype}")
    return data


def in_order(data: np.ndarray, axes: str, *, order: str = AXES) -> tuple[np.ndarray, str]:
    """Return data and axes in an order, by default ImageJ's."""
    if len(set(axes)) != len(axes) or set(axes) - set(AXES) or not axes.endswith("YX"):
        raise ValueError(f"expected axes of different letters of {AXES} ending with YX, got {axes!r}")
    if len(axes) != data.ndim or not data.size:
        raise ValueError(f"expected data with {len(axes)} axes ({axes}) and pixels, got shape {data.shape}")
    places = sorted(range(len(axes)), key=lambda i: order.index(axes[i]))
    return np.ascontiguousarray(data.transpose(places)), "".join(axes[i] for i in places)


def _imagej_options(
    data: np.ndarray,
    axes: str,
    pixel_size_nm: float | None,
    z_step_nm: float | None,
    frame_interval_s: float | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Return the writer's options for an ImageJ hyperstack in microns."""
    metadata: dict[str, Any] = {"axes": axes, "Info": plain_json(settings)}
    if pixel_size_nm is not None:
        metadata["unit"] = "micron"
    if z_step_nm is not None:
        metadata |= {"unit": "micron", "spacing": z_step_nm / 1000}
    if frame_interval_s is not None:
        metadata["finterval"] = frame_interval_s
    if data.dtype == np.float32 and np.isfinite(data).all() and data.min() < data.max():
        # Without a display range Fiji stretches a stack to its first plane.
        metadata |= {"min": float(data.min()), "max": float(data.max())}
    options: dict[str, Any] = {"imagej": True, "metadata": metadata}
    if pixel_size_nm is not None:
        options["resolution"] = (1000 / pixel_size_nm, 1000 / pixel_size_nm)
    return options


def _bigtiff_options(
    axes: str,
    pixel_size_nm: float | None,
    z_step_nm: float | None,
    frame_interval_s: float | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Return the writer's options for a BigTIFF with resolution tags."""
    extras = {"z_step_nm": z_step_nm, "frame_interval_s": frame_interval_s}
    metadata = {"axes": axes, **settings, **{k: v for k, v in extras.items() if v is not None}}
    options: dict[str, Any] = {"bigtiff": True, "metadata": metadata}
    if pixel_size_nm is not None:
        options |= {"resolution": (1e7 / pixel_size_nm, 1e7 / pixel_size_nm), "resolutionunit": "CENTIMETER"}
    return options


def plain_json(value: dict[str, Any]) -> str:
    """Return plain JSON in one fixed order, or say that the description is not plain."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False, indent=1)
    except (TypeError, ValueError) as problem:
        raise ValueError(f"expected description to hold plain JSON values, got {problem}") from problem
