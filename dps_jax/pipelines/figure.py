"""The picture of a comparison: input, restored, truth and a line profile (matplotlib, the ``plots`` extra)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dps_jax.io import UserError, atomic_path
from dps_jax.pipelines.compare import Comparison
from dps_jax.pipelines.simulate import FACTOR, Acquisition

_BAR_NM = 1000.0


def richest_row(truth: np.ndarray) -> int:
    """Return the row of ``(y, x)`` with the most contrast, away from the borders."""
    margin = truth.shape[0] // 8
    contrast = np.abs(np.diff(truth, axis=1)).sum(axis=1)
    return margin + int(np.argmax(contrast[margin:-margin]))


def draw_comparison(path: Path, made: Acquisition, comparison: Comparison) -> None:
    """Draw input | Richardson-Lucy | ours | truth and their profiles along one row to a PNG.

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
    truth = made.truth
    panels = {
        "input": comparison.images["input"],
        "Richardson-Lucy (oracle stop)": comparison.images["RL (oracle)"],
        "restored": comparison.images["ours"],
        "truth": truth,
    }
    pixel_nm = float(made.system.pixel_size_nm) / FACTOR
    row = richest_row(truth)
    figure = Figure(figsize=(14, 7.4), layout="constrained")
    grid = figure.add_gridspec(2, 4, height_ratios=(1.55, 1))
    for column, (title, image) in enumerate(panels.items()):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(image, cmap="inferno", vmin=0, vmax=np.percentile(image, 99.8), interpolation="nearest")
        axes.axhline(row, color="white", linewidth=0.6, linestyle=":")
        axes.set_title(title)
        axes.set_axis_off()
        if column == 0:
            _scale_bar(axes, image.shape, pixel_nm)
    _draw_profiles(figure.add_subplot(grid[1, :]), panels, row, pixel_nm)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _scale_bar(axes: object, shape: tuple[int, ...], pixel_nm: float) -> None:
    y, x, length = 0.94 * shape[0], 0.06 * shape[1], _BAR_NM / pixel_nm
    axes.plot([x, x + length], [y, y], color="white", linewidth=3)  # type: ignore[attr-defined]
    axes.text(x, y - 0.03 * shape[0], "1 µm", color="white", fontsize=9)  # type: ignore[attr-defined]


def _draw_profiles(axes: object, panels: dict[str, np.ndarray], row: int, pixel_nm: float) -> None:
    colours = {"input": "0.6", "truth": "black", "restored": "tab:red"}
    # The middle half of the row, so that single structures can be told apart by eye.
    width = panels["truth"].shape[1]
    part = slice(width // 4, 3 * width // 4)
    position = np.arange(width)[part] * pixel_nm / 1000
    for title, image in panels.items():
        values = np.asarray(image[row], float)[part]
        axes.plot(  # type: ignore[attr-defined]
            position,
            values / values.max(),
            color=colours.get(title, "tab:blue"),
            linewidth=1.6 if title == "restored" else 1.1,
            linestyle="--" if title == "truth" else "-",
            label=title,
        )
    axes.set_xlabel("position along the dotted line (µm)")  # type: ignore[attr-defined]
    axes.set_ylabel("intensity / maximum")  # type: ignore[attr-defined]
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)  # type: ignore[attr-defined]
    axes.margins(x=0)  # type: ignore[attr-defined]
