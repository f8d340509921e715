"""Simulate: a scene with known truth, as a microscope would see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.forward import camera_image
from dps_jax.operators.noise import add_poisson_noise, add_read_noise
from dps_jax.optics.psf import srpsf
from dps_jax.optics.system import OpticalSystem
from dps_jax.synthetic import structures
from dps_jax.typing import Array

FACTOR = 2  # fine pixels per camera pixel along each axis

# A widefield microscope with an oil objective and a common camera: the instrument of the demo.
DEMO_SYSTEM = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)


@dataclass(frozen=True, eq=False)
class Acquisition:
    """A simulated exposure.

    ``truth`` is the object ``(2y, 2x)`` in photons per fine pixel, ``expected`` the noise-free camera image
    ``(y, x)``, ``image`` the exposure and ``repeat`` a second one of the same object, in photons; ``psf`` is the
    kernel on the fine grid, ``background`` the constant level in photons per camera pixel.
    """

    truth: np.ndarray
    expected: np.ndarray
    image: np.ndarray
    repeat: np.ndarray
    psf: Array
    background: float
    system: OpticalSystem


@jax.jit
def _wide_camera(scene: Array, psf: Array) -> Array:
    return camera_image(scene, psf, factor=FACTOR)


def acquire(
    seed: int,
    system: OpticalSystem,
    *,
    shape: tuple[int, int] = (128, 128),
    photons: float = 100.0,
    background: float = 0.0,
    read_noise_photons: float = 0.0,
    families: Sequence[str] = structures.WITHHELD_FAMILIES,
) -> Acquisition:
    """Draw a scene and take two pictures of it.

    Parameters
    ----------
    seed
        Everything random follows from it.
    system
        Optics and camera pixel size.
    shape
        Camera ``(y, x)``.
    photons
        Expected photons in the brightest pixel of the scene, background not counted.
    background
        Constant background in photons per pixel.
    read_noise_photons
        Standard deviation of the read noise.
    families
        Structure families to draw from; by default those that no released network was trained on.

    Raises
    ------
    ValueError
        For numbers out of range or unknown families.
    """
    margin = margin_px(system)
    wide = (FACTOR * (shape[0] + 2 * margin), FACTOR * (shape[1] + 2 * margin))
    scene = structures.scene(
        np.random.default_rng(seed), wide, abbe_px=FACTOR * float(system.abbe_px), families=families
    )
    return photograph(
        seed,
        scene,
        system,
        photons=photons,
        background=background,
        read_noise_photons=read_noise_photons,
    )


def margin_px(system: OpticalSystem) -> int:
    """Return how many camera pixels around a frame send light into it: the reach of the PSF."""
    return -(-(fine_psf(system).shape[0] // 2) // FACTOR)


def fine_psf(system: OpticalSystem) -> Array:
    """Return the PSF on the fine grid."""
    return srpsf(dataclasses.replace(system, pixel_size_nm=float(system.pixel_size_nm) / FACTOR))


def photograph(
    seed: int,
    scene: np.ndarray,
    system: OpticalSystem,
    *,
    photons: float = 100.0,
    background: float = 0.0,
    read_noise_photons: float = 0.0,
) -> Acquisition:
    """Take two pictures of a scene.

    Parameters
    ----------
    seed
        Of the photons.
    scene
        Emitters ``(2 (y + 2m), 2 (x + 2m))`` on the fine grid, with ``m = margin_px(system)``: what lies outside
        the frame sends light into it.
    photons, background, read_noise_photons
        As :func:`acquire`.

    Raises
    ------
    ValueError
        For numbers out of range or a scene without light.
    """
    _checks.positive("photons", photons)
    _checks.non_negative("background", background)
    psf, margin = fine_psf(system), margin_px(system)
    seen = np.asarray(_wide_camera(scene, psf))[margin:-margin, margin:-margin]
    _checks.positive("the scene's brightest pixel", float(seen.max()))
    scale = photons / float(seen.max())
    inner = FACTOR * margin
    expected = (seen * scale + background).astype(np.float32)
    images = []
    for key in jax.random.split(jax.random.key(seed), 2):
        photon_key, read_key = jax.random.split(key)
        counts = add_poisson_noise(photon_key, jnp.asarray(expected))
        images.append(np.asarray(add_read_noise(read_key, counts, sigma_photons=read_noise_photons)))
    truth = (scene * scale)[inner:-inner, inner:-inner].astype(np.float32)
    return Acquisition(truth, expected, images[0], images[1], psf, background, system)
