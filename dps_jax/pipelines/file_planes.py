"""A file as the pipelines see it: planes by channel, the optics of each, and the way back to a file.

What every command on images shares: which pixel size holds and where it came from, one optical system per channel,
axes taken apart and put together again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dps_jax.io import ImageFile, UserError, check_output, check_values, read_image, write_image
from dps_jax.io.regions import RegionImage
from dps_jax.optics.system import OpticalSystem


class OpticsOptions(Protocol):
    """What a user may say about the optics of a file; None or empty leaves it to the file."""

    @property
    def na(self) -> float | None:
        """Numerical aperture."""
        ...

    @property
    def wavelength_nm(self) -> tuple[float, ...]:
        """Emission wavelengths, one for all channels or one for each."""
        ...

    @property
    def pixel_size_nm(self) -> float | None:
        """Pixel size over that of the file."""
        ...

    @property
    def modulation(self) -> float:
        """Modulation factor."""
        ...

    @property
    def refractive_index(self) -> float:
        """Of the immersion medium."""
        ...


@dataclass(frozen=True, eq=False)
class FilePlanes:
    """A file's planes: ``channels`` holds one array ``(plane, y, x)`` or ``(y, x)`` per channel."""

    image: ImageFile
    channels: list[np.ndarray]
    systems: list[OpticalSystem]
    pixel_size_nm: float
    origin: str
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line: name, axes, sizes, pixel and where it came from."""
        return summary(self.image, self.pixel_size_nm, self.origin)

    def write(
        self,
        target: Path,
        results: Sequence[np.ndarray],
        *,
        pixel_size_nm: float,
        description: dict[str, Any],
    ) -> None:
        """Write one result per channel to a TIFF with the axes, intervals and steps of the file."""
        image = self.image
        write_image(
            target,
            _assembled(image, results),
            axes=image.axes,
            pixel_size_nm=pixel_size_nm,
            description=description,
            z_step_nm=image.z_step_nm,
            frame_interval_s=image.frame_interval_s,
        )


def read_planes(source: Path, target: Path, options: OpticsOptions) -> FilePlanes:
    """Read the TIFF ``source``, to be written to ``target``.

    Raises
    ------
    UserError
        For a file that cannot be read or used, missing optics, or an output that cannot be written.
    ValueError
        For physics out of range; see :class:`OpticalSystem`.
    """
    check_output(target, inputs=[source])
    image = read_image(source)
    notes = (*image.notes, *check_values(image))
    pixel_size_nm, origin = pixel_size(image, options)
    channels = _channels(image)
    systems = systems_of(options, pixel_size_nm, len(channels))
    return FilePlanes(image, channels, systems, pixel_size_nm, origin, notes)


def pixel_size(image: ImageFile | RegionImage, options: OpticsOptions) -> tuple[float, str]:
    """Return the pixel size in nm and where it came from; ``UserError`` where nobody tells it."""
    if options.pixel_size_nm is not None:
        return options.pixel_size_nm, "given by --pixel-size-nm"
    found = image.pixel_size_nm
    if found is None:
        raise UserError(f"{image.path} does not state its pixel size; give it with --pixel-size-nm.")
    return found, f"from {image.source}"


def systems_of(options: OpticsOptions, pixel_size_nm: float, channels: int) -> list[OpticalSystem]:
    """Return one optical system per channel."""
    if options.na is None or not options.wavelength_nm:
        missing = [f for f, v in (("--na", options.na), ("--wavelength-nm", options.wavelength_nm)) if not v]
        raise UserError(
            "the numerical aperture of the objective and the emission wavelength must be known; "
            f"give {' and '.join(missing)}."
        )
    wavelengths = options.wavelength_nm * (channels if len(options.wavelength_nm) == 1 else 1)
    if len(wavelengths) != channels:
        raise UserError(
            f"expected one --wavelength-nm for all, or one for each of the {channels} channel(s), "
            f"got {len(wavelengths)}."
        )
    return [
        OpticalSystem(
            na=options.na,
            wavelength_nm=wavelength,
            pixel_size_nm=pixel_size_nm,
            modulation=options.modulation,
            refractive_index=options.refractive_index,
        )
        for wavelength in wavelengths
    ]


def check_sides(image: ImageFile | RegionImage) -> None:
    """Refuse an image too small to restore."""
    y, x = image.shape[-2:]
    if min(y, x) < 16:
        raise UserError(f"expected an image of at least 16 px a side, got {y}x{x} px in {image.path}.")


def summary(image: ImageFile | RegionImage, pixel_size_nm: float, origin: str) -> str:
    """Return one line: name, axes, sizes, pixel and where it came from."""
    shape = "x".join(map(str, image.shape))
    return f"{image.path.name}: {image.axes} {shape}, pixel {pixel_size_nm:.2f} nm ({origin})"


def _channels(image: ImageFile) -> list[np.ndarray]:
    """Return one array ``(plane, y, x)`` or ``(y, x)`` per channel; frames and planes are flattened."""
    data = image.data
    check_sides(image)
    parts = np.moveaxis(data, image.axes.index("C"), 0) if "C" in image.axes else data[None]
    return [part if part.ndim == 2 else part.reshape(-1, *part.shape[-2:]) for part in parts]


def _assembled(image: ImageFile, results: Sequence[np.ndarray]) -> np.ndarray:
    """Undo :func:`_channels` on the finer grid."""
    lead = [n for n, axis in zip(image.data.shape, image.axes, strict=True) if axis not in "CYX"]
    parts = [r.reshape(*lead, *r.shape[-2:]) for r in results]
    return np.stack(parts, axis=image.axes.index("C")) if "C" in image.axes else parts[0]
