"""Motion correction and the activity of cells: traces that come back, and whether a firing cell is moved.

Question: on movies that shift and deform while cells fire, how well do the traces of corrected movies correlate with
the true ones, and does the flow at a cell change when the cell lights up?

Command:   python experiments/registration_activity.py --output runs/registration_activity
Cost:      about 2 minutes on 2 CPU cores.
Writes:    OUTPUT.txt (the table), OUTPUT.json (every cell's numbers) and OUTPUT.png (the cell that fires most).

Movies: 128x128 px, 32 frames, deformed as published (ten vectors of 3 px standard deviation, spread over 0.18 of the
side) and shifted by 2 px standard deviation per axis; a spike a second on average, each adding 0.8 of the resting
brightness. The template is made of the movie itself, as the command does. A trace is the mean over the cell's mask;
"true flow" reads the same noisy frames along the flow that is known, and is the best that any registration could do.
Motion is that of a cell's mask, less its mean over time, since where the template lies is free.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

PHOTONS = (1000, 100, 30)
SIDE, MARGIN, FRAMES = 128, 16, 32
FIRST_SEED = 9500
INNER = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
# Brightness, in units of rest, from which a cell counts as firing strongly, and up to which as at rest.
FIRING, AT_REST = 1.8, 1.15


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return moved clean frames, their flows, the frames at rest, and traces and masks of cells well inside."""
    from dps_jax.synthetic import deformations, two_photon

    rng = np.random.default_rng(seed)
    wide = (SIDE + 2 * MARGIN,) * 2
    rest, traces, masks = two_photon.movie(rng, wide, frames=FRAMES, spikes_hz=1.0)
    flows = np.stack([deformations.bump_flow(rng, (SIDE, SIDE)) for _ in range(FRAMES)])
    flows += rng.normal(0, 2, (FRAMES, 2, 1, 1))
    # What moves in lies beyond the frame; there the motion goes on as at its edge.
    padded = np.pad(flows, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)], mode="edge")
    moved = deformations.displaced(rest, deformations.invert_flow(padded, iterations=15))
    masks = masks[INNER]
    whole = masks[:, 10:-10, 10:-10].sum((1, 2)) > 0.999 * masks.sum((1, 2))
    chosen = whole & (masks.sum((1, 2)) > 20) & (traces.std(1) > 0.1)
    return moved[INNER], flows, rest[INNER], traces[chosen], masks[chosen] > 0.5


def methods() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return every registration: frames in, flows out, the template made on the way."""
    from dps_jax.pipelines.flow_network import flow_network
    from dps_jax.pipelines.register import METHODS, RegisterSettings, as_flow, find_motion
    from dps_jax.pipelines.register_template import build_template, refine_template
    from dps_jax.weights import load_network

    settings, network = RegisterSettings(), flow_network(load_network(task="flow"))

    def registration(method: str) -> Callable[[np.ndarray], np.ndarray]:
        def find(frames: np.ndarray) -> np.ndarray:
            template = build_template(frames, settings=settings)
            if method != "rigid":
                template = refine_template(
                    frames, template, settings=settings, method=method, network=network
                )
            motion = find_motion(frames, template.image, method=method, settings=settings, network=network)
            return np.asarray(as_flow(motion, template.image.shape))

        return find

    none = {"no correction": lambda frames: np.zeros((len(frames), 2, *frames.shape[1:]), np.float32)}
    return none | {name: registration(name) for name in (*METHODS, "flow")}


def cells(frames: np.ndarray, flow: np.ndarray, drawn: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return, per cell, its trace, the correlation with the truth, and the motion error at rest and firing."""
    from dps_jax.operators import warp

    _, truth, rest, traces, masks = drawn
    # Where the template lies is free: brought back by whole pixels, so that masks fit.
    offset = np.round((flow - truth).mean((0, 2, 3))).astype(int)
    moved = np.roll(np.asarray(warp(frames, flow.astype(np.float32))), offset, (-2, -1))
    wrong = np.roll(flow - truth, offset, (-2, -1))
    rows = []
    for trace, mask in zip(traces, masks, strict=True):
        found, true = moved[:, mask].mean(1), rest[:, mask].mean(1)
        error = wrong[:, :, mask].mean(2)
        length = np.hypot(*(error - error.mean(0)).T)
        firing, resting = trace > FIRING, trace < AT_REST
        rows.append(
            {
                "correlation": float(np.corrcoef(found, true)[0, 1]),
                "firing": float(length[firing].mean()) if firing.any() else None,
                "at rest": float(length[resting].mean()) if resting.any() else None,
                "found": found.tolist(),
                "true": true.tolist(),
            }
        )
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """Lay out mean and least correlation, and the motion errors."""
    alike = np.array([row["correlation"] for row in rows])
    cellwise = {k: np.array([r[k] for r in rows if r[k] is not None]) for k in ("firing", "at rest")}
    return f"{np.median(alike):>10.4f}{alike.mean():>10.4f}{np.quantile(alike, 0.05):>10.4f}" + "".join(
        f"{values.mean():>10.3f}" for values in cellwise.values()
    )


def draw_figure(path: Path, results: dict[str, list[dict[str, Any]]]) -> None:
    """Draw the trace of the cell that fires most, by every method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from dps_jax.io import atomic_path

    figure = Figure(figsize=(9, 2.2 * len(results)), layout="constrained")
    first = next(iter(results.values()))
    cell = int(np.argmax([np.std(row["true"]) / np.mean(row["true"]) for row in first]))
    for axes, (name, rows) in zip(
        figure.subplots(len(results), 1, sharex=True), results.items(), strict=True
    ):
        row, scale = rows[cell], np.mean(rows[cell]["true"]) / np.mean(rows[cell]["found"])
        axes.plot(row["true"], color="0.6", linewidth=3, label="true")
        axes.plot(scale * np.array(row["found"]), color="tab:red", linewidth=1.2, label="found")
        axes.set_title(f"{name}: correlation {row['correlation']:.3f}", loc="left", fontsize=10)
        axes.set_ylabel("brightness")
    axes.set_xlabel("frame")
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def main() -> None:
    """Register every movie by every method, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/registration_activity"))
    parser.add_argument("--movies", type=int, default=6)
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    from dps_jax.io import write_text
    from dps_jax.synthetic.two_photon import count_photons

    ways = methods()
    every: dict[str, dict[str, list[dict[str, Any]]]] = {str(p): {} for p in PHOTONS}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.movies):
        drawn = draw(seed)
        for photons in PHOTONS:
            frames = count_photons(np.random.default_rng([seed, photons]), drawn[0], photons=photons)
            flows = {name: way(frames) for name, way in ways.items()} | {"true flow": drawn[1]}
            for name, flow in flows.items():
                every[str(photons)].setdefault(name, []).extend(cells(frames, flow, drawn))
    title = f"{'trace, motion error (px)':<28}{'median r':>10}{'mean r':>10}{'5 %':>10}{'firing':>10}{'at rest':>10}"
    lines = []
    for photons, results in every.items():
        count = len(next(iter(results.values())))
        lines += [f"{photons} photons, {count} cells", title]
        lines += [f"{name:<28}{summary(rows)}" for name, rows in results.items()]
    text = "\n".join(lines) + "\n"
    print(text)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), text)
    write_text(arguments.output.with_suffix(".json"), json.dumps(every))
    draw_figure(arguments.output.with_suffix(".png"), every[str(PHOTONS[1])])


if __name__ == "__main__":
    main()
