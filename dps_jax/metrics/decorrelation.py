"""Image decorrelation analysis: the highest frequency that a single image carries above its noise (NumPy).

An image is correlated with itself after its spectrum was replaced by its phase and cut to a disk of radius
``r``. While ``r`` grows through frequencies with signal the correlation rises, and through noise it falls:
the peak is where the signal ends. High-pass filters bring the weak, fine signal forward; the farthest peak of
all counts. Descloux, Grussmayer and Radenovic 2019. It reads sharpness: invented texture counts as
resolution.

The correlation depends on the spectrum only through sums over rings, so that the whole family of filters
costs one Fourier transform. Images are ``(..., y, x)``, any intensity unit.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from dps_jax import _checks
from dps_jax.metrics._rings import Rings, rings, spatial_shape, tukey_window

_TAPER = (
    0.1  # share of each side rolled off, about the 20 px that the authors' program takes of a 400 px image
)
_FALL = 5e-4  # a peak counts if the curve falls by this much after it (as published)
_LEAST_PEAK = 0.05  # lower peaks are noise (as published)


def decorrelation_resolution(image: np.ndarray, *, pixel_size_nm: float, filters: int = 20) -> np.ndarray:
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
        For sides below 4 px, values that are not finite, or a pixel size that is not positive.

    Notes
    -----
    Descloux et al. 2019. Rings replace their 50 radii, and two passes of filters their refinement.
    """
    _checks.positive("pixel_size_nm", pixel_size_nm)
    _checks.positive_integer("filters", filters)
    shape = spatial_shape(image, 2)
    images = np.asarray(image, np.float32).reshape((-1, *shape))
    if not np.isfinite(images).all():
        raise ValueError(f"expected finite values, got {np.count_nonzero(~np.isfinite(images))} that are not")
    grid = rings(shape)
    peaks = np.array([_farthest_peak(_profile(one, grid), filters) for one in images])
    with np.errstate(divide="ignore"):
        return (2 * pixel_size_nm / peaks).reshape(np.shape(image)[:-2])


def decorrelation_curve(
    image: np.ndarray, *, high_pass: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the radii (as a share of the Nyquist frequency) and the correlation of one image ``(y, x)``.

    ``high_pass`` is the width of the filter ``1 - exp(-2 (high_pass r)^2)``, ``None`` for no filter.
    """
    grid = rings(spatial_shape(image, 2))
    profile = _profile(np.asarray(image, np.float32), grid)
    return profile[0], _curve(profile, np.inf if high_pass is None else high_pass)


def _profile(image: np.ndarray, grid: Rings) -> tuple[np.ndarray, ...]:
    """Return per ring: radius, mean square radius, sums of ``|F|`` and ``|F|^2``, number of coefficients."""
    image = image - image.mean()
    for axis, size in enumerate(image.shape):
        image = image * np.expand_dims(tukey_window(size, _TAPER), 1 - axis)
    magnitude = np.abs(fft.rfft2(image)).astype(np.float64)
    count, index = grid.frequencies.size, grid.member.ravel()

    def sums(values: np.ndarray) -> np.ndarray:
        weighted = (values * grid.multiplicity).ravel()
        return np.bincount(index, weights=weighted, minlength=count)[:count]

    # The filters act by a ring's mean square radius: next to zero they grow with the square.
    squared = [np.square(2 * f) for f in (fft.fftfreq(image.shape[0]), fft.rfftfreq(image.shape[1]))]
    mean_square = sums(squared[0][:, None] + squared[1]) / grid.sizes
    return 2 * grid.frequencies, mean_square, sums(magnitude), sums(magnitude**2), grid.sizes


def _curve(profile: tuple[np.ndarray, ...], high_pass: float) -> np.ndarray:
    """Correlate the high-passed image with its phase inside each radius."""
    _, mean_square, magnitude, energy, sizes = profile
    gain = np.ones(sizes.size) if np.isinf(high_pass) else 1 - np.exp(-2 * high_pass**2 * mean_square)
    gain[0] = 0
    total = np.sqrt((gain**2 * energy).sum())
    # Ring 0 is the removed mean: it has no phase, and is in neither sum.
    pairs = np.cumsum(sizes) - sizes[0]
    return np.cumsum(gain * magnitude) / np.maximum(total * np.sqrt(np.maximum(pairs, 1)), 1e-30)


def _peak(radii: np.ndarray, curve: np.ndarray) -> tuple[float, float]:
    """Return radius and height of the last maximum after which the curve falls; (0, 0) for none."""
    end = curve.size
    while end > 2:
        top = int(np.argmax(curve[:end]))
        if top == 0:
            break
        if curve[top] - curve[top:end].min() >= _FALL:
            return float(radii[top]), float(curve[top])
        end -= 1
    return 0.0, 0.0


def _farthest_peak(profile: tuple[np.ndarray, ...], filters: int) -> float:
    radii = profile[0]
    start, height = _peak(radii, _curve(profile, np.inf))
    best = start if height > _LEAST_PEAK else 0.0
    widest = 2 / start if start > 0 else float(radii.size)
    widths = np.geomspace(widest, 0.15, filters)
    for _ in range(2):
        found = [_peak(radii, _curve(profile, width)) for width in widths]
        reach = np.array([radius if height > _LEAST_PEAK else 0.0 for radius, height in found])
        best = max(best, float(reach.max()))
        at = int(np.argmax(reach))
        widths = np.geomspace(widths[max(at - 1, 0)], widths[min(at + 1, filters - 1)], filters)
    return best
