"""The picture of a SIM reconstruction: before, after, their spectra with the stripes found, and what is unexplained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from dps_jax.io import UserError, atomic_path
from dps_jax.metrics.light import brightest_window
from dps_jax.pipelines.sim import SimReconstruction

_SHOWN_PX = 192


def check_plots() -> None:
    """Refuse to draw where matplotlib is not installed, before anything is computed.

    Raises
    ------
    UserError
        With how to install it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("the picture needs matplotlib; install it with `pip install dps-jax[plots]`.")


def draw_sim(
    path: Path, made: SimReconstruction, *, cutoff_per_px: float, pixel_size_nm: float | None = None
) -> None:
    """Draw the first plane to a PNG.

    Raises
    ------
    UserError
        If matplotlib is not installed or the file cannot be written.
    """
    check_plots()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before, after = made.mean[0], made.image[0]
    figure = Figure(figsize=(15, 10), layout="constrained")
    axes = figure.subplots(2, 3)
    ny, nx = before.shape
    # So much that every fine pixel can be seen.
    h, w = min(ny, _SHOWN_PX), min(nx, _SHOWN_PX)
    y, x = brightest_window(before, (h, w))
    _show(axes[0, 0], before[y : y + h, x : x + w], "mean of the frames")
    part = after[2 * y : 2 * (y + h), 2 * x : 2 * (x + w)]
    _show(axes[0, 1], part, f"reconstruction (cut-off x {made.extension:.2f})")
    shown = axes[0, 2].imshow(made.residual, cmap="magma", vmin=0, vmax=np.percentile(made.residual, 99.8))
    axes[0, 2].set_title(f"left unexplained (rms: {made.residual_share:.1%} of the mean)")
    axes[0, 2].set_axis_off()
    figure.colorbar(shown, ax=axes[0, 2], shrink=0.8)
    for panel, image, pixel in ((axes[1, 0], before, 1.0), (axes[1, 1], after, 0.5)):
        _spectrum(panel, image, pixel, cutoff_per_px)
    axes[1, 0].set_title("its spectrum; the cut-off")
    axes[1, 1].set_title("its spectrum; the cut-off and the stripes")
    order = made.illumination.orders
    for wave in order * np.asarray(made.illumination.wavevectors):
        for sign in (1, -1):
            axes[1, 1].plot(sign * wave[1], sign * wave[0], "o", mfc="none", color="cyan", markersize=9)
    _table(axes[1, 2], made, pixel_size_nm)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def _show(axes: Any, image: np.ndarray, title: str) -> None:
    axes.imshow(image, cmap="inferno", vmin=0, vmax=np.percentile(image, 99.8), interpolation="nearest")
    axes.set_title(title)
    axes.set_axis_off()


def _spectrum(axes: Any, image: np.ndarray, pixel_px: float, cutoff_per_px: float) -> None:
    """Draw the log spectrum over frequencies in cycles per camera pixel, to those of the finer grid."""
    window = np.multiply.outer(*(np.hanning(n) for n in image.shape))
    power = np.log10(np.abs(np.fft.fftshift(np.fft.fft2((image - image.mean()) * window))) + 1e-12)
    edge = 0.5 / pixel_px
    axes.imshow(
        power,
        cmap="magma",
        extent=(-edge, edge, edge, -edge),
        vmin=np.percentile(power, 30),
        vmax=np.percentile(power, 99.99),
    )
    turn = np.linspace(0, 2 * np.pi, 200)
    axes.plot(cutoff_per_px * np.cos(turn), cutoff_per_px * np.sin(turn), ":", color="white", linewidth=1)
    axes.set_xlim(-1, 1)
    axes.set_ylim(1, -1)
    axes.set_facecolor("black")
    axes.set_xlabel("cycles per camera pixel")


def _table(axes: Any, made: SimReconstruction, pixel_size_nm: float | None) -> None:
    unit, scale = ("px", 1.0) if pixel_size_nm is None else ("nm", pixel_size_nm)
    rows = [
        [
            f"{number}",
            f"{angle['period_px'] * scale:.3f}",  # type: ignore[operator]
            f"{angle['direction_degrees']:.2f}",
            ", ".join(f"{m:.2f}" for m in angle["modulation"]),  # type: ignore[union-attr]
            f"{angle['significance']:.0f}",
        ]
        for number, angle in enumerate(made.angles(), start=1)
    ]
    axes.set_axis_off()
    names = ["angle", f"period ({unit})", "direction (°)", "modulation", "peak"]
    table = axes.table(rows, colLabels=names, loc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(9)
    table.scale(1, 1.8)
