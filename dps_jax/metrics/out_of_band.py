"""What a restoration knows beyond the microscope's cut-off, scored against the truth; and the power spectrum.

Images are ``(..., y, x)``, any intensity unit; frequencies in cycles per pixel. Differentiable, vmappable.
"""

from __future__ import annotations

import jax.numpy as jnp

from dps_jax import _checks
from dps_jax.metrics._rings import (
    power,
    ring_correlation,
    ring_sums,
    rings,
    shared_shape,
    spatial_shape,
    spectrum,
)
from dps_jax.typing import Array, ArrayLike


def out_of_band_correlation(
    image: ArrayLike,
    truth: ArrayLike,
    *,
    cutoff_cycles_px: float,
    extension: float = 1.67,
    window: bool = True,
) -> Array:
    """Return the mean Fourier ring correlation with the truth beyond the cut-off.

    Exactly: the ring correlation of ``image`` and ``truth`` on rings ``1 / min(ny, nx)`` wide, averaged with
    equal weight per ring over every ring whose centre line ``k`` obeys ``cutoff < k <= min(extension *
    cutoff, 0.5)``. 1 is the truth, 0 is what noise and invented texture score.

    Parameters
    ----------
    image, truth
        ``(..., y, x)`` on one grid; neither scale nor offset of either matters.
    cutoff_cycles_px
        Cut-off ``2 NA / wavelength`` times the pixel size of *this* grid.
    window
        Remove the mean and apply a Hann window first. It has the least leakage: without it, the edges of the
        strong frequencies below the cut-off would be counted beyond it.

    Returns
    -------
    ``(...,)`` from -1 to 1.

    Raises
    ------
    ValueError
        For shapes that differ, an extension of 1 or less, or a range that holds no ring.
    """
    _checks.positive("cutoff_cycles_px", cutoff_cycles_px)
    _checks.positive("extension", extension)
    grid = rings(shared_shape(image, truth, 2))
    beyond = jnp.asarray(grid.frequencies, jnp.float32)
    inside = (beyond > cutoff_cycles_px) & (beyond <= extension * cutoff_cycles_px)
    limits = (cutoff_cycles_px, extension * cutoff_cycles_px)
    # On the NumPy frequencies: under ``jit`` a jax constant has no value to look at.
    known = _checks.is_concrete_number(cutoff_cycles_px) and _checks.is_concrete_number(extension)
    if known and not ((grid.frequencies > limits[0]) & (grid.frequencies <= limits[1])).any():
        raise ValueError(
            f"expected frequencies of the grid (up to 0.5 cycles per px) between the cut-off and {extension} "
            f"times the cut-off, got none for a cut-off of {cutoff_cycles_px:.4g}: use a finer grid"
        )
    taper = 1.0 if window else None
    curve = ring_correlation(spectrum(image, taper=taper), spectrum(truth, taper=taper), grid)
    return jnp.where(inside[(None,) * (curve.ndim - 1)], curve, 0.0).sum(-1) / inside.sum()


def radial_power_spectrum(image: ArrayLike, *, window: bool = True) -> tuple[Array, Array]:
    """Return the mean power ``|F|^2`` per Fourier ring.

    The transform is orthonormal: white noise of variance ``v`` has power ``v`` in every ring (with
    ``window``, the mean is removed, a Hann window applied and its loss of power, 9/64, undone).

    Returns
    -------
    Frequencies ``(ring,)`` in cycles per pixel, and power ``(..., ring)`` in squared units of the image.

    Raises
    ------
    ValueError
        For sides below 4 px.
    """
    grid = rings(spatial_shape(image, 2))
    values = power(spectrum(image, taper=1.0 if window else None, scaled=False))
    sizes = jnp.asarray(grid.sizes, jnp.float32) * ((3 / 8) ** 2 if window else 1.0)
    mean = ring_sums(values, grid) / sizes[(None,) * (values.ndim - 2)]
    return jnp.asarray(grid.frequencies, jnp.float32), mean
