"""Whether adaptation to one image helps, and whether its verdict knows.

Question: ``restore --adapt N`` trains the released network on for N steps on the user's own image and keeps the result
where it predicts unseen photons better. On withheld scenes, whose truth is known, is the truth nearer after it, and is
what harms dropped? (On photographs: ``published_table.py``.)

Command:   python experiments/adaptation.py --output runs/adaptation
Cost:      about 15 minutes on 2 CPU cores.
Writes:    OUTPUT.txt (the table) and OUTPUT.json.

Scenes: withheld families, the demo's microscope, seeds 8000 and on, used by nothing else. PSNR over Richardson-Lucy at
its oracle iteration, at the promised resolution.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread
from dps_jax.io import write_text
from dps_jax.pipelines.adapt import adapt
from dps_jax.pipelines.compare import compare
from dps_jax.pipelines.simulate import DEMO_SYSTEM, Acquisition, acquire
from dps_jax.weights import Network, load_network

PHOTONS = (100, 1000)
FIRST_SEED, BACKGROUND = 8000, 2.0


def gain(made: Acquisition, network: Network) -> float:
    """Return our PSNR over that of the oracle, in dB."""
    scores = compare(made, network).scores
    return scores["ours"]["psnr_db"] - scores["RL (oracle)"]["psnr_db"]


def main() -> None:
    """Adapt to every scene, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--output", type=Path, default=Path("runs/adaptation"))
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    network, numbers = load_network(), []
    lines = [
        f"{'photons':>8}{'seed':>6}{'as released':>13}{'with --adapt':>14}  objective, error of unseen photons"
    ]
    print(lines[0])
    for photons in PHOTONS:
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.scenes):
            made = acquire(seed, DEMO_SYSTEM, shape=(128, 128), photons=photons, background=BACKGROUND)
            used, told = adapt(
                network, made.image, DEMO_SYSTEM, iterations=arguments.steps, gain=1.0, offset=BACKGROUND
            )
            row = {"photons": photons, "seed": seed, "kept": told.kept}
            row |= {"before_db": gain(made, network), "after_db": gain(made, used)}
            numbers.append(row)
            lines.append(
                f"{photons:>8}{seed:>6}{row['before_db']:>+13.2f}{row['after_db']:>+14.2f}  "
                f"{told.before:.5f} to {told.after:.5f}, {told.unseen_before:.5f} to {told.unseen_after:.5f} "
                f"({told.certainty:.1f} standard errors): "
                f"{'kept' if told.kept else 'dropped'}"
            )
            print(lines[-1], flush=True)
    for photons in PHOTONS:
        changes = [r["after_db"] - r["before_db"] for r in numbers if r["photons"] == photons]
        kept = sum(r["kept"] for r in numbers if r["photons"] == photons)
        error = np.std(changes, ddof=1) / np.sqrt(len(changes)) if len(changes) > 1 else float("nan")
        lines.append(
            f"{photons} photons: {np.mean(changes):+.2f} ± {error:.2f} dB by --adapt, kept {kept} of {len(changes)}"
        )
        print(lines[-1])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
