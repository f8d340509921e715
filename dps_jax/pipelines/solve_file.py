"""Run one of the field's methods on a file: read, check, solve every plane, write with what it takes to repeat it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dps_jax import __version__
from dps_jax.io import UserError, check_output, read_image, write_image
from dps_jax.pipelines.file_checks import check_scales
from dps_jax.pipelines.file_planes import read_planes
from dps_jax.pipelines.solve import Solved, solve
from dps_jax.pipelines.solve_methods import ON_THE_OWN_GRID, WITHOUT_PSF, Settings, describe

Log = Callable[[str], None]
# Pixel sizes in files are rounded; a kernel off by more than this is the wrong one.
_SAME_PIXEL = 0.02
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class SolveOptions:
    """What a user may say; None or empty leaves it to the file or to measurement.

    ``kernel`` is where the kernels go that a blind method finds, one plane per plane of the input.
    """

    method: str
    na: float | None = None
    wavelength_nm: tuple[float, ...] = ()
    pixel_size_nm: float | None = None
    modulation: float = 1.0
    refractive_index: float = 1.515
    factor: int = 2
    psf: Path | None = None
    kernel: Path | None = None
    background: float | None = None
    settings: Settings = field(default_factory=Settings)


def solve_file(
    source: Path, target: Path, options: SolveOptions, *, log: Log = print, progress: Progress | None = None
) -> None:
    """Solve the TIFF ``source`` into the TIFF ``target``, which appears whole or not at all.

    Raises
    ------
    UserError
        For a file that cannot be read or used, missing optics, or an output that cannot be written.
    ValueError
        For numbers out of range.
    """
    planes = read_planes(source, target, options)
    if options.kernel is not None:
        check_output(options.kernel, inputs=[source, target])
    log(planes.summary)
    notes = planes.notes + check_scales(planes.image, planes.systems)
    psf = None
    if options.psf is not None and options.method not in WITHOUT_PSF:
        factor = 1 if options.method in ON_THE_OWN_GRID else options.factor
        psf, psf_notes = _read_psf(options.psf, planes.pixel_size_nm / factor)
        notes += psf_notes
    results: list[Solved] = []
    count = len(planes.channels)
    for number, (stack, system) in enumerate(zip(planes.channels, planes.systems, strict=True)):

        def told(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(number * total + done, count * total)

        solved = _solved(
            stack,
            system,
            method=options.method,
            settings=options.settings,
            factor=options.factor,
            psf=psf,
            background=options.background,
            progress=told,
        )
        prefix = f"channel {number + 1}: " if count > 1 else ""
        kept = f"; light out/in {solved.light_out_over_in:.4f}" if solved.conserves_light else ""
        log(f"{prefix}{options.method}: background {solved.background:.6g}{kept}")
        results.append(solved)
    notes += tuple(dict.fromkeys(note for solved in results for note in solved.notes))
    for note in notes:
        log(f"note: {note}")
    kernels = [kernel for solved in results for kernel in solved.kernels]
    description = {
        "software": f"dps_jax {__version__}",
        "operation": f"solve {options.method}",
        "input": source.name,
        "settings": describe(options.settings, options.method, psf_known=options.psf is not None),
    }
    planes.write(
        target,
        [solved.image for solved in results],
        pixel_size_nm=results[0].pixel_size_nm,
        description={
            **description,
            "optics": {
                k: v
                for k, v in asdict(options).items()
                if k not in ("settings", "psf", "kernel", "method", "factor") and v is not None
            }
            | {"factor": 1 if options.method in ON_THE_OWN_GRID else options.factor},
            "psf": _psf_origin(options, found=bool(kernels)),
            "backgrounds": [solved.background for solved in results],
            "input_pixel_size_nm": planes.pixel_size_nm,
            "input_pixel_size_origin": planes.origin,
            "notes": list(notes),
        },
    )
    if kernels and options.kernel is not None:
        write_image(
            options.kernel,
            np.stack(kernels),
            axes="TYX",
            pixel_size_nm=results[0].pixel_size_nm,
            description={**description, "operation": f"kernel found by {options.method}"},
        )
        log(f"wrote {options.kernel}: the kernel of each plane")
    log(f"wrote {target}: pixel {results[0].pixel_size_nm:.2f} nm")


def _solved(*arguments: Any, **options: Any) -> Solved:
    try:
        return solve(*arguments, **options)
    except FloatingPointError as error:  # a fit that went astray is the user's to try again, not a bug
        raise UserError(f"{error}.") from None


def _psf_origin(options: SolveOptions, *, found: bool) -> str:
    if options.method in WITHOUT_PSF:
        return "none"
    if found:
        return "found from the image"
    return "srPSF of the optics" if options.psf is None else options.psf.name


def _read_psf(path: Path, pixel_size_nm: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the kernel in a file, which must have the result's pixels; a note where the file does not say."""
    file = read_image(path)
    data = np.squeeze(file.data)
    if data.ndim != 2:
        raise UserError(f"expected a PSF of one plane in {path}, got shape {data.shape}.")
    if file.pixel_size_nm is None:
        return data, (f"{path.name} does not state its pixel size; it is taken as {pixel_size_nm:.2f} nm",)
    if abs(file.pixel_size_nm / pixel_size_nm - 1) > _SAME_PIXEL:
        raise UserError(
            f"expected a PSF with the pixels of the result ({pixel_size_nm:.2f} nm), got {file.pixel_size_nm:.2f} nm "
            f"in {path}; resample it, or choose another --factor."
        )
    return data, ()
