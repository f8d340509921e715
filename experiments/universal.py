"""One network, every microscope? The table of the universal network, on withheld families and targets.

Questions: does the released network beat Richardson-Lucy stopped by an oracle at every photon level; which line pairs
does it resolve; does it hold on instruments it was never trained on; and does it invent anything where there is
nothing?

Command:   python experiments/universal.py --output runs/universal_table
Cost:      about 15 minutes on 2 CPU cores, nearly all of it Richardson-Lucy, up to 500 iterations.
Writes:    OUTPUT.txt (the tables), OUTPUT.json (the numbers), OUTPUT.png (gain over photons).

Definitions: scores as in ``metrics.scores``; a line pair counts as resolved at a dip of 20 %, a separation when most
of its pairs do and those of every wider separation do. Oracle Richardson-Lucy is chosen by PSNR on each image.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from demo_scenes import PHOTONS, gains, score_scenes

from dps_jax.cli import configure_jax
from dps_jax.io import atomic_path, write_text
from dps_jax.metrics.line_pairs import line_pair_visibility
from dps_jax.optics import OpticalSystem
from dps_jax.pipelines.compare import compare
from dps_jax.pipelines.restore import restore
from dps_jax.pipelines.simulate import FACTOR, margin_px, photograph
from dps_jax.pipelines.tables import score_table
from dps_jax.synthetic.targets import random_line_pairs
from dps_jax.weights import Network, load_network

CANONICAL = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=75.0)

INSTRUMENTS = {
    "widefield, NA 0.8, 600 nm, 120 nm px": OpticalSystem(na=0.8, wavelength_nm=600.0, pixel_size_nm=120.0),
    "widefield, NA 1.4, 525 nm, 65 nm px": OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0),
    "confocal, NA 1.45, 700 nm, 50 nm px": OpticalSystem(na=1.45, wavelength_nm=700.0, pixel_size_nm=50.0),
    "SIM, m 1.8, NA 1.49, 450 nm, 32 nm px": OpticalSystem(
        na=1.49, wavelength_nm=450.0, pixel_size_nm=32.0, modulation=1.8
    ),
    "STED-like, m 3, NA 1.4, 660 nm, 20 nm px": OpticalSystem(
        na=1.4, wavelength_nm=660.0, pixel_size_nm=20.0, modulation=3.0
    ),
}

# Separations in Abbe periods, widest first; 1/1.5 and 1/1.67 are the promises.
SEPARATIONS = (1.25, 1.0, 0.9, 0.8, 1 / 1.4, 1 / 1.5, 1 / 1.67, 0.55, 0.5)
LEAST_DIP = 0.2


def line_pairs_resolved(network: Network, *, photons: float, scenes: int) -> dict[str, dict[str, float]]:
    """Return, for ours and for Richardson-Lucy, the share of pairs resolved at each separation."""
    shares: dict[str, dict[str, float]] = {"ours": {}, "RL (oracle)": {}}
    abbe_px, edge = FACTOR * float(CANONICAL.abbe_px), FACTOR * margin_px(CANONICAL)
    for separation in SEPARATIONS:
        dips: dict[str, list[float]] = {name: [] for name in shares}
        for seed in range(scenes):
            rng = np.random.default_rng([seed, round(1000 * separation)])
            frame, pairs = random_line_pairs(rng, (192, 192), abbe_px=abbe_px, separation_abbe=separation)
            scene = np.pad(frame, edge)
            result = compare(photograph(seed, scene, CANONICAL, photons=photons), network)
            for name in shares:
                found = line_pair_visibility(
                    result.images[name],
                    centres_px=[p.centre_px for p in pairs],
                    angles_rad=[p.angle_rad for p in pairs],
                    separations_px=[p.separation_px for p in pairs],
                    length_px=2 * abbe_px,
                )
                dips[name] += [float(d) for d in found]
        for name in shares:
            shares[name][f"{separation:.3f}"] = float(np.mean(np.array(dips[name]) >= LEAST_DIP))
    return shares


def smallest_resolved(shares: dict[str, float]) -> float:
    """Return the smallest separation, in Abbe periods, that is resolved as every wider one is; inf if none."""
    best = float("inf")
    for separation in sorted(map(float, shares), reverse=True):
        if shares[f"{separation:.3f}"] <= 0.5:
            break
        best = separation
    return best


def invention(network: Network, *, seeds: int = 8) -> dict[str, float]:
    """Return the contrast (standard deviation over mean) of restored fields that hold no structure.

    A flat field of photons holds only noise; averaged over a disc of one Abbe period, Poisson noise of n photons per
    pixel leaves a contrast of 1/sqrt(n N) for N pixels. What exceeds it after the same averaging was invented.
    """
    found = {}
    abbe_px = float(CANONICAL.abbe_px)
    yy, xx = np.mgrid[:128, :128] - 63.5
    blob = np.exp(-0.5 * (yy**2 + xx**2) / (8 * abbe_px) ** 2)
    for name, field in (("flat field", np.ones((128, 128))), ("smooth blob", blob)):
        for photons in (30, 300):
            excess = []
            for seed in range(seeds):
                counts = np.random.default_rng(seed).poisson(photons * field)
                result = restore(counts, CANONICAL, network, background=0.0).image
                binned = result.reshape(128, 2, 128, 2).sum((1, 3))
                inner = (slice(32, -32), slice(32, -32))
                pixel_noise = np.sqrt(photons * field)
                excess.append(np.std(((binned - photons * field) / pixel_noise)[inner]))
            # 1 is the photon noise of the raw image: a restoration that adds nothing is below it.
            found[f"{name}, {photons} photons"] = float(np.mean(excess))
    return found


def report(network: Network, scenes: int) -> tuple[str, dict[str, object]]:
    """Return the tables as text and all numbers."""
    lines, numbers = [], {"photons": {}, "instruments": {}}

    def say(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    for photons in PHOTONS:
        rows = score_scenes(network, photons=photons, scenes=scenes, system=CANONICAL)
        pairs = line_pairs_resolved(network, photons=photons, scenes=max(2, scenes // 7))
        say(score_table(rows, title=f"canonical sampling, {photons} photons, {scenes} withheld scenes"))
        gain = gains(rows, "RL (oracle)")
        say(f"PSNR over oracle RL: {gain['mean_db']:+.2f} ± {gain['standard_error_db']:.2f} dB")
        for name, shares in pairs.items():
            text = "  ".join(f"{k}: {v:.2f}" for k, v in shares.items())
            say(
                f"line pairs, {name}: smallest {smallest_resolved(shares):.3f} d (share at separation: {text})"
            )
        say("")
        numbers["photons"][photons] = {"gain": gain, "rows": rows, "line_pairs": pairs}
    for name, system in INSTRUMENTS.items():
        for photons in (100, 300):
            rows = score_scenes(network, photons=photons, scenes=scenes, system=system)
            gain = gains(rows, "RL (oracle)")
            out = {k: float(np.mean([r["out_of_band"] for r in rows[k]])) for k in ("ours", "RL (oracle)")}
            say(
                f"{name}, {photons} photons: {gain['mean_db']:+.2f} ± {gain['standard_error_db']:.2f} dB; "
                f"out-of-band {out['ours']:.3f} (RL {out['RL (oracle)']:.3f})"
            )
            numbers["instruments"][f"{name}, {photons}"] = {"gain": gain, "out_of_band": out}
    numbers["invention"] = invention(network)
    say("\nfields without structure, error in units of the photon noise of a raw pixel (1 = the raw image):")
    for name, value in numbers["invention"].items():
        say(f"  {name}: {value:.3f}")
    return "\n".join(lines) + "\n", numbers


def draw(path: Path, numbers: dict[str, object]) -> None:
    """Draw gain and out-of-band correlation over photons."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    levels = list(numbers["photons"])
    mean = [numbers["photons"][p]["gain"]["mean_db"] for p in levels]
    error = [numbers["photons"][p]["gain"]["standard_error_db"] for p in levels]
    left.errorbar(levels, mean, error, marker="o", capsize=3)
    left.axhline(0, color="0.6", linewidth=0.8)
    left.set(xscale="log", xlabel="photons", ylabel="PSNR over oracle Richardson-Lucy (dB)")
    for name in ("ours", "RL (oracle)", "RL + texture", "bicubic"):
        values = [np.mean([r["out_of_band"] for r in numbers["photons"][p]["rows"][name]]) for p in levels]
        right.plot(levels, values, marker="o", label=name)
    right.set(xscale="log", xlabel="photons", ylabel="correlation with the truth beyond the cut-off")
    right.legend(frameon=False)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary)


def main() -> None:
    """Print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("runs/universal_table"))
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--scenes", type=int, default=20)
    arguments = parser.parse_args()
    configure_jax()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    text, numbers = report(load_network(path=arguments.weights), arguments.scenes)
    write_text(arguments.output.with_suffix(".txt"), text)
    write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1))
    draw(arguments.output.with_suffix(".png"), numbers)


if __name__ == "__main__":
    main()
