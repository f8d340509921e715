"""Score tables as text: one row per method, mean and standard error over scenes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS = {
    "psnr_db": ("PSNR (dB)", "{:.2f}"),
    "ssim": ("SSIM", "{:.3f}"),
    "out_of_band": ("out-of-band corr.", "{:.3f}"),
    "resolution_nm": ("FRC with truth (nm)", "{:.0f}"),
}


def _cell(values: Sequence[float], form: str) -> str:
    """Format a mean with its standard error; values that are not finite are counted, not averaged."""
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return "-"
    text = form.format(np.mean(known))
    if len(known) > 1:
        text += " ± " + form.format(np.std(known, ddof=1) / np.sqrt(len(known)))
    return text if len(known) == len(values) else f"{text} ({len(known)}/{len(values)})"


def score_table(scores: Mapping[str, Sequence[Mapping[str, float]]], *, title: str) -> str:
    """Return a table of methods by scores.

    Parameters
    ----------
    scores
        For each method its scores, one mapping per scene, with the names of :data:`COLUMNS`.
    title
        Line above the table.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("method")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    for method, rows in scores.items():
        table.add_row(method, *(_cell([r[name] for r in rows], form) for name, (_, form) in COLUMNS.items()))
    page = io.StringIO()
    Console(file=page, width=110).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines()) + "\n"
