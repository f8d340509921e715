"""What each part of the training is worth: the published objective first, then one measure after the other.

Question: starting from the objective and the network as published (SSIM against the noisy image itself, Hessian
continuity, L1 sparsity), what does each measure of this project add, at equal steps? And would truth, if there were
any, do better than measured images that were shrunk?

Command:   python experiments/ablation.py --output runs/ablation
Cost:      about 45 minutes on 2 CPU cores (eight trainings of 900 steps); --steps makes it shorter or longer.
Writes:    OUTPUT.txt (the table), OUTPUT.json (the numbers); the trainings are kept in OUTPUT/ and resumed.

All rows but one are trained by the released optimiser, Muon, which gets far in so few steps; the published one, Adam,
is a row of its own. The last row is supervised by the truth of the training families and is no candidate: it is what
this network learns in so many steps when told everything. Scores are PSNR over Richardson-Lucy at its oracle
iteration, at the promised resolution, on the demo's microscope and withheld families (seeds 4000 to 4005, used by
nothing else), mean and standard error over six scenes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread, share_cores
from dps_jax.io import write_text

if TYPE_CHECKING:  # these start JAX
    from dps_jax.training.config import TrainConfig
    from dps_jax.training.scale_transfer import Measured

FIRST_SEED, SCENES = 4000, 6

# Each row changes what it names and keeps the rest of the row above.
PUBLISHED: dict[str, dict[str, Any]] = {
    "optimizer": {"name": "muon", "learning_rate": 3e-3, "warmup_steps": 90, "clip_norm": 0.1},
    "network": {"iterates": [], "consistency_steps": 0},
    "objective": {
        "ssim": 1.0,
        "weighted_l2": 0.0,
        "hessian": 0.05,
        "sparsity": 0.05,
        "split_shares": [],
        "photon_exponent": 0.0,
        "shrunk_share": 0.0,
    },
}
SUPERVISED = "truth in place of shrunken images"
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "as published": {},
    "+ squared error in units of the noise": {"objective": {"ssim": 0.1, "weighted_l2": 10.0}},
    "+ photons split": {
        "objective": {
            "split_shares": [0.4, 0.7],
            "photon_exponent": 0.5,
            "hessian": 0.005,
            "sparsity": 0.005,
        }
    },
    "+ scale transfer": {"objective": {"shrunk_share": 0.75}},
    "+ gated step towards the data": {"network": {"consistency_steps": 1}},
    "+ Richardson-Lucy iterates (released)": {"network": {"iterates": [3, 8, 20, 48]}},
    "Adam in place of Muon": {"optimizer": {"name": "adam", "learning_rate": 1e-3}},
    SUPERVISED: {
        "optimizer": {"name": "muon", "learning_rate": 3e-3},
        "objective": {"shrunk_share": 1.0},
        "images": {"share": 1.0},
    },
}


def rows() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the settings of every row."""
    settings = {section: dict(values) for section, values in PUBLISHED.items()}
    out = {}
    for name, change in CHANGES.items():
        for section, values in change.items():
            settings[section] = settings.get(section, {}) | values
        out[name] = {section: dict(values) for section, values in settings.items()}
    return out


class TruthPatches:
    """What the scale transfer takes for measured images, noise-free and sharp: the truth of the training families."""

    def __init__(self, config: TrainConfig) -> None:
        from dps_jax.training.data import measured_side

        self.side, self.abbe_px = measured_side(config.scenes), 2 * config.scenes.abbe_px

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
        """Refuse: no patch of this row is scored on photons held back."""
        raise NotImplementedError("expected objective.shrunk_share to be 1, found patches to predict")

    def measure(self, rng: np.random.Generator) -> Measured:
        """Draw one scene; there is no noise to be independent of."""
        from dps_jax.synthetic.structures import training_scene
        from dps_jax.training.scale_transfer import Measured

        truth = training_scene(rng, (self.side, self.side), abbe_px=self.abbe_px)
        return Measured(truth, truth)


def main() -> None:
    """Train every row, score it, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--steps", type=int, default=900, help="training steps of each row")
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    from dps_jax.training.config import TrainConfig
    from dps_jax.training.config_files import from_dict

    base = {"steps": arguments.steps, "log_every": 100, "checkpoint_every": 500}
    configs = {name: from_dict(TrainConfig, {**base, **changes}) for name, changes in rows().items()}
    configure_jax()
    share_cores(2)  # what divides the parts of every row's batch
    # After the flags are set: these start JAX.
    from demo_scenes import PHOTONS, score_scenes

    from dps_jax.training.loop import train
    from dps_jax.training.steps import network_of
    from dps_jax.weights import Network

    lines = [f"{'dB over oracle Richardson-Lucy, photons':<42}" + "".join(f"{p:>16}" for p in PHOTONS)]
    print(lines[0], flush=True)
    numbers: dict[str, dict[str, list[float]]] = {}
    for index, (name, config) in enumerate(configs.items()):
        images = TruthPatches(config) if name == SUPERVISED else None
        try:
            params = train(config, arguments.output / f"row_{index}", images=images)
        except FloatingPointError as error:
            lines.append(f"{name:<42}  stopped: {error}")
            print(lines[-1], flush=True)
            continue
        network = Network(network_of(config), params, config.scenes.abbe_px, {})
        numbers[name] = {}
        for photons in PHOTONS:
            scores = score_scenes(network, photons=photons, scenes=SCENES, first_seed=FIRST_SEED)
            pairs = zip(scores["ours"], scores["RL (oracle)"], strict=True)
            numbers[name][str(photons)] = [a["psnr_db"] - b["psnr_db"] for a, b in pairs]
        means = [
            f"{np.mean(v):+.2f} ± {np.std(v, ddof=1) / np.sqrt(len(v)):.2f}" for v in numbers[name].values()
        ]
        lines.append(f"{name:<42}" + "".join(f"{m:>16}" for m in means))
        print(lines[-1], flush=True)
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
