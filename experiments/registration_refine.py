"""The flow network on movies unlike those of its training, as it was released and refined on each movie.

Question: does training on, on nothing but the movie's own frames moved in known ways, bring the network nearer to the
true motion where the sample looks like nothing it was taught; and does it stay still where nothing moves?

Command:   python experiments/registration_refine.py --output runs/registration_refine
Cost:      about 15 minutes on 2 CPU cores.
Writes:    OUTPUT.txt (the table) and OUTPUT.json (every movie's numbers).

Samples: two-photon fields, as in training, and filaments and nuclei, which the network has never seen; and the mean of
a real two-photon movie (../shared/data, or $DPS_JAX_DATA), which does not fire. Movies are those of ``flow_scores`` in
all else, 192x192 px, with 20 deformed and 20 still frames (the real one 128 px, with 8 deformed): the refinement sees
the frames and the template, and no true flow. Errors are those of both networks, whether or not the refined one was
chosen, and of the one that was ("chosen").
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

HERE = Path(__file__).parent
KINDS = ("two-photon", "filaments", "nuclei", "real")
SIDE, FRAMES = 192, 20
FIRST_SEED = 9700


def draw(seed: int, kind: str) -> Any:
    """Return a movie of one kind as ``flow_scores.draw`` does."""
    from flow_scores import MARGIN, STILL_FRAMES, data_folder, draw_real, with_motion

    from dps_jax.synthetic import two_photon
    from dps_jax.synthetic.structures import FAMILIES

    if kind == "real":
        return draw_real(seed, data_folder())
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    wide, count = SIDE + 2 * MARGIN, STILL_FRAMES + 2 * FRAMES
    if kind == "two-photon":
        clean = two_photon.movie(rng, (wide, wide), frames=count)[0]
    else:
        scene = FAMILIES[kind](rng, (wide, wide), abbe_px=4.0)
        clean = np.repeat((scene / np.percentile(scene[scene > 0], 90))[None], count, 0)
    return with_motion(rng, clean, SIDE, FRAMES)


def scores(seed: int, kind: str, *, photons: int, steps: int) -> dict[str, Any]:
    """Refine the network on one movie and score it as released, as refined, and as chosen."""
    from flow_scores import score

    from dps_jax.pipelines.flow_network import flow_network, network_flow
    from dps_jax.pipelines.flow_refine import refined_network
    from dps_jax.pipelines.register_template import Template
    from dps_jax.solvers import piecewise_rigid
    from dps_jax.synthetic.two_photon import count_photons
    from dps_jax.weights import load_network

    clean = draw(seed, kind)
    # The very photons of the score.
    rng = np.random.default_rng([seed, photons])
    frames = [count_photons(rng, part, photons=photons).astype(np.float32) for part in clean[:2]]
    sample = np.concatenate(frames)
    template = Template(frames[0].mean(0), np.ones(len(sample), bool))
    released = flow_network(load_network(task="flow"))
    refined, told = refined_network(released, sample, template, iterations=steps)
    chosen = refined if told.kept else released
    ways = {
        "patches": piecewise_rigid,
        "released": lambda f, t: network_flow(f, t, released),
        "refined": lambda f, t: network_flow(f, t, refined),
        "chosen": lambda f, t: network_flow(f, t, chosen),
    }
    return {"movie": score(clean, seed, ways, photons=photons), "photons": told.photons, "kept": told.kept}


def main() -> None:
    """Refine on every movie, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/registration_refine"))
    parser.add_argument("--movies", type=int, default=4, help="of every kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--photons", type=int, nargs="+", default=[30])
    parser.add_argument("--steps", type=int, default=80, help="of a refinement")
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    # After the flags are set: this starts JAX.
    sys.path.insert(0, str(HERE))
    from dps_jax.io import write_text

    every: dict[str, list[dict[str, Any]]] = {}
    lines = []
    for photons in arguments.photons:
        for kind in arguments.kinds:
            seeds = range(FIRST_SEED, FIRST_SEED + arguments.movies)
            rows = [scores(seed, kind, photons=photons, steps=arguments.steps) for seed in seeds]
            every[f"{kind} {photons}"] = rows
            taken = sum(row["kept"] for row in rows)
            lines.append(
                f"{kind}, {photons} photons: mean +- standard error in px; {taken} of {len(rows)} kept"
            )
            lines.append(f"{'':<12}{'error':>16}{'99 %':>16}{'still':>16}{'bias':>16}")
            for name in rows[0]["movie"]:
                cells = [
                    _cell([row["movie"][name][k] for row in rows])
                    for k in ("error", "worst", "still", "bias")
                ]
                lines.append(f"{name:<12}" + "".join(f"{cell:>16}" for cell in cells))
            print(*lines[-2 - len(rows[0]["movie"]) :], sep="\n", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(arguments.output.with_suffix(".json"), json.dumps(every))


def _cell(values: list[float]) -> str:
    error = float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.3f} +- {error:.3f}"


if __name__ == "__main__":
    main()
