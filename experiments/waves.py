"""Which waves are taken out of images that have none laid over them, and how much of those that have.

Question: does the search for stripes and honeycombs take a sample's own order for a residue of the illumination, and
does it need to know by how much the light that a residue follows was smoothed?

Command:   python experiments/waves.py --output runs/waves
Cost:      about 10 minutes on one CPU core.
Writes:    OUTPUT.txt (both tables), OUTPUT.json (every image).

Images are clean reconstructions of single families of structures, of seeds that no score uses, 5 px per Abbe period.
For the second table a honeycomb is laid over the withheld families that follows light smoothed by so many periods; its
share of the energy that is removed is 1 - |out - clean|^2 / |with - clean|^2, with its standard error.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread
from dps_jax.io import write_text
from dps_jax.solvers.stripes import find_waves
from dps_jax.solvers.waves import remove_waves
from dps_jax.synthetic.structures import TRAINING_FAMILIES, WITHHELD_FAMILIES
from dps_jax.training.artefact_data import ArtefactConfig, example

FIRST_SEED = 9400
GROUPS = {
    "nuclear pores": ("nuclear_pores",),
    "arrays": ("arrays",),
    "gratings": ("gratings",),
    "withheld families": WITHHELD_FAMILIES,
    "training families": TRAINING_FAMILIES,
}
SIDES = (128, 256)
SMOOTHINGS = (0.0, 0.1, 0.15, 0.25, 0.3, 0.36, 0.42, 0.5)
STRENGTH, PERIODS = 0.2, (1.0, 1 / 0.6)


def clean(seed: int, side: int, families: tuple[str, ...], config: ArtefactConfig) -> np.ndarray:
    """Return a clean reconstruction ``(side, side)``."""
    return example(np.random.default_rng(seed), (side, side), config, families=families, kind="none").clean


def with_honeycomb(seed: int, image: np.ndarray, *, abbe_px: float, smoothing: float) -> np.ndarray:
    """Lay three waves of chance phases, 60 degrees apart, over an image, that follow light smoothed so far."""
    rng = np.random.default_rng([seed, 1])
    angle, period = rng.uniform(0, np.pi), abbe_px * rng.uniform(*PERIODS)
    phases = rng.uniform(0, 2 * np.pi, 3)
    y, x = np.indices(image.shape)
    light = gaussian_filter(image.astype(float), smoothing * abbe_px) if smoothing else image
    waves = sum(
        np.cos(2 * np.pi * (np.sin(a) * y + np.cos(a) * x) / period + p)
        for a, p in zip(angle + np.arange(3) * np.pi / 3, phases, strict=True)
    )
    return image + STRENGTH / np.sqrt(1.5) * light * waves


def main() -> None:
    """Search, remove, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/waves"))
    parser.add_argument("--images", type=int, default=60, help="of each group of the first table")
    parser.add_argument("--removals", type=int, default=20, help="images of each row of the second")
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    config = ArtefactConfig(clipped=0.0)
    lines = [
        f"images of {arguments.images} without a wave, in which one was found",
        f"{'':20}{'128 px':>8}{'256 px':>8}",
    ]
    counts: dict[str, dict[int, int]] = {}
    for name, families in GROUPS.items():
        counts[name] = {}
        for side in SIDES:
            seeds = range(FIRST_SEED, FIRST_SEED + arguments.images)
            images = (clean(seed, side, families, config) for seed in seeds)
            counts[name][side] = sum(bool(find_waves(i, abbe_px=config.abbe_px)) for i in images)
        lines.append(f"{name:20}" + "".join(f"{counts[name][side]:8d}" for side in SIDES))
        print(lines[-1], flush=True)
    lines += [
        "",
        "share of a honeycomb's energy removed, 256 px, by the smoothing of the light it follows (periods)",
    ]
    removed: dict[float, list[float]] = {}
    for smoothing in SMOOTHINGS:
        removed[smoothing] = []
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.removals):
            image = clean(seed, 256, WITHHELD_FAMILIES, config)
            seen = with_honeycomb(seed, image, abbe_px=config.abbe_px, smoothing=smoothing)
            out = remove_waves(seen, find_waves(seen, abbe_px=config.abbe_px))
            removed[smoothing].append(1 - float(np.sum((out - image) ** 2) / np.sum((seen - image) ** 2)))
        mean, error = (
            np.mean(removed[smoothing]),
            np.std(removed[smoothing], ddof=1) / arguments.removals**0.5,
        )
        lines.append(f"{smoothing:<20}{mean:8.3f} +- {error:.3f}, the worst {min(removed[smoothing]):.3f}")
        print(lines[-1], flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(
        arguments.output.with_suffix(".json"), json.dumps({"counts": counts, "removed": removed}, indent=1)
    )


if __name__ == "__main__":
    main()
