"""Restore a file: read, check, restore every plane, write with everything needed to repeat it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dps_jax import __version__
from dps_jax.io import ImageFile, UserError, check_output, check_values, read_image, write_image
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.file_checks import check_light, check_scales
from dps_jax.pipelines.report import Report
from dps_jax.pipelines.restore import Progress, Restored, restore
from dps_jax.weights import Network

Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What a user may say about a file; None or empty leaves it to the file or to measurement."""

    na: float | None = None
    wavelength_nm: tuple[float, ...] = ()
    pixel_size_nm: float | None = None
    modulation: float = 1.0
    refractive_index: float = 1.515
    output_pixel_size_nm: float | None = None
    background_radius_nm: float | None = None
    background: float | None = None
    gain: float | None = None
    offset: float | None = None
    steady_frames: int = 0
    orientations: int = 1
    tile_px: int = 512


def restore_file(
    source: Path,
    target: Path,
    options: FileOptions,
    network: Network,
    *,
    log: Log = print,
    progress: Progress | None = None,
) -> None:
    """Restore the TIFF ``source`` into the TIFF ``target``, which appears whole or not at all.

    Raises
    ------
    UserError
        For a file that cannot be read or used, missing optics, or an output that cannot be written.
    ValueError
        For physics out of range; see :class:`OpticalSystem` and :func:`restore`.
    """
    check_output(target, inputs=[source])
    image = read_image(source)
    notes = (*image.notes, *check_values(image))
    pixel_size_nm, origin = _pixel_size(image, options)
    log(
        f"{source.name}: {image.axes} {'x'.join(map(str, image.data.shape))}, pixel {pixel_size_nm:.2f} nm ({origin})"
    )
    for note in notes:
        log(f"note: {note}")
    if options.steady_frames and ("T" not in image.axes or "Z" in image.axes):
        raise UserError(
            f"--steady-frames needs a movie (axes TYX or TCYX), got axes {image.axes} in {image.path}."
        )
    channels = _channels(image)
    systems = _systems(options, pixel_size_nm, len(channels))
    for note in check_scales(
        image,
        systems,
        output_pixel_size_nm=options.output_pixel_size_nm,
        background_radius_nm=options.background_radius_nm,
    ):
        log(f"note: {note}")
        notes += (note,)
    restored = []
    for number, (stack, system) in enumerate(zip(channels, systems, strict=True)):
        result = restore(
            stack,
            system,
            network,
            output_pixel_size_nm=options.output_pixel_size_nm,
            background_radius_nm=options.background_radius_nm,
            background=options.background,
            gain=options.gain,
            offset=options.offset,
            steady_frames=options.steady_frames,
            orientations=options.orientations,
            tile_px=options.tile_px,
            progress=_shifted(progress, number, len(channels)),
        )
        for note in check_light(image, result.report, channel=number + 1, channels=len(channels)):
            log(f"note: {note}")
            notes += (note,)
        _say(result, f"channel {number + 1}: " if len(channels) > 1 else "", log)
        restored.append(result)
    data = _assemble(image, [r.image for r in restored])
    write_image(
        target,
        data,
        axes=image.axes,
        pixel_size_nm=restored[0].pixel_size_nm,
        description=_description(source, options, pixel_size_nm, origin, network, restored, notes),
        z_step_nm=image.z_step_nm,
        frame_interval_s=image.frame_interval_s,
    )
    log(f"wrote {target}: pixel {restored[0].pixel_size_nm:.2f} nm")


def _pixel_size(image: ImageFile, options: FileOptions) -> tuple[float, str]:
    if options.pixel_size_nm is not None:
        return options.pixel_size_nm, "given by --pixel-size-nm"
    found = image.pixel_size_nm
    if found is None:
        raise UserError(f"{image.path} does not state its pixel size; give it with --pixel-size-nm.")
    return found, f"from {image.source}"


def _systems(options: FileOptions, pixel_size_nm: float, channels: int) -> list[OpticalSystem]:
    """Return one optical system per channel."""
    if options.na is None or not options.wavelength_nm:
        missing = [f for f, v in (("--na", options.na), ("--wavelength-nm", options.wavelength_nm)) if not v]
        raise UserError(
            "the numerical aperture of the objective and the emission wavelength must be known; "
            f"give {' and '.join(missing)}."
        )
    wavelengths = options.wavelength_nm * (channels if len(options.wavelength_nm) == 1 else 1)
    if len(wavelengths) != channels:
        raise UserError(
            f"expected one --wavelength-nm for all, or one for each of the {channels} channel(s), "
            f"got {len(wavelengths)}."
        )
    return [
        OpticalSystem(
            na=options.na,
            wavelength_nm=wavelength,
            pixel_size_nm=pixel_size_nm,
            modulation=options.modulation,
            refractive_index=options.refractive_index,
        )
        for wavelength in wavelengths
    ]


def _channels(image: ImageFile) -> list[np.ndarray]:
    """Return one array ``(plane, y, x)`` or ``(y, x)`` per channel; frames and planes are flattened."""
    data = image.data
    if min(data.shape[-2:]) < 16:
        y, x = data.shape[-2:]
        raise UserError(f"expected an image of at least 16 px a side, got {y}x{x} px in {image.path}.")
    parts = np.moveaxis(data, image.axes.index("C"), 0) if "C" in image.axes else data[None]
    return [part if part.ndim == 2 else part.reshape(-1, *part.shape[-2:]) for part in parts]


def _assemble(image: ImageFile, results: list[np.ndarray]) -> np.ndarray:
    """Undo :func:`_channels` on the finer grid."""
    lead = [n for n, axis in zip(image.data.shape, image.axes, strict=True) if axis not in "CYX"]
    parts = [r.reshape(*lead, *r.shape[-2:]) for r in results]
    return np.stack(parts, axis=image.axes.index("C")) if "C" in image.axes else parts[0]


def _shifted(progress: Progress | None, number: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, count * total)


def _say(result: Restored, prefix: str, log: Log) -> None:
    report = result.report
    log(
        f"{prefix}Abbe period {report.abbe_nm:.0f} nm = {report.abbe_px:.2f} px; background {report.background:.6g}; "
        f"photons out/in {report.photons_out_over_in:.4f}; blurred again it correlates "
        f"{report.reblur_correlation:.4f} with the input"
    )
    log(f"{prefix}{_photons(report)}")
    for note in report.notes:
        log(f"{prefix}note: {note}")


def _photons(report: Report) -> str:
    if report.gain is None or report.peak_photons is None:
        return f"photons per camera unit {report.gain_origin}; give --gain if you know it"
    offset = "" if report.offset is None else f", offset {report.offset:.6g}"
    return (
        f"about {report.peak_photons:.3g} photons per pixel in the brightest structures "
        f"(gain {report.gain:.4g} per photon{offset}, {report.gain_origin})"
    )


def _description(
    source: Path,
    options: FileOptions,
    pixel_size_nm: float,
    origin: str,
    network: Network,
    restored: list[Restored],
    notes: tuple[str, ...],
) -> dict[str, Any]:
    """Return what is stored with the result, so that it can be repeated and judged."""
    return {
        "software": f"dps_jax {__version__}",
        "operation": "restore",
        "input": source.name,
        "settings": {k: v for k, v in asdict(options).items() if v is not None},
        "input_pixel_size_nm": pixel_size_nm,
        "input_pixel_size_origin": origin,
        "weights_sha256": network.sha256,
        "weights_version": network.header.get("package_version", ""),
        "intensity": "photon-conserving: the sum over pixels is that of the input above background",
        "notes": list(notes),
        "checks": [r.report.as_dict() for r in restored],
    }
