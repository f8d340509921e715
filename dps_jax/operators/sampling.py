"""Changes of the pixel grid that conserve photons: the sum over pixels stays, up to what leaves at borders.

Images are ``(..., y, x)`` unless stated. ``pixel_shuffle`` and ``space_to_depth`` are the networks' and act on
``(batch, y, x, channel)``.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.operators.adjoint import adjoint
from dps_jax.typing import Array

KERNELS = ("area", "linear", "cubic", "lanczos")
# Output pixels whose taps are written as one matrix: enough for a fast product, few enough to waste little on zeros.
_BLOCK_PX = 96

Taps = tuple[np.ndarray, np.ndarray]


class Pixels(Protocol):
    """An image ``(y, x)`` of which rectangles are asked for: an array, or a file behind it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""
        ...

    def __getitem__(self, index: tuple[slice, slice], /) -> Any:
        """Return a rectangle."""
        ...


def bin_area(image: Array, factor: int) -> Array:
    """Sum blocks of ``factor x factor`` pixels, as a coarser camera would.

    Raises
    ------
    ValueError
        If a side is not a multiple of ``factor``, or the factor is not a whole number above 0.
    """
    _checks.at_least_2d("image", image)
    _checks.positive_integer("factor", factor)
    *lead, ny, nx = image.shape
    if ny % factor or nx % factor:
        raise ValueError(f"expected sides that are multiples of {factor}, got shape {image.shape}")
    if factor == 1:
        return jnp.asarray(image)
    return jnp.sum(image.reshape(*lead, ny // factor, factor, nx // factor, factor), axis=(-3, -1))


def bin_area_adjoint(image: Array, factor: int) -> Array:
    """Repeat each pixel ``factor x factor`` times: the adjoint of :func:`bin_area`."""
    _checks.at_least_2d("image", image)
    _checks.positive_integer("factor", factor)
    if factor == 1:
        return jnp.asarray(image)
    return jnp.repeat(jnp.repeat(image, factor, axis=-2), factor, axis=-1)


def _kernel_value(kernel: str, distance: np.ndarray) -> tuple[np.ndarray, float]:
    """Evaluate an interpolation kernel at distances in (coarser) pixels; also return its reach."""
    u = np.abs(distance)
    if kernel == "linear":
        return np.maximum(1 - u, 0), 1.0
    if kernel == "cubic":  # Keys 1981, a = -1/2
        near = (1.5 * u - 2.5) * u**2 + 1
        far = ((-0.5 * u + 2.5) * u - 4) * u + 2
        return np.where(u < 1, near, np.where(u < 2, far, 0.0)), 2.0
    return np.where(u < 3, np.sinc(u) * np.sinc(u / 3), 0.0), 3.0  # Lanczos 1956 window


def resampling_taps(
    n_in: int, rows: np.ndarray, scale: float, *, kernel: str = "lanczos"
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and weights ``(len(rows), taps)`` of a resampling along one axis (NumPy).

    Output pixel ``i`` covers ``[i / scale, (i + 1) / scale)`` in input pixels. Where ``scale`` is below 1 the
    kernel is widened to the output pixel, against aliasing. Each output pixel's weights sum to ``1 / scale``
    (mean kept, times the pixel's length), and what would be read outside is read from the nearest edge pixel.
    Only the named ``rows`` are made, so that a tile of a large image costs a tile's work.
    """
    rows = np.asarray(rows)
    if kernel == "area":
        left, right = rows / scale, (rows + 1) / scale
        first = np.floor(left + 1e-9).astype(int)
        taps = first[:, None] + np.arange(int(np.ceil(1 / scale)) + 1)[None, :]
        weights = np.minimum(right[:, None], taps + 1) - np.maximum(left[:, None], taps)
        weights = np.maximum(weights, 0.0)
    else:
        stretch = max(1.0, 1 / scale)
        centre = (rows + 0.5) / scale - 0.5
        reach = _kernel_value(kernel, np.zeros(1))[1] * stretch
        first = np.ceil(centre - reach).astype(int)
        taps = first[:, None] + np.arange(int(np.floor(2 * reach)) + 1)[None, :]
        weights = _kernel_value(kernel, (taps - centre[:, None]) / stretch)[0]
        weights = weights / weights.sum(axis=1, keepdims=True) / scale
    return np.clip(taps, 0, n_in - 1), weights.astype(np.float32)


def _resample_axis(image: Array, axis: int, n_out: int, scale: float, kernel: str) -> Array:
    index, weights = resampling_taps(image.shape[axis], np.arange(n_out), scale, kernel=kernel)
    shape = [1] * image.ndim
    shape[axis] = n_out
    terms = (
        jnp.take(image, index[:, k], axis=axis) * jnp.asarray(weights[:, k]).reshape(shape)
        for k in range(index.shape[1])
    )
    first = next(terms)
    return sum(terms, start=first)


def resample(
    image: Array, scale: float, *, shape: tuple[int, int] | None = None, kernel: str = "lanczos"
) -> Array:
    """Resample to pixels ``1 / scale`` as long, keeping the sum: photons in equal photons out.

    Parameters
    ----------
    image
        ``(..., y, x)``. Pixel corners, not centres, are the fixed points: the top left corner stays.
    scale
        Output pixels per input pixel along y and x; 2 doubles the number of pixels per side.
    shape
        Output ``(y, x)``; by default the input's sides times ``scale``, rounded.
    kernel
        ``"area"`` (exact overlap of pixels), ``"linear"``, ``"cubic"`` (Keys 1981) or ``"lanczos"`` (3 lobes).

    Raises
    ------
    ValueError
        For a scale that is not positive, an unknown kernel, or an output without pixels.
    """
    _checks.at_least_2d("image", image)
    _checks.positive("scale", scale)
    _checks.one_of("kernel", kernel, KERNELS)
    ny, nx = shape or tuple(round(n * scale) for n in image.shape[-2:])
    if ny < 1 or nx < 1:
        raise ValueError(f"expected an output of at least 1x1 px, got {(ny, nx)} at scale {scale:g}")
    image = _resample_axis(image, image.ndim - 2, ny, float(scale), kernel)
    return _resample_axis(image, image.ndim - 1, nx, float(scale), kernel)


def resample_region(
    image: Pixels, rows: np.ndarray, columns: np.ndarray, scale: float, *, kernel: str = "lanczos"
) -> np.ndarray:
    """Resample only the named output rows and columns of ``(y, x)``, in NumPy and float64.

    The same map as :func:`resample`, for files larger than a device: what a tile needs is read, no more. Only
    the rectangle of ``image`` that is needed is asked for, so ``image`` may lie on a disk.
    """
    wanted = zip(image.shape, (rows, columns), strict=True)
    return apply_taps(image, *(resampling_taps(n, w, scale, kernel=kernel) for n, w in wanted))


def apply_taps(image: Pixels, rows: Taps, columns: Taps) -> np.ndarray:
    """Return the weighted sums of pixels that indices and weights ``(length, taps)`` name along each axis; float64."""
    spans = [slice(int(index.min()), int(index.max()) + 1) for index, _ in (rows, columns)]
    part = np.asarray(image[spans[0], spans[1]])
    for (index, weights), span in zip((rows, columns), spans, strict=True):
        # Twice, each time along y and turned over: the second time brings the image back.
        part = _apply_along_y(part, index - span.start, weights).T
    return np.ascontiguousarray(part)


def _apply_along_y(image: np.ndarray, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Apply taps block by block: neighbours read neighbours, so that a block's matrix is small and nearly full."""
    out = np.empty((len(index), image.shape[1]))
    for start in range(0, len(index), _BLOCK_PX):
        taps, shares = index[start : start + _BLOCK_PX], weights[start : start + _BLOCK_PX]
        first, last = int(taps.min()), int(taps.max())
        matrix = np.zeros((len(taps), last + 1 - first))
        np.add.at(matrix, (np.arange(len(taps))[:, None], taps - first), shares)
        out[start : start + len(taps)] = matrix @ image[first : last + 1].astype(np.float64, copy=False)
    return out


def resample_adjoint(image: Array, scale: float, *, shape: tuple[int, int], kernel: str = "lanczos") -> Array:
    """Apply the adjoint of :func:`resample`; ``shape`` is the ``(y, x)`` that resample took in."""
    out = (image.shape[-2], image.shape[-1])
    forward = adjoint(
        lambda x: resample(x, scale, shape=out, kernel=kernel), (*image.shape[:-2], *shape), dtype=image.dtype
    )
    return forward(image)


def pixel_shuffle(features: Array, factor: int) -> Array:
    """Move channels to pixels: ``(b, y, x, c factor^2) -> (b, factor y, factor x, c)`` (Shi et al. 2016).

    Channel ``(p factor + q) c + k`` goes to row phase ``p``, column phase ``q``, channel ``k``.

    Raises
    ------
    ValueError
        If the number of channels is not a multiple of ``factor^2``.
    """
    _checks.positive_integer("factor", factor)
    b, y, x, channels = features.shape
    if channels % factor**2:
        raise ValueError(f"expected a multiple of {factor**2} channels, got {channels}")
    c = channels // factor**2
    phases = features.reshape(b, y, x, factor, factor, c)
    return jnp.transpose(phases, (0, 1, 3, 2, 4, 5)).reshape(b, y * factor, x * factor, c)


def space_to_depth(features: Array, factor: int) -> Array:
    """Move pixels to channels: the inverse of :func:`pixel_shuffle`.

    Raises
    ------
    ValueError
        If a side is not a multiple of ``factor``.
    """
    _checks.positive_integer("factor", factor)
    b, y, x, c = features.shape
    if y % factor or x % factor:
        raise ValueError(f"expected sides that are multiples of {factor}, got shape {features.shape}")
    blocks = features.reshape(b, y // factor, factor, x // factor, factor, c)
    return jnp.transpose(blocks, (0, 1, 3, 2, 4, 5)).reshape(b, y // factor, x // factor, c * factor**2)
