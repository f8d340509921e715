"""Train the learned SIM reconstruction and write its weights file.

Question: how much of what noise hides in a SIM reconstruction can a network bring back that knows what structures look
like, and leaves the physics to physics?

Command:   python experiments/train_sim.py --output dps_jax/weights/sim.safetensors
Cost:      an hour on one CPU core, 2 GB of memory; stopped at any moment it resumes.
Expected:  the table of experiments/sim.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dps_jax import __version__
from dps_jax.cli import configure_jax, keep_numpy_to_one_thread, share_cores


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument("--run", type=Path, default=Path("runs/sim"), help="run folder, resumed if it exists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3600)
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    share_cores(1)
    from dps_jax.training.config_files import to_dict
    from dps_jax.training.pairs import train_pairs
    from dps_jax.training.sim_data import SimConfig, make_batches, sim_network
    from dps_jax.training.throughput import SPEEDS
    from dps_jax.weights import save_network

    config = SimConfig(steps=arguments.steps, seed=arguments.seed)
    last: dict[str, float] = {}

    def report(line: dict[str, float]) -> None:
        last.update(line)
        print(
            f"step {line['step']:.0f}  loss {line['loss']:.4f}  {line['images_per_s']:.1f} images/s",
            flush=True,
        )

    module = sim_network(config)
    params = train_pairs(config, arguments.run, module, make_batches(config), report=report)
    header = {
        "config": to_dict(config),
        "seed": config.seed,
        "package_version": __version__,
        "final": {k: v for k, v in last.items() if k not in SPEEDS},
        "command": "python experiments/train_sim.py",
    }
    abbe_px = sum(config.abbe_px) / 2
    save_network(arguments.output, module, params, abbe_px=abbe_px, header=header, task="sim")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
