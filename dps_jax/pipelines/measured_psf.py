"""A PSF that was measured, made fit for use: every correction is said, and what cannot be corrected is refused."""

from __future__ import annotations

import numpy as np


def usable_psf(psf: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a measured kernel ``(y, x)`` with odd sides and unit sum, and a note for each correction.

    Even sides lose their last row or column on the side farther from the brightest pixel; values below 0, as a
    background that was taken off leaves, become 0.

    Raises
    ------
    ValueError
        For a kernel that is not an image, holds NaN or infinity, has no light, or whose brightest pixel is so far
        from the middle that a result would be shifted by more than two pixels.
    """
    kernel = psf = np.asarray(psf, np.float64)
    if kernel.ndim != 2 or min(kernel.shape) < 3:
        raise ValueError(f"expected the PSF as an image of at least 3 px a side, got shape {kernel.shape}")
    if not np.all(np.isfinite(kernel)):
        raise ValueError("expected a PSF without NaN or infinity, got one that holds some")
    notes = []
    peak = np.unravel_index(int(np.argmax(kernel)), kernel.shape)
    cuts = []
    for at, side in zip(peak, kernel.shape, strict=True):
        even = side % 2 == 0
        cuts.append(slice(1, None) if even and at >= side // 2 else slice(0, side - even))
    if any(side % 2 == 0 for side in kernel.shape):
        kernel = kernel[tuple(cuts)]
        left_out = [
            f"{'first' if cut.start else 'last'} {name}"
            for cut, side, name in zip(cuts, psf.shape, ("row", "column"), strict=True)
            if side % 2 == 0
        ]
        notes.append(
            f"the PSF had an even side and was cut to {kernel.shape[0]}x{kernel.shape[1]} px around its brightest "
            f"pixel, without its {' and '.join(left_out)}; if its origin is meant elsewhere, results are shifted by "
            "up to a pixel: crop it to odd sides around its origin"
        )
    if kernel.min() < 0:
        share = float(-kernel[kernel < 0].sum() / np.abs(kernel).sum())
        kernel = np.maximum(kernel, 0)
        notes.append(f"the PSF had negative values ({100 * share:.1f} % of its light), taken as 0")
    total = float(kernel.sum())
    if total <= 0:
        raise ValueError("expected a PSF with light in it, got one without")
    if abs(total - 1) > 1e-3:
        notes.append(f"the PSF summed to {total:.4g} and was divided by that")
    peak = np.unravel_index(int(np.argmax(kernel)), kernel.shape)
    off = [int(at - side // 2) for at, side in zip(peak, kernel.shape, strict=True)]
    if any(off):
        notes.append(
            f"the brightest pixel of the PSF lies {off[0]} px down and {off[1]} px right of its middle"
        )
    if max(map(abs, off)) > 2:
        raise ValueError(
            f"expected the brightest pixel of the PSF in its middle, found it {off[0]} px down and {off[1]} px right "
            "of it: results would be shifted by as much; crop the PSF around its peak"
        )
    return (kernel / total).astype(np.float32), tuple(notes)
