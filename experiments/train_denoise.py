"""Train the released denoiser, score it, and write its weights file with its numbers in the header.

Question: what does one small residual U-Net, told the noise of every pixel, take off images of any pixel size between
3 and 1000 photons, and how much of that does it learn where there is no clean image?

Command:   python experiments/train_denoise.py --output dps_jax/weights/denoise.safetensors
           --mode split       scores half of the photons of an exposure on the other half (Noise2Noise)
           --mode recorrupted scores one noisy image with noise taken from it, shown with noise added
Cost:      about 25 minutes on one CPU core, 1 GB of memory; stopped at any moment it resumes.
Expected:  at 10 photons 6 dB or more over the raw image (`experiments/denoise.py` has the whole comparison).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from dps_jax import __version__
from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

HERE = Path(__file__).parent


def main() -> None:
    """Train, score, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="weights file to write")
    parser.add_argument("--mode", default="clean", help="clean, split or recorrupted")
    parser.add_argument("--run", type=Path, default=None, help="run folder, resumed if it exists")
    parser.add_argument("--seed", type=int, default=0, help="of weights, scenes and photons")
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument(
        "--scenes", type=int, default=20, help="withheld scenes per photon level in the scores"
    )
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    # After the flags are set: these start JAX.
    sys.path.insert(0, str(HERE))
    from denoise import FIRST_SEED, PHOTONS, gain_over, score_level

    from dps_jax.training.config_files import to_dict
    from dps_jax.training.denoise_data import config_for, extra_terms, make_batches, network_of
    from dps_jax.training.pairs import train_pairs
    from dps_jax.weights import load_network, save_network

    config = config_for(arguments.mode, steps=arguments.steps, seed=arguments.seed)
    module, last = network_of(config), {}

    def report(line: dict[str, float]) -> None:
        last.update(line)
        print(
            f"step {line['step']:.0f}  loss {line['loss']:.4f}  {line['images_per_s']:.1f} images/s",
            flush=True,
        )

    run = arguments.run or Path("runs") / f"denoise_{config.mode}"
    params = train_pairs(config, run, module, make_batches(config), extra=extra_terms(config), report=report)
    # No sampling is the network's own; the middle of those that it was trained on stands for them.
    options = {"abbe_px": round(float(np.sqrt(np.prod(config.abbe_px))), 3), "task": "denoise"}
    header = {
        "config": to_dict(config),
        "seed": config.seed,
        "package_version": __version__,
        "final": last,
        "command": f"python experiments/train_denoise.py --mode {config.mode}",
    }
    # Before the scoring, so that nothing is lost if that is interrupted.
    save_network(run / "weights.safetensors", module, params, header=header, **options)
    network, numbers = load_network(path=run / "weights.safetensors", task="denoise"), {}
    for photons in PHOTONS:
        rows = score_level({config.mode: network}, photons, scenes=arguments.scenes, oracles=False)
        name = f"ours, {config.mode}"
        gains = gain_over(rows, name, "raw")
        numbers[str(photons)] = {
            "scenes": arguments.scenes,
            "first_seed": FIRST_SEED,
            "psnr_db": round(float(np.mean([r["psnr_db"] for r in rows[name]])), 3),
            "gain over raw, mean_db": round(float(np.mean(gains)), 3),
            "gain over raw, standard_error_db": round(float(np.std(gains, ddof=1) / np.sqrt(len(gains))), 3),
        }
        print(f"{photons} photons: {numbers[str(photons)]}", flush=True)
    save_network(arguments.output, module, params, header={**header, "numbers": numbers}, **options)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
