"""Train the released network, score it, and write its weights file with its numbers in the header.

Question: how far does one unsupervised training, on synthetic scenes alone and with no truth in its loss, carry
on structures and photon levels it has never seen, against Richardson-Lucy stopped by an oracle?

Command:   python experiments/train_universal.py --output dps_jax/weights/universal.safetensors
Cost:      about an hour on 2 CPU cores, 2 GB of memory; stopped at any moment it resumes.
           --seed trains another one of its kind; --steps a shorter one; --config another recipe
           (train_universal_large.toml: for a GPU, and not trained yet). --rescore FILE trains nothing: it scores
           a file by today's restoration, in five minutes, and writes it with these numbers.
Expected:  the table of README (20 withheld scenes per photon level, standard errors beside the means).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from dps_jax import __version__
from dps_jax.cli import configure_jax, keep_numpy_to_one_thread, share_cores

HERE = Path(__file__).parent


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/universal"), help="run folder, resumed if it exists"
    )
    parser.add_argument(
        "--scenes", type=int, default=20, help="withheld scenes per photon level in the scores"
    )
    parser.add_argument(
        "--config", type=Path, default=HERE / "train_universal.toml", help="recipe, a TOML file"
    )
    parser.add_argument("--seed", type=int, default=None, help="of weights, scenes and photons")
    parser.add_argument("--steps", type=int, default=None, help="training steps, by default the config's")
    parser.add_argument("--rescore", type=Path, default=None, help="weights file to score again, not trained")
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    from dps_jax.training.config_files import read_config, to_dict

    config = read_config(arguments.config)
    changes = {"seed": arguments.seed, "steps": arguments.steps}
    config = dataclasses.replace(config, **{k: v for k, v in changes.items() if v is not None})
    configure_jax()
    share_cores(config.common_parts)
    # After the flags are set: these start JAX.
    sys.path.insert(0, str(HERE))
    from demo_scenes import score_levels

    from dps_jax.training.loop import train
    from dps_jax.training.steps import network_of
    from dps_jax.weights import Network, load_network, save_network

    if arguments.rescore is not None:
        known = load_network(path=arguments.rescore)
        header = {**known.header, "numbers": score_levels(known, scenes=arguments.scenes)}
        save_network(arguments.output, known.module, known.params, abbe_px=known.abbe_px, header=header)
        print(f"wrote {arguments.output}")
        return
    last: dict[str, float] = {}

    def report(line: dict[str, float]) -> None:
        last.update(line)
        print(
            f"step {line['step']:.0f}  loss {line['loss']:.4f}  {line['images_per_s']:.1f} images/s",
            flush=True,
        )

    params = train(config, arguments.run, report=report)
    module = network_of(config)
    # Before the scoring, so that nothing is lost if that is interrupted.
    unscored = arguments.run / "weights.safetensors"
    save_network(unscored, module, params, abbe_px=config.scenes.abbe_px, header={"config": to_dict(config)})
    network = Network(module, params, config.scenes.abbe_px, {})
    numbers = score_levels(network, scenes=arguments.scenes)
    header = {
        "config": to_dict(config),
        "seed": config.seed,
        "package_version": __version__,
        "final": last,
        "numbers": numbers,
        "command": f"python experiments/train_universal.py{_told(arguments)}",
    }
    save_network(arguments.output, module, params, abbe_px=config.scenes.abbe_px, header=header)
    print(f"wrote {arguments.output}")


def _told(arguments: argparse.Namespace) -> str:
    """Return the part of the command that makes another training than the released one."""
    recipe = arguments.config.name
    words = [] if recipe == "train_universal.toml" else [f"--config experiments/{recipe}"]
    words += [f"--{n} {v}" for n in ("seed", "steps") if (v := getattr(arguments, n)) is not None]
    return "".join(f" {word}" for word in words)


if __name__ == "__main__":
    main()
