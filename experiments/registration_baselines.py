"""Classical registration of two-photon movies: how near it comes to the true motion, and what it invents.

Question: on movies that deform smoothly and shift at random, what is the end-point error of no correction, a rigid
shift, piecewise-rigid registration and dense optical flow, as photons become few; and what motion do they find in
frames that do not move? A learned registration has to beat these numbers.

Command:   python experiments/registration_baselines.py --output runs/registration_baselines
Cost:      about 5 minutes on 2 CPU cores.
Writes:    OUTPUT.txt (the table) and OUTPUT.json (every movie's number).

Movies: 128x128 px, 20 still frames for the template (their mean, with its noise), 8 deformed ones (ten vectors of 3 px
standard deviation, each over 2 pi, spread over 0.18 of the side, plus a shift of 2 px standard deviation per axis) and
8 still ones. Photons are those of a bright resting cell. OpenCV's DIS flow (Kroeger et al. 2016) is
run where ``cv2`` can be imported (opencv-python-headless), on 8-bit images as it asks, smoothed by 1 px.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

PHOTONS = (100, 30, 8)
SIDE, MARGIN = 128, 24
STILL_FRAMES, MOVED_FRAMES = 20, 8
FIRST_SEED = 9000
Method = Callable[[np.ndarray, np.ndarray], np.ndarray]


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return clean frames for the template, moved ones, their true flows, and still ones."""
    from dps_jax.synthetic import deformations, two_photon

    rng = np.random.default_rng(seed)
    side = SIDE + 2 * MARGIN
    clean = two_photon.movie(rng, (side, side), frames=STILL_FRAMES + 2 * MOVED_FRAMES)[0]
    flows = np.stack(
        [
            deformations.bump_flow(rng, (SIDE, SIDE), bumps=10, shift_px=3.0) + rng.normal(0, 2, (2, 1, 1))
            for _ in range(MOVED_FRAMES)
        ]
    )
    # What moves in lies beyond the frame; there the motion goes on as at its edge.
    wide = np.pad(flows, [(0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)], mode="edge")
    end = STILL_FRAMES + MOVED_FRAMES
    moved = deformations.displaced(clean[STILL_FRAMES:end], deformations.invert_flow(wide))
    inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    return clean[:STILL_FRAMES][inner], moved[inner], flows, clean[end:][inner]


def methods() -> dict[str, Method]:
    """Return every registration: frames and a template in, flows out."""
    import jax

    from dps_jax.operators import estimate_shift, rigid_flow
    from dps_jax.solvers import piecewise_rigid

    rigid = jax.jit(lambda frames, template: rigid_flow((SIDE, SIDE), estimate_shift(frames, template)))
    piecewise = jax.jit(piecewise_rigid)
    found: dict[str, Method] = {
        "no correction": lambda frames, template: np.zeros((len(frames), 2, SIDE, SIDE)),
        "rigid": lambda frames, template: np.asarray(rigid(frames, template)),
        "piecewise rigid": lambda frames, template: np.asarray(piecewise(frames, template)),
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


def main() -> None:
    """Register every movie by every method, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/registration_baselines"))
    parser.add_argument("--movies", type=int, default=20)
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    from dps_jax.io import write_text
    from dps_jax.metrics import endpoint_error
    from dps_jax.synthetic.two_photon import count_photons

    ways = methods()
    errors: dict[str, dict[str, list[float]]] = {}
    for index in range(arguments.movies):
        still, moved, flows, unmoved = draw(FIRST_SEED + index)
        for photons in PHOTONS:
            rng = np.random.default_rng([FIRST_SEED + index, photons])
            template = count_photons(rng, still, photons=photons).mean(0)
            seen, seen_still = (count_photons(rng, m, photons=photons) for m in (moved, unmoved))
            for name, way in ways.items():
                error = endpoint_error(way(seen, template), flows).mean()
                invented = endpoint_error(way(seen_still, template), np.zeros_like(flows)).mean()
                for kind, value in ((f"{photons} photons", error), (f"{photons}, still", invented)):
                    errors.setdefault(name, {}).setdefault(kind, []).append(float(value))
    columns = [f"{p} photons" for p in PHOTONS] + [f"{p}, still" for p in PHOTONS]
    lines = [f"{'end-point error, px':<20}" + "".join(f"{c:>18}" for c in columns)]
    for name, row in errors.items():
        cells = [
            f"{np.mean(row[c]):.3f} ± {np.std(row[c], ddof=1) / np.sqrt(len(row[c])):.3f}" for c in columns
        ]
        lines.append(f"{name:<20}" + "".join(f"{c:>18}" for c in cells))
    text = "\n".join(lines) + "\n"
    print(text)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), text)
    write_text(arguments.output.with_suffix(".json"), json.dumps(errors, indent=1))


if __name__ == "__main__":
    main()
