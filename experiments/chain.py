"""Measure the chain around the extending network: where it helps, and whether it ever harms.

Question: is restoring an image that was denoised first better than restoring it as it is, and does ``--denoise auto``
find out when?

Command:   python experiments/chain.py --output runs/chain
Cost:      about 4 minutes on 2 CPU cores, 1 GB of memory.
Expected:  the chain gains up to 20 photons (+0.61, +0.41, +0.13, +0.02 dB at 3, 5, 10, 20), where ``auto`` is on in
           some images or all, and is the network alone from 30 on; restoring denoised images only costs 0.2 dB there.

Twenty scenes of the families withheld from training, 128 px, NA 1.4, 525 nm, 65 nm pixels, 2 photons of background;
gain known. PSNR at the promised resolution after one least-squares scale, over the network alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread
from dps_jax.io import write_text
from dps_jax.metrics import psnr_at_promised_resolution
from dps_jax.pipelines.chain import run_chain
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.weights import load_network

PHOTONS = (3, 5, 10, 20, 30, 100, 1000, 100000)
MODES = ("off", "auto", "strong")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="name of the files to write, without ending"
    )
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=5000)
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    network, lines, numbers = load_network(), [], {}
    for photons in PHOTONS:
        rows: dict[str, list[float]] = {mode: [] for mode in MODES}
        on = 0
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.scenes):
            made = acquire(seed, DEMO_SYSTEM, photons=photons, background=2.0)
            for mode in MODES:
                chain = run_chain(
                    made.image,
                    DEMO_SYSTEM,
                    network,
                    denoising=mode,
                    gain=1.0,
                    offset=0.0,
                    background=2.0,
                )
                on += mode == "auto" and "denoised" in chain.intermediates
                score = psnr_at_promised_resolution(
                    jnp.asarray(chain.restored.image),
                    jnp.asarray(made.truth),
                    abbe_px=2 * float(DEMO_SYSTEM.abbe_px),
                )
                rows[mode].append(float(score))
        gains = {mode: np.subtract(rows[mode], rows["off"]) for mode in ("auto", "strong")}
        lines.append(
            f"{photons:>6} photons: alone {np.mean(rows['off']):.2f} dB; "
            + "; ".join(
                f"{mode} {g.mean():+.2f} +- {g.std(ddof=1) / np.sqrt(len(g)):.2f} (worst {g.min():+.2f})"
                for mode, g in gains.items()
            )
            + f"; auto was on in {on} of {arguments.scenes}"
        )
        print(lines[-1], flush=True)
        numbers[str(photons)] = rows
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
