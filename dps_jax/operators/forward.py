"""Image formation, object to camera: ``y = bin_s(x (*) psf) + noise`` (DESIGN, image formation).

The object ``x`` is ``(..., s ny, s nx)`` in photons per fine pixel; the camera image is ``(..., ny, nx)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax

from dps_jax.operators.convolve import convolution, convolve, convolve_adjoint
from dps_jax.operators.noise import add_poisson_noise, add_read_noise
from dps_jax.operators.sampling import bin_area, bin_area_adjoint
from dps_jax.typing import Array, Key


def camera_image(image: Array, psf: Array, *, factor: int = 2, boundary: str = "constant") -> Array:
    """Blur the object with ``psf`` and sum blocks of ``factor`` pixels: the noise-free camera image.

    Parameters
    ----------
    image
        Object ``(..., factor ny, factor nx)``.
    psf
        Kernel ``(ky, kx)`` on the fine grid, odd sides, unit sum.
    factor
        Fine pixels per camera pixel along each axis.
    boundary
        What lies outside the object; see :func:`dps_jax.operators.convolve`.

    Raises
    ------
    ValueError
        As :func:`dps_jax.operators.convolve` and :func:`dps_jax.operators.bin_area` do.
    """
    return bin_area(convolve(image, psf, boundary=boundary), factor)


def camera_image_adjoint(image: Array, psf: Array, *, factor: int = 2, boundary: str = "constant") -> Array:
    """Apply the adjoint of :func:`camera_image`: ``(..., ny, nx)`` to ``(..., factor ny, factor nx)``."""
    return convolve_adjoint(bin_area_adjoint(image, factor), psf, boundary=boundary)


def camera(
    psf: Array, shape: Sequence[int], *, factor: int = 2, boundary: str = "constant"
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Return :func:`camera_image` and its adjoint, with the transform of ``psf`` computed once.

    Parameters
    ----------
    psf
        Kernel ``(ky, kx)``, or ``(kz, ky, kx)`` for volumes, whose planes are blurred together and binned one by one.
    shape
        Last two or three sides, as many as the kernel has, of the object on the fine grid.
    factor, boundary
        As :func:`camera_image`.

    Raises
    ------
    ValueError
        As :func:`dps_jax.operators.convolution` does.
    """
    blur, blur_adjoint = convolution(psf, shape, boundary=boundary)
    return (
        lambda image: bin_area(blur(image), factor),
        lambda image: blur_adjoint(bin_area_adjoint(image, factor)),
    )


def expose(
    key: Key,
    image: Array,
    psf: Array,
    *,
    factor: int = 2,
    boundary: str = "constant",
    read_noise_photons: float = 0.0,
) -> Array:
    """Take a picture of the object: :func:`camera_image`, then photon and read noise. Counts, float32.

    Raises
    ------
    ValueError
        As :func:`camera_image`, or for negative read noise.
    """
    photon_key, read_key = jax.random.split(key)
    expected = camera_image(image, psf, factor=factor, boundary=boundary)
    counts = add_poisson_noise(photon_key, expected)
    return add_read_noise(read_key, counts, sigma_photons=read_noise_photons)
