"""Score the released network on the demo's scenes, against bicubic and Richardson-Lucy at its oracle iteration.

Question: on structure families that training never saw, seen through a microscope that training never saw (NA 1.4,
525 nm, 65 nm pixels; training knows one sampling only), what does the network recover, and what does it invent?

Command:   python experiments/demo_scenes.py
Cost:      about 3 minutes on 2 CPU cores (most of it Richardson-Lucy, up to 500 iterations for its oracle).
Expected:  the table in README; at 100 photons at least 3 dB over bicubic, and Richardson-Lucy's PSNR or more.

Scores are at the promised resolution (Gaussian of 0.3 Abbe periods on estimate and truth) after one least-squares
scale; out-of-band is the Fourier correlation with the truth between the cut-off and 1.67 times it. "RL + texture" is
the control: Richardson-Lucy with invented texture.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from dps_jax.cli import configure_jax
from dps_jax.io import write_text
from dps_jax.optics import OpticalSystem
from dps_jax.pipelines.compare import METHODS, compare
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.pipelines.tables import score_table
from dps_jax.weights import Network, load_network

PHOTONS = (30, 100, 300, 1000)
FIRST_SEED = 5000
BACKGROUND = 2.0


def score_scenes(
    network: Network,
    *,
    photons: float,
    scenes: int,
    system: OpticalSystem = DEMO_SYSTEM,
    first_seed: int = FIRST_SEED,
    orientations: int = 1,
) -> dict[str, list[dict[str, float]]]:
    """Return, for each method, its scores on each of ``scenes`` withheld scenes."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    for seed in range(first_seed, first_seed + scenes):
        made = acquire(seed, system, shape=(128, 128), photons=photons, background=BACKGROUND)
        result = compare(made, network, orientations=orientations)
        for name in METHODS:
            rows[name].append(result.scores[name])
    return rows


def gains(rows: dict[str, list[dict[str, float]]], over: str) -> dict[str, float]:
    """Return mean and standard error of our PSNR above that of the method ``over``."""
    steps = [a["psnr_db"] - b["psnr_db"] for a, b in zip(rows["ours"], rows[over], strict=True)]
    return {
        "mean_db": float(np.mean(steps)),
        "standard_error_db": float(np.std(steps, ddof=1) / np.sqrt(len(steps))),
    }


def score_levels(
    network: Network, *, scenes: int, orientations: int = 1, first_seed: int = FIRST_SEED
) -> dict[str, dict[str, float]]:
    """Print a table per photon level; return our gains and scores, ready for a header."""
    numbers = {}
    for photons in PHOTONS:
        rows = score_scenes(
            network, photons=photons, scenes=scenes, orientations=orientations, first_seed=first_seed
        )
        print(
            score_table(rows, title=f"{scenes} withheld scenes (seeds {first_seed}..), {photons} photons"),
            flush=True,
        )
        entry = {"scenes": float(scenes)}
        for over in ("bicubic", "RL (oracle)", "RL, wide (oracle)"):
            gain = gains(rows, over)
            entry |= {f"gain over {over}, {k}": round(v, 3) for k, v in gain.items()}
            print(f"ours over {over}: {gain['mean_db']:+.2f} ± {gain['standard_error_db']:.2f} dB")
        for name in ("psnr_db", "ssim", "out_of_band"):
            entry[name] = round(float(np.mean([r[name] for r in rows["ours"]])), 4)
        numbers[str(photons)] = entry
        print()
    return numbers


def main() -> None:
    """Score and, if asked, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=None, help="by default the released weights")
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--orientations", type=int, default=1, help="1, 2, 4 or 8, as for dps-jax restore")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the scenes")
    parser.add_argument("--json", type=Path, default=None, help="also save the numbers")
    arguments = parser.parse_args()
    configure_jax()
    numbers = score_levels(
        load_network(path=arguments.weights),
        scenes=arguments.scenes,
        orientations=arguments.orientations,
        first_seed=arguments.first_seed,
    )
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
