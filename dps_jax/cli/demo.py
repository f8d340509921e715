"""``dps-jax demo``: simulate a scene, restore it, score it, and leave everything to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dps_jax import _checks
from dps_jax.cli import parsing, say
from dps_jax.cli.outputs import made_folder
from dps_jax.io import UserError, atomic_path, write_image

if TYPE_CHECKING:  # these start JAX
    import numpy as np

    from dps_jax.pipelines.compare import Comparison
    from dps_jax.pipelines.simulate import Acquisition
    from dps_jax.weights import Network

_SIDES_PX = (32, 1024)  # the oracle of Richardson-Lucy takes minutes beyond
_FILES = ("demo.png", "input.tif", "restored.tif", "table.txt", "truth.tif")


@dataclass(frozen=True)
class Arguments:
    """Simulate a small scene as a microscope would see it, restore it with the released weights and score it.

    The scene's structures belong to families that the network was never trained on. The folder receives input,
    result and truth as TIFF, demo.png to look at, and table.txt.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo")
    """Folder for the files."""
    seed: int = 5
    """Seed of the scene and of its photons."""
    photons: float = 100.0
    """Expected photons in the brightest pixel."""
    size_px: int = 128
    """Side of the camera image in px."""
    weights: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="")] = None
    """Weights made by `dps-jax train`; by default the released ones."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return parsing.parse(Arguments, words, command="demo")


def run(arguments: Arguments) -> int:
    """Run the demonstration."""
    _checks.non_negative("--seed", arguments.seed)
    _checks.positive("--photons", arguments.photons)
    low, high = _SIDES_PX
    if not low <= arguments.size_px <= high:
        raise UserError(f"expected --size-px between {low} and {high}, got {arguments.size_px}.")
    from dps_jax.weights import load_network

    network = load_network(path=arguments.weights)
    with made_folder(arguments.output) as folder:
        _run(arguments, network, folder)
    say(
        f"wrote {folder}/: {', '.join(sorted(path.name for path in folder.iterdir() if path.name in _FILES))}"
    )
    return 0


def _run(arguments: Arguments, network: Network, folder: Path) -> None:
    from dps_jax.pipelines.compare import compare
    from dps_jax.pipelines.figure import draw_comparison
    from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire

    system, side = DEMO_SYSTEM, arguments.size_px
    made = acquire(arguments.seed, system, shape=(side, side), photons=arguments.photons, background=2.0)
    say(
        f"scene {arguments.seed}: NA {system.na}, {system.wavelength_nm:g} nm, pixel {system.pixel_size_nm:g} nm"
    )
    say("restoring it by every method (Richardson-Lucy tries up to 500 iterations for its oracle) ...")
    comparison = compare(made, network)
    about = {"operation": "demo", "seed": arguments.seed, "weights_sha256": network.sha256}
    _write_images(folder, made, comparison.images["ours"], about)
    _write_table(folder / "table.txt", arguments, comparison)
    try:
        draw_comparison(folder / "demo.png", made, comparison)
    except UserError as problem:
        say(f"note: {problem}")


def _write_images(folder: Path, made: Acquisition, restored: np.ndarray, about: dict[str, Any]) -> None:
    size = float(made.system.pixel_size_nm)
    fine = size * made.image.shape[-1] / made.truth.shape[-1]
    files = {"input": (made.image, size), "restored": (restored, fine), "truth": (made.truth, fine)}
    for name, (data, pixel_nm) in files.items():
        write_image(folder / f"{name}.tif", data, axes="YX", pixel_size_nm=pixel_nm, description=about)


def _write_table(path: Path, arguments: Arguments, comparison: Comparison) -> None:
    from dps_jax.pipelines.tables import score_table

    title = f"one scene of withheld families, {arguments.photons:g} photons (seed {arguments.seed})"
    table = score_table({k: [v] for k, v in comparison.scores.items()}, title=title)
    with atomic_path(path) as temporary:
        temporary.write_text(table, encoding="utf-8")
    print(table, end="")
