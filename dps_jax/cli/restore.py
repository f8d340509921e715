"""``dps-jax restore``: TIFF in, sharper TIFF out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dps_jax.cli import say
from dps_jax.cli.progress import LateProgress
from dps_jax.io import UserError, check_output


@dataclass(frozen=True)
class Arguments:
    """Sharpen fluorescence images with a network trained once for every microscope.

    The result holds the photons of the input above its background, on a grid twice as fine. 2D images and stacks
    (frames, planes and channels, each plane restored by itself) are understood.
    """

    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """TIFF files."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Result: a .tif file, or a folder for several inputs (written there as NAME_restored.tif)."""
    na: float | None = None
    """Numerical aperture of the objective."""
    wavelength_nm: Annotated[tuple[float, ...], tyro.conf.UseAppendAction] = ()
    """Emission wavelength in nm; given once for all channels, or once per channel."""
    pixel_size_nm: float | None = None
    """Pixel size in nm; by default read from the file."""
    modulation: float = 1.0
    """Resolution of the input over widefield: 1 for widefield or confocal, about 2 for linear SIM."""
    refractive_index: float = 1.515
    """Of the immersion medium."""
    output_pixel_size_nm: float | None = None
    """Pixel size of the result in nm; by default half the input's."""
    background_radius_nm: float | None = None
    """Remove uneven background with a rolling ball of this radius; by default only a constant level."""
    background: float | None = None
    """The constant background level in the image's unit; by default measured."""
    weights: Path | None = None
    """Weights made by `dps-jax train`; by default the released ones."""
    tile_px: int = 512
    """Side of a tile; less needs less memory."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return tyro.cli(Arguments, args=words, prog="dps-jax restore")


def run(arguments: Arguments) -> int:
    """Restore every input; return 0, 2 if none could be restored, or 3 if some could not."""
    targets = _targets(arguments)
    for source, target in targets:
        check_output(target, [source for source, _ in targets])
    from dps_jax.weights import load_network

    network = load_network(arguments.weights)
    failed = 0
    for source, target in targets:
        try:
            _restore(arguments, network, source, target)
        except (UserError, ValueError) as problem:
            if len(targets) == 1:
                raise
            failed += 1
            say(f"error: {source}: {problem}")
    if failed:
        say(f"error: {failed} of {len(targets)} files could not be restored.")
    return 0 if not failed else 2 if failed == len(targets) else 3


def _targets(arguments: Arguments) -> list[tuple[Path, Path]]:
    """Pair every input with its output file; make the folder for several."""
    inputs, output = arguments.inputs, arguments.output
    if not inputs:
        raise UserError("expected at least one TIFF file to restore, got none.")
    is_folder = len(inputs) > 1 or output.is_dir() or output.suffix.lower() not in (".tif", ".tiff")
    if not is_folder:
        return [(inputs[0], output)]
    if output.exists() and not output.is_dir():
        raise UserError(f"expected a folder for {len(inputs)} results, but {output} is a file.")
    stems = [path.stem for path in inputs]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UserError(f"expected inputs of different names, but {', '.join(twice)} would be written twice.")
    missing = [path for path in inputs if not path.exists()]
    if len(missing) == len(inputs):
        raise UserError(f"{missing[0]} does not exist; check the name.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"the output folder {output} cannot be made: {problem.strerror}.") from None
    return [(path, output / f"{path.stem}_restored.tif") for path in inputs]


def _restore(arguments: Arguments, network: object, source: Path, target: Path) -> None:
    from dps_jax.pipelines.restore_file import FileOptions, restore_file

    options = FileOptions(
        na=arguments.na,
        wavelength_nm=arguments.wavelength_nm,
        pixel_size_nm=arguments.pixel_size_nm,
        modulation=arguments.modulation,
        refractive_index=arguments.refractive_index,
        output_pixel_size_nm=arguments.output_pixel_size_nm,
        background_radius_nm=arguments.background_radius_nm,
        background=arguments.background,
        tile_px=arguments.tile_px,
    )
    with LateProgress(f"restoring {source.name}") as progress:
        restore_file(source, target, options, network, log=say, progress=progress)  # type: ignore[arg-type]
