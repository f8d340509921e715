"""``dps-jax simulate``: scenes with truth, as TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dps_jax import _checks
from dps_jax.cli import say
from dps_jax.io import UserError, write_image


@dataclass(frozen=True)
class Arguments:
    """Draw scenes and write what a microscope would record (SCENE_image.tif) beside the truth (SCENE_truth.tif).

    Intensities are photons per pixel. The truth is on a grid twice as fine as the camera's.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
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
    family: tuple[str, ...] = ()
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
    return tyro.cli(Arguments, args=words, prog="dps-jax simulate")


def run(arguments: Arguments) -> int:
    """Write the scenes."""
    from dataclasses import asdict

    from dps_jax.optics.system import OpticalSystem
    from dps_jax.pipelines.simulate import FACTOR, acquire
    from dps_jax.synthetic import structures

    _checks.positive_integer("count", arguments.count)
    if arguments.size_px < 16:
        raise UserError(f"expected --size-px of 16 or more, got {arguments.size_px}.")
    system = OpticalSystem(
        na=arguments.na,
        wavelength_nm=arguments.wavelength_nm,
        pixel_size_nm=arguments.pixel_size_nm,
        modulation=arguments.modulation,
        refractive_index=arguments.refractive_index,
    )
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"the output folder {arguments.output} cannot be made: {problem.strerror}.") from None
    settings = {k: v for k, v in asdict(arguments).items() if k not in ("output", "count", "seed")}
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        made = acquire(
            seed,
            system,
            shape=(arguments.size_px, arguments.size_px),
            photons=arguments.photons,
            background=arguments.background,
            read_noise_photons=arguments.read_noise_photons,
            families=arguments.family or structures.WITHHELD_FAMILIES,
        )
        about = {"operation": "simulate", "seed": seed, "settings": settings}
        size = arguments.pixel_size_nm
        for name, data, pixel in (("image", made.image, size), ("truth", made.truth, size / FACTOR)):
            path = arguments.output / f"scene_{seed:04d}_{name}.tif"
            write_image(path, data, axes="YX", pixel_size_nm=pixel, description=about)
            say(f"wrote {path}")
    return 0
