"""``dps-jax demo``: simulate a scene, restore it, score it, and leave everything to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dps_jax.cli import say
from dps_jax.io import UserError, write_image


@dataclass(frozen=True)
class Arguments:
    """Simulate a small scene as a microscope would see it, restore it with the released weights and score it.

    The scene's structures belong to families that the network was never trained on. The folder receives input,
    result and truth as TIFF, demo.png to look at, and table.txt.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("demo")
    """Folder for the files."""
    seed: int = 1
    """Seed of the scene and of its photons."""
    photons: float = 100.0
    """Expected photons in the brightest pixel."""
    size_px: int = 128
    """Side of the camera image in px."""
    weights: Path | None = None
    """Weights made by `dps-jax train`; by default the released ones."""


def parse(words: list[str]) -> Arguments:
    """Read the command's arguments."""
    return tyro.cli(Arguments, args=words, prog="dps-jax demo")


def run(arguments: Arguments) -> int:
    """Run the demonstration."""
    from dps_jax.pipelines.compare import compare
    from dps_jax.pipelines.figure import draw_comparison
    from dps_jax.pipelines.simulate import DEMO_SYSTEM, FACTOR, acquire
    from dps_jax.pipelines.tables import score_table
    from dps_jax.weights import load_network

    if arguments.size_px < 32:
        raise UserError(f"expected --size-px of 32 or more, got {arguments.size_px}.")
    network = load_network(arguments.weights)
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UserError(f"the output folder {arguments.output} cannot be made: {problem.strerror}.") from None
    system, side = DEMO_SYSTEM, arguments.size_px
    made = acquire(arguments.seed, system, shape=(side, side), photons=arguments.photons, background=2.0)
    say(f"scene {arguments.seed}: NA {system.na}, {system.wavelength_nm:g} nm, pixel {system.pixel_size_nm:g} nm")
    say("restoring it by every method (Richardson-Lucy tries 500 iterations for its oracle) ...")
    comparison = compare(made, network)
    size = float(system.pixel_size_nm)
    about = {"operation": "demo", "seed": arguments.seed, "weights_sha256": network.sha256}
    files = {"input": (made.image, size), "restored": (comparison.images["ours"], size / FACTOR)}
    files["truth"] = (made.truth, size / FACTOR)
    for name, (data, pixel_nm) in files.items():
        write_image(
            arguments.output / f"{name}.tif", data, axes="YX", pixel_size_nm=pixel_nm, description=about
        )
    title = f"one scene of withheld families, {arguments.photons:g} photons (seed {arguments.seed})"
    table = score_table({k: [v] for k, v in comparison.scores.items()}, title=title)
    (arguments.output / "table.txt").write_text(table, encoding="utf-8")
    print(table, end="")
    try:
        draw_comparison(arguments.output / "demo.png", made, comparison)
    except UserError as problem:
        say(f"note: {problem}")
    say(f"wrote {arguments.output}/: input.tif, restored.tif, truth.tif, demo.png, table.txt")
    return 0
