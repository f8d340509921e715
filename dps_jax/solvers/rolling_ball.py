"""Rolling-ball background: the surface that the apex of a ball touches, rolled under the image (NumPy).

Sternberg 1983. Images are ``(..., y, x)``, any intensity unit, negative values included; each image over the
last two axes is treated alone. The ball is an ellipsoid: ``radius_px`` across, and as high as the image's own
range (maximum minus minimum), so that scaling or shifting an image does the same to its background. The
background is ``min over q of image(q) + height (1 - sqrt(1 - |p - q|^2 / radius^2))`` for ``|p - q| <=
radius``; outside the image nothing touches the ball.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dps_jax import _checks

_BLOCK = 1 << 15  # pixels worked on at a time: a few arrays of them fit the processor's cache
_STEPS_PER_RADIUS = 25  # fast mode: lattice points per radius; 0.6 % of the range off at worst in trials


def rolling_ball_background(
    image: np.ndarray, *, radius_px: float, method: str = "fast", height: float = 1.0, smooth_px: float = 0.0
) -> np.ndarray:
    """Return the background under which a ball of the given radius rolls.

    ``method="exact"`` with a whole radius ``r`` is scikit-image's ``rolling_ball(image,
    kernel=ellipsoid_kernel((2 r + 1, 2 r + 1), height * (image.max() - image.min())))``.

    Parameters
    ----------
    image
        ``(..., y, x)``; sides may be shorter than the ball.
    radius_px
        Radius of the ball, at least 1: larger than the objects, smaller than the background's undulations.
    method
        ``"exact"`` evaluates every pixel, ``"fast"`` a lattice of 1/25 of the radius with every pixel
        of the image still in the minimum, then interpolates linearly and cuts what exceeds the image.
    height
        Height of the ball as a share of the image's range. Lower it where a few hot pixels set the range.
    smooth_px
        Sigma of a Gaussian applied first. Without it the background follows the noise's lowest points, a few
        standard deviations too low; a sigma of 1 to 2 px takes most of that away.

    Returns
    -------
    ``(..., y, x)`` float32; nowhere above the image (the smoothed one, if smoothed).

    Raises
    ------
    ValueError
        For an image without two axes, empty or not finite, a radius below 1, or an unknown method.
    """
    _check(image, radius_px, method, height, smooth_px)
    values = np.asarray(image, np.float64)
    step = max(1, int(radius_px // _STEPS_PER_RADIUS)) if method == "fast" else 1
    flat = values.reshape((-1, *values.shape[-2:]))
    backgrounds = [_background(one, radius_px, height, smooth_px, step) for one in flat]
    return np.stack(backgrounds).reshape(values.shape)


def subtract_background(
    image: np.ndarray,
    *,
    radius_nm: float,
    pixel_size_nm: float,
    method: str = "fast",
    height: float = 1.0,
    smooth_px: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the image less its rolling-ball background, and the background.

    The image itself is not smoothed, only the surface the ball touches; so the foreground keeps its noise,
    and where noise dips below the background it is negative. ``foreground + background`` is the image.

    Parameters
    ----------
    radius_nm, pixel_size_nm
        Radius of the ball and sampling of the image; their ratio is the radius in pixels, at least 1.
    method, height, smooth_px
        As in :func:`rolling_ball_background`, but smoothed by 1 px unless told otherwise.

    Returns
    -------
    Foreground and background, ``(..., y, x)`` float32.

    Raises
    ------
    ValueError
        As :func:`rolling_ball_background`, and for a pixel size that is not positive.
    """
    _checks.positive("radius_nm", radius_nm)
    _checks.positive("pixel_size_nm", pixel_size_nm)
    background = rolling_ball_background(
        image, radius_px=radius_nm / pixel_size_nm, method=method, height=height, smooth_px=smooth_px
    )
    return (np.asarray(image, np.float64) - background).astype(np.float32), background


def _check(image: np.ndarray, radius_px: float, method: str, height: float, smooth_px: float) -> None:
    _checks.at_least_2d("image", image)
    _checks.positive("radius_px", radius_px)
    _checks.positive("height", height)
    _checks.non_negative("smooth_px", smooth_px)
    _checks.one_of("method", method, ("fast", "exact"))
    if radius_px < 1:
        raise ValueError(f"expected a ball with a radius of 1 px or more, got {radius_px:.3g} px")
    if np.size(image) == 0 or not np.isfinite(image).all():
        raise ValueError("expected an image of finite values, got an empty one or nan or inf in it")


def _background(
    image: np.ndarray, radius_px: float, height: float, smooth_px: float, step: int
) -> np.ndarray:
    if smooth_px > 0:
        image = ndimage.gaussian_filter(image, smooth_px, mode="nearest")
    image = image.astype(np.float32)
    low = float(image.min())
    span = float(image.max()) - low
    if span == 0:
        return image
    # In units of the range: float32 then has the same precision whatever the offset.
    unit = ((image - low) / span).astype(np.float32)
    surface = _enlarge(_roll(unit, radius_px, height, step), step, unit.shape)
    return np.minimum(low + span * surface, image).astype(np.float32)


def _roll(image: np.ndarray, radius_px: float, height: float, step: int) -> np.ndarray:
    """Evaluate the ball's surface at every ``step``-th pixel of both axes, the last at or past the border."""
    ny, nx = (-(-(n - 1) // step) + 1 for n in image.shape)
    reach = min(int(radius_px), (max(ny, nx) - 1) * step)  # further away there is no pixel
    beyond = [reach + (n - 1) * step + 1 - size for n, size in zip((ny, nx), image.shape, strict=True)]
    padded = np.pad(image, [(reach, after) for after in beyond], constant_values=np.inf)
    # One contiguous array per phase of the lattice, so that a shift by any number of pixels is a plain slice.
    phases = [[np.ascontiguousarray(padded[y::step, x::step]) for x in range(step)] for y in range(step)]
    drop = _drop(radius_px, height, reach)
    rows = max(1, _BLOCK // nx)
    blocks = [_roll_rows(phases, drop, top, min(top + rows, ny), nx) for top in range(0, ny, rows)]
    return np.concatenate(blocks)


def _drop(radius_px: float, height: float, reach: int) -> np.ndarray:
    """How far the ball's surface lies below its apex at (dy, dx) >= 0; inf beyond its rim."""
    squared = np.square(np.arange(reach + 1) / radius_px)
    inside = 1 - squared[:, None] - squared[None, :]
    # A ten-millionth: rim pixels at exactly one radius must not be lost to rounding.
    return np.where(inside >= -1e-7, height * (1 - np.sqrt(np.maximum(inside, 0))), np.inf)


def _roll_rows(
    phases: list[list[np.ndarray]], drop: np.ndarray, top: int, bottom: int, nx: int
) -> np.ndarray:
    """Lattice rows ``top`` to ``bottom``: the minimum over all offsets that can still lower any of them."""
    step, reach = len(phases), drop.shape[0] - 1

    def shifted(dy: int, x_phase: int) -> np.ndarray:
        y = reach + dy
        return phases[y % step][x_phase][top + y // step : bottom + y // step]

    best = np.full((bottom - top, nx), np.inf, np.float32)
    candidate = np.empty_like(best)
    for dy in range(reach + 1):
        # The ball is symmetric: four offsets share one drop.
        lines = [np.minimum(shifted(dy, phase), shifted(-dy, phase)) for phase in range(step)]
        # No value is below 0, so an offset whose drop exceeds the highest estimate cannot lower one.
        bound = best.max()
        for dx in range(reach + 1):
            if not drop[dy, dx] < bound:
                break
            right, left = reach + dx, reach - dx
            a = lines[right % step][:, right // step : right // step + nx]
            b = lines[left % step][:, left // step : left // step + nx]
            np.minimum(a, b, out=candidate)
            np.add(candidate, np.float32(drop[dy, dx]), out=candidate)
            np.minimum(best, candidate, out=best)
    return best


def _enlarge(lattice: np.ndarray, step: int, shape: tuple[int, ...]) -> np.ndarray:
    """Interpolate linearly from every ``step``-th pixel to all."""
    for axis, size in enumerate(shape):
        if step == 1:
            break
        position = np.arange(size)
        lower = np.minimum(position // step, max(lattice.shape[axis] - 2, 0))
        upper = np.minimum(lower + 1, lattice.shape[axis] - 1)
        weight = np.expand_dims((position - lower * step) / step, 1 - axis).astype(np.float32)
        lattice = lattice.take(lower, axis) * (1 - weight) + lattice.take(upper, axis) * weight
    return lattice
