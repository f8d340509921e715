"""Line pairs: whether a gap shows between two lines that are known to be two.

Images are ``(..., y, x)``; positions are ``(y, x)`` in pixels, pixel centres at whole numbers. Angles are in
radians from the x axis towards the y axis. Sampling is bilinear; the dip is differentiable in the image.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from dps_jax import _checks
from dps_jax.typing import Array, ArrayLike

_ACROSS = 97  # samples of the profile over two separations: steps of 1/48, so that both peaks fall on samples


def line_pair_profile(
    image: ArrayLike,
    *,
    centre_px: tuple[float, float],
    angle_rad: float,
    separation_px: float,
    length_px: float,
) -> Array:
    """Return the profile across two parallel lines, averaged along them.

    Parameters
    ----------
    centre_px
        ``(y, x)`` of the point half-way between the lines.
    angle_rad
        Direction of the lines.
    separation_px
        Distance of the two lines; the profile spans twice as much, in 97 samples.
    length_px
        Length over which to average, about ``centre_px``; shorter than the lines, so that their ends stay
        out.

    Returns
    -------
    ``(..., 97)``; the lines are expected at samples 24 and 72. Outside the image its border is repeated.

    Raises
    ------
    ValueError
        For an image without two axes, or a separation or length that is not positive.
    """
    _checks.at_least_2d("image", image)
    _checks.positive("separation_px", separation_px)
    _checks.positive("length_px", length_px)
    image = jnp.asarray(image, jnp.float32)
    across = separation_px * np.linspace(-1, 1, _ACROSS)[:, None]
    along = length_px * np.linspace(-0.5, 0.5, 2 * int(np.ceil(length_px)) + 1)[None, :]
    y = centre_px[0] + along * np.sin(angle_rad) + across * np.cos(angle_rad)
    x = centre_px[1] + along * np.cos(angle_rad) - across * np.sin(angle_rad)
    grid = [jnp.asarray(y, jnp.float32), jnp.asarray(x, jnp.float32)]
    flat = image.reshape((-1, *image.shape[-2:]))
    samples = jax.vmap(lambda one: map_coordinates(one, grid, order=1, mode="nearest"))(flat)
    return samples.mean(-1).reshape((*image.shape[:-2], _ACROSS))


def line_pair_dip(
    image: ArrayLike,
    *,
    centre_px: tuple[float, float],
    angle_rad: float,
    separation_px: float,
    length_px: float,
) -> Array:
    """Return how deep the profile dips between two lines: ``1 - middle / (lower of the two peaks)``.

    The middle is the profile's value half-way between the lines; each peak is its largest value within a
    quarter of the separation of where a line is known to be. 1 is a gap down to zero, 0 or less is one merged
    line. Arguments and errors as in :func:`line_pair_profile`.

    Returns
    -------
    ``(...,)``. Any background in the image makes it smaller: remove it first. 0 where a peak is not above 0.

    Notes ----- A dip of 0.264 is what the Rayleigh distance of two incoherent points leaves of an Airy
    pattern (Rayleigh 1879).
    """
    profile = line_pair_profile(
        image, centre_px=centre_px, angle_rad=angle_rad, separation_px=separation_px, length_px=length_px
    )
    quarter = (_ACROSS - 1) // 8
    left, middle, right = 2 * quarter, 4 * quarter, 6 * quarter
    peaks = [profile[..., at - quarter : at + quarter + 1].max(-1) for at in (left, right)]
    lower = jnp.minimum(*peaks)
    return jnp.where(lower > 0, 1 - profile[..., middle] / jnp.where(lower > 0, lower, 1.0), 0.0)


def line_pair_visibility(
    image: ArrayLike,
    *,
    centres_px: Sequence[tuple[float, float]] | np.ndarray,
    angles_rad: Sequence[float] | np.ndarray,
    separations_px: Sequence[float] | np.ndarray,
    length_px: float,
) -> Array:
    """Return the dip of each of several line pairs of one image: ``(..., pair)``; see :func:`line_pair_dip`.

    Raises
    ------
    ValueError
        If centres, angles and separations differ in number, and as :func:`line_pair_profile`.
    """
    counts = len(centres_px), len(angles_rad), len(separations_px)
    if len(set(counts)) != 1 or counts[0] == 0:
        raise ValueError(f"expected as many centres as angles and separations, at least one, got {counts}")
    dips = [
        line_pair_dip(
            image,
            centre_px=(float(centre[0]), float(centre[1])),
            angle_rad=float(angle),
            separation_px=float(separation),
            length_px=length_px,
        )
        for centre, angle, separation in zip(centres_px, angles_rad, separations_px, strict=True)
    ]
    return jnp.stack(dips, axis=-1)


def smallest_resolved_px(
    dips: ArrayLike, *, separations_px: Sequence[float] | np.ndarray, least_dip: float = 0.1
) -> np.ndarray:
    """Return the smallest separation that is resolved, as is every wider one.

    Parameters
    ----------
    dips
        ``(..., pair)`` from :func:`line_pair_visibility`; several pairs may share a separation and must all
        pass.
    least_dip
        The dip that counts as resolved.

    Returns ------- ``(...,)`` px; ``inf`` where the widest pair is not resolved. A narrow pair that shows a
    dip beneath a wider one that does not is taken for chance (noise, or an artefact) and does not count.

    Raises
    ------
    ValueError
        If dips and separations differ in number.
    """
    values, separations = np.asarray(dips), np.asarray(separations_px, float)
    if separations.ndim != 1 or values.shape[-1:] != separations.shape:
        raise ValueError(
            f"expected one separation per dip, got shapes {separations.shape} and {values.shape}"
        )
    failed = np.where(values < least_dip, separations, -np.inf).max(-1)
    resolved = np.where(separations > failed[..., None], separations, np.inf)
    return resolved.min(-1)
