"""Registration of two-photon movies: how near it comes to the true motion, and what it invents.

Question: on movies that deform smoothly and shift at random, what is the end-point error of no correction, a rigid
shift, piecewise-rigid registration, dense optical flow and the released network, as photons become few; and what
motion do they find in frames that do not move?

Command:   python experiments/registration_baselines.py --output runs/registration_baselines
Cost:      about 6 minutes on 2 CPU cores; --real and --large, one movie each, 1 and 2 minutes more.
Writes:    OUTPUT.txt (the tables) and OUTPUT.json (every movie's numbers).

Movies are those of ``flow_scores``: 128x128 px. ``--real`` scores a semi-real scene, the mean of a real movie; its
file is looked for in ../shared/data, or $DPS_JAX_DATA. ``--large`` scores frames of 512x512 px, whose flow is as
large and four times as smooth. OpenCV's DIS flow (Kroeger et al. 2016) is run where ``cv2`` can be imported
(opencv-python-headless), on 8-bit images as it asks, smoothed by 1 px.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

HERE = Path(__file__).parent
# What is asked of a registration that is to be of use, in pixels.
BARS = {"100 error": 0.20, "8 error": 0.38, "30 still": 0.08, "8 still": 0.15}


def methods() -> dict:
    """Return every registration: frames and a template in, flows out."""
    import jax

    from dps_jax.operators import estimate_shift, rigid_flow
    from dps_jax.pipelines.flow_network import flow_network, network_flow
    from dps_jax.solvers import piecewise_rigid
    from dps_jax.weights import load_network

    network = flow_network(load_network(task="flow"))
    rigid = jax.jit(lambda frames, template: rigid_flow(template.shape, estimate_shift(frames, template)))
    piecewise = jax.jit(piecewise_rigid)
    found = {
        "no correction": lambda frames, template: np.zeros((len(frames), 2, *template.shape)),
        "rigid": rigid,
        "piecewise rigid": piecewise,
        "network": lambda frames, template: network_flow(frames, template, network),
    }
    if importlib.util.find_spec("cv2"):
        found["DIS optical flow"] = optical_flow
    return found


def optical_flow(frames: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Run OpenCV's DIS flow from the template to each frame, which is the flow that reads the frame."""
    import cv2

    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    smooth = [gaussian_filter(i, 1.0) for i in (template, *frames)]
    low, high = np.percentile(smooth[0], [0.5, 99.8])
    grey = [np.clip(255 * (i - low) / (high - low), 0, 255).astype(np.uint8) for i in smooth]
    # OpenCV's components are (x, y), last.
    return np.stack([dis.calc(grey[0], g, None)[..., ::-1].transpose(2, 0, 1) for g in grey[1:]])


def table(title: str, scores: dict[str, dict[str, list[float]]], kinds: list[str]) -> str:
    """Lay out the means over movies, with standard errors where there are several."""
    lines = [f"{title:<28}" + "".join(f"{k:>17}" for k in kinds)]
    for name, row in scores.items():
        cells = []
        for kind in kinds:
            values = np.array(row[kind])
            error = f" ± {values.std(ddof=1) / np.sqrt(values.size):.3f}" if values.size > 1 else ""
            cells.append(f"{values.mean():.3f}{error}")
        lines.append(f"{name:<28}" + "".join(f"{c:>17}" for c in cells))
    bars = [f"{BARS[k]:.2f}" if k in BARS and title.startswith("128") else "" for k in kinds]
    if any(bars):
        lines.append(f"{'wanted, at most':<28}" + "".join(f"{b:>17}" for b in bars))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Register every movie by every method, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/registration_baselines"))
    parser.add_argument("--movies", type=int, default=20)
    parser.add_argument(
        "--percentile",
        type=float,
        help="count photons at this percentile of the image, in place of a bright resting cell's",
    )
    parser.add_argument("--real", action="store_true", help="score the semi-real scene too")
    parser.add_argument("--large", action="store_true", help="score frames of 512 px too")
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    sys.path.insert(0, str(HERE))
    import flow_scores
    from flow_scores import FIRST_SEED, PHOTONS

    from dps_jax.io import write_text

    ways = methods()
    every = {"128": flow_scores.score_movies(ways, movies=arguments.movies, percentile=arguments.percentile)}
    kinds = {"errors": ("error", "worst", "edge"), "no motion": ("still", "bias", "folded")}
    parts = [
        table(f"128 px, {score} (px)", every["128"], [f"{p} {score}" for p in PHOTONS])
        for group in kinds.values()
        for score in group
    ]
    others = {}
    if arguments.real:
        others["semi-real"] = flow_scores.draw_real(FIRST_SEED, flow_scores.data_folder())
    if arguments.large:
        others["512 px"] = flow_scores.draw(FIRST_SEED, side=512, moved_frames=4)
    for name, clean in others.items():
        rows: dict[str, dict[str, list[float]]] = {way: {} for way in ways}
        for photons in PHOTONS:
            for way, row in flow_scores.score(clean, FIRST_SEED, ways, photons=photons).items():
                rows[way].update({f"{photons} {kind}": [value] for kind, value in row.items()})
        every[name] = rows
        parts.append(table(name, rows, [f"{p} {s}" for s in ("error", "still") for p in PHOTONS]))
    text = "\n".join(parts)
    print(text)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), text)
    write_text(arguments.output.with_suffix(".json"), json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
