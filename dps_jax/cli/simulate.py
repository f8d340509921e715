"""``dps-jax simulate``: scenes with truth, as TIFF."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dps_jax import _checks
from dps_jax.cli import parsing, say
from dps_jax.cli.outputs import made_folder, required
from dps_jax.io import UserError, write_image

if TYPE_CHECKING:  # starts JAX
    from dps_jax.optics.system import OpticalSystem

_SIDES_PX = (16, 8192)  # the fine scene of the largest takes 1 GB
_ABBE_PX = (1.0, 16.0)  # camera pixels per Abbe period: beyond, a scene of thousands of pixels is a few spots


@dataclass(frozen=True)
class Arguments:
    """Draw scenes and write what a microscope would record (SCENE_image.tif) beside the truth (SCENE_truth.tif).

    Intensities are photons per pixel. The truth is on a grid twice as fine as the camera's.
    """

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], help_behavior_hint="(required)")] = None
    """Folder for the files."""
    count: int = 1
    """Number of scenes."""
    seed: int = 0
    """Seed of the first scene; the next has the next."""
    size_px: int = 128
    """Side of the camera image in px."""
    photons: float = 100.0
    """Expected photons in the brightest pixel."""
    background: float = 2.0
    """Constant background in photons per pixel."""
    read_noise_photons: float = 0.0
    """Standard deviation of the camera's read noise in photons."""
    family: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")] = ()
    """Structure families to draw from; by default those withheld from training."""
    na: float = 1.4
    """Numerical aperture."""
    wavelength_nm: float = 525.0
    """Emission wavelength in nm."""
    pixel_size_nm: float = 65.0
    """Camera pixel size in nm."""
    modulation: float = 1.0
    """Modulation factor: 1 for widefield or confocal, about 2 for linear SIM."""
    refractive_index: float = 1.515
    """Of the immersion medium."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return parsing.parse(Arguments, words, command="simulate")


def run(arguments: Arguments) -> int:
    """Write the scenes."""
    folder = required(arguments.output, "a folder")
    _check_numbers(arguments)
    from dps_jax.optics.system import OpticalSystem

    system = OpticalSystem(
        na=arguments.na,
        wavelength_nm=arguments.wavelength_nm,
        pixel_size_nm=arguments.pixel_size_nm,
        modulation=arguments.modulation,
        refractive_index=arguments.refractive_index,
    )
    _check_sampling(system)
    with made_folder(folder):
        for seed in range(arguments.seed, arguments.seed + arguments.count):
            _write_scene(arguments, system, seed, folder)
    return 0


def _check_numbers(arguments: Arguments) -> None:
    for name in ("na", "wavelength_nm", "pixel_size_nm", "modulation", "refractive_index", "photons"):
        _checks.positive(parsing.flag(name), getattr(arguments, name))
    for name in ("seed", "background", "read_noise_photons"):
        _checks.non_negative(parsing.flag(name), getattr(arguments, name))
    _checks.positive_integer("--count", arguments.count)
    if not _SIDES_PX[0] <= arguments.size_px <= _SIDES_PX[1]:
        raise UserError(
            f"expected --size-px between {_SIDES_PX[0]} and {_SIDES_PX[1]}, got {arguments.size_px}."
        )


def _check_sampling(system: OpticalSystem) -> None:
    """Refuse a camera that sees nothing of its optics, and scenes that are one blur from side to side."""
    low, high = _ABBE_PX
    if not low <= float(system.abbe_px) <= high:
        raise UserError(
            f"expected an Abbe period of {low:g} to {high:g} camera pixels, got {float(system.abbe_nm):.4g} nm on "
            f"pixels of {float(system.pixel_size_nm):.4g} nm; check --pixel-size-nm, --na and --wavelength-nm."
        )


def _write_scene(arguments: Arguments, system: OpticalSystem, seed: int, folder: Path) -> None:
    from dps_jax.pipelines.simulate import FACTOR, acquire
    from dps_jax.synthetic import structures

    made = acquire(
        seed,
        system,
        shape=(arguments.size_px, arguments.size_px),
        photons=arguments.photons,
        background=arguments.background,
        read_noise_photons=arguments.read_noise_photons,
        families=arguments.family or structures.WITHHELD_FAMILIES,
    )
    settings = {k: v for k, v in asdict(arguments).items() if k not in ("output", "count", "seed")}
    about = {"operation": "simulate", "seed": seed, "settings": settings}
    size = arguments.pixel_size_nm
    for name, data, pixel in (("image", made.image, size), ("truth", made.truth, size / FACTOR)):
        path = folder / f"scene_{seed:04d}_{name}.tif"
        write_image(path, data, axes="YX", pixel_size_nm=pixel, description=about)
        say(f"wrote {path}")
