"""Do the numbers that came with a file make sense together? Asked before and after restoring it.

A pixel size in micrometres, a radius in pixels or a background above all light would give a picture too; these
checks refuse it in a sentence instead.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from dps_jax.io import ImageFile, UserError
from dps_jax.io.images import names_zarr
from dps_jax.io.regions import RegionImage
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.report import Report

GAIN = 1.67  # resolution over the input's that the package promises
# Fewer Abbe periods across an image than this are no image: a length was given in another unit.
_FEWEST_PERIODS = 3
_BYTES_PER_OUTPUT_PIXEL = 4  # float32
_PYRAMID = 4 / 3  # every level a quarter of the one before


def check_scales(
    image: ImageFile | RegionImage,
    systems: Sequence[OpticalSystem],
    *,
    output_pixel_size_nm: float | None = None,
    background_radius_nm: float | None = None,
) -> tuple[str, ...]:
    """Return notes on doubtful lengths, given one optical system per channel.

    Raises
    ------
    UserError
        Where lengths contradict each other, as they do if one is in another unit.
    """
    pixel_nm = float(systems[0].pixel_size_nm)
    periods = [float(system.abbe_nm) for system in systems]
    if pixel_nm > min(periods):
        raise UserError(
            f"{image.path} has pixels of {pixel_nm:.4g} nm, longer than the Abbe period of the optics "
            f"({min(periods):.4g} nm), so what could be restored is already lost; check the pixel size, --na and "
            "--wavelength-nm."
        )
    side_nm = min(image.shape[-2:]) * pixel_nm
    if side_nm < _FEWEST_PERIODS * max(periods):
        raise UserError(
            f"{image.path} would be only {side_nm:.3g} nm wide with pixels of {pixel_nm:.3g} nm, but the Abbe period "
            f"of the optics is {max(periods):.3g} nm; check that the pixel size and the wavelength are in nanometres."
        )
    if background_radius_nm is not None and background_radius_nm < pixel_nm:
        raise UserError(
            f"expected --background-radius-nm larger than the objects, got {background_radius_nm:g}, less than a "
            f"pixel of {pixel_nm:.4g} nm; give it in nanometres, not in pixels."
        )
    return () if output_pixel_size_nm is None else _check_output_grid(output_pixel_size_nm, min(periods))


def _check_output_grid(out_nm: float, period_nm: float) -> tuple[str, ...]:
    """Refuse a grid that cannot show the result; note one that wastes its resolution."""
    if out_nm > period_nm:
        raise UserError(
            f"expected --output-pixel-size-nm of at most {period_nm:.4g}, the Abbe period of the optics, "
            f"got {out_nm:g}; leave it out for half the input's pixel."
        )
    finest = period_nm / (2 * GAIN)
    if out_nm > finest:
        return (
            f"output pixels of {out_nm:g} nm cannot hold the whole gain in resolution (at most {finest:.4g} nm do)",
        )
    return ()


def check_disk(target: Path, pixels: int) -> int:
    """Return the bytes of a result of so many pixels.

    Raises
    ------
    UserError
        Where the disk has less room.
    """
    needed = int(_BYTES_PER_OUTPUT_PIXEL * pixels * (_PYRAMID if names_zarr(target) else 1))
    free = shutil.disk_usage(target.resolve().parent).free
    if needed > free:
        raise UserError(
            f"the result {target} would need {needed / 1e9:.3g} GB, and its disk has {free / 1e9:.3g} GB free; "
            "choose a larger --output-pixel-size-nm or another disk, or crop the image."
        )
    return needed


def check_light(
    image: ImageFile | RegionImage, report: Report, *, channel: int, channels: int
) -> tuple[str, ...]:
    """Return a note on a channel without light above its background.

    Raises
    ------
    UserError
        Where it is the only channel: a result of zeros helps nobody.
    """
    if report.brightness > 0:
        return ()
    problem = f"nothing above the background of {report.background:.6g}"
    if channels > 1:
        return (f"channel {channel} holds {problem}; its result is zero",)
    raise UserError(f"{image.path} holds {problem}; check --background, or leave it out to have it measured.")
