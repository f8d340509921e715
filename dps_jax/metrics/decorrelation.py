"""Image decorrelation analysis: the highest frequency that a single image carries above its noise (NumPy).

An image is correlated with itself after its spectrum was replaced by its phase and cut to a disk of radius
``r``. While ``r`` grows through frequencies with signal the correlation rises, and through noise it falls:
the peak is where the signal ends. High-pass filters bring the weak, fine signal forward; the farthest peak of
all counts. Descloux, Grussmayer and Radenovic 2019. It reads sharpness: invented texture counts as
resolution.

The correlation depends on the spectrum only through sums over rings, so that the whole family of filters
costs one Fourier transform. Images are ``(..., y, x)``, any intensity unit; leading axes are free, and all may be
jitted and vmapped.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.metrics._rings import Rings, power, ring_sums, rings, spatial_shape, spectrum
from dps_jax.typing import Array, ArrayLike

_TAPER = (
    0.1  # share of each side rolled off, about the 20 px that the authors' program takes of a 400 px image
)
_FALL = 5e-4  # a peak counts if the curve falls by this much after it (as published)
_LEAST_PEAK = 0.05  # lower peaks are noise (as published)


def decorrelation_resolution(image: ArrayLike, *, pixel_size_nm: float, filters: int = 20) -> Array:
    """Return the resolution of an image by decorrelation analysis.

    Parameters
    ----------
    filters
        Number of Gaussian high-pass filters, from one matched to the unfiltered peak to a width of 0.15 in
        units of one over the Nyquist frequency; the same number is spent once more around the best one.

    Returns
    -------
    ``(...,)`` nm: ``2 pixel_size_nm / k`` with ``k`` the farthest peak as a share of the Nyquist frequency;
    ``inf`` where no curve has a peak (an empty image, or noise alone).

    Raises
    ------
    ValueError
        For sides below 4 px, a pixel size that is not positive or, outside of ``jit``, values that are not finite.

    Notes
    -----
    Descloux et al. 2019. Rings replace their 50 radii, and two passes of filters their refinement.
    """
    _checks.positive("pixel_size_nm", pixel_size_nm)
    _checks.positive_integer("filters", filters)
    grid = rings(spatial_shape(image, 2))
    images = jnp.asarray(image, jnp.float32)
    if not isinstance(images, jax.core.Tracer) and not bool(jnp.isfinite(images).all()):
        raise ValueError(f"expected finite values, got {int((~jnp.isfinite(images)).sum())} that are not")
    peaks = _farthest_peak(_profile(images, grid), grid, filters)
    return jnp.where(peaks > 0, 2 * pixel_size_nm / jnp.where(peaks > 0, peaks, 1.0), jnp.inf)


def decorrelation_curve(image: ArrayLike, *, high_pass: float | None = None) -> tuple[np.ndarray, Array]:
    """Return the radii (as a share of the Nyquist frequency) and the correlation ``(..., radius)`` of images.

    ``high_pass`` is the width of the filter ``1 - exp(-2 (high_pass r)^2)``, ``None`` for no filter.
    """
    grid = rings(spatial_shape(image, 2))
    widths = None if high_pass is None else jnp.asarray([high_pass], jnp.float32)
    curve = _curves(_profile(jnp.asarray(image, jnp.float32), grid), grid, widths)
    return 2 * grid.frequencies, curve[..., 0, :]


def _profile(image: Array, grid: Rings) -> tuple[Array, Array]:
    """Return the sums of ``|F|`` and ``|F|^2`` per ring, ``(..., ring)``."""
    energy = power(spectrum(image, taper=_TAPER))
    return ring_sums(jnp.sqrt(energy), grid), ring_sums(energy, grid)


def _curves(profile: tuple[Array, Array], grid: Rings, widths: Array | None) -> Array:
    """Correlate the image, high-passed by each width, with its phase inside each radius: ``(..., width, ring)``."""
    magnitude, energy = (part[..., None, :] for part in profile)
    axes = magnitude.ndim
    gain = jnp.ones((1,) * (axes - 1) + grid.sizes.shape, jnp.float32)
    if widths is not None:
        square = jnp.square(widths)[..., None]
        square = square.reshape((1,) * (axes - square.ndim) + square.shape)
        gain = 1 - jnp.exp(-2 * square * _row(_mean_square(grid), axes))
    gain = gain.at[..., 0].set(0.0)
    total = jnp.sqrt((gain**2 * energy).sum(-1, keepdims=True))
    # Ring 0 is the removed mean: it has no phase, and is in neither sum.
    pairs = _row(np.maximum(np.cumsum(grid.sizes) - grid.sizes[0], 1), axes)
    return jnp.cumsum(gain * magnitude, axis=-1) / jnp.maximum(total * jnp.sqrt(pairs), 1e-30)


def _row(values: np.ndarray, axes: int) -> Array:
    """Return values along the last of so many axes."""
    return jnp.asarray(values, jnp.float32).reshape((1,) * (axes - 1) + values.shape)


def _mean_square(grid: Rings) -> np.ndarray:
    """Return the mean square radius in each ring: next to zero the filters grow with the square."""
    rows, columns = grid.member.shape
    x = np.arange(columns) / (2 * (columns - 1) if grid.multiplicity[0, -1] == 1 else 2 * columns - 1)
    square = np.square(2 * np.fft.fftfreq(rows))[:, None] + np.square(2 * x)
    count = grid.sizes.size
    weights = (square * grid.multiplicity).ravel()
    sums = np.bincount(grid.member.ravel(), weights=weights, minlength=count)[:count]
    return np.asarray(sums / grid.sizes)


def _peaks(curve: Array, grid: Rings) -> tuple[Array, Array]:
    """Return radius and height of the last maximum after which a curve ``(..., ring)`` falls; (0, 0) for none."""
    highest = jax.lax.cummax(curve, axis=curve.ndim - 1)
    falls = highest - curve >= _FALL
    last = curve.shape[-1] - 1 - jnp.argmax(falls[..., ::-1], axis=-1)
    height = jnp.take_along_axis(highest, last[..., None], axis=-1)
    at = jnp.argmax(curve >= height, axis=-1)
    found = falls.any(-1) & (at > 0)
    radii = jnp.asarray(2 * grid.frequencies, jnp.float32)
    return jnp.where(found, radii[at], 0.0), jnp.where(found, height[..., 0], 0.0)


def _farthest_peak(profile: tuple[Array, Array], grid: Rings, filters: int) -> Array:
    start, height = (part[..., 0] for part in _peaks(_curves(profile, grid, None), grid))
    best = jnp.where(height > _LEAST_PEAK, start, 0.0)
    first = jnp.where(start > 0, 2 / jnp.where(start > 0, start, 1.0), float(grid.sizes.size))
    last = jnp.full_like(first, 0.15)
    share = _row(np.linspace(0.0, 1.0, filters), first.ndim + 1)
    for _ in range(2):
        widths = first[..., None] * (last / first)[..., None] ** share
        radii, heights = _peaks(_curves(profile, grid, widths), grid)
        reach = jnp.where(heights > _LEAST_PEAK, radii, 0.0)
        best = jnp.maximum(best, reach.max(-1))
        at = jnp.argmax(reach, axis=-1)[..., None]
        first, last = (
            jnp.take_along_axis(widths, jnp.clip(at + step, 0, filters - 1), axis=-1)[..., 0]
            for step in (-1, 1)
        )
    return best
