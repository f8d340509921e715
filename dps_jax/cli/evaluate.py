"""``dps-jax evaluate``: how sharp and how true a result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dps_jax import _checks
from dps_jax.cli import parsing
from dps_jax.io import UserError, check_output

Unset = Annotated[float | None, tyro.conf.arg(help_behavior_hint="")]
Given = Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class Arguments:
    """Score a result by every measure that the given files allow, beside the raw image it was made from.

    Without a truth or an independent repeat no score can tell real detail from invented detail.
    """

    result: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE", help_behavior_hint="")
    ] = ()
    """The result, a TIFF file."""
    raw: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(required)")] = None
    """The image it was made from, on the same grid or one coarser by a whole number."""
    truth: Given = None
    """The object, where it is known, on the result's grid or a finer one: PSNR, SSIM, NRMSE, out-of-band."""
    repeat: Given = None
    """The result of a second, independent exposure, made in the same way: FRC, and a map of it."""
    na: Unset = None
    """Numerical aperture of the objective, for the out-of-band score and the misfit."""
    wavelength_nm: Unset = None
    """Emission wavelength in nm, likewise."""
    modulation: float = 1.0
    """Resolution of the raw image over widefield: 1 for widefield or confocal, about 2 for linear SIM."""
    refractive_index: float = 1.515
    """Of the immersion medium."""
    gain: Unset = None
    """Camera units per photon, for the misfit; by default from the raw image's mean-variance line."""
    offset: Unset = None
    """Camera value without light, likewise."""
    pixel_size_nm: Unset = None
    """Pixel size of the result in nm; by default read from the files."""
    json: Given = None
    """Also write the scores to this JSON file."""
    figure: Given = None
    """Also draw images, spectra, FRC curves and the error map to this PNG file."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return parsing.parse(Arguments, words, command="evaluate")


def run(arguments: Arguments) -> int:
    """Print the table."""
    if len(arguments.result) != 1:
        raise UserError(f"expected one result to evaluate, got {len(arguments.result)} files.")
    if arguments.raw is None:
        raise UserError("expected the image that the result was made from; give it with --raw.")
    inputs = [
        p for p in (arguments.result[0], arguments.raw, arguments.truth, arguments.repeat) if p is not None
    ]
    for target in (arguments.json, arguments.figure):
        if target is not None:
            check_output(target, inputs=inputs)
    if arguments.json is not None and arguments.json == arguments.figure:
        raise UserError(f"expected different files for --json and --figure, got {arguments.json} for both.")
    _check_optics(arguments)
    from dps_jax.pipelines.evaluate_file import EvaluateOptions, evaluate_file

    options = EvaluateOptions(
        raw=arguments.raw,
        truth=arguments.truth,
        repeat=arguments.repeat,
        pixel_size_nm=arguments.pixel_size_nm,
        na=arguments.na,
        wavelength_nm=arguments.wavelength_nm,
        modulation=arguments.modulation,
        refractive_index=arguments.refractive_index,
        gain=arguments.gain,
        offset=arguments.offset,
        json=arguments.json,
        figure=arguments.figure,
    )
    print(evaluate_file(arguments.result[0], options), end="")
    return 0


def _check_optics(arguments: Arguments) -> None:
    """Refuse half of the optics, and numbers that are none."""
    given = {"--na": arguments.na, "--wavelength-nm": arguments.wavelength_nm}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 1:
        raise UserError(f"the Abbe period needs both --na and --wavelength-nm; {missing[0]} is missing.")
    numbers = {
        **given,
        "--modulation": arguments.modulation,
        "--gain": arguments.gain,
        "--pixel-size-nm": arguments.pixel_size_nm,
    }
    for name, value in numbers.items():
        if value is not None:
            _checks.positive(name, value)
