"""Judge a result by every score that the images at hand allow, each beside that of the raw image.

Sharpness alone can be made up: the scores that need no truth (decorrelation, RSP, RSE) are blind to invented
texture, and a report says so where they are all there is.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.metrics import (
    decorrelation_resolution,
    frc_curve,
    frc_one_image,
    frc_resolution,
    mae,
    ms_ssim,
    nrmse,
    out_of_band_correlation,
    psnr,
    radial_power_spectrum,
    rolling_frc,
    squirrel,
    ssim,
)
from dps_jax.operators.sampling import bin_area, bin_area_adjoint
from dps_jax.pipelines.misfit import GainUnknownError, measure_misfit
from dps_jax.typing import Array

# Scores in the order of a report: (heading, format).
SCORES = {
    "psnr_db": ("PSNR with the truth (dB)", "{:.2f}"),
    "ssim": ("SSIM with the truth", "{:.4f}"),
    "ms_ssim": ("MS-SSIM with the truth", "{:.4f}"),
    "nrmse": ("NRMSE with the truth", "{:.4f}"),
    "mae": ("MAE with the truth, in its units", "{:.4g}"),
    "out_of_band": ("out-of-band correlation with the truth", "{:.3f}"),
    "frc_nm": ("FRC of two independent results (nm)", "{:.0f}"),
    "frc_one_image_nm": ("FRC of one image with itself (nm)", "{:.0f}"),
    "decorrelation_nm": ("decorrelation resolution (nm)", "{:.0f}"),
    "rsp": ("RSP with the raw image", "{:.4f}"),
    "rse": ("RSE with the raw image", "{:.4g}"),
    "misfit": ("misfit with the raw image / its noise", "{:.3f}"),
}
_BLIND = (
    "without a truth or an independent repeat nothing here can tell real detail from invented: decorrelation, RSP, "
    "RSE and misfit are blind to invented texture"
)
# Windows of the map of local resolution, in pixels.
_WINDOW_PX, _STEP_PX = 64, 16


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of a result and of the raw image by name, what limits them, and what a figure shows.

    ``curves`` holds ``(frequency in cycles per micrometre, value)`` by name; ``maps`` images ``(y, x)``: ``"error"`` on
    the raw image's grid and in its unit, ``"misfit"`` there in units of its noise, ``"frc"`` the local resolution in
    nm, one value per window.
    """

    scores: dict[str, float]
    raw_scores: dict[str, float]
    notes: tuple[str, ...]
    maps: dict[str, np.ndarray]
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


def evaluate(
    image: np.ndarray,
    raw: np.ndarray,
    *,
    pixel_size_nm: float,
    abbe_nm: float | None = None,
    truth: np.ndarray | None = None,
    repeat: np.ndarray | None = None,
    gain: float | None = None,
    offset: float | None = None,
) -> Evaluation:
    """Score a result ``(y, x)`` against the raw image it was made from and whatever else is known.

    Parameters
    ----------
    image
        The result.
    raw
        ``(y, x)`` on the same grid, or on one coarser by a whole number.
    pixel_size_nm
        Of the result.
    abbe_nm
        Abbe period of the optics; without it there is no out-of-band score and no misfit.
    truth
        The object on the result's grid, or on one finer by a whole number; one least-squares scale is allowed for.
    repeat
        The result of a second, independent exposure of the same object, made in the same way.
    gain, offset
        Of the camera, for the misfit; see :func:`dps_jax.pipelines.misfit.measure_misfit`.

    Returns
    -------
    An :class:`Evaluation`; a score that cannot be had is absent.

    Raises
    ------
    ValueError
        For grids that do not fit together, or values that are not finite.
    """
    _checks.positive("pixel_size_nm", pixel_size_nm)
    images = {"result": image, "raw image": raw, "truth": truth, "repeat": repeat}
    for name, given in images.items():
        if given is not None and (np.ndim(given) != 2 or not np.all(np.isfinite(given))):
            raise ValueError(
                f"expected the {name} as finite numbers (y, x), got shape {np.shape(given)}"
                + ("" if np.ndim(given) != 2 else " with NaN or infinity")
            )
    image, raw = np.asarray(image, np.float32), np.asarray(raw, np.float32)
    ratio = _ratio(image, raw, "raw image")
    fine_raw = np.asarray(bin_area_adjoint(jnp.asarray(raw), ratio)) / ratio**2
    judged = {"result": image, "raw": fine_raw}
    scores: dict[str, dict[str, float]] = {name: {} for name in judged}
    curves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    notes: list[str] = []
    reference = squirrel(image, raw)
    scores["result"] |= {"rsp": reference.rsp, "rse": reference.rse}
    maps = {"error": reference.error_map}
    if abbe_nm is not None:
        try:
            misfit = measure_misfit(image, raw, abbe_px=abbe_nm / pixel_size_nm, gain=gain, offset=offset)
        except GainUnknownError as unknown:
            notes.append(f"no misfit in units of the noise, since the gain is {unknown}; give --gain")
        else:
            maps["misfit"] = misfit.residual
            if np.isfinite(misfit.ratio):
                scores["result"]["misfit"] = misfit.ratio
    # Only a camera's own pixels have noise that does not correlate: of a result this would read what it was made by.
    own = ratio * pixel_size_nm * float(_frc_of_itself_px(raw)) if min(raw.shape) >= _LEAST_SIDE else np.nan
    if np.isfinite(own):
        scores["raw"]["frc_one_image_nm"] = own
    for name, (pixels, size) in {
        "result": (image, pixel_size_nm),
        "raw": (raw, ratio * pixel_size_nm),
    }.items():
        resolution = size * float(_decorrelation_px(pixels))
        if np.isfinite(resolution):
            scores[name]["decorrelation_nm"] = resolution
        else:
            notes.append(f"decorrelation finds no peak in the {name.replace('raw', 'raw image')}")
        curves[f"power, {name}"] = _per_um(radial_power_spectrum(jnp.asarray(pixels)), size)
    if truth is not None:
        object_ = _on_grid(np.asarray(truth, np.float32), image)
        for name, pixels in judged.items():
            scores[name] |= _against_truth(pixels, object_, abbe_nm, pixel_size_nm)
            curves[f"FRC with truth, {name}"] = _per_um(frc_curve(pixels, object_), pixel_size_nm)
        if abbe_nm is None:
            notes.append("the out-of-band score needs the optics: give --na and --wavelength-nm")
        elif "out_of_band" not in scores["result"]:
            notes.append(
                "the result's pixels are too coarse for anything beyond the cut-off: no out-of-band score"
            )
    if repeat is not None:
        if np.shape(repeat) != image.shape:
            raise ValueError(
                f"expected the repeat to be a result of the same shape {image.shape}, got {np.shape(repeat)}"
            )
        second = np.asarray(repeat, np.float32)
        resolution = float(frc_resolution(image, second, pixel_size_nm=pixel_size_nm))
        if np.isfinite(resolution):
            scores["result"]["frc_nm"] = resolution
        elif np.isnan(resolution):
            notes.append("the FRC of result and repeat does not fall below 1/7: the sampling limits it")
        else:
            notes.append("the FRC of result and repeat never rises above 1/7: they have nothing in common")
        curves["FRC with repeat"] = _per_um(frc_curve(image, second), pixel_size_nm)
        if min(image.shape) >= _WINDOW_PX + _STEP_PX:
            _, local = rolling_frc(
                image, second, pixel_size_nm=pixel_size_nm, window_px=_WINDOW_PX, step_px=_STEP_PX
            )
            maps["frc"] = np.asarray(local)
    if truth is None and repeat is None:
        notes.append(_BLIND)
    return Evaluation(scores["result"], scores["raw"], tuple(notes), maps, curves)


def _ratio(fine: np.ndarray, coarse: np.ndarray, name: str) -> int:
    """Return how many pixels of ``fine`` make one of ``coarse`` along each axis."""
    ratio = max(1, fine.shape[0] // coarse.shape[0])
    if fine.shape != (ratio * coarse.shape[0], ratio * coarse.shape[1]):
        raise ValueError(
            f"expected the {name} on the result's grid or coarser by a whole number, got shape {coarse.shape} for a "
            f"result of {fine.shape}"
        )
    return ratio


def _on_grid(truth: np.ndarray, image: np.ndarray) -> np.ndarray:
    ratio = max(1, truth.shape[0] // image.shape[0])
    if truth.shape != (ratio * image.shape[0], ratio * image.shape[1]):
        raise ValueError(
            f"expected the truth on the result's grid or finer by a whole number, got shape {truth.shape} for a "
            f"result of {image.shape}"
        )
    return np.asarray(bin_area(jnp.asarray(truth), ratio))


def _against_truth(
    image: np.ndarray, truth: np.ndarray, abbe_nm: float | None, pixel_size_nm: float
) -> dict[str, float]:
    scores = {name: float(value) for name, value in _image_scores(image, truth).items()}
    with contextlib.suppress(ValueError):  # images that are too small for five scales
        scores["ms_ssim"] = float(_ms_ssim(image, truth))
    if abbe_nm is not None:
        with contextlib.suppress(ValueError):  # no ring beyond the cut-off is left below Nyquist
            cutoff = pixel_size_nm / abbe_nm
            scores["out_of_band"] = float(out_of_band_correlation(image, truth, cutoff_cycles_px=cutoff))
    return {name: value for name, value in scores.items() if np.isfinite(value)}


# Compiled as wholes, which takes a tenth of the time of their single operations.
_ms_ssim = jax.jit(partial(ms_ssim, scale=True))
_frc_of_itself_px = jax.jit(partial(frc_one_image, pixel_size_nm=1.0))
_LEAST_SIDE = 8  # of an image whose every second pixels still make rings


@jax.jit
def _image_scores(image: Array, truth: Array) -> dict[str, Array]:
    return {
        "psnr_db": psnr(image, truth, scale=True),
        "ssim": ssim(image, truth, scale=True),
        "nrmse": nrmse(image, truth, scale=True),
        "mae": mae(image, truth, scale=True),
    }


@jax.jit
def _decorrelation_px(image: Array) -> Array:
    return decorrelation_resolution(image, pixel_size_nm=1.0)


def _per_um(curve: tuple[object, object], pixel_size_nm: float) -> tuple[np.ndarray, np.ndarray]:
    frequency, value = (np.asarray(part, np.float64) for part in curve)
    return frequency * 1e3 / pixel_size_nm, value
