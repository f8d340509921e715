"""SQUIRREL: whether a super-resolved image, blurred back, explains the measured one (NumPy).

The super-resolved image is scaled (``alpha``), offset (``beta``) and blurred by a Gaussian (``sigma_px``)
until it is nearest to the measured one; what remains is the error map (Culley et al. 2018). Images are
single, ``(y, x)``, any intensity unit. The score is blind to whatever the blur removes: invented texture
finer than it costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from dps_jax import _checks

_COARSE = 25  # widths tried before the search is refined around the best: the error may have several minima


@dataclass(frozen=True)
class Squirrel:
    """Result of :func:`squirrel`, on the measured image's grid."""

    rsp: float  # resolution-scaled Pearson correlation with the measured image, -1 to 1
    rse: float  # resolution-scaled root-mean-square error, in units of the measured image
    sigma_px: float  # width of the resolution-scaling function, in pixels of the measured image
    alpha: float  # intensity scale, never negative
    beta: float  # intensity offset
    rescaled: np.ndarray  # (y, x) the super-resolved image after blur, scale and offset
    error_map: np.ndarray  # (y, x) absolute difference of `rescaled` and the measured image


def squirrel(super_resolved: np.ndarray, measured: np.ndarray, *, max_sigma_px: float = 10.0) -> Squirrel:
    """Fit blur, scale and offset of a super-resolved image to the measured one; return scores and error map.

    Parameters
    ----------
    super_resolved
        ``(y, x)`` on the measured image's grid, or on one finer by a whole number, which is binned by area
        first.
    measured
        ``(y, x)``, the low-resolution reference.
    max_sigma_px
        Widest Gaussian tried, in pixels of the measured image. Mirror boundary.

    Raises
    ------
    ValueError
        For images that are not 2D, a grid that is not a whole number finer, values that are not finite, or a
        width that is not positive.

    Notes
    -----
    Culley et al. 2018. They search all three parameters; here scale and offset follow in closed form for each
    width, and the error is evaluated in the cosine domain, where a Gaussian with mirror boundary is a product.
    """
    _checks.positive("max_sigma_px", max_sigma_px)
    image, reference = _on_one_grid(super_resolved, measured)
    x, y = (fft.dctn(a - a.mean(), norm="ortho") for a in (image, reference))
    sigma = _best_sigma(x, y, max_sigma_px)
    blurred = _gain(x.shape, sigma) * x
    alpha = _alpha(blurred, y)
    rescaled = alpha * fft.idctn(blurred, norm="ortho") + reference.mean()
    error = rescaled - reference
    return Squirrel(
        rsp=_pearson(rescaled, reference),
        rse=float(np.sqrt(np.mean(error**2))),
        sigma_px=sigma,
        alpha=alpha,
        beta=float(reference.mean() - alpha * image.mean()),
        rescaled=rescaled.astype(np.float32),
        error_map=np.abs(error).astype(np.float32),
    )


def rsp(super_resolved: np.ndarray, measured: np.ndarray, *, max_sigma_px: float = 10.0) -> float:
    """Return the resolution-scaled Pearson correlation, 1 at best; see :func:`squirrel`."""
    return squirrel(super_resolved, measured, max_sigma_px=max_sigma_px).rsp


def rse(super_resolved: np.ndarray, measured: np.ndarray, *, max_sigma_px: float = 10.0) -> float:
    """Return the resolution-scaled root-mean-square error, in the measured unit; see :func:`squirrel`."""
    return squirrel(super_resolved, measured, max_sigma_px=max_sigma_px).rse


def error_map(super_resolved: np.ndarray, measured: np.ndarray, *, max_sigma_px: float = 10.0) -> np.ndarray:
    """Return the absolute error per measured pixel ``(y, x)``; see :func:`squirrel`."""
    return squirrel(super_resolved, measured, max_sigma_px=max_sigma_px).error_map


def _on_one_grid(super_resolved: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image, reference = (np.asarray(a, np.float64) for a in (super_resolved, measured))
    if image.ndim != 2 or reference.ndim != 2:
        raise ValueError(f"expected two images (y, x), got shapes {image.shape} and {reference.shape}")
    if not (np.isfinite(image).all() and np.isfinite(reference).all()):
        raise ValueError("expected finite values in both images, got nan or inf")
    (ny, nx), factor = reference.shape, image.shape[0] // reference.shape[0]
    if factor < 1 or image.shape != (ny * factor, nx * factor):
        raise ValueError(
            "expected the super-resolved image on the measured grid or a whole number finer, got shapes "
            f"{image.shape} and {reference.shape}"
        )
    return image.reshape(ny, factor, nx, factor).mean((1, 3)), reference


def _gain(shape: tuple[int, ...], sigma_px: float) -> np.ndarray:
    """Gaussian blur as a factor per cosine; the cosine of index k turns by pi k / n a pixel."""
    along_y, along_x = (np.exp(-0.5 * (sigma_px * np.pi * np.arange(n) / n) ** 2) for n in shape)
    return along_y[:, None] * along_x[None, :]


def _alpha(blurred: np.ndarray, y: np.ndarray) -> float:
    energy = float((blurred**2).sum())
    return max(float((blurred * y).sum()), 0.0) / energy if energy > 0 else 0.0


def _best_sigma(x: np.ndarray, y: np.ndarray, max_sigma_px: float) -> float:
    """Minimise the squared error, which is the measured energy less ``alpha <blurred, y>``."""
    from scipy.optimize import minimize_scalar  # slow to import, and not needed to restore

    def error(sigma: float) -> float:
        blurred = _gain(x.shape, sigma) * x
        return -_alpha(blurred, y) * float((blurred * y).sum())

    widths = np.linspace(0, max_sigma_px, _COARSE)
    at = int(np.argmin([error(sigma) for sigma in widths]))
    bounds = widths[max(at - 1, 0)], widths[min(at + 1, _COARSE - 1)]
    found = minimize_scalar(error, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(min((found.x, *bounds), key=error))


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
