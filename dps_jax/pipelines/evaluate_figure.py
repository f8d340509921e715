"""The picture of an evaluation: images, error map, spectra and Fourier ring correlations (matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dps_jax.io import UserError, atomic_path
from dps_jax.pipelines.evaluate import SCORES, Evaluation

# Title of each map and how it is drawn; misfits beyond three standard errors are no noise.
MAPS: dict[str, tuple[str, dict[str, Any]]] = {
    "error": ("error map (raw image's unit)", {"cmap": "viridis", "vmin": 0}),
    "misfit": ("(raw image - expected) / noise", {"cmap": "RdBu_r", "vmin": -3, "vmax": 3}),
    "frc": ("local FRC resolution (nm)", {"cmap": "viridis_r"}),
}


def draw_evaluation(path: Path, images: Mapping[str, np.ndarray], evaluation: Evaluation) -> None:
    """Draw to a PNG the images ``(y, x)`` by name, where the result departs from the raw image, and the curves.

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
    panels = [("raw", "raw image"), ("result", "result"), ("truth", "truth"), ("repeat", "repeat")]
    shown = [(name, title) for name, title in panels if name in images]
    maps = [name for name in MAPS if name in evaluation.maps]
    columns = len(shown) + len(maps)
    figure = Figure(figsize=(4 * columns, 8), layout="constrained")
    grid = figure.add_gridspec(2, columns, height_ratios=(1.2, 1))
    for column, (name, title) in enumerate(shown):
        axes = figure.add_subplot(grid[0, column])
        image = images[name]
        low, high = np.percentile(image, (0.5, 99.8))
        axes.imshow(image, cmap="inferno", vmin=low, vmax=max(high, low + 1e-12), interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
    for column, name in enumerate(maps, start=len(shown)):
        axes = figure.add_subplot(grid[0, column])
        title, options = MAPS[name]
        values = np.where(np.isfinite(evaluation.maps[name]), evaluation.maps[name], np.nan)
        drawn = axes.imshow(values, interpolation="nearest", **options)
        axes.set_title(title)
        axes.set_axis_off()
        figure.colorbar(drawn, ax=axes, shrink=0.8)
    middle = columns // 2
    _draw_spectra(figure.add_subplot(grid[1, :middle]), evaluation)
    _draw_correlations(figure.add_subplot(grid[1, middle:]), evaluation)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _draw_spectra(axes: Any, evaluation: Evaluation) -> None:
    for name, (frequency, power) in evaluation.curves.items():
        if name.startswith("power, "):
            # From the first ring on: the mean has been taken off.
            relative = power[1:] / max(float(power[1:].max()), 1e-30)
            axes.semilogy(frequency[1:], np.maximum(relative, 1e-12), label=name.removeprefix("power, "))
    axes.set_xlabel("spatial frequency (1/µm)")
    axes.set_ylabel("radial power / maximum")
    axes.legend(frameon=False)


def _draw_correlations(axes: Any, evaluation: Evaluation) -> None:
    curves = {name: curve for name, curve in evaluation.curves.items() if name.startswith("FRC")}
    for name, (frequency, correlation) in curves.items():
        axes.plot(frequency[1:], correlation[1:], label=name)
    if curves:
        axes.axhline(1 / 7, color="0.5", linewidth=0.8, linestyle=":")
        axes.set_xlabel("spatial frequency (1/µm)")
        axes.set_ylabel("Fourier ring correlation")
        axes.set_ylim(-0.1, 1.05)
        axes.legend(frameon=False)
        return
    axes.set_axis_off()
    lines = [
        f"{SCORES[name][0]}: {SCORES[name][1].format(value)}" for name, value in evaluation.scores.items()
    ]
    axes.text(0.05, 0.95, "\n".join(lines), va="top", transform=axes.transAxes)
