"""The picture of a registration: means, a frame over the template, and the shifts (matplotlib, the ``plots`` extra)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.io import UserError, atomic_path
from dps_jax.pipelines.register_report import Tally


def draw_registration(path: Path, tally: Tally, *, method: str) -> None:
    """Draw mean images, the frame that moved most over the template, and the shifts of all frames to a PNG.

    Raises
    ------
    UserError
        If matplotlib is not installed or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError(
            "the picture needs matplotlib; install it with `pip install dps-jax[plots]`."
        ) from None
    figure = Figure(figsize=(13, 10), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(1, 1, 0.6))
    means = tally.means
    low, high = np.percentile(means[1], [1, 99.7])
    index = max(tally.kept, key=lambda i: float(np.hypot(*tally.shifts[i])), default=None)
    for column, name in enumerate(("before", "after")):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(means[column], cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest")
        axes.set_title(f"mean {name}")
        axes.set_axis_off()
        if index is not None:
            axes = figure.add_subplot(grid[1, column])
            axes.imshow(overlay(tally.template, tally.kept[index][column]), interpolation="nearest")
            axes.set_title(f"template (red) and frame {index + 1} (green), {name}")
            axes.set_axis_off()
    _draw_shifts(figure.add_subplot(grid[2, :]), tally.shifts, method)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def overlay(red: np.ndarray, green: np.ndarray) -> np.ndarray:
    """Return two images ``(y, x)`` as the red and green of a picture ``(y, x, 3)``: yellow where they agree.

    Each is smoothed by a pixel, without which one frame is noise, and stretched from its 1st to its 99.7th percentile.
    """
    parts = []
    for image in (red, green):
        smooth = gaussian_filter(np.asarray(image, float), 1.0, mode="nearest")
        low, high = np.percentile(smooth, [1, 99.7])
        parts.append(np.clip((smooth - low) / max(high - low, 1e-9), 0, 1))
    return np.stack([*parts, np.zeros_like(parts[0])], axis=-1)


def _draw_shifts(axes: Any, shifts: np.ndarray, method: str) -> None:
    number = np.arange(1, len(shifts) + 1)
    for name, values, colour in (("dy", shifts[:, 0], "tab:blue"), ("dx", shifts[:, 1], "tab:orange")):
        axes.plot(number, values, color=colour, linewidth=1.2, label=name)
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_xlabel("frame")
    axes.set_ylabel("mean shift (px)")
    axes.set_title(f"shifts found ({method}): where a frame is read to lie on the template")
    axes.legend(frameon=False)
    axes.margins(x=0.01)
