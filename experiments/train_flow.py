"""Train the registration network and write its weights file.

Question: how near does a network come to the motion of two-photon movies that was taught the true flow of simulated
pairs, and how near one that was taught to make frames alike, as published (squared difference first, local
correlation after)?

Command:   python experiments/train_flow.py --output dps_jax/weights/flow.safetensors
Cost:      about 50 minutes on 2 CPU cores, 2 GB of memory; stopped at any moment it resumes.
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
    parser.add_argument(
        "--run", type=Path, default=Path("runs/flow"), help="run folder, resumed if it exists"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4000)
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    from dps_jax.training.flow_config import FlowConfig

    config = FlowConfig(steps=arguments.steps, seed=arguments.seed)
    share_cores(config.batch)
    from dps_jax.training.config_files import to_dict
    from dps_jax.training.flow import flow_network, train_flow
    from dps_jax.weights import save_network

    last: dict[str, float] = {}

    def report(line: dict[str, float]) -> None:
        last.update(line)
        print(
            f"step {line['step']:.0f}  loss {line['loss']:.4f}  end-point error {line['endpoint']:.3f} px  "
            f"gradient {line['gradient_norm']:.2f}  {line['images_per_s']:.1f} templates/s",
            flush=True,
        )

    params = train_flow(config, arguments.run, report=report)
    header = {
        "config": to_dict(config),
        "seed": config.seed,
        "package_version": __version__,
        "final": {k: v for k, v in last.items() if k != "images_per_s"},
        "command": "python experiments/train_flow.py",
    }
    save_network(arguments.output, flow_network(config), params, abbe_px=0.0, header=header, task="flow")
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
