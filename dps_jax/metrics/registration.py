"""How well frames were brought into register: against the true flow, and without it (NumPy).

Images are ``(..., y, x)``, flows ``(..., 2, y, x)`` in pixels, leading axes free. Correlation and crispness reward
whatever makes frames alike: a flow that drags noise onto the template raises both. Report the end-point error where
the truth is known, the folding, and the motion found in a movie that has none.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax import _checks


def endpoint_error(
    flow_px: np.ndarray,
    truth_px: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    percentile: float | None = None,
) -> np.ndarray:
    """Return the mean length of the difference of two flows, in pixels, or a percentile of it.

    Parameters
    ----------
    flow_px, truth_px
        ``(..., 2, y, x)``.
    mask
        ``(y, x)`` or ``(..., y, x)``: the pixels that count, where there is something to see.
    percentile
        0 to 100; the mean if ``None``.

    Returns
    -------
    ``(...,)``.

    Raises
    ------
    ValueError
        For shapes that differ, a mask without pixels, or a percentile out of range.

    Source: Otte and Nagel 1994.
    """
    flow, truth = _flow("flow_px", flow_px), _flow("truth_px", truth_px)
    _checks.same_shape("flow_px", flow, "truth_px", truth)
    if percentile is not None and not 0 <= percentile <= 100:
        raise ValueError(f"expected a percentile from 0 to 100, got {percentile!r}")
    length = np.sqrt(((flow - truth) ** 2).sum(-3))
    counted = np.broadcast_to(True if mask is None else np.asarray(mask, bool), length.shape)
    if not counted.any((-2, -1)).all():
        raise ValueError("expected a mask with pixels in it, got none")
    length = np.where(counted, length, np.nan)
    if percentile is None:
        return np.nanmean(length, (-2, -1))
    return np.nanpercentile(length, percentile, (-2, -1))


def template_correlation(image: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of each image with the template, ``(...,)``; 0 for one without contrast.

    ``template`` is ``(y, x)``, or has the shape of ``image``. Raises ``ValueError`` for sizes that differ.
    """
    image, template = _image("image", image), _image("template", template)
    if image.shape[-2:] != template.shape[-2:]:
        raise ValueError(
            f"expected image and template of one size, got shapes {image.shape} and {template.shape}"
        )
    a, b = (i - i.mean((-2, -1), keepdims=True) for i in (image, template))
    norm = np.sqrt((a**2).sum((-2, -1)) * (b**2).sum((-2, -1)))
    return np.where(norm > 0, (a * b).sum((-2, -1)) / np.where(norm > 0, norm, 1.0), 0.0)


def crispness(image: np.ndarray) -> np.ndarray:
    """Return the Frobenius norm of the gradient, ``(...,)``: of a movie's mean, the higher the better aligned.

    In the unit of the image; compare movies of equal photons and number of frames only, as noise adds to it.
    Source: Pnevmatikakis and Giovannucci 2017.
    """
    image = _image("image", image)
    if min(image.shape[-2:]) < 2:
        raise ValueError(f"expected sides of 2 px or more, got shape {image.shape}")
    dy, dx = np.gradient(image, axis=(-2, -1))
    return np.sqrt((dy**2 + dx**2).sum((-2, -1)))


def folding_fraction(flow_px: np.ndarray) -> np.ndarray:
    """Return the share of pixels at which ``r -> r + flow(r)`` folds (determinant 0 or less), ``(...,)``."""
    flow = _flow("flow_px", flow_px)
    if min(flow.shape[-2:]) < 2:
        raise ValueError(f"expected sides of 2 px or more, got shape {flow.shape}")
    (yy, yx), (xy, xx) = (np.gradient(flow[..., i, :, :], axis=(-2, -1)) for i in (0, 1))
    return (((1 + yy) * (1 + xx) - yx * xy) <= 0).mean((-2, -1))


def residual_motion(image: np.ndarray, template: np.ndarray, *, window_sigma_px: float = 8.0) -> np.ndarray:
    """Return the mean length of the motion, in pixels, that is left between each image and the template.

    One step of least squares on the linearised brightness in a Gaussian window: right for what is left after a
    correction, a fraction of a pixel; larger motion is underestimated, and noise reads as some motion. Give means of
    many frames, or compare methods on the same movie.

    Parameters
    ----------
    image
        ``(..., y, x)``.
    template
        ``(y, x)``, or of the shape of ``image``.
    window_sigma_px
        Width of the window, in pixels.

    Returns
    -------
    ``(...,)`` in pixels; places without structure, where motion cannot be seen, count by how much they show.

    Raises
    ------
    ValueError
        For sizes that differ, or a width that is not positive.

    Source: Lucas and Kanade 1981.
    """
    _checks.positive("window_sigma_px", window_sigma_px)
    image, template = _image("image", image), _image("template", template)
    if image.shape[-2:] != template.shape[-2:]:
        raise ValueError(
            f"expected image and template of one size, got shapes {image.shape} and {template.shape}"
        )
    template = np.broadcast_to(template, image.shape)
    frames, templates = (a.reshape(-1, *image.shape[-2:]) for a in (image, template))
    lengths = [_lucas_kanade(f, t, window_sigma_px) for f, t in zip(frames, templates, strict=True)]
    return np.array(lengths).reshape(image.shape[:-2])


def _lucas_kanade(image: np.ndarray, template: np.ndarray, window_sigma_px: float) -> float:
    # Differences are of slightly smoothed images, without which they would be noise.
    a, b = (gaussian_filter(i, 1.0, mode="nearest") for i in (image, template))
    dy, dx = np.gradient(0.5 * (a + b))
    yy, yx, xx, yt, xt = (
        gaussian_filter(p, window_sigma_px, mode="nearest")
        for p in (dy * dy, dy * dx, dx * dx, dy * (b - a), dx * (b - a))
    )
    trace = yy + xx
    if not trace.max() > 0:
        return 0.0
    # A thousandth of the largest structure keeps the solution finite where there is none.
    yy, xx = yy + 1e-3 * trace.max(), xx + 1e-3 * trace.max()
    determinant = yy * xx - yx * yx
    flow_y, flow_x = (xx * yt - yx * xt) / determinant, (yy * xt - yx * yt) / determinant
    return float(np.average(np.hypot(flow_y, flow_x), weights=trace))


def _flow(name: str, flow_px: np.ndarray) -> np.ndarray:
    flow = np.asarray(flow_px, float)
    if flow.ndim < 3 or flow.shape[-3] != 2:
        raise ValueError(f"expected {name} as (..., 2, y, x), got shape {flow.shape}")
    return flow


def _image(name: str, image: np.ndarray) -> np.ndarray:
    _checks.at_least_2d(name, image)
    return np.asarray(image, float)
