"""Raw SIM in a TIFF to a reconstruction in a TIFF, with what it rests on in its metadata, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import __version__, _checks
from dps_jax.io import (
    ImageFile,
    UserError,
    atomic_path,
    check_output,
    check_values,
    read_image,
    write_image,
)
from dps_jax.metrics.cutoff import spectral_cutoff
from dps_jax.metrics.decorrelation import decorrelation_resolution
from dps_jax.operators.convolve import convolve
from dps_jax.optics.otf import RadialOtf
from dps_jax.optics.psf import srpsf
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.chain import run_chain
from dps_jax.pipelines.sim import (
    Progress,
    SimReconstruction,
    SimSettings,
    check_count,
    reconstruct_sim,
)
from dps_jax.pipelines.sim_figure import check_plots, draw_sim
from dps_jax.pipelines.sim_otf import read_otf
from dps_jax.solvers.sim_reconstruction import FACTOR
from dps_jax.weights import load_network

Log = Callable[[str], None]

# The slowest axis of the pages first: plane, angle, phase; plane, phase, angle; angle, plane, phase (OMX). Planes are
# depths or times.
FRAME_ORDERS = ("angle-major", "phase-major", "angle-plane-phase")


@dataclass(frozen=True, kw_only=True)
class SimOptions:
    """What a user may say; None leaves it to the file or to measurement."""

    angles: int = 3
    phases: int = 3
    frame_order: str = "angle-major"
    na: float | None = None
    wavelength_nm: float | None = None
    pixel_size_nm: float | None = None
    refractive_index: float = 1.515
    otf: Path | None = None
    figure: Path | None = None
    json: Path | None = None
    extend: bool = False
    keep_intermediates: bool = False
    settings: SimSettings = field(default_factory=SimSettings)

    def __post_init__(self) -> None:
        _checks.one_of("frame_order", self.frame_order, FRAME_ORDERS)


def sim_file(
    source: Path, target: Path, options: SimOptions, *, log: Log = print, progress: Progress | None = None
) -> None:
    """Reconstruct the raw SIM TIFF ``source`` into the TIFF ``target``, which appears whole or not at all.

    Raises
    ------
    UserError
        For a file that cannot be read, frames that are no SIM or in another order, or an output that cannot be
        written.
    ValueError
        For numbers out of range.
    """
    inputs = [source, *([options.otf] if options.otf else [])]
    for path in (target, options.figure, options.json):
        if path is not None:
            check_output(path, inputs=inputs)
    if options.figure is not None:
        check_plots()
    image = read_image(source)
    notes = (*image.notes, *check_values(image))
    frames = ordered_frames(image, options)
    pixel_nm = options.pixel_size_nm or image.pixel_size_nm
    log(f"{source.name}: {len(frames)} plane(s) of {options.angles} angles x {options.phases} phases")
    otfs, optics_notes = _otfs(frames, pixel_nm, options)
    if options.extend and (pixel_nm is None or options.na is None or options.wavelength_nm is None):
        raise UserError("--extend needs the optics; give --na, --wavelength-nm and the pixel size.")
    settings = options.settings
    if options.extend and settings.method == "wiener":
        # The network expects the resolution of a microscope of that cut-off, not what a sharper filter makes of it.
        settings = dataclasses.replace(settings, apodisation=1.0)
    made = reconstruct_sim(frames, otfs, settings=settings, progress=progress)
    notes += (*optics_notes, *made.notes)
    _tell(made, pixel_nm, log)
    result, out_nm = made.image, None if pixel_nm is None else pixel_nm / FACTOR
    extended: dict[str, Any] = {}
    if options.extend and pixel_nm is not None:
        result, out_nm, extended, more = _extended(made, pixel_nm, options, log)
        notes += more
    for note in notes:
        log(f"note: {note}")
    several = len(result) > 1
    axes = f"{'Z' if 'Z' in image.axes else 'T'}YX" if several else "YX"
    report = _report(made, otfs[0], pixel_nm, notes)
    write_image(
        target,
        result if several else result[0],
        axes=axes,
        pixel_size_nm=out_nm,
        z_step_nm=image.z_step_nm if several else None,
        description={
            "software": f"dps_jax {__version__}",
            "operation": "sim",
            "input": source.name,
            "settings": _plain(options),
            "intensity": "photon-conserving: the sum over pixels is that of the mean frame above background",
            **report,
            **extended,
        },
    )
    if options.extend and options.keep_intermediates:
        path = target.with_name(f"{target.stem}_sim.tif")
        write_image(
            path,
            made.image if several else made.image[0],
            axes=axes,
            pixel_size_nm=None if pixel_nm is None else pixel_nm / FACTOR,
            description={
                "software": f"dps_jax {__version__}",
                "operation": "sim, not extended",
                "input": source.name,
            },
        )
        log(f"wrote {path}")
    log(f"wrote {target}" + ("" if out_nm is None else f": pixel {out_nm:.2f} nm"))
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps({**report, **extended}, indent=1) + "\n", encoding="utf-8")
        log(f"wrote {options.json}")
    if options.figure is not None:
        draw_sim(options.figure, made, cutoff_per_px=float(otfs[0].cutoff), pixel_size_nm=pixel_nm)
        log(f"wrote {options.figure}")


def ordered_frames(image: ImageFile, options: SimOptions) -> np.ndarray:
    """Return the pages of a file as ``(plane, angle, phase, y, x)``.

    Raises
    ------
    UserError
        For a number of pages that is no whole number of planes, or several channels.
    """
    if "C" in image.axes and image.data.shape[image.axes.index("C")] > 1 and image.data.ndim == 4:
        raise UserError(
            f"expected raw SIM frames of one channel, got {image.axes} {image.data.shape} in {image.path}; split the "
            "channels first."
        )
    if sum(n > 1 for n, axis in zip(image.data.shape, image.axes, strict=True) if axis in "TZ") > 1:
        raise UserError(
            f"expected the pages of one volume or of one movie, got both ({image.axes} {image.data.shape}) in "
            f"{image.path}; split the times first."
        )
    pages = image.data.reshape(-1, *image.data.shape[-2:])
    a, p = options.angles, options.phases
    planes = check_count(len(pages), a, p)
    sides = pages.shape[-2:]
    if options.frame_order == "angle-major":
        return pages.reshape(planes, a, p, *sides)
    if options.frame_order == "phase-major":
        return pages.reshape(planes, p, a, *sides).swapaxes(1, 2)
    return pages.reshape(a, planes, p, *sides).swapaxes(0, 1)


def _otfs(
    frames: np.ndarray, pixel_nm: float | None, options: SimOptions
) -> tuple[tuple[RadialOtf, ...], tuple[str, ...]]:
    """Return the OTF of each order: measured, of the given optics, or of a cut-off read from the frames."""
    count = options.settings.orders + 1
    if options.otf is not None:
        return read_otf(options.otf, orders=options.settings.orders), ()
    if options.na is not None and options.wavelength_nm is not None:
        if pixel_nm is None:
            raise UserError("the file does not state its pixel size; give it with --pixel-size-nm.")
        system = OpticalSystem(
            na=options.na,
            wavelength_nm=options.wavelength_nm,
            pixel_size_nm=pixel_nm,
            refractive_index=options.refractive_index,
        )
        return (RadialOtf.airy(float(system.abbe_px)),) * count, ()
    cutoff = spectral_cutoff(frames.mean((0, 1, 2), dtype=np.float64))
    if cutoff is None:
        raise UserError(
            "the cut-off of the optics cannot be read from these frames, whose spectrum has no flat end; give --na, "
            "--wavelength-nm and the pixel size."
        )
    note = (
        f"the cut-off was read from the frames' spectrum: an Abbe period of {1 / cutoff:.3g} px; give --na and "
        "--wavelength-nm if you know them"
    )
    return (RadialOtf.airy(1 / cutoff),) * count, (note,)


def _tell(made: SimReconstruction, pixel_nm: float | None, log: Log) -> None:
    for number, angle in enumerate(made.angles(), start=1):
        period = angle["period_px"]
        nm = "" if pixel_nm is None else f" ({period * pixel_nm:.2f} nm)"  # type: ignore[operator]
        depths = ", ".join(f"{m:.2f}" for m in angle["modulation"])  # type: ignore[union-attr]
        log(
            f"angle {number}: period {period:.4f} px{nm}, direction {angle['direction_degrees']:.2f} degrees, "
            f"modulation {depths}, peak {angle['significance']:.0f} times its surroundings"
        )
    log(
        f"background {made.background:.6g}; cut-off extended {made.extension:.2f} times; left unexplained "
        f"{made.residual_share:.1%} of the mean light; light out/in before it was matched {made.light_out_over_in:.4f}"
    )


def _extended(
    made: SimReconstruction, pixel_nm: float, options: SimOptions, log: Log
) -> tuple[np.ndarray, float, dict[str, Any], tuple[str, ...]]:
    """Sharpen the reconstruction further by the released network, told the resolution that SIM has reached."""
    system = OpticalSystem(
        na=options.na or 0.0,
        wavelength_nm=options.wavelength_nm or 0.0,
        pixel_size_nm=pixel_nm / FACTOR,
        modulation=made.extension,
        refractive_index=options.refractive_index,
    )
    image = made.image
    if (
        options.settings.method == "richardson-lucy"
    ):  # an object, to be seen at the resolution that was reached
        image = np.asarray(convolve(jnp.asarray(image), srpsf(system), boundary="reflect"))
    chain = run_chain(image, system, load_network(), background=0.0)
    restored = chain.restored
    for decision in chain.decisions:
        log(f"extending: {decision}")
    log(f"extended by the network from an Abbe period of {float(system.abbe_nm):.1f} nm")
    notes = tuple(f"extending: {note}" for note in (*chain.notes, *restored.report.notes))
    return (
        restored.image,
        restored.pixel_size_nm,
        {"extend": {**restored.report.as_dict(), "decisions": list(chain.decisions)}},
        notes,
    )


def _report(
    made: SimReconstruction, otf: RadialOtf, pixel_nm: float | None, notes: tuple[str, ...]
) -> dict[str, Any]:
    resolution = jax.jit(partial(decorrelation_resolution, pixel_size_nm=1.0))
    before, after = float(resolution(made.mean[0])), float(resolution(made.image[0])) / FACTOR
    return {
        "angles": made.angles(),
        "refined": made.refined,
        "cutoff_per_px": float(otf.cutoff),
        "extension": made.extension,
        "background": made.background,
        "noise_to_signal": made.noise_to_signal,
        "light_out_over_in": made.light_out_over_in,
        "unexplained_share": made.residual_share,
        "decorrelation_px": {"mean_frame": _finite(before), "reconstruction": _finite(after)},
        "input_pixel_size_nm": pixel_nm,
        "notes": list(notes),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(options: SimOptions) -> dict[str, Any]:
    own = {k: v for k, v in asdict(options).items() if k not in ("figure", "json", "settings")}
    own["otf"] = None if options.otf is None else options.otf.name
    return {**own, **dataclasses.asdict(options.settings)}
