"""Patches of a user's own images, brought to photons and to the canonical sampling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dps_jax.io import UserError, check_values, read_image
from dps_jax.metrics.noise import PhotonScale, estimate_photon_scale
from dps_jax.operators.sampling import resample_region
from dps_jax.optics.system import OpticalSystem
from dps_jax.training.config import FolderConfig, TrainConfig
from dps_jax.training.planes import FilePlanes, Plane, Read, plane_in_photons
from dps_jax.training.psf_bank import SCALE
from dps_jax.training.scale_transfer import MARGIN_PX, Measured, log_uniform


def _system(config: FolderConfig, pixel_size_nm: float | None, path: Path) -> OpticalSystem:
    if config.na is None or config.wavelength_nm is None:
        raise UserError("training on a folder needs its optics: give images.na and images.wavelength_nm")
    if pixel_size_nm is None:
        raise UserError(f"no pixel size found in {path}: give images.pixel_size_nm")
    return OpticalSystem(
        na=config.na,
        wavelength_nm=config.wavelength_nm,
        pixel_size_nm=pixel_size_nm,
        modulation=config.modulation,
    )


def _scale(config: FolderConfig, image: np.ndarray, cutoff: float) -> PhotonScale:
    if config.gain is not None and config.offset is not None:
        return PhotonScale(config.gain, config.offset)
    found = estimate_photon_scale(image, cutoff_cycles_px=min(cutoff, 0.6))
    return PhotonScale(
        config.gain if config.gain is not None else found.gain,
        config.offset if config.offset is not None else found.offset,
    )


class ImagePatches:
    """Random patches of images in photons, their photons split like those of the scenes."""

    def __init__(self, planes: Sequence[Plane], config: TrainConfig) -> None:
        self.planes: Sequence[Plane] = planes
        self.shares = config.objective.split_shares
        self.shrinkage = config.objective.shrinkage
        self.brightness = config.scenes.brightness
        self.patch_px = config.scenes.patch_px
        self.measured_px = SCALE * config.scenes.patch_px + 2 * MARGIN_PX

    def _split_crop(
        self,
        rng: np.random.Generator,
        plane: Plane,
        side_px: int,
        share: float | None,
        *,
        factor: float,
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Cut ``side_px`` pixels, ``factor`` times a camera pixel's number: (seen, target, brightest count).

        Both are at full exposure and without the background, whose photons are split like all others before its level
        is taken off. Photons are split on the camera's own pixels, where they are counts, and resampled afterwards.
        What an image smaller than the crop lacks is its mirror image.
        """
        need = int(np.ceil(side_px / factor)) + 1
        spans = [min(need, n) for n in plane.photons.shape]
        y, x = (int(rng.integers(n - s + 1)) for n, s in zip(plane.photons.shape, spans, strict=True))
        counts = np.rot90(plane.photons[y : y + spans[0], x : x + spans[1]], int(rng.integers(4)))
        rest = counts if share is None else rng.binomial(counts.astype(np.int64), share)
        seen = counts if share is None else (counts - rest) / (1 - share)
        target = rest if share is None else rest / share
        sides = [min(side_px, int(n * factor)) for n in counts.shape]

        def canonical(image: np.ndarray) -> np.ndarray:
            rows, columns = (np.arange(n) for n in sides)
            part = resample_region(image, rows, columns, factor, kernel="area")
            return np.pad(part, [(0, side_px - n) for n in sides], mode="symmetric")

        level = plane.level
        return canonical(seen - level), canonical(target - level), plane.brightest / factor**2

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        """Return (input, target, photons per unit in the target) of one random patch."""
        share = float(rng.choice(self.shares)) if self.shares else None
        plane = self._pick(rng)
        seen, target, brightest = self._split_crop(rng, plane, self.patch_px, share, factor=plane.factor)
        # Photons at intensity 1 on the canonical grid; the brightness varies as it does for the scenes.
        low, high = self.brightness
        unit = brightest / float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return seen / unit, target / unit, unit * (share or 1.0)

    def measure(self, rng: np.random.Generator) -> Measured:
        """Return a random part of an image, shrunk, its photons split in two, for the scale transfer.

        An image too small to be shrunk so far is shrunk as far as it goes, at least by two.
        """
        plane = self._pick(rng)
        widest = 2 * min(plane.photons.shape) * plane.factor / (self.measured_px + 1)
        shrinkage = max(2.0, min(log_uniform(rng, self.shrinkage), widest))
        kept, rest, brightest = self._split_crop(
            rng, plane, self.measured_px, 0.5, factor=2 * plane.factor / shrinkage
        )
        return Measured(kept / brightest, rest / brightest)

    def _pick(self, rng: np.random.Generator) -> Plane:
        return self.planes[int(rng.integers(len(self.planes)))]


class FolderPatches(ImagePatches):
    """Random patches of every image of a folder."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__((), config)
        self.abbe_px = config.scenes.abbe_px
        folder = Path(config.images.folder or ".")
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in (".tif", ".tiff"))
        if not paths:
            raise UserError(f"expected TIFF files in the folder {folder}, found none")
        self.planes = FilePlanes(
            paths,
            lambda path: self._examine(config.images, path),
            _planes_of,
            memory_bytes=1e9 * config.images.memory_gb,
        )

    def _examine(self, config: FolderConfig, path: Path) -> list[Read]:
        """Measure the planes of a file, or refuse it."""
        image = read_image(path)
        check_values(image)
        system = _system(config, config.pixel_size_nm or image.pixel_size_nm, path)
        factor = float(self.abbe_px / system.abbe_px)
        need = int(np.ceil(self.patch_px / factor)) + 1
        if min(image.data.shape[-2:]) < need:
            raise UserError(
                f"expected images of at least {need} px a side for patches of {self.patch_px} px, "
                f"got {image.data.shape} in {path}"
            )
        out = []
        for data in image.data.reshape(-1, *image.data.shape[-2:]):
            plane = data.astype(np.float64)
            scale = _scale(config, plane, float(1 / system.abbe_px))
            out.append(
                Read(plane_in_photons(plane, scale, factor=factor, abbe_px=float(system.abbe_px)), scale)
            )
        return out


def _planes_of(path: Path) -> np.ndarray:
    data = read_image(path).data
    return data.reshape(-1, *data.shape[-2:])
