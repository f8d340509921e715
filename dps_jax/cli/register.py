"""``dps-jax register``: a calcium movie in, the same movie without its motion out."""

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

Given = Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")]

METHODS = ("auto", "rigid", "patches", "flow")
_TYPES = ("input", "float32")


@dataclass(frozen=True)
class Arguments:
    """Correct the motion of a movie.

    A template is built from frames spread over the movie and refined; then every frame is brought onto it and written,
    with the memory of a few frames, however long the movie. Planes of z are moved together, by what their mean shows;
    channels by what one of them shows. Frames with NaN are written as they are.
    """

    inputs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="MOVIE", help_behavior_hint="")
    ] = ()
    """A TIFF or BigTIFF with axes TYX, TZYX or TCYX."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], help_behavior_hint="(required)")] = None
    """Result, a .tif file."""
    method: str = "auto"
    """rigid: one shift per frame; patches: a smooth flow from the shifts of overlapping patches; flow: a smooth flow by
    the released network; auto: rigid, unless patches in two independent halves of the pixels agree on more than they
    differ by, and on more than 0.1 px; then patches or flow, whichever comes nearer to the other half's finding."""
    reference: str = "mean"
    """mean: where the middle of the frames lies; frame:K: where frame K (from 1) lies; or a TIFF of one image."""
    channel: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(by default 1)")] = None
    """Of several channels, the one in which motion is found, from 1; all are corrected."""
    dtype: str = "input"
    """Of the result: input, as the movie's; or float32, not rounded."""
    order: int = 1
    """Interpolation: 1, linear; or 3, cubic: sharper, and may fall below 0."""
    largest_shift_px: float = 15.0
    """Largest shift along each axis."""
    patch_px: int = 24
    """Side of a patch; 48 where frames are 256 px or more, which are halved to look for motion."""
    stride_px: int = 12
    """From patch to patch, likewise."""
    weights: Given = None
    """Weights of a flow network of your own, by default the released ones."""
    refine_steps: int = 0
    """Train the network on for so many steps on this movie, moved in known ways; kept where that brings it nearer to
    what two halves of the pixels tell of each other. A hundred steps take about a minute on two cores."""
    save_flow: Given = None
    """Write the flow to this TIFF: float32, two channels dy and dx in px, compressed and for that rounded to 1/1024 px;
    corrected(r) = frame(r + flow(r))."""
    figure: Given = None
    """Draw means, overlays and shifts to this PNG file."""
    json: Given = None
    """Write the report, with the shift of every frame, to this JSON file."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return parsing.parse(Arguments, words, command="register")


def run(arguments: Arguments) -> int:
    """Register one movie."""
    source, target = _files(arguments)
    _check_choices(arguments)
    from dps_jax.pipelines.register import RegisterSettings
    from dps_jax.pipelines.register_file import RegisterOptions, register_file

    own = {f.name for f in fields(RegisterSettings)} - {"rounds"}
    settings = RegisterSettings(**{name: getattr(arguments, name) for name in own})
    apart = ("settings", "output_type")
    shared = {f.name: getattr(arguments, f.name) for f in fields(RegisterOptions) if f.name not in apart}
    options = RegisterOptions(settings=settings, output_type=arguments.dtype, **shared)
    with LateProgress(f"registering {source.name}") as progress:
        register_file(source, target, options, log=say, progress=progress)
    return 0


def _files(arguments: Arguments) -> tuple[Path, Path]:
    if len(arguments.inputs) != 1:
        raise UserError(f"expected one TIFF movie, got {len(arguments.inputs)}.")
    target = required(arguments.output, "a .tif file")
    for name, path in (("the output", target), ("--save-flow", arguments.save_flow)):
        if path is not None and path.suffix.lower() not in TIFF_SUFFIXES:
            raise UserError(f"expected {name} to be a .tif file, got {path}.")
    others = [target, arguments.save_flow, arguments.figure, arguments.json]
    named = [path.resolve() for path in others if path is not None]
    if len(set(named)) < len(named):
        raise UserError(
            "expected different files for -o, --save-flow, --figure and --json, got one name twice."
        )
    return arguments.inputs[0], target


def _check_choices(arguments: Arguments) -> None:
    for name, allowed in (("method", METHODS), ("dtype", _TYPES)):
        if getattr(arguments, name) not in allowed:
            raise UserError(
                f"expected {parsing.flag(name)} to be one of {', '.join(allowed)}, got {getattr(arguments, name)!r}."
            )
    if arguments.order not in (1, 3):
        raise UserError(f"expected --order 1 or 3, got {arguments.order}.")
    _checks.positive("--largest-shift-px", arguments.largest_shift_px)
    if arguments.refine_steps < 0:
        raise UserError(f"expected --refine-steps of 0 or more, got {arguments.refine_steps}.")
    for name in ("weights", "refine_steps"):
        if getattr(arguments, name) and arguments.method not in ("auto", "flow"):
            raise UserError(
                f"expected {parsing.flag(name)} with --method flow or auto, got --method {arguments.method}."
            )
    for name in ("patch_px", "stride_px"):
        _checks.positive_integer(parsing.flag(name), getattr(arguments, name))
