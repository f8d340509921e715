"""What a registration did to a movie, gathered frame by frame: means, correlation, crispness, residual motion, folding.

Correlation and crispness reward whatever makes frames alike, noise included; they are shown beside the motion that is
left and the folding, and none of them replaces a movie of known motion (``experiments/registration_baselines.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.metrics import crispness, residual_motion
from dps_jax.pipelines.register_batch import Measures

# Means are smoothed by this before their gradient is taken: interpolation between pixels removes noise, and with noise
# in it a mean is crisper where nothing was interpolated.
_SMOOTHED_PX = 1.5
# Frames that are kept, before and after, for the residual motion and the picture.
_KEPT = 20


class Tally:
    """Running sums of a movie ``(t, plane, y, x)`` before and after, in the memory of a few frames."""

    def __init__(self, shape: tuple[int, int, int, int], template: np.ndarray) -> None:
        frames = shape[0]
        self.template = np.asarray(template, np.float32)
        self.shifts = np.zeros((frames, 2))
        self.correlation = np.zeros((2, frames))
        self.kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._sums = np.zeros((2, *shape[2:]))
        self._folding = np.zeros(frames)
        self._unmoved: list[int] = []
        self._wanted = set(np.linspace(0, frames - 1, min(frames, _KEPT)).round().astype(int).tolist())
        self._reach = np.zeros(2)

    def add(self, start: int, measures: Measures, count: int) -> None:
        """Take in what became of ``count`` frames from number ``start`` on."""
        at = slice(start, start + count)
        good, shift, reach, folding, alike, total = (np.asarray(m) for m in measures)
        self._unmoved += (start + np.flatnonzero(~good[:count])).tolist()
        self.shifts[at] = shift[:count]
        self.correlation[:, at] = alike[:, :count]
        self._folding[at] = folding[:count]
        self._reach = np.maximum(self._reach, reach[:count].max(0))
        self._sums += total

    def wants(self, index: int) -> bool:
        """Tell whether a frame is among those that are kept."""
        return index in self._wanted

    def keep(self, index: int, before: np.ndarray, after: np.ndarray) -> None:
        """Keep a frame ``(y, x)`` before and after."""
        self.kept[index] = (before, after)

    @property
    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean image before and after, ``(y, x)`` each."""
        count = max(len(self.shifts) - len(self._unmoved), 1)
        return self._sums[0] / count, self._sums[1] / count

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about single frames."""
        if not self._unmoved:
            return ()
        shown = ", ".join(str(i + 1) for i in self._unmoved[:10]) + (
            " ..." if len(self._unmoved) > 10 else ""
        )
        return (f"{len(self._unmoved)} frames with NaN or infinite values were written as they are: {shown}",)

    def report(self) -> dict[str, Any]:
        """Return the numbers before and after, and those of every frame, as plain values."""
        good = np.setdiff1d(np.arange(len(self.shifts)), self._unmoved)
        inner = self._inner()
        states = {}
        for row, name in enumerate(("before", "after")):
            frames = [pair[row] for pair in self.kept.values()]
            left = [float(residual_motion(f[inner], self.template[inner])) for f in frames]
            states[name] = {
                "correlation": float(self.correlation[row, good].mean()) if len(good) else 0.0,
                "crispness": float(crispness(gaussian_filter(self.means[row], _SMOOTHED_PX)[inner])),
                "residual_motion_px": float(np.mean(left)) if left else 0.0,
            }
        states["after"]["folding_fraction"] = float(self._folding.mean())
        return {
            **states,
            "shift_px": self.shifts.round(4).tolist(),
            "correlation_before": self.correlation[0].round(5).tolist(),
            "correlation_after": self.correlation[1].round(5).tolist(),
            "frames_left_as_they_are": [i + 1 for i in self._unmoved],
        }

    def _inner(self) -> tuple[slice, slice]:
        """Cut off what some frame does not show, up to a quarter of each side."""
        sides = self.template.shape
        margins = [int(min(np.ceil(r), n // 4)) for r, n in zip(self._reach, sides, strict=True)]
        rows, columns = (slice(m, n - m) for m, n in zip(margins, sides, strict=True))
        return rows, columns
