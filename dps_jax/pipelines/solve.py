"""The field's methods on images as they come: background taken off, PSF made or checked, one method, light counted.

Arrays are ``(y, x)`` or ``(frame, y, x)``; each frame is solved by itself. Nothing here was trained beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks, solvers
from dps_jax.optics.psf import srpsf
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import photometry
from dps_jax.pipelines.deep_prior import fit_deep_prior
from dps_jax.pipelines.measured_psf import usable_psf
from dps_jax.pipelines.solve_methods import (
    FITTED,
    METHODS,
    ON_THE_OWN_GRID,
    Settings,
    count,
    run,
    run_until_explained,
    stops_by_itself,
)
from dps_jax.training.deep_prior import Deblurred, DeepPrior


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


_NO_OBJECT = "MSSR marks where light concentrates: its brightness is no amount of light"
# Negative noise that a method cuts off, and light at the border, are a percent or so of the light. In an image that is
# mostly noise around nothing they are most of it, and objects must not be dimmed to pay for that.
_LIGHT_TRUST = 0.1
# FWHM of the Airy pattern in Abbe periods: 0.5145 wavelength / NA over wavelength / (2 NA).
_FWHM_ABBE = 1.029


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
        One of :data:`dps_jax.pipelines.solve_methods.METHODS`.
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
    if stops_by_itself(settings, method):
        camera = photometry.weigh_light(stack, abbe_px=abbe_px, gain=settings.gain, offset=settings.offset)
        if camera.gain is None:
            raise ValueError(f"expected a gain, to know the noise of the photons; it is {camera.origin}")
    results, kernels, light_in, light_out = [], [], 0.0, 0.0
    for done, frame in enumerate(above, start=1):
        light = float(frame.sum(dtype=np.float64))
        if method in FITTED and frame.max() <= 0:
            # Nothing to fit, and no reason to lose what was fitted to the frames before it.
            found = np.zeros_like(frame)
            kernels.append(np.zeros((settings.kernel_px, settings.kernel_px), np.float32))
            notes += (
                f"frame {done} holds nothing above the background: its result and its kernel are empty",
            )
        elif method in FITTED:
            fitted = _fit(frame, kernel, method, settings, _after(progress, done - 1, len(above)))
            found = np.asarray(fitted.image)
            kernels.append(np.asarray(fitted.kernel))
        elif camera is not None:
            found, note = run_until_explained(frame, known, background, camera, settings, factor)
            notes += (f"frame {done}: {note}",)
        else:
            found = np.asarray(run(jnp.asarray(frame), known, method, settings, factor, _FWHM_ABBE * abbe_px))
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
        if progress is not None and method not in FITTED:
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


def _fit(
    frame: np.ndarray,
    psf: np.ndarray | None,
    method: str,
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> Deblurred:
    prior = DeepPrior(
        kernel_px=settings.kernel_px,
        iterations=count(settings, method),
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
