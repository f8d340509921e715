"""The field's methods by name: the numbers that each one reads, and how each is called on one image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import solvers
from dps_jax.operators.sampling import resample
from dps_jax.pipelines import photometry
from dps_jax.pipelines.richardson_lucy import run_richardson_lucy
from dps_jax.typing import Array


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Numbers of all methods; each reads its own, and None stands for the method's default."""

    iterations: int | None = None
    accelerated: bool = False
    boundary: str = "reflect"
    until_explained: bool = False
    gain: float | None = None
    offset: float | None = None
    tv_weight: float = 0.005
    noise_to_signal: float = 0.01
    weight: float = 0.01
    fidelity: float = 150.0
    sparsity: float = 10.0
    order: int = 1
    radius_nm: float = 3000.0
    kernel_px: int = 15
    features: int = 32
    seed: int = 0


_MOST_STEPS = 500  # where Richardson-Lucy stops by itself
# Photons in a mean pixel below which the deviance is less than 1 from the start.
_FEW_PHOTONS = 2.0
_ITERATIONS = {
    "richardson-lucy": 20,
    "richardson-lucy-tv": 50,
    "sparse-hessian": 10,
    "self-deblur": 2000,
    "w-dip": 2000,
}


def stops_by_itself(settings: Settings, method: str) -> bool:
    """Return whether a method looks for its own end, for which it must know the gain."""
    return settings.until_explained and method == "richardson-lucy"


def count(settings: Settings, method: str) -> int:
    """Return how many iterations a method takes, or may take where it stops by itself."""
    if stops_by_itself(settings, method) and settings.iterations is None:
        return _MOST_STEPS
    return _ITERATIONS[method] if settings.iterations is None else settings.iterations


def _richardson_lucy(image: Array, psf: Array, s: Settings, factor: int, method: str) -> Array:
    return run_richardson_lucy(
        image,
        psf,
        iterations=count(s, method),
        factor=factor,
        accelerated=s.accelerated,
        boundary=s.boundary,
        tv_weight=s.tv_weight if method == "richardson-lucy-tv" else 0.0,
    )


# Methods that work on the result's own grid get the image interpolated to it.
def _finer(image: Array, factor: int) -> Array:
    return resample(image, float(factor), kernel="cubic") if factor > 1 else image


def _wiener(image: Array, psf: Array, s: Settings, factor: int, fwhm_px: float) -> Array:
    return solvers.wiener(_finer(image, factor), psf, noise_to_signal=s.noise_to_signal, boundary=s.boundary)


def _tikhonov(image: Array, psf: Array, s: Settings, factor: int, fwhm_px: float) -> Array:
    return solvers.tikhonov(_finer(image, factor), psf, weight=s.weight, boundary=s.boundary)


def _sparse_hessian(image: Array, psf: Array, s: Settings, factor: int, fwhm_px: float) -> Array:
    return solvers.sparse_hessian(
        _finer(image, factor),
        psf,
        fidelity=s.fidelity,
        sparsity=s.sparsity,
        deconvolution_iterations=count(s, "sparse-hessian"),
    )


def _mssr(image: Array, psf: Array, s: Settings, factor: int, fwhm_px: float) -> Array:
    return solvers.mssr(image, fwhm_px=fwhm_px, order=s.order, magnification=factor)


_ONE_CALL: dict[str, Callable[[Array, Array, Settings, int, float], Array]] = {
    "wiener": _wiener,
    "tikhonov": _tikhonov,
    "sparse-hessian": _sparse_hessian,
    "mssr": _mssr,
}
FITTED = ("self-deblur", "w-dip")
# What each method reads of the settings, which is what a file says of them.
METHODS: dict[str, tuple[str, ...]] = {
    "richardson-lucy": ("iterations", "accelerated", "boundary", "until_explained", "gain", "offset"),
    "richardson-lucy-tv": ("iterations", "accelerated", "boundary", "tv_weight"),
    "wiener": ("noise_to_signal", "boundary"),
    "tikhonov": ("weight", "boundary"),
    "sparse-hessian": ("fidelity", "sparsity", "iterations"),
    "mssr": ("order",),
    "rolling-ball": ("radius_nm",),
    "self-deblur": ("kernel_px", "iterations", "features", "seed"),
    "w-dip": ("kernel_px", "iterations", "features", "seed"),
}
ON_THE_OWN_GRID = ("rolling-ball", *FITTED)
WITHOUT_PSF = ("rolling-ball", "mssr")


def run(image: Array, psf: Array, method: str, settings: Settings, factor: int, fwhm_px: float) -> Array:
    """Run a method that is compiled calls on an image ``(y, x)`` above its background."""
    if method.startswith("richardson-lucy"):
        return _richardson_lucy(image, psf, settings, factor, method)
    return _one_call(image, psf, method, settings, factor, fwhm_px)


@partial(jax.jit, static_argnames=("method", "settings", "factor", "fwhm_px"))
def _one_call(
    image: Array, psf: Array, method: str, settings: Settings, factor: int, fwhm_px: float
) -> Array:
    return _ONE_CALL[method](image, psf, settings, factor, fwhm_px)


@partial(jax.jit, static_argnames=("settings", "factor"))
def _explained(
    counts: Array, psf: Array, background: Array, settings: Settings, factor: int
) -> tuple[Array, Array]:
    return solvers.richardson_lucy_until_explained(
        counts,
        psf,
        iterations=count(settings, "richardson-lucy"),
        factor=factor,
        boundary=settings.boundary,
        background=background,
        accelerated=settings.accelerated,
    )


def run_until_explained(
    frame: np.ndarray,
    psf: Array,
    background: float,
    camera: photometry.Light,
    settings: Settings,
    factor: int,
) -> tuple[np.ndarray, str]:
    """Run Richardson-Lucy on a frame above its background until its photons are explained; also say when that was."""
    gain = camera.gain or 1.0
    # Without a dark level there is no light in the darkest place.
    dark = float(frame.min()) + background if camera.offset is None else camera.offset
    level = max(background - dark, 0.0) / gain
    counts = jnp.asarray(frame / gain + level, jnp.float32)
    estimate, steps = _explained(counts, psf, jnp.asarray(level, jnp.float32), settings, factor)
    taken, most = int(steps), count(settings, "richardson-lucy")
    said = f"stopped after {taken} step{'s' if taken > 1 else ''}, where its photons were explained"
    if taken == most:
        said = f"its photons are not explained after {most} steps, the most that were allowed"
    said += f" (gain {gain:.4g}, {dark:.4g} without light)"
    if taken < most and (mean := float(jnp.mean(counts))) < _FEW_PHOTONS:
        said += f"; with {mean:.2g} photons in a mean pixel that is too early"
    return np.asarray(estimate) * np.float32(gain), said


def describe(settings: Settings, method: str, *, psf_known: bool = False) -> dict[str, Any]:
    """Return what the method read of the settings, for a file's metadata."""
    read = [name for name in METHODS[method] if not (psf_known and name == "kernel_px")]
    used = {name: getattr(settings, name) for name in read}
    return used | ({"iterations": count(settings, method)} if "iterations" in used else {})
