"""Pixel size, z step and frame interval from the metadata that microscopes and programs leave in a TIFF.

Three places are asked in turn: the OME block, the ImageJ description, the resolution tags. Lengths become
nanometres and times seconds. A resolution tag counts only where it is plausible for a microscope: most
programs write a screen's 72 dots per inch, 352,778 nm per pixel, without having measured anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile

# Sampling finer than 1 nm or coarser than 5 um is no light microscope's.
PLAUSIBLE_NM = (1.0, 5000.0)

_NM_PER_UNIT = {
    **dict.fromkeys(("å", "angstrom", "angstroms"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometers"), 1e3),
    **dict.fromkeys(("micrometre", "micrometres", "µ"), 1e3),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1e6),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 1e7),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e9),
    **dict.fromkeys(("in", "inch", "inches", '"'), 25.4e6),
}
# Written by scanners and screens as readily as by people, so held to the plausible range.
_DOUBTFUL_UNITS = (1e7, 25.4e6)
_SECONDS_PER_UNIT = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("µs", "us", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_NM_PER_RESOLUTION_UNIT = {2: 25.4e6, 3: 1e7}  # TIFF 6.0, tag 296: 1 none, 2 inch, 3 centimetre


@dataclass(frozen=True)
class Calibration:
    """Physical sizes found in a file; ``source`` says where the pixel size came from."""

    pixel_size_yx_nm: tuple[float, float] | None = None
    z_step_nm: float | None = None
    frame_interval_s: float | None = None
    source: str = "none"
    notes: tuple[str, ...] = ()


def read_calibration(file: tifffile.TiffFile) -> Calibration:
    """Return the physical sizes of an open TIFF, ``None`` for those that it does not tell."""
    found = [_from_ome(file), _from_imagej(file), _from_settings(file), _from_resolution_tags(file)]
    best = next((one for one in found if one.pixel_size_yx_nm), Calibration())
    return Calibration(
        best.pixel_size_yx_nm,
        next((one.z_step_nm for one in found if one.z_step_nm), None),
        next((one.frame_interval_s for one in found if one.frame_interval_s), None),
        best.source,
        best.notes if best.pixel_size_yx_nm else tuple(note for one in found for note in one.notes),
    )


def ome_pixels(file: tifffile.TiffFile) -> dict[str, str]:
    """Return the attributes of the first ``Pixels`` element of the OME block, empty where there is none."""
    if not file.is_ome or not file.ome_metadata:
        return {}
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return {}
    pixels = root.find("{*}Image/{*}Pixels")
    return {} if pixels is None else dict(pixels.attrib)


def ome_other_files(file: tifffile.TiffFile) -> tuple[str, ...]:
    """Return the names of files beside this one that its OME block says planes are in; none of them is opened."""
    if not file.is_ome or not file.ome_metadata:
        return ()
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return ()
    own, name = root.get("UUID"), file.filename.lower()
    parts = [(part.text, part.get("FileName", "")) for part in root.iter() if part.tag.endswith("UUID")]
    if own is None:  # then the file is known by its name
        return tuple(other for _, other in parts if other.lower() != name)
    return tuple(other or "one without a name" for uuid, other in parts if uuid != own)


def nm_per_unit(unit: Any) -> float | None:
    """Return the nanometres in a unit of length as programs spell it, ``None`` for pixels and the unknown."""
    return _NM_PER_UNIT.get(_spelling(unit))


def seconds_per_unit(unit: Any) -> float | None:
    """Return the seconds in a unit of time as programs spell it, ``None`` for the unknown."""
    return _SECONDS_PER_UNIT.get(_spelling(unit))


def _spelling(unit: Any) -> str:
    """Bring the many ways to write a unit, the micro sign above all, to one."""
    text = str(unit).strip().replace("\\u00B5", "µ").replace("\\u00b5", "µ")
    text = text.replace("\N{GREEK SMALL LETTER MU}", "µ").replace("Âµ", "µ")  # UTF-8 read as Latin-1
    return text.lower()


def _positive(value: Any) -> float | None:
    """Return ``value`` as a finite number above 0, else ``None``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _times(value: Any, factor: float | None) -> float | None:
    """Return ``value`` in the unit of ``factor``, ``None`` where either is unknown."""
    number = _positive(value)
    return None if number is None or factor is None else _positive(number * factor)


def _from_ome(file: tifffile.TiffFile) -> Calibration:
    pixels = ome_pixels(file)
    x, y, z = (
        _times(pixels.get(f"PhysicalSize{axis}"), nm_per_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
        for axis in "XYZ"  # the schema's default unit is the micrometre
    )
    interval = _times(pixels.get("TimeIncrement"), seconds_per_unit(pixels.get("TimeIncrementUnit", "s")))
    # One of the two alone means square pixels: some writers give only X.
    y, x = y or x, x or y
    return Calibration((y, x) if y and x else None, z, interval, "OME metadata")


def _from_imagej(file: tifffile.TiffFile) -> Calibration:
    found = file.imagej_metadata if file.is_imagej else None
    if not found:
        return Calibration()
    unit = found.get("unit", "")
    units = [
        nm_per_unit(found.get(f"{axis}unit", unit)) for axis in "yxz"
    ]  # ImageJ: yunit, zunit if unlike x
    sizes = [_per_pixel(file, name, nm) for name, nm in zip("YX", units, strict=False)]
    seconds = _times(found.get("finterval"), seconds_per_unit(found.get("tunit", "")))
    spacing = _times(abs(_number(found.get("spacing"))), units[2])
    doubtful = any(nm in _DOUBTFUL_UNITS for nm in units[:2])
    return _judged(sizes, "ImageJ metadata", doubtful=doubtful, z_step_nm=spacing, frame_interval_s=seconds)


def _from_settings(file: tifffile.TiffFile) -> Calibration:
    """Read what :func:`dps_jax.io.write_image` adds to a BigTIFF, which has no ImageJ description."""
    settings: dict[str, Any] = (file.shaped_metadata or ({},))[0] if file.is_shaped else {}
    return Calibration(
        None, _positive(settings.get("z_step_nm")), _positive(settings.get("frame_interval_s"))
    )


def _from_resolution_tags(file: tifffile.TiffFile) -> Calibration:
    nm = _NM_PER_RESOLUTION_UNIT.get(file.pages.first.tags.valueof(296, 1))
    sizes = [_per_pixel(file, name, nm) for name in "YX"]
    return _judged(sizes, "TIFF resolution tag", doubtful=True)


def _judged(
    sizes: list[float | None],
    source: str,
    *,
    doubtful: bool,
    z_step_nm: float | None = None,
    frame_interval_s: float | None = None,
) -> Calibration:
    """Return the calibration, without a pixel size that is doubtful and implausible."""
    y, x = sizes
    if y is None or x is None:
        return Calibration(None, z_step_nm, frame_interval_s)
    if doubtful and not all(PLAUSIBLE_NM[0] <= size <= PLAUSIBLE_NM[1] for size in (y, x)):
        note = (
            f"ignored the {source} of {x:.6g} nm per pixel: no light microscope's, a screen or print default"
        )
        return Calibration(None, z_step_nm, frame_interval_s, notes=(note,))
    return Calibration((y, x), z_step_nm, frame_interval_s, source)


def _per_pixel(file: tifffile.TiffFile, axis: str, nm: float | None) -> float | None:
    """Return the nanometres per pixel from the tag ``{axis}Resolution``, which is pixels per unit."""
    value = file.pages.first.tags.valueof(f"{axis}Resolution")
    if isinstance(value, tuple):  # a rational, numerator and denominator
        value = value[0] / value[1] if len(value) == 2 and value[1] else None
    pixels_per_unit = _positive(value)
    return None if pixels_per_unit is None or nm is None else _positive(nm / pixels_per_unit)


def _number(value: Any) -> float:
    """Return ``value`` as a number, 0 where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
