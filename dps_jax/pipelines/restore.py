"""Restore: a camera image to the object behind it, at twice the sampling, photons in equal photons out.

The steps are those of DESIGN section 3: background, one intensity scale, resampling to the canonical sampling
of the network, overlapping tiles, network, stitching, resampling to the output grid, scale undone. Arrays are
``(y, x)`` or ``(frame, y, x)``; a stack shares one background level and one scale, so that frames compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.convolve import convolve
from dps_jax.operators.sampling import bin_area, resample_region
from dps_jax.optics.psf import airy_psf
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import photometry
from dps_jax.pipelines.tiling import Tile, count_tiles, mirrored, plan_tiles
from dps_jax.solvers.rolling_ball import subtract_background
from dps_jax.typing import Array, Params
from dps_jax.weights import Network

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Report:
    """What was done to an image and how well the result explains it; plain numbers, ready for JSON."""

    abbe_nm: float
    abbe_px: float
    canonical_factor: float
    background: float
    brightness: float
    photons_out_over_in: float
    flux_correction: float
    reblur_correlation: float
    tiles: int
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Return the report as a dictionary."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored image ``(..., y, x)`` float32, its pixel size, the background taken off, and the report."""

    image: np.ndarray
    pixel_size_nm: float
    report: Report


@dataclass(frozen=True)
class _Grids:
    """Where input, canonical, fine and output pixels lie with respect to each other."""

    factor: float  # canonical pixels per input pixel
    fine_to_out: float  # output pixels per fine (network output) pixel
    canonical: tuple[int, int]
    out: tuple[int, int]
    pixel_size_nm: float


def check_sampling(system: OpticalSystem) -> tuple[str, ...]:
    """Return notes on an image sampled below Nyquist; refuse one that holds nothing of its optics.

    Raises
    ------
    ValueError
        If a pixel is longer than the Abbe period.
    """
    size, period = float(system.pixel_size_nm), float(system.abbe_nm)
    if size > period:
        raise ValueError(
            f"expected pixels no longer than the Abbe period of the optics ({period:.4g} nm), got {size:.4g} nm: "
            f"the camera has already lost what could be restored; check the pixel size, NA and wavelength"
        )
    if 2 * size > period:
        return (
            f"the pixel of {size:.1f} nm is too coarse for the optics (at most {period / 2:.1f} nm samples the "
            f"Abbe period of {period:.0f} nm): fine detail may be aliased and the gain in resolution is limited",
        )
    return ()


def _grids(shape: tuple[int, int], system: OpticalSystem, network: Network, out_nm: float | None) -> _Grids:
    factor = float(network.abbe_px / system.abbe_px)
    scale = 2.0 if out_nm is None else float(system.pixel_size_nm) / out_nm
    return _Grids(
        factor=factor,
        fine_to_out=scale / (network.module.scale * factor),
        canonical=(int(np.ceil(shape[0] * factor)), int(np.ceil(shape[1] * factor))),
        out=(max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))),
        pixel_size_nm=float(system.pixel_size_nm) / scale,
    )


@partial(jax.jit, static_argnames=("module", "halo"))
def _apply(module: Any, params: Params, psf: Array, tile: Array, halo: int) -> tuple[Array, Array]:
    """Run the network on one padded tile; also blur and bin its answer, as the camera would see it."""
    fine = module.apply({"params": params}, tile[None, :, :, None])[0, :, :, 0]
    seen = bin_area(convolve(fine, psf), module.scale)
    return fine, seen[halo:-halo, halo:-halo]


class _Correlation:
    """Pearson correlation of two images that arrive tile by tile."""

    def __init__(self) -> None:
        self._sums = np.zeros(6)

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        a, b = a.astype(np.float64), b.astype(np.float64)
        self._sums += (a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum())

    def value(self) -> float:
        n, a, b, aa, bb, ab = self._sums
        if n == 0:  # an image without light: no tile was run
            return 0.0
        spread = np.sqrt(max(aa - a * a / n, 0.0) * max(bb - b * b / n, 0.0))
        return float((ab - a * b / n) / spread) if spread > 0 else 0.0


class _PlaneRestorer:
    """The network and its geometry for planes of one shape."""

    def __init__(self, network: Network, grids: _Grids, tile_px: int) -> None:
        self.network, self.grids, self.tile_px = network, grids, tile_px
        self.multiple = network.module.grid_multiple
        self.psf = airy_psf(abbe_px=network.module.scale * network.abbe_px)
        # Beyond what the network sees, an output pixel reads a few fine pixels outside its tile's core.
        taps = 3 * max(1.0, 1 / grids.fine_to_out) + 1
        halo = network.module.reach + int(np.ceil(taps / network.module.scale))
        self.halo = -(-halo // self.multiple) * self.multiple
        self.correlation = _Correlation()

    def count(self) -> int:
        return count_tiles(self.grids.canonical, tile_px=self.tile_px, multiple=self.multiple)

    def run(self, plane: np.ndarray, unit: float, out: np.ndarray, done: Callable[[], None]) -> None:
        """Restore ``plane`` (background-free, camera units) into ``out``, tile by tile."""
        plan = plan_tiles(
            self.grids.canonical, tile_px=self.tile_px, halo_px=self.halo, multiple=self.multiple
        )
        for tile in plan:
            self._run_tile(plane, unit, out, tile)
            done()

    def _run_tile(self, plane: np.ndarray, unit: float, out: np.ndarray, tile: Tile) -> None:
        rows, columns = (mirrored(*r, n) for r, n in zip(tile.padded, self.grids.canonical, strict=True))
        # Areas keep the noise of neighbouring pixels independent; enlarging needs a smooth kernel.
        kernel = "area" if self.grids.factor <= 1 else "lanczos"
        canonical = resample_region(plane, rows, columns, self.grids.factor, kernel=kernel) / unit
        fine, seen = _apply(
            self.network.module, self.network.params, self.psf, jnp.asarray(canonical, jnp.float32), self.halo
        )
        core = tuple(slice(0, b - a) for a, b in tile.core)
        inner = canonical[self.halo : -self.halo, self.halo : -self.halo]
        self.correlation.add(np.asarray(seen)[core], inner[core])
        self._place(np.asarray(fine, np.float64), unit, out, tile)

    def _place(self, fine: np.ndarray, unit: float, out: np.ndarray, tile: Tile) -> None:
        """Resample the tile's answer to the output pixels whose centres lie in its core."""
        scale, ratio = self.network.module.scale, self.grids.fine_to_out
        spans, local = [], []
        for axis in range(2):
            a, b = (scale * edge * ratio - 0.5 for edge in tile.core[axis])
            last = tile.core[axis][1] >= self.grids.canonical[axis]
            stop = self.grids.out[axis] if last else min(int(np.ceil(b)), self.grids.out[axis])
            spans.append((int(np.ceil(a)), stop))
            # Positions in the padded tile: pixel i begins at i / ratio fine pixels from the image's corner.
            local.append(np.arange(*spans[axis]) - scale * tile.padded[axis][0] * ratio)
        if min(len(positions) for positions in local) == 0:
            return  # the canonical grid is rounded up: its last sliver may hold no output pixel's centre
        kernel = "area" if ratio < 0.5 else "lanczos"
        values = resample_region(fine, local[0], local[1], ratio, kernel=kernel)
        np.maximum(values, 0.0, out=values)  # the kernel's negative lobes may undershoot beside bright points
        out[spans[0][0] : spans[0][1], spans[1][0] : spans[1][1]] = values * unit


def _flux_correction(total_in: float, total_out: float, noise_floor: float) -> float:
    """Return the factor that makes photons out equal photons in; 1 where there is no light to speak of."""
    if total_in <= noise_floor or total_out <= 0:
        return 1.0
    return float(np.clip(total_in / total_out, 0.5, 2.0))


def restore(
    image: np.ndarray,
    system: OpticalSystem,
    network: Network,
    *,
    output_pixel_size_nm: float | None = None,
    background_radius_nm: float | None = None,
    background: float | None = None,
    tile_px: int = 512,
    progress: Progress | None = None,
) -> Restored:
    """Sharpen a fluorescence image with a network trained once for every microscope.

    Parameters
    ----------
    image
        ``(y, x)``, or ``(frame, y, x)`` restored frame by frame; any real type and unit.
    system
        Optics and pixel size of ``image``.
    network
        From :func:`dps_jax.weights.load_network`.
    output_pixel_size_nm
        Pixel size of the result in nm; by default half the input's, over the same field of view.
    background_radius_nm
        Radius of a rolling ball that removes uneven background (Sternberg 1983); by default only a constant
        level is removed.
    background
        The constant level, in the image's unit; by default measured.
    tile_px
        Side of a tile in canonical pixels; memory grows with its square and not with the image.
    progress
        Called with (tiles done, tiles in all).

    Returns
    -------
    The image in photon-conserving units: its pixels sum to those of the input above background.

    Raises
    ------
    ValueError
        For an image that is not 2D or 3D, below 16 px a side, or not finite, a pixel longer than the Abbe
        period, or a size that is not positive.
    """
    image = np.asarray(image)
    if image.dtype.kind not in "buif":
        raise ValueError(f"expected an image of real numbers, got {image.dtype}")
    if image.ndim not in (2, 3) or min(image.shape[-2:]) < 16 or image.size == 0:
        raise ValueError(
            f"expected an image (y, x) or (frame, y, x) of at least 16 px a side, got {image.shape}"
        )
    if output_pixel_size_nm is not None:
        _checks.positive("output_pixel_size_nm", output_pixel_size_nm)
    if background is not None and not np.isfinite(background):
        raise ValueError(f"expected background to be a finite number, got {background!r}")
    if not np.all(np.isfinite(image)):
        raise ValueError("expected an image without NaN or infinity, got one that holds some")
    notes = check_sampling(system)
    stack = image if image.ndim == 3 else image[None]
    foreground, level = _remove_background(stack, system, background_radius_nm, background)
    unit = photometry.brightness(foreground, abbe_px=float(system.abbe_px))
    grids = _grids(stack.shape[-2:], system, network, output_pixel_size_nm)
    plane = _PlaneRestorer(network, grids, tile_px)
    total = plane.count() * len(stack)
    out = np.zeros((len(stack), *grids.out), np.float32)
    corrections, finished = [], 0

    def tile_done() -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, total)

    for frame, result in zip(foreground, out, strict=True):
        if unit > 0:
            plane.run(frame, unit, result, tile_done)
        light = float(frame.sum(dtype=np.float64))
        floor = 1e-3 * unit * frame.size
        corrections.append(_flux_correction(light, float(result.sum(dtype=np.float64)), floor))
        result *= corrections[-1]
    light_in = float(foreground.sum(dtype=np.float64))
    light_out = float(out.sum(dtype=np.float64))
    report = Report(
        abbe_nm=float(system.abbe_nm),
        abbe_px=float(system.abbe_px),
        canonical_factor=grids.factor,
        background=level,
        brightness=unit,
        photons_out_over_in=light_out / light_in if light_in > 0 else 1.0,
        flux_correction=float(np.mean(corrections)),
        reblur_correlation=plane.correlation.value(),
        tiles=total,
        notes=notes,
    )
    return Restored(out if image.ndim == 3 else out[0], grids.pixel_size_nm, report)


def _remove_background(
    stack: np.ndarray, system: OpticalSystem, radius_nm: float | None, level: float | None
) -> tuple[np.ndarray, float]:
    """Return the stack above its background, float32, and the mean background."""
    abbe_px = float(system.abbe_px)
    if level is None:
        level = photometry.background_level(stack, abbe_px=abbe_px)
    above = stack.astype(np.float32) - np.float32(level)
    if radius_nm is None:
        return above, level
    _checks.positive("background_radius_nm", radius_nm)
    pairs = [
        subtract_background(f, radius_nm=radius_nm, pixel_size_nm=float(system.pixel_size_nm)) for f in above
    ]
    uneven = float(np.mean([b.mean() for _, b in pairs]))
    return np.stack([np.asarray(f, np.float32) for f, _ in pairs]), level + uneven
