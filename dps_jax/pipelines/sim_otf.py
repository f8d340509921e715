"""Measured OTFs from TIFF files: radial, and the radially averaged ones of 3D-SIM, one page for each order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dps_jax.io import UserError
from dps_jax.io.tiff import read_numbers
from dps_jax.optics.otf import RadialOtf

# What is left of an OTF beyond its cut-off is noise of the measurement: an OTF ends where it first falls to this, or to
# three times the noise of the outermost eighth of its samples.
_NOTHING, _NOISES = 0.01, 3.0
_MOST_ORDERS = 3


def read_otf(path: Path, *, orders: int = 1) -> tuple[RadialOtf, ...]:
    """Read one OTF per order.

    The file holds ``(order, kr, kz)`` with real and imaginary parts side by side along kz, as cudasirecon writes them
    (the OTF in focus is the sum over kz), or ``(kr,)`` or ``(order, kr)`` real values. The samples along kr go from 0
    to half a cycle per camera pixel.

    Raises
    ------
    UserError
        For a file that cannot be read, or has fewer orders or another shape.
    """
    data = np.squeeze(read_numbers(path))
    if data.ndim == 3 and data.shape[-1] % 2 == 0:
        data = np.abs((data[..., ::2] + 1j * data[..., 1::2]).sum(-1))
    elif data.ndim == 1:
        data = np.stack([data] * (orders + 1))
    wrong = data.ndim != 2 or not orders < len(data) <= _MOST_ORDERS or data.shape[-1] < 8
    if wrong or not np.isfinite(data).all() or not (data[:, 0] > 0.5 * data.max(1)).all():
        raise UserError(
            f"expected an OTF (order, kr, kz) of complex numbers in pairs, (order, kr) or (kr,), of {orders + 1} "
            f"orders, largest at frequency 0, got shape {data.shape} in {path}."
        )
    return tuple(_radial(row) for row in data[: orders + 1])


def _radial(row: np.ndarray) -> RadialOtf:
    """Cut one order's samples where they have fallen to nothing, and scale the first to 1.

    The strength of an order is its modulation's, and is found from the frames.
    """
    import jax.numpy as jnp

    row = np.asarray(row, np.float64) / float(row[:3].max())
    end = max(_NOTHING, _NOISES * float(np.std(row[-max(len(row) // 8, 2) :])))
    below = np.flatnonzero(row <= end)
    last = int(below[0]) if below.size else len(row) - 1
    samples = np.append(row[:last], 0.0)
    return RadialOtf(
        samples=jnp.asarray(np.clip(samples, 0.0, 1.0), jnp.float32), cutoff=0.5 * last / (len(row) - 1)
    )
