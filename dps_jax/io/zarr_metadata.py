"""What the JSON files of an OME-Zarr folder say: which array is the image, its axes, its physical sizes.

Read by hand and before any array is opened, so that nothing of a stranger's folder is trusted: arrays stay inside the
folder, and only codecs that turn bytes into numbers are let in (``pickle``, which numcodecs knows, is none of them).
(Layout: OME-NGFF 0.4 and 0.5, Moore et al. 2023; older versions by their fixed axes.)
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import UserError
from .metadata import Calibration, nm_per_unit, seconds_per_unit

# Files whose presence makes a folder a Zarr group or array, of version 2 or 3.
_MARKS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
# Megabytes of metadata are no image's.
_LARGEST_JSON = 16 * 2**20
_OLD_AXES = ("t", "c", "z", "y", "x")  # NGFF 0.1 and 0.2 knew no others
_LETTERS = {"t": "T", "c": "C", "z": "Z", "y": "Y", "x": "X"}
_BY_TYPE = {"time": "T", "channel": "C"}
_CODECS = {
    *("bytes", "endian", "transpose", "crc32c", "sharding_indexed"),
    *("blosc", "gzip", "zlib", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta", "bitround"),
    *("fixedscaleoffset", "astype", "adler32", "fletcher32", "jenkins_lookup3", "packbits", "quantize"),
}


@dataclass(frozen=True)
class ZarrImage:
    """The array at ``path`` (inside the folder) and one letter per axis of it, Q where the meaning is unknown."""

    array: Path
    axes: str
    calibration: Calibration
    notes: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def is_zarr(path: Path) -> bool:
    """Tell whether a path is a Zarr folder, by its content or, where it cannot be looked into, by its name."""
    return path.is_dir() and (path.suffix.lower() == ".zarr" or any((path / m).is_file() for m in _MARKS))


def find_image(path: Path) -> ZarrImage:
    """Return the first resolution level of the first image in a Zarr folder.

    Raises
    ------
    UserError
        For a folder that is no Zarr, a plate of many images, metadata that are not as NGFF has them, an array
        outside the folder, or one whose codecs are not known to be harmless.
    """
    attributes, kind = read_node(path)
    if kind == "array":
        return _checked(path, ZarrImage(path, "", Calibration()))
    about = _ome(attributes)
    if "plate" in about or "well" in about:
        raise UserError(f"{path} is a plate of many images; give the folder of one image in it.")
    group = path
    notes: tuple[str, ...] = ()
    if "multiscales" not in about and "bioformats2raw.layout" in about | attributes:
        group, notes = _inside(path, "0"), ("the folder holds a series of images; the first was read",)
        about = _ome(read_node(group)[0])
    return _checked(path, _first_level(group, path, about, notes, attributes))


def read_node(path: Path) -> tuple[dict[str, Any], str]:
    """Return the attributes of a Zarr group or array and which of the two it is."""
    if (path / "zarr.json").is_file():
        node = _json_file(path / "zarr.json")
        attributes, kind = node.get("attributes", {}), str(node.get("node_type"))
        if isinstance(attributes, dict) and kind in ("group", "array"):
            return attributes, kind
        raise UserError(
            f"{path / 'zarr.json'} is not as Zarr has it: neither a group nor an array; export it again."
        )
    attributes = _json_file(path / ".zattrs") if (path / ".zattrs").is_file() else {}
    if (path / ".zarray").is_file():
        return attributes, "array"
    if (path / ".zgroup").is_file() or attributes:
        return attributes, "group"
    raise UserError(
        f"{path} is a folder without Zarr metadata (zarr.json or .zgroup); give an OME-Zarr folder."
    )


def _json_file(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise UserError(
                f"{path} is too large for metadata ({path.stat().st_size} bytes); export it again."
            )
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise UserError(f"{path} could not be opened ({problem.strerror}); check its permissions.") from None
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested without end
        raise UserError(f"{path} is damaged: it is not JSON; copy or export it again.") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not as Zarr has it: a JSON object was expected; export it again.")
    return found


def _ome(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what NGFF says: under ``ome`` since 0.5, at the top before."""
    found = attributes.get("ome", attributes)
    return found if isinstance(found, dict) else {}


def _first_level(
    group: Path, root: Path, about: dict[str, Any], notes: tuple[str, ...], attributes: dict[str, Any]
) -> ZarrImage:
    try:
        (scales, *others) = about["multiscales"]
        level = scales["datasets"][0]
        axes = scales.get("axes", _OLD_AXES)
        names = [axis if isinstance(axis, str) else str(axis["name"]) for axis in axes]
        kinds = ["" if isinstance(axis, str) else str(axis.get("type", "")) for axis in axes]
        units = ["" if isinstance(axis, str) else str(axis.get("unit", "")) for axis in axes]
        sizes = _sizes(len(names), level, scales)
        where = level["path"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{root} has no image metadata as OME-NGFF has them (multiscales with axes and datasets); "
            "export it as OME-Zarr."
        ) from None
    letters = "".join(
        _BY_TYPE.get(k, _LETTERS.get(n.lower(), "Q")) for n, k in zip(names, kinds, strict=True)
    )
    if others:
        notes += (f"the folder holds {1 + len(others)} images; the first was read",)
    calibration = _calibration(letters, sizes, units)
    return ZarrImage(_inside(root, where, below=group), letters, calibration, notes, attributes)


def _sizes(count: int, *holders: dict[str, Any]) -> list[float]:
    """Return the size of a step along each axis: the product of the scales of level and image."""
    sizes = [1.0] * count
    for holder in holders:
        for transform in holder.get("coordinateTransformations", ()):
            if transform.get("type") == "scale" and "scale" in transform:
                values = [float(v) for v in transform["scale"]]
                sizes = [a * b for a, b in zip(sizes, values, strict=True)]
    return sizes


def _calibration(letters: str, sizes: list[float], units: list[str]) -> Calibration:
    """Return the physical sizes; without a unit a scale is a number of pixels, and tells nothing."""
    by_letter = {letter: (size, unit) for letter, size, unit in zip(letters, sizes, units, strict=True)}

    def physical(letter: str, per_unit: Any) -> float | None:
        size, unit = by_letter.get(letter, (0.0, ""))
        factor = per_unit(unit) if unit else None
        value = size * factor if factor is not None else 0.0
        return value if math.isfinite(value) and value > 0 else None

    y, x = (physical(letter, nm_per_unit) for letter in "YX")
    pixel = (y, x) if y and x else None
    return Calibration(
        pixel,
        physical("Z", nm_per_unit),
        physical("T", seconds_per_unit),
        "OME-Zarr metadata" if pixel else "none",
    )


def _inside(root: Path, where: Any, *, below: Path | None = None) -> Path:
    """Return the folder ``where`` inside ``root``, also after links; refuse what leads out of it."""
    parts = PurePosixPath(where).parts if isinstance(where, str) else ("..",)
    inner = (below or root).joinpath(*parts)
    inside = inner.resolve().is_relative_to(root.resolve())
    if (
        not parts
        or ".." in parts
        or PurePosixPath(str(where)).is_absolute()
        or "\\" in str(where)
        or not inside
    ):
        raise UserError(f"{root} names an array outside of its own folder ({where!r}); it is not opened.")
    return inner


def _checked(root: Path, found: ZarrImage) -> ZarrImage:
    """Refuse an array that is not there, or that would be decoded by what is not known to be harmless."""
    where = found.array
    for mark in ("zarr.json", ".zarray"):
        if (where / mark).is_file():
            names = set(_codec_names(_json_file(where / mark)))
            strange = sorted(names - _CODECS)
            if strange:
                raise UserError(
                    f"{root} stores its pixels with the codec {strange[0]!r}, which is not known here; "
                    "export it with blosc, zstd or gzip."
                )
            return found
    raise UserError(f"{root} names the array {where.name}, which is not in it; copy or export it again.")


def _codec_names(array: dict[str, Any]) -> list[str]:
    """List the codecs of an array, those within shards included."""
    names = []
    filters, chain = array.get("filters") or [], array.get("codecs") or []
    for codec in [array.get("compressor"), *_listed(filters), *_listed(chain)]:
        if isinstance(codec, dict):
            names.append(str(codec.get("id", codec.get("name"))).removeprefix("numcodecs."))
            inner = codec.get("configuration")
            if isinstance(inner, dict):
                for key in ("codecs", "index_codecs"):
                    names += _codec_names({"codecs": inner.get(key)})
        elif codec is not None:
            names.append(str(codec))
    return names


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
