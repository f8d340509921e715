"""``dps-jax sim``: raw frames of structured illumination in, an image of twice the resolution out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro

from dps_jax import _checks
from dps_jax.cli import parsing, say
from dps_jax.cli.outputs import TIFF_SUFFIXES, required
from dps_jax.cli.progress import LateProgress
from dps_jax.io import UserError

Unset = Annotated[float | None, tyro.conf.arg(help_behavior_hint="")]
Given = Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")]

_ORDERS = ("angle-major", "phase-major", "angle-plane-phase")
_METHODS = ("wiener", "richardson-lucy", "network")
_POSITIVE = ("na", "wavelength_nm", "pixel_size_nm", "refractive_index", "noise_to_signal")


@dataclass(frozen=True)
class Arguments:
    """Reconstruct structured illumination microscopy.

    The stripes are found in the frames themselves, and refined until object and stripes explain the frames together.
    All planes of a volume or movie share them. The result holds the light of the mean frame, on a grid twice as fine.
    """

    inputs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE", help_behavior_hint="")
    ] = ()
    """Raw frames, a TIFF file."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], help_behavior_hint="(required)")] = None
    """Result, a .tif file."""
    angles: int = 3
    """Directions of the stripes."""
    phases: int = 3
    """Frames per direction: 3 for 2D-SIM, 5 for 3D-SIM."""
    orders: int = 1
    """1 for two beams (2D-SIM); 2 for three beams (3D-SIM), whose planes are reconstructed one by one."""
    frame_order: str = "angle-major"
    """angle-major: the phases of one angle follow each other; phase-major: the angles of one phase do;
    angle-plane-phase: all planes of one angle do (OMX)."""
    na: Unset = None
    """Numerical aperture of the objective; by default the cut-off is read from the frames' spectrum."""
    wavelength_nm: Unset = None
    """Emission wavelength in nm, likewise."""
    pixel_size_nm: Unset = None
    """Pixel size in nm; by default read from the file."""
    refractive_index: float = 1.515
    """Of the immersion medium."""
    otf: Given = None
    """Measured OTF, a TIFF: (order, kr, kz) as cudasirecon writes, (order, kr) or (kr,), up to half a cycle per px."""
    background: Unset = None
    """The constant background level in the frames' unit; by default measured."""
    method: str = "wiener"
    """wiener; richardson-lucy, never negative and truer at low light; or network, of simulated frames the truest."""
    noise_to_signal: Unset = None
    """Of wiener and network: less sharpens more; by default measured."""
    apodisation: float = 0.2
    """Of wiener: 0 for the bare filter, 1 for little ringing."""
    notch: float = 0.8
    """Of wiener, 0 to 1: how much of the light from out of focus is held back."""
    iterations: int = 40
    """Of richardson-lucy."""
    no_refine: bool = False
    """Take the stripes as first found, with equal steps of phase."""
    extend: bool = False
    """Sharpen the reconstruction further with the released network; needs the optics."""
    keep_intermediates: bool = False
    """With --extend, also write the reconstruction itself, as RESULT_sim.tif."""
    figure: Given = None
    """Draw images, spectra, stripes and the unexplained rest to this PNG file."""
    json: Given = None
    """Write the quality report to this JSON file."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return parsing.parse(Arguments, words, command="sim")


def run(arguments: Arguments) -> int:
    """Reconstruct one file."""
    source, target = _files(arguments)
    _check_numbers(arguments)
    from dps_jax.pipelines.sim import SimSettings
    from dps_jax.pipelines.sim_file import SimOptions, sim_file

    own = {f.name for f in fields(SimSettings)} - {"refine", "notch_width"}
    settings = SimSettings(refine=not arguments.no_refine, **{name: getattr(arguments, name) for name in own})
    shared = {f.name: getattr(arguments, f.name) for f in fields(SimOptions) if f.name != "settings"}
    with LateProgress(f"reconstructing {source.name}") as progress:
        sim_file(source, target, SimOptions(settings=settings, **shared), log=say, progress=progress)
    return 0


def _files(arguments: Arguments) -> tuple[Path, Path]:
    if len(arguments.inputs) != 1:
        raise UserError(f"expected one TIFF file of raw frames, got {len(arguments.inputs)}.")
    target = required(arguments.output, "a .tif file")
    if target.suffix.lower() not in TIFF_SUFFIXES:
        raise UserError(f"expected the output to be a .tif file, got {target}.")
    if arguments.figure is not None and arguments.figure.suffix.lower() != ".png":
        raise UserError(f"expected --figure to be a .png file, got {arguments.figure}.")
    others = [p for p in (target, arguments.figure, arguments.json) if p is not None]
    if len(set(others)) < len(others):
        raise UserError("expected different files for -o, --figure and --json, got one name twice.")
    return arguments.inputs[0], target


def _check_numbers(arguments: Arguments) -> None:
    for name in _POSITIVE:
        value = getattr(arguments, name)
        if value is not None:
            _checks.positive(parsing.flag(name), value)
    for name in ("angles", "phases", "iterations"):
        _checks.positive_integer(parsing.flag(name), getattr(arguments, name))
    if arguments.frame_order not in _ORDERS:
        raise UserError(
            f"expected --frame-order to be one of {', '.join(_ORDERS)}, got {arguments.frame_order!r}."
        )
    if arguments.method not in _METHODS:
        raise UserError(f"expected --method to be one of {', '.join(_METHODS)}, got {arguments.method!r}.")
    if arguments.orders not in (1, 2) or arguments.phases < 2 * arguments.orders + 1:
        raise UserError(
            f"expected --orders 1 with 3 or more --phases, or 2 with 5 or more, got {arguments.orders} with "
            f"{arguments.phases}."
        )
    if not 0 <= arguments.notch <= 1:
        raise UserError(f"expected --notch from 0 to 1, got {arguments.notch:g}.")
    _checks.non_negative("--apodisation", arguments.apodisation)
    optics = {"--na": arguments.na, "--wavelength-nm": arguments.wavelength_nm}
    missing = [name for name, value in optics.items() if value is None]
    if len(missing) == 1:
        raise UserError(f"the cut-off needs both --na and --wavelength-nm; {missing[0]} is missing.")
    if arguments.extend and missing:
        raise UserError("--extend needs the optics; give --na and --wavelength-nm.")
