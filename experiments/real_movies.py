"""Motion correction of two real movies: the drift that is found, and scores of the mean that share no noise.

Question: what do rigid and patch-wise registration (and OpenCV's DIS flow) find in a two-photon movie of 20 very noisy
frames that drifts by +7 to -2 px, and in a light-sheet movie of two planes that hardly moves; and is the mean better
for it?

Command:   python experiments/real_movies.py --output runs/real_movies
Cost:      about a minute on 2 CPU cores.
Writes:    OUTPUT/scores.txt and, for each movie and method, the corrected movie, its report and its picture (red and
           green overlay, mean images, shift traces).

Correlation with the template and the crispness of a mean both pay for interpolation, which averages noise, and for
following noise. The split scores share no noise between what is looked at and what is scored: motion is found in one
colour of a checkerboard of pixels and the other colour is moved. Split crispness is the root of the product of the
gradients of the means of odd and of even frames, in which noise has no part; split correlation is that of each odd
frame with the mean of the even ones, both smoothed by 1.5 px, of which interpolation averages little. The control
moves each frame by the flow of the frame ten later. Movies are looked for in ../shared/data, or $DPS_JAX_DATA.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

HERE = Path(__file__).parent
MOVIES = ("twophoton_20f.tif", "lightsheet_fish_20f.tif")
INNER = (..., slice(10, -10), slice(10, -10))
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def methods() -> dict[str, Method]:
    """Return every way to find motion: frames and a template in, flows out."""
    from dps_jax.pipelines.register import METHODS, RegisterSettings, as_flow, find_motion

    settings = RegisterSettings()

    def found(method: str) -> Method:
        def find(frames: np.ndarray, template: np.ndarray) -> np.ndarray:
            motion = find_motion(frames, template, method=method, settings=settings)
            return np.asarray(as_flow(motion, template.shape))

        return find

    ways: dict[str, Method] = {
        "none": lambda frames, template: np.zeros((len(frames), 2, *template.shape), np.float32),
        **{name: found(name) for name in METHODS},
        "control": lambda frames, template: np.roll(found("rigid")(frames, template), len(frames) // 2, 0),
    }
    if importlib.util.find_spec("cv2"):
        sys.path.insert(0, str(HERE))
        from registration_baselines import optical_flow

        ways["DIS"] = optical_flow
    return ways


def own_template(frames: np.ndarray, name: str) -> np.ndarray:
    """Return the template as the command makes it: for all but a rigid shift, of frames that were deformed."""
    from dps_jax.pipelines.register import RegisterSettings
    from dps_jax.pipelines.register_template import build_template, refine_template

    settings = RegisterSettings()
    template = build_template(frames, settings=settings)
    if name not in ("patches", "DIS"):
        return template.image
    return refine_template(frames, template, settings=settings).image


def split_scores(frames: np.ndarray, name: str, way: Method) -> tuple[float, float]:
    """Find motion in one colour of the pixels and score the other: crispness per pixel and mean, and correlation."""
    from dps_jax.metrics import template_correlation
    from dps_jax.operators import warp
    from dps_jax.pipelines.register_template import one_colour

    powers, alike = [], []
    for colour in (0, 1):
        looked_at, shown = (np.asarray(one_colour(frames, colour=c)) for c in (colour, 1 - colour))
        # Off the borders, which some frames do not show.
        moved = np.asarray(warp(shown, way(looked_at, own_template(looked_at, name))))[INNER]
        halves = [moved[k::2].mean(0) for k in (0, 1)]
        slopes = [np.stack(np.gradient(h)) for h in halves]
        powers.append((slopes[0] * slopes[1]).sum(0).mean())
        smooth = gaussian_filter(moved[::2], (0, 1.5, 1.5))
        alike.append(template_correlation(smooth, gaussian_filter(halves[1], 1.5)).mean())
    return float(np.sqrt(max(np.mean(powers), 0)) / frames.mean()), float(np.mean(alike))


def score(frames: np.ndarray, name: str, way: Method) -> dict[str, float]:
    """Return correlation, crispness of the smoothed mean, the split scores, and where the first and last frames lie."""
    from dps_jax.metrics import crispness, template_correlation
    from dps_jax.operators import warp

    template = own_template(frames, name)
    flow = way(frames, template)
    moved = np.asarray(warp(frames, flow))
    mean = gaussian_filter(moved.mean(0), 1.5)[INNER]
    crisp, alike = split_scores(frames, name, way)
    return {
        "correlation": float(template_correlation(moved, template).mean()),
        "crispness at 1.5 px": float(crispness(mean) / np.sqrt(mean.size) / mean.mean()),
        "split crispness": crisp,
        "split correlation": alike,
        "x, first (px)": float(flow[0, 1].mean()),
        "x, last 5 (px)": float(flow[-5:, 1].mean()),
    }


def register_all(path: Path, output: Path) -> list[str]:
    """Register a file as the command does, by each method, and tell what came out."""
    from dps_jax.io import read_image
    from dps_jax.pipelines.register import METHODS
    from dps_jax.pipelines.register_file import RegisterOptions, register_file

    lines = []
    for method in METHODS:
        stem = output / f"{path.stem}_{method}"
        options = RegisterOptions(
            method=method, figure=stem.with_suffix(".png"), json=stem.with_suffix(".json")
        )
        report = register_file(path, stem.with_suffix(".tif"), options, log=lambda _: None)
        made = read_image(stem.with_suffix(".tif"))
        before, after = report["before"], report["after"]
        lines.append(
            f"{path.name}, {method}: {made.axes} {made.data.shape} {made.data.dtype}, largest shift "
            f"{np.abs(report['shift_px']).max():.2f} px, residual motion {before['residual_motion_px']:.2f} -> "
            f"{after['residual_motion_px']:.2f} px, folded {after['folding_fraction']:.2%}"
        )
    return lines


def main() -> None:
    """Register both movies, score them, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/real_movies"))
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    from dps_jax.io import read_image, write_text

    folder = Path(os.environ.get("DPS_JAX_DATA", HERE.parents[1] / "shared" / "data")) / "calcium"
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines, every = [], {}
    for name in MOVIES:
        data = read_image(folder / name).data.astype(np.float32)
        frames = data if data.ndim == 3 else data.mean(1)
        every[name] = {way: score(frames, way, find) for way, find in methods().items()}
        kinds = list(every[name]["none"])
        lines += ["", f"{name:<26}" + "".join(f"{k:>21}" for k in kinds)]
        lines += [
            f"{way:<26}" + "".join(f"{row[k]:>21.4f}" for k in kinds) for way, row in every[name].items()
        ]
        lines += register_all(folder / name, arguments.output)
    text = "\n".join(lines[1:]) + "\n"
    print(text)
    write_text(arguments.output / "scores.txt", text)
    write_text(arguments.output / "scores.json", json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
