"""Evaluate files: read, bring to planes, score every plane, report means as table, JSON and picture."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dps_jax.io import ImageFile, UserError, atomic_path, read_image
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.evaluate import SCORES, evaluate
from dps_jax.pipelines.evaluate_figure import draw_evaluation


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What there is to compare with, and what the files do not say."""

    raw: Path
    truth: Path | None = None
    repeat: Path | None = None
    pixel_size_nm: float | None = None
    na: float | None = None
    wavelength_nm: float | None = None
    modulation: float = 1.0
    refractive_index: float = 1.515
    gain: float | None = None
    offset: float | None = None
    json: Path | None = None
    figure: Path | None = None


def evaluate_file(result: Path, options: EvaluateOptions) -> str:
    """Score the TIFF ``result`` and return the table; also write the JSON and the picture that were asked for.

    Stacks are scored plane by plane and averaged; the picture shows the plane with the most light.

    Raises
    ------
    UserError
        For files that cannot be read, do not fit together, or cannot be written.
    """
    image = read_image(result)
    others = {
        name: read_image(path)
        for name, path in (("raw", options.raw), ("truth", options.truth), ("repeat", options.repeat))
        if path is not None
    }
    planes = {"result": _planes(image), **{name: _planes(file) for name, file in others.items()}}
    counts = {name: len(stack) for name, stack in planes.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UserError(f"expected files of the same number of planes, got {said}.")
    pixel_size_nm = _pixel_size(image, others["raw"], options)
    abbe_nm = _abbe_nm(options, pixel_size_nm)
    evaluations = []
    for index in range(counts["result"]):
        given = {name: stack[index] for name, stack in planes.items()}
        try:
            evaluations.append(
                evaluate(
                    given["result"],
                    given["raw"],
                    pixel_size_nm=pixel_size_nm,
                    abbe_nm=abbe_nm,
                    truth=given.get("truth"),
                    repeat=given.get("repeat"),
                    gain=options.gain,
                    offset=options.offset,
                )
            )
        except ValueError as problem:
            raise UserError(f"{result}: {problem}.") from None
    scores, raw_scores = (_mean([getattr(e, kind) for e in evaluations]) for kind in ("scores", "raw_scores"))
    notes = tuple(dict.fromkeys(note for e in evaluations for note in e.notes))
    if options.json is not None:
        with atomic_path(options.json) as temporary:
            report = {**scores, "raw": raw_scores, "planes": len(evaluations), "notes": notes}
            temporary.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
    if options.figure is not None:
        brightest = int(np.argmax([plane.sum(dtype=np.float64) for plane in planes["raw"]]))
        draw_evaluation(
            options.figure,
            {name: stack[brightest] for name, stack in planes.items()},
            evaluations[brightest],
        )
    return _table(result.name, scores, raw_scores, notes)


def _planes(image: ImageFile) -> np.ndarray:
    return image.data.reshape(-1, *image.data.shape[-2:]).astype(np.float32)


def _pixel_size(image: ImageFile, raw: ImageFile, options: EvaluateOptions) -> float:
    """Return the pixel size of the result: given, from its file, or from that of the raw image."""
    if options.pixel_size_nm is not None:
        return options.pixel_size_nm
    if image.pixel_size_nm is not None:
        return image.pixel_size_nm
    if raw.pixel_size_nm is not None:
        return raw.pixel_size_nm * raw.data.shape[-1] / image.data.shape[-1]
    raise UserError(
        f"neither {image.path} nor {raw.path} states its pixel size; give that of the result with --pixel-size-nm."
    )


def _abbe_nm(options: EvaluateOptions, pixel_size_nm: float) -> float | None:
    if options.na is None or options.wavelength_nm is None:
        return None
    return float(
        OpticalSystem(
            na=options.na,
            wavelength_nm=options.wavelength_nm,
            pixel_size_nm=pixel_size_nm,
            modulation=options.modulation,
            refractive_index=options.refractive_index,
        ).abbe_nm
    )


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Average what every plane has."""
    names = [name for name in SCORES if all(name in row for row in rows)]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def _table(title: str, scores: dict[str, float], raw_scores: dict[str, float], notes: tuple[str, ...]) -> str:
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("score")
    table.add_column("result", justify="right")
    table.add_column("raw image", justify="right")
    for name, (heading, form) in SCORES.items():
        if name in scores or name in raw_scores:
            cells = (form.format(row[name]) if name in row else "-" for row in (scores, raw_scores))
            table.add_row(heading, *cells)
    page = io.StringIO()
    Console(file=page, width=110).print(table)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    return "\n".join([*lines, *(f"note: {note}" for note in notes)]) + "\n"
