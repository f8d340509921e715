"""Restore: a camera image to the object behind it, at twice the sampling, photons in equal photons out.

The steps are those of DESIGN section 3: background, one intensity scale, resampling to the canonical sampling
of the network, overlapping tiles, network, stitching, resampling to the output grid, scale undone. Arrays are
``(y, x)`` or ``(frame, y, x)``; a stack shares one background level and one scale, so that frames compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dps_jax import _checks
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import photometry
from dps_jax.pipelines.plane import PlaneRestorer, Sums, lay_grids
from dps_jax.pipelines.report import Report, check_sampling, flux_notes, light_notes
from dps_jax.pipelines.steady import pool_frames
from dps_jax.solvers.rolling_ball import subtract_background
from dps_jax.weights import Network

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored image ``(..., y, x)`` float32, its pixel size, the background taken off, and the report."""

    image: np.ndarray
    pixel_size_nm: float
    report: Report


def flux_correction(total_in: float, total_out: float, noise_floor: float) -> float:
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
    gain: float | None = None,
    offset: float | None = None,
    steady_frames: int = 0,
    orientations: int = 1,
    tile_px: int | None = None,
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
    gain, offset
        Camera units per photon and camera value in the dark, for the photon numbers of the report; by default
        from the image's mean-variance line. Without ``steady_frames`` the result does not depend on them.
    steady_frames
        Frames before and after each one whose photons are pooled with its own wherever they agree within their
        noise, for a movie with less flicker; by default every frame is restored by itself.
    orientations
        1, 2, 4 or 8: the result is the mean over so many rotations and mirror images of the image, each turned
        back; 8 take eight times as long and gain about 0.1 dB.
    tile_px
        Largest side of a tile in canonical pixels, without its overlap; memory grows with its square and not with
        the image. By default 1334, for which a network of 24 channels takes about 3 GB.
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
    _checks.one_of("orientations", orientations, (1, 2, 4, 8))
    if tile_px is not None:
        _checks.positive_integer("tile_px", tile_px)
    if steady_frames < 0:
        raise ValueError(f"expected steady_frames to be a whole number of 0 or more, got {steady_frames!r}")
    if background is not None and not np.isfinite(background):
        raise ValueError(f"expected background to be a finite number, got {background!r}")
    if not np.all(np.isfinite(image)):
        raise ValueError("expected an image without NaN or infinity, got one that holds some")
    notes = check_sampling(system)
    stack = image if image.ndim == 3 else image[None]
    abbe_px = float(system.abbe_px)
    light_scale = photometry.weigh_light(stack, abbe_px=abbe_px, gain=gain, offset=offset)
    if steady_frames:
        stack = _pooled(stack, light_scale, abbe_px, steady_frames)
    foreground, level = _remove_background(stack, system, background_radius_nm, background)
    unit = photometry.brightness(foreground, abbe_px=abbe_px)
    peak = light_scale.photons(unit)
    grids = lay_grids(stack.shape[-2:], system, network, output_pixel_size_nm)
    plane = PlaneRestorer(network, grids, tile_px=tile_px, orientations=orientations)
    total = plane.count() * len(stack)
    out = np.zeros((len(stack), *grids.out), np.float32)
    corrections, sums = [], Sums()
    work = [(number, piece) for number in range(len(stack)) for piece in plane.pieces()] if unit > 0 else []
    # A canonical pixel gathers the light of more than one input pixel, or of less: bright is 1 there.
    frames = list(foreground)
    blocks = plane.run(((frames[number], piece) for number, piece in work), unit / grids.factor**2)
    for finished, ((number, piece), (block, added)) in enumerate(zip(work, blocks, strict=True), start=1):
        out[number][tuple(slice(*span) for span in piece.out)] = block
        sums += added
        if progress is not None:
            progress(finished, total)
    for frame, result in zip(foreground, out, strict=True):
        light = float(frame.sum(dtype=np.float64))
        floor = 1e-3 * unit * frame.size
        corrections.append(flux_correction(light, float(result.sum(dtype=np.float64)), floor))
        result *= corrections[-1]
    light_in = float(foreground.sum(dtype=np.float64))
    light_out = float(out.sum(dtype=np.float64))
    report = Report(
        abbe_nm=float(system.abbe_nm),
        abbe_px=float(system.abbe_px),
        canonical_factor=grids.factor,
        background=level,
        brightness=unit,
        gain=light_scale.gain,
        offset=light_scale.offset,
        gain_origin=light_scale.origin,
        peak_photons=peak,
        photons_out_over_in=light_out / light_in if light_in > 0 else 1.0,
        flux_correction=float(np.mean(corrections)),
        reblur_correlation=sums.correlation(),
        tiles=total,
        notes=(
            *notes,
            *light_notes(None if peak is None else peak / grids.factor**2),
            *flux_notes(corrections),
        ),
    )
    return Restored(out if image.ndim == 3 else out[0], grids.pixel_size_nm, report)


def _pooled(stack: np.ndarray, light: photometry.Light, abbe_px: float, reach: int) -> np.ndarray:
    if len(stack) < 2:
        raise ValueError(f"expected a movie to make steady, got {len(stack)} frame")
    if light.gain is None:
        raise ValueError(
            f"expected a gain, to know the noise of a movie to make steady; it is {light.origin}"
        )
    # Without a dark level, the darkest pixels stand for it.
    offset = float(stack.min()) if light.offset is None else light.offset
    return pool_frames(stack, gain=light.gain, offset=offset, abbe_px=abbe_px, reach=reach)


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
