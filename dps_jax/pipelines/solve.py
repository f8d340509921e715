"""The field's methods on images as they come: background taken off, PSF made or checked, one method, light counted.

Arrays are ``(y, x)`` or ``(frame, y, x)``; each frame is solved by itself. Nothing here was trained beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks, solvers
from dps_jax.operators.sampling import resample
from dps_jax.optics.psf import srpsf
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import photometry
from dps_jax.pipelines.deep_prior import fit_deep_prior
from dps_jax.pipelines.measured_psf import usable_psf
from dps_jax.training.deep_prior import Deblurred, DeepPrior
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


@dataclass(frozen=True, eq=False)
class Solved:
    """A result, its pixel size, what was done, notes, and the kernel ``(ky, kx)`` of each frame where it was found."""

    image: np.ndarray
    pixel_size_nm: float
    background: float
    light_out_over_in: float
    conserves_light: bool
    notes: tuple[str, ...]
    kernels: tuple[np.ndarray, ...] = ()


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


def _stops_by_itself(settings: Settings, method: str) -> bool:
    return settings.until_explained and method == "richardson-lucy"


def _count(settings: Settings, method: str) -> int:
    if _stops_by_itself(settings, method) and settings.iterations is None:
        return _MOST_STEPS
    return _ITERATIONS[method] if settings.iterations is None else settings.iterations


# Methods that work on the result's own grid get the image interpolated to it.
def _richardson_lucy(image: Array, psf: Array, s: Settings, factor: int, fwhm_px: float) -> Array:
    return solvers.richardson_lucy(
        image,
        psf,
        iterations=_count(s, "richardson-lucy"),
        factor=factor,
        accelerated=s.accelerated,
        boundary=s.boundary,
    )


def _richardson_lucy_tv(image: Array, psf: Array, s: Settings, factor: int, fwhm_px: float) -> Array:
    return solvers.richardson_lucy(
        image,
        psf,
        iterations=_count(s, "richardson-lucy-tv"),
        factor=factor,
        accelerated=s.accelerated,
        boundary=s.boundary,
        tv_weight=s.tv_weight,
    )


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
        deconvolution_iterations=_count(s, "sparse-hessian"),
    )


def _mssr(image: Array, psf: Array, s: Settings, factor: int, fwhm_px: float) -> Array:
    return solvers.mssr(image, fwhm_px=fwhm_px, order=s.order, magnification=factor)


_ONE_CALL: dict[str, Callable[[Array, Array, Settings, int, float], Array]] = {
    "richardson-lucy": _richardson_lucy,
    "richardson-lucy-tv": _richardson_lucy_tv,
    "wiener": _wiener,
    "tikhonov": _tikhonov,
    "sparse-hessian": _sparse_hessian,
    "mssr": _mssr,
}
_FITTED = ("self-deblur", "w-dip")
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
ON_THE_OWN_GRID = ("rolling-ball", *_FITTED)
WITHOUT_PSF = ("rolling-ball", "mssr")
_NO_OBJECT = "MSSR marks where light concentrates: its brightness is no amount of light"
# Negative noise that a method cuts off, and light at the border, are a percent or so of the light. In an image that is
# mostly noise around nothing they are most of it, and objects must not be dimmed to pay for that.
_LIGHT_TRUST = 0.1
# FWHM of the Airy pattern in Abbe periods: 0.5145 wavelength / NA over wavelength / (2 NA).
_FWHM_ABBE = 1.029


@partial(jax.jit, static_argnames=("settings", "factor"))
def _explained(
    counts: Array, psf: Array, background: Array, settings: Settings, factor: int
) -> tuple[Array, Array]:
    return solvers.richardson_lucy_until_explained(
        counts,
        psf,
        iterations=_count(settings, "richardson-lucy"),
        factor=factor,
        boundary=settings.boundary,
        background=background,
        accelerated=settings.accelerated,
    )


@partial(jax.jit, static_argnames=("method", "settings", "factor", "fwhm_px"))
def _run(image: Array, psf: Array, method: str, settings: Settings, factor: int, fwhm_px: float) -> Array:
    return _ONE_CALL[method](image, psf, settings, factor, fwhm_px)


def solve(
    image: np.ndarray,
    system: OpticalSystem,
    *,
    method: str,
    settings: Settings | None = None,
    factor: int = 2,
    psf: np.ndarray | None = None,
    background: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Solved:
    """Run a classical method.

    Parameters
    ----------
    image
        ``(y, x)`` or ``(frame, y, x)``, camera units.
    system
        Optics and pixel size of the image.
    method
        One of :data:`METHODS`.
    settings
        Numbers of the method.
    factor
        Result pixels per image pixel along each axis; 1 for :data:`ON_THE_OWN_GRID`, whatever is said.
    psf
        Measured kernel on the *result's* grid, see :func:`dps_jax.pipelines.measured_psf.usable_psf`; by default the
        srPSF of ``system``, or, for ``self-deblur`` and ``w-dip``, whatever they find.
    background
        Constant level in camera units; by default measured.
    progress
        Called with (frames, or iterations of the fitted methods, done, and in all).

    Returns
    -------
    A :class:`Solved`; the sum of its image is that of the input above its background for every method that conserves
    light (all but ``mssr`` and ``rolling-ball``), unless that would change it by more than a tenth, which is noted.

    Raises
    ------
    ValueError
        For an unknown method, numbers out of range, an unusable kernel, or images that are not finite or hold no light.
    """
    _checks.one_of("method", method, tuple(METHODS))
    _checks.positive_integer("factor", factor)
    settings = settings or Settings()
    factor = 1 if method in ON_THE_OWN_GRID else factor
    image = np.asarray(image)
    if image.ndim not in (2, 3):
        raise ValueError(f"expected an image (y, x) or a stack (frame, y, x), got shape {image.shape}")
    if not np.all(np.isfinite(image)):
        raise ValueError("expected an image without NaN or infinity, got one that holds some")
    stack = image if image.ndim == 3 else image[None]
    abbe_px = float(system.abbe_px)
    if background is None:
        background = photometry.background_level(stack, abbe_px=abbe_px)
    if method == "rolling-ball":
        return _rolled(image, stack, system, settings)
    fine = dataclasses.replace(system, pixel_size_nm=float(system.pixel_size_nm) / factor)
    kernel, notes = (None, ()) if psf is None else usable_psf(psf)
    above = stack.astype(np.float32) - np.float32(background)
    if float(above.sum(dtype=np.float64)) <= 0:
        raise ValueError(
            f"expected an image with light above its background, found nothing above {background:.6g}; "
            "check --background"
        )
    known = jnp.asarray(srpsf(fine) if kernel is None else kernel)
    camera = None
    if _stops_by_itself(settings, method):
        camera = photometry.weigh_light(stack, abbe_px=abbe_px, gain=settings.gain, offset=settings.offset)
        if camera.gain is None:
            raise ValueError(f"expected a gain, to know the noise of the photons; it is {camera.origin}")
    results, kernels, light_in, light_out = [], [], 0.0, 0.0
    for done, frame in enumerate(above, start=1):
        light = float(frame.sum(dtype=np.float64))
        if method in _FITTED and frame.max() <= 0:
            # Nothing to fit, and no reason to lose what was fitted to the frames before it.
            found = np.zeros_like(frame)
            kernels.append(np.zeros((settings.kernel_px, settings.kernel_px), np.float32))
            notes += (
                f"frame {done} holds nothing above the background: its result and its kernel are empty",
            )
        elif method in _FITTED:
            fitted = _fit(frame, kernel, method, settings, _after(progress, done - 1, len(above)))
            found = np.asarray(fitted.image)
            kernels.append(np.asarray(fitted.kernel))
        elif camera is not None:
            found, note = _stopped(frame, known, background, camera, settings, factor)
            notes += (f"frame {done}: {note}",)
        else:
            found = np.asarray(
                _run(jnp.asarray(frame), known, method, settings, factor, _FWHM_ABBE * abbe_px)
            )
        if method != "mssr":
            held = float(found.sum(dtype=np.float64))
            if light > 0 and held > 0 and abs(light / held - 1) <= _LIGHT_TRUST:
                found = found * np.float32(light / held)
            elif held > 0 or light > 0:
                notes += (
                    f"frame {done} holds {light:.4g} above the background and its result {held:.4g}: noise outweighs"
                    " the light, and the result is left as it is",
                )
        results.append(found)
        light_in, light_out = light_in + light, light_out + float(found.sum(dtype=np.float64))
        if progress is not None and method not in _FITTED:
            progress(done, len(above))
    out = np.stack(results)
    return Solved(
        out if image.ndim == 3 else out[0],
        float(fine.pixel_size_nm),
        float(background),
        light_out / light_in if light_in > 0 else 1.0,
        method != "mssr",
        (*notes, _NO_OBJECT) if method == "mssr" else notes,
        tuple(kernels) if psf is None else (),
    )


def _stopped(
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
    taken, most = int(steps), _count(settings, "richardson-lucy")
    said = f"stopped after {taken} step{'s' if taken > 1 else ''}, where its photons were explained"
    if taken == most:
        said = f"its photons are not explained after {most} steps, the most that were allowed"
    said += f" (gain {gain:.4g}, {dark:.4g} without light)"
    if taken < most and (mean := float(jnp.mean(counts))) < _FEW_PHOTONS:
        said += f"; with {mean:.2g} photons in a mean pixel that is too early"
    return np.asarray(estimate) * np.float32(gain), said


def _fit(
    frame: np.ndarray,
    psf: np.ndarray | None,
    method: str,
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> Deblurred:
    prior = DeepPrior(
        kernel_px=settings.kernel_px,
        iterations=_count(settings, method),
        features=settings.features,
        guided=method == "w-dip",
    )
    return fit_deep_prior(frame, prior, psf=psf, seed=settings.seed, progress=progress)


def _after(
    progress: Callable[[int, int], None] | None, frames: int, count: int
) -> Callable[[int, int], None] | None:
    """Return a report of iterations in one frame as a report of iterations in all of them."""
    if progress is None:
        return None
    return lambda done, total: progress(frames * total + done, count * total)


def _rolled(image: np.ndarray, stack: np.ndarray, system: OpticalSystem, settings: Settings) -> Solved:
    pixel_nm = float(system.pixel_size_nm)
    pairs = [
        solvers.subtract_background(f, radius_nm=settings.radius_nm, pixel_size_nm=pixel_nm)
        for f in stack.astype(np.float32)
    ]
    out = np.stack([np.asarray(above, np.float32) for above, _ in pairs])
    level = float(np.mean([np.mean(ground) for _, ground in pairs]))
    share = float(out.sum(dtype=np.float64) / max(float(stack.sum(dtype=np.float64)), 1e-30))
    return Solved(out if image.ndim == 3 else out[0], pixel_nm, level, share, False, ())


def describe(settings: Settings, method: str, *, psf_known: bool = False) -> dict[str, Any]:
    """Return what the method read of the settings, for a file's metadata."""
    read = [name for name in METHODS[method] if not (psf_known and name == "kernel_px")]
    used = {name: getattr(settings, name) for name in read}
    return used | ({"iterations": _count(settings, method)} if "iterations" in used else {})
