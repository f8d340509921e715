"""``dps-jax restore``: TIFF in, sharper TIFF out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dps_jax import __version__, _checks
from dps_jax.cli import parsing, say
from dps_jax.cli.batch import ABREAST, Outcome, run_batch, run_here
from dps_jax.cli.outputs import expand, made_folder, pair_outputs, run_each
from dps_jax.cli.progress import LateProgress
from dps_jax.io import UserError, check_output
from dps_jax.io.images import names_zarr

if TYPE_CHECKING:  # these start JAX
    from dps_jax.pipelines.restore_file import FileOptions
    from dps_jax.pipelines.stream_file import Runner
    from dps_jax.weights import Network

_POSITIVE = (
    "na",
    "pixel_size_nm",
    "modulation",
    "refractive_index",
    "output_pixel_size_nm",
    "background_radius_nm",
    "gain",
)

# The text of such an option says what happens without it.
Unset = Annotated[float | None, tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class Arguments:
    """Sharpen fluorescence images with a network trained once for every microscope.

    The result holds the photons of the input above its background, on a grid twice as fine. 2D images and stacks
    (frames, planes and channels, each plane restored by itself) are understood.
    """

    inputs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE ...", help_behavior_hint="")
    ] = ()
    """TIFF files or OME-Zarr folders; patterns in quotes, such as 'folder/*.tif', are understood."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], help_behavior_hint="(required)")] = None
    """Result: a .tif file, an OME-Zarr folder (.zarr), or a folder, where it is written as NAME_restored.tif."""
    na: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(required)")] = None
    """Numerical aperture of the objective."""
    wavelength_nm: Annotated[
        tuple[float, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(help_behavior_hint="(required, repeatable)"),
    ] = ()
    """Emission wavelength in nm, once for all channels; or repeated, once for each channel."""
    pixel_size_nm: Unset = None
    """Pixel size in nm; by default read from the file."""
    modulation: float = 1.0
    """Resolution of the input over widefield: 1 for widefield or confocal, about 2 for linear SIM."""
    refractive_index: float = 1.515
    """Of the immersion medium."""
    output_pixel_size_nm: Unset = None
    """Pixel size of the result in nm; by default half the input's."""
    background_radius_nm: Unset = None
    """Remove uneven background with a rolling ball of this radius; by default only a constant level."""
    background: Unset = None
    """The constant background level in the image's unit; by default measured."""
    gain: Unset = None
    """Camera units per photon, for the photon numbers that are reported; by default from the image's noise."""
    offset: Unset = None
    """Camera value in the dark, likewise."""
    steady_frames: int = 0
    """For movies: pool the photons of up to this many frames before and after, wherever they agree within noise."""
    orientations: int = 1
    """Mean over 1, 2, 4 or 8 rotations and mirror images: a little better (0.1 dB for 8), as many times slower."""
    adapt: int = 0
    """First train the network on for so many steps on this image alone, without a truth; kept only if better."""
    denoise: str = "auto"
    """off; auto, where noise makes most of the contrast; or strong: always, and nothing but the denoised image."""
    artefacts: str = "off"
    """off; or auto: in images that were reconstructed (--modulation above 1), look for speckle, hot pixels, ringing,
    seams, hammer-stroke and stripes, and remove them; for images in which you see them."""
    keep_intermediates: bool = False
    """Also write the images between input and result, as RESULT_denoised.tif and RESULT_without_artefacts.tif."""
    memory_limit: Annotated[str | None, tyro.conf.arg(metavar="SIZE", help_behavior_hint="")] = None
    """Memory to stay within, such as 3GB; by default half of what is free. What does not fit is restored tile by tile,
    from disk to disk."""
    scheduler: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS", help_behavior_hint="")] = None
    """Address of a running Dask scheduler, such as tcp://host:8786, whose workers see the same files: they share the
    files of a batch or, of a single image, the tiles (for which the output is an OME-Zarr)."""
    dry_run: bool = False
    """Say how each file would be restored, with what memory and in what time; write nothing."""
    weights: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Weights made by `dps-jax train`; by default the released ones."""
    tile_px: Annotated[int | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Largest side of a tile in pixels of 0.4 Abbe periods; by default as --memory-limit allows, 1334 at most."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return parsing.parse(Arguments, words, command="restore")


def run(arguments: Arguments) -> int:
    """Restore every input; return 0, 2 if none could be restored, or 3 if some could not."""
    inputs = expand(arguments.inputs)
    targets, folder = pair_outputs(inputs, arguments.output)
    _check_numbers(arguments)
    limit = parsing.size(arguments.memory_limit, "--memory-limit")
    if arguments.dry_run:
        return _plan(arguments, targets, limit)
    with made_folder(folder) if folder else contextlib.nullcontext():
        for _, target in targets:
            check_output(target, inputs=inputs)
        from dps_jax.weights import load_network

        network = load_network(path=arguments.weights)
        if folder is None:
            with _runner(arguments, targets[0][1]) as runner:
                _restore(arguments, network, limit, runner, *targets[0])
            return 0
        return _batch(arguments, network, limit, targets, folder)


def _batch(
    arguments: Arguments, network: Network, limit: int | None, targets: list[tuple[Path, Path]], folder: Path
) -> int:
    """Restore files into a folder, and remember there which are done."""
    from dps_jax.io.manifest import Manifest
    from dps_jax.pipelines.budget import default_limit
    from dps_jax.pipelines.restore_file import restore_file

    options = _options(arguments)
    settings = {**asdict(options), "weights": network.sha256, "version": __version__}
    share = (default_limit() if limit is None else limit) // (ABREAST if len(targets) > 1 else 1)

    def work(one: Outcome) -> None:
        restore_file(
            one.source,
            one.target,
            options,
            network,
            limit=share,
            log=one.lines.append,
            progress=one.progress,
        )

    manifest = Manifest(folder, settings)
    if arguments.scheduler is None:
        return run_batch(targets, manifest, lambda todo: run_here(work, todo))
    from dps_jax.cli import cluster

    with cluster.connected(arguments.scheduler) as client:
        return run_batch(
            targets,
            manifest,
            lambda todo: cluster.run_files(client, todo, options, arguments.weights, limit),
        )


@contextlib.contextmanager
def _runner(arguments: Arguments, target: Path) -> Iterator[Runner | None]:
    """Give what runs the tiles of a single image: nothing special, or a cluster."""
    if arguments.scheduler is None:
        yield None
        return
    if not names_zarr(target):
        raise UserError(
            f"expected an OME-Zarr (.zarr) as output with --scheduler, into which workers can write at once, got "
            f"{target}; or give several files and a folder."
        )
    from dps_jax.cli import cluster

    with cluster.connected(arguments.scheduler) as client:
        yield cluster.TileRunner(client, arguments.weights)


def _plan(arguments: Arguments, targets: list[tuple[Path, Path]], limit: int | None) -> int:
    """Print what would be done to every file."""
    from dps_jax.pipelines.restore_file import planned
    from dps_jax.pipelines.stream_file import describe_plan
    from dps_jax.weights import load_network

    network = load_network(path=arguments.weights)

    def tell(source: Path, target: Path) -> None:
        place = target if target.parent.exists() else Path(target.name)  # the folder is not made now
        with planned(source, place, _options(arguments), network, limit=limit) as job:
            print("\n".join(describe_plan(job)))

    if len(targets) == 1:
        tell(*targets[0])
        return 0
    return run_each(tell, targets, done="planned")


def _check_numbers(arguments: Arguments) -> None:
    """Refuse what no image could be restored with, before any is read."""
    for name in _POSITIVE:
        value = getattr(arguments, name)
        if value is not None:
            _checks.positive(parsing.flag(name), value)
    for value in arguments.wavelength_nm:
        _checks.positive("--wavelength-nm", value)
    if arguments.tile_px is not None:
        _checks.positive_integer("--tile-px", arguments.tile_px)
    if arguments.orientations not in (1, 2, 4, 8):
        raise UserError(f"expected --orientations to be 1, 2, 4 or 8, got {arguments.orientations}.")
    if arguments.steady_frames < 0:
        raise UserError(f"expected --steady-frames to be 0 or more, got {arguments.steady_frames}.")
    if arguments.adapt < 0:
        raise UserError(f"expected --adapt to be 0 or more, got {arguments.adapt}.")
    for name, choices in (("denoise", ("off", "auto", "strong")), ("artefacts", ("off", "auto"))):
        if getattr(arguments, name) not in choices:
            raise UserError(
                f"expected {parsing.flag(name)} to be one of {', '.join(choices)}, got {getattr(arguments, name)!r}."
            )
    missing = [parsing.flag(name) for name in ("na", "wavelength_nm") if not getattr(arguments, name)]
    if missing:
        raise UserError(
            "the numerical aperture of the objective and the emission wavelength must be known; "
            f"give {' and '.join(missing)}."
        )
    if arguments.na is not None and arguments.na > arguments.refractive_index:
        raise UserError(
            f"expected --na to be at most the refractive index of the immersion medium, got {arguments.na:g} "
            f"above {arguments.refractive_index:g}; check --na and --refractive-index."
        )


def _restore(
    arguments: Arguments,
    network: Network,
    limit: int | None,
    runner: Runner | None,
    source: Path,
    target: Path,
) -> None:
    from dps_jax.pipelines.restore_file import restore_file

    with LateProgress(f"restoring {source.name}") as progress:
        options = _options(arguments)
        restore_file(source, target, options, network, limit=limit, log=say, progress=progress, runner=runner)


def _options(arguments: Arguments) -> FileOptions:
    from dps_jax.pipelines.restore_file import FileOptions

    return FileOptions(**{f.name: getattr(arguments, f.name) for f in fields(FileOptions)})
