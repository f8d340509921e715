"""Building blocks of the image networks, ``(batch, y, x, channel)``.

Every change of resolution by 2 is a 3x3 convolution on the *coarse* grid with a pixel shuffle after it, or a
space-to-depth before it. That is the same linear map as a 6x6 stride-2 transposed, or strided, convolution
(:func:`transposed_kernel` and :func:`strided_kernel` carry the weights over exactly), and its gradient is many
times faster on a CPU.
"""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from dps_jax.operators.sampling import pixel_shuffle, space_to_depth
from dps_jax.typing import Array

# Every block takes ``dtype``, in which it computes; parameters are float32 whatever it is.


class PReLU(nn.Module):
    """Leaky rectifier with one learned slope per channel, 0.25 at first (He et al. 2015)."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``(b, y, x, c)`` to the same shape."""
        slope = self.param("slope", nn.initializers.constant(0.25), (x.shape[-1],))
        return jnp.where(x >= 0, x, slope.astype(x.dtype).reshape(1, 1, 1, -1) * x)


class ConvAct(nn.Module):
    """A 3x3 convolution and a PReLU."""

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``(b, y, x, c)`` to ``(b, y, x, features)``."""
        return PReLU()(nn.Conv(self.features, (3, 3), dtype=self.dtype)(x))


class ResidualBlock(nn.Module):
    """``x + conv(prelu(conv(x)))``; a 1x1 convolution carries x over where the channels differ."""

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``(b, y, x, c)`` to ``(b, y, x, features)``."""
        inner = nn.Conv(self.features, (3, 3), dtype=self.dtype)(ConvAct(self.features, dtype=self.dtype)(x))
        if x.shape[-1] != self.features:
            x = nn.Conv(self.features, (1, 1), dtype=self.dtype)(x)
        return PReLU()(x + inner)


class Upscale(nn.Module):
    """Twice the grid: a 6x6 stride-2 transposed convolution, written as 3x3 and pixel shuffle."""

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``(b, y, x, c)`` to ``(b, 2y, 2x, features)``."""
        return pixel_shuffle(nn.Conv(4 * self.features, (3, 3), dtype=self.dtype)(x), 2)


class Downscale(nn.Module):
    """Half the grid: a 6x6 stride-2 convolution, written as space-to-depth and 3x3."""

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map ``(b, 2y, 2x, c)`` to ``(b, y, x, features)``."""
        return nn.Conv(self.features, (3, 3), dtype=self.dtype)(space_to_depth(x, 2))


def check_images(images: Array, *, multiple: int, channels: int | None = None) -> None:
    """Refuse what a network of grids up to ``multiple`` times coarser cannot take; any channels by default.

    Raises
    ------
    ValueError
        For images that are not 4-D, of another number of channels, or with sides that are not such multiples.
    """
    wrong = images.ndim != 4 or images.shape[1] % multiple or images.shape[2] % multiple
    if wrong or (channels is not None and images.shape[-1] != channels):
        raise ValueError(
            f"expected images (batch, y, x, {'channel' if channels is None else channels}) with sides that are "
            f"multiples of {multiple}, got shape {images.shape}"
        )


def u_net(x: Array, channels: tuple[int, ...], *, blocks: int = 1, dtype: str | None = None) -> Array:
    """Residual U-Net (Ronneberger et al. 2015): down grid by grid and up again; skips are added.

    To be called in the compact method of a module, whose layers these become.

    Parameters
    ----------
    x
        ``(b, y, x, c)``, sides multiples of ``2 ** (len(channels) - 1)``.
    channels
        Features per level, finest first; each further level halves the grid.
    blocks
        Residual blocks per level.
    """

    def level(x: Array, features: int) -> Array:
        for _ in range(blocks):
            x = ResidualBlock(features, dtype=dtype)(x)
        return x

    skips = []
    for features in channels[:-1]:
        x = level(x, features)
        skips.append(x)
        x = PReLU()(Downscale(2 * features, dtype=dtype)(x))
    x = level(x, channels[-1])
    for features, skip in zip(channels[-2::-1], skips[::-1], strict=True):
        x = level(PReLU()(Upscale(features, dtype=dtype)(x)) + skip, features)
    return x


def u_net_reach(levels: int, blocks: int) -> float:
    """Return the distance in px beyond which a pixel cannot change what :func:`u_net` answers (an upper bound).

    Summed from the arithmetic of its layers, 3x3 convolutions on every grid.
    """
    total = 0.0
    for level in range(levels):
        passes = 1 if level == levels - 1 else 2
        total += passes * 2 * blocks * 2**level
        if level:  # one convolution down to this grid and one up from it
            total += 2 * 2**level
            # A pixel may lie anywhere in its coarse one: 2^level - 1 in all, of which the finer levels counted half.
            total += 2 ** (level - 1)
    return total


class UpProjection(nn.Module):
    """DBPN up-projection: up, back down, and the error of that round trip up again (Haris et al. 2018)."""

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, low: Array) -> Array:
        """Map ``(b, y, x, c)`` to ``(b, 2y, 2x, features)``."""
        if low.shape[-1] != self.features:
            low = PReLU()(nn.Conv(self.features, (1, 1), dtype=self.dtype)(low))
        high = PReLU()(Upscale(self.features, dtype=self.dtype)(low))
        error = PReLU()(Downscale(self.features, dtype=self.dtype)(high)) - low
        return high + PReLU()(Upscale(self.features, dtype=self.dtype)(error))


class DownProjection(nn.Module):
    """DBPN down-projection: down, back up, and the error of that round trip down again (Haris et al. 2018)."""

    features: int
    dtype: str | None = None

    @nn.compact
    def __call__(self, high: Array) -> Array:
        """Map ``(b, 2y, 2x, c)`` to ``(b, y, x, features)``."""
        if high.shape[-1] != self.features:
            high = PReLU()(nn.Conv(self.features, (1, 1), dtype=self.dtype)(high))
        low = PReLU()(Downscale(self.features, dtype=self.dtype)(high))
        error = PReLU()(Upscale(self.features, dtype=self.dtype)(low)) - high
        return low + PReLU()(Downscale(self.features, dtype=self.dtype)(error))


def transposed_kernel(kernel: np.ndarray) -> np.ndarray:
    """Carry a 3x3 pixel-shuffle kernel over to the 6x6 stride-2 transposed convolution that it equals.

    Parameters
    ----------
    kernel
        ``(3, 3, c_in, 4 c_out)``, channels ordered as :func:`pixel_shuffle` reads them.

    Returns
    -------
    ``(6, 6, c_in, c_out)`` for ``lax.conv_transpose(x, k, (2, 2), padding=((3, 3), (3, 3)))``, which correlates
    the zero-stuffed input with ``k``.
    """
    c_in, c_out = kernel.shape[2], kernel.shape[3] // 4
    phases = np.asarray(kernel).reshape(3, 3, c_in, 2, 2, c_out)
    # Output row 2i + p gathers input rows i + a - 1, which stand at 2(i + a - 1) in the zero-stuffed input;
    # that is tap 2a + 1 - p of a window that begins 3 rows before output row 2i + p.
    out = np.zeros((6, 6, c_in, c_out), kernel.dtype)
    for p in range(2):
        for q in range(2):
            out[1 - p :: 2, 1 - q :: 2] = phases[:, :, :, p, q]
    return out


def strided_kernel(kernel: np.ndarray) -> np.ndarray:
    """Carry a 3x3 space-to-depth kernel ``(3, 3, 4 c_in, c_out)`` over to the 6x6 stride-2 convolution.

    Returns ``(6, 6, c_in, c_out)`` for ``lax.conv_general_dilated`` with strides 2 and padding 2 on each side.
    """
    c_in, c_out = kernel.shape[2] // 4, kernel.shape[3]
    phases = np.asarray(kernel).reshape(3, 3, 2, 2, c_in, c_out)
    return phases.transpose(0, 2, 1, 3, 4, 5).reshape(6, 6, c_in, c_out)
