"""Every method on microscopy: synthetic scenes whose truth is known, and real images of five instruments; time, memory.

Question: with the settings that each method has by default, which one comes closest to the truth, which one agrees
with a second exposure, and what does it cost?

Command:   python experiments/microscopy_table.py --output runs/microscopy
Cost:      about 50 minutes on 2 CPU cores, most of it the blind methods; --parts real without them (--no-blind) 10.
Data:      the folder fluorescence/ of --data (default: $DPS_JAX_DATA, else ../shared/data); without it the synthetic
           scenes only.
Writes:    OUTPUT.txt (the tables) and OUTPUT.json.

Synthetic: withheld families, the demo's microscope, seeds 7000 and on, used by nothing else; scores at the promised
resolution, mean and standard error. "RL (oracle)" stops where the truth says, which no user can. Blind methods work on
the camera's own pixels and are interpolated. "RL + texture" is the control: the oracle's image with invented texture.

Real: each method as a user runs it, a process of its own on each exposure; seconds and peak memory are those of the
first, start of Python and compilation included. FRC is between the results of two exposures, where there are two, and
measures how well they agree, not how true they are; "-" is finer than two pixels. Misfit is how far the result, blurred
again, is from the raw image, in units of that image's noise: 1 is noise alone; MSSR's is no image of light. Where the
optics are not stated, the Abbe period is what decorrelation analysis reads in the raw image, and lengths are in units
of 1/100 px where the pixel's size is not stated either. Blind methods on the first file only.

Expected, PSNR in dB of six scenes at 100 and 1000 photons (the errors are those of very different scenes, and common to
all methods): ours 35.5 +- 2.4 and 41.0 +- 2.6; RL (oracle) 34.3 and 40.1; RL of 30 iterations 34.1 and 38.0; RL with
total variation 33.9 and 39.3; RL until explained 33.3 and 39.3; RL + texture 32.9 and 36.0; Wiener 32.3 and 37.3;
Tikhonov 31.8 and 37.8; sparse-Hessian at the paper's settings 29.6 and 31.2; bicubic 29.3 and 29.6; MSSR 25.3 and 24.4;
SelfDeblur 22.6 and 22.3 and W-DIP 21.2 and 22.2, blind, 400 iterations of 16 features. Out of band: ours 0.27 and 0.41,
RL (oracle) 0.25 and 0.31, RL with total variation 0.28 and 0.43, RL + texture 0.16 and 0.23.
Real, misfit of RL, RL with total variation, Wiener, Tikhonov, sparse-Hessian, MSSR and ours, in this order: confocal,
1.2 AU: 0.98, 0.96, 0.95, 0.92, 2.17, 4.74, 0.97; confocal, 0.4 AU: 0.97, 0.95, 0.93, 0.91, 1.34, 1.79, 0.98; gated
STED: 1.01, 1.00, 0.99, 0.98, 1.09, 1.09, 1.01; widefield embryo: 1.04, 1.03, 0.99, 0.96, 2.04, 9.21, 1.02; two-photon,
where an Airy pattern is not the PSF: 1.72, 1.64, 1.51, 1.54, 2.72, 12.0, 1.54; widefield beads of 8 bits, whose noise
was lost before: 4.9, 3.8, 3.4, 1.6, 24.7, 27.9, 3.2. On 512 x 512 real pixels: the filters 3 s, RL 3 to 5,
sparse-Hessian 7, ours 6, SelfDeblur 480, W-DIP 570; 0.3 GB, sparse-Hessian 0.4, ours 0.63.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread
from dps_jax.io import read_image, write_text
from dps_jax.metrics import decorrelation_resolution
from dps_jax.metrics.scores import scores_against_truth
from dps_jax.operators.sampling import resample
from dps_jax.pipelines.compare import compare
from dps_jax.pipelines.evaluate import evaluate
from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire
from dps_jax.pipelines.solve import solve
from dps_jax.pipelines.solve_methods import METHODS as SOLVED
from dps_jax.pipelines.solve_methods import ON_THE_OWN_GRID, Settings
from dps_jax.solvers import richardson_lucy_until_explained
from dps_jax.weights import Network, load_network

PHOTONS = (100, 1000)
FIRST_SEED, BACKGROUND = 7000, 2.0
# The rolling ball takes background off and sharpens nothing.
METHODS = tuple(method for method in SOLVED if method != "rolling-ball")


@dataclasses.dataclass(frozen=True)
class Source:
    """Files of one exposure or two, and what is known of their optics."""

    title: str
    names: tuple[str, ...]
    na: float | None = None
    wavelength_nm: float | None = None
    pixel_size_nm: float | None = None


SOURCES = (
    Source("confocal, 1.2 AU", ("confocal_mt_au1.2_a", "confocal_mt_au1.2_b"), 1.45, 525.0),
    Source("confocal, 0.4 AU", ("confocal_mt_au0.4_a", "confocal_mt_au0.4_b"), 1.45, 525.0),
    Source("gated STED", ("sted_cos7_tubulin",), pixel_size_nm=15.34),
    Source("widefield embryo", ("widefield_celegans",), pixel_size_nm=42.6),
    Source("two-photon", ("bpae_twophoton",), pixel_size_nm=100.0),
    Source("widefield beads", ("beads_widefield",), pixel_size_nm=100.0),
)


def synthetic(network: Network, photons: float, seed: int, short: Settings) -> dict[str, dict[str, float]]:
    """Return the scores of every method on one scene."""
    made = acquire(seed, DEMO_SYSTEM, shape=(128, 128), photons=photons, background=BACKGROUND)
    rows = compare(made, network).scores
    scores = {
        name: {k: rows[name][k] for k in ("psnr_db", "ssim", "out_of_band")}
        for name in ("bicubic", "RL (oracle)", "RL + texture", "ours")
    }
    images = {}
    for method in METHODS:
        settings = short if method in ON_THE_OWN_GRID else Settings()
        found = solve(made.image, made.system, method=method, settings=settings, background=BACKGROUND).image
        images[method] = (
            resample(jnp.asarray(found), 2.0, kernel="cubic") if method in ON_THE_OWN_GRID else found
        )
    images["RL until explained"], _ = richardson_lucy_until_explained(
        jnp.asarray(made.image, jnp.float32), made.psf, background=BACKGROUND, iterations=300
    )
    abbe_px = 2 * float(made.system.abbe_px)
    for name, image in images.items():
        found = scores_against_truth(jnp.asarray(image), jnp.asarray(made.truth), abbe_px=abbe_px)
        scores[name] = {k: float(v) for k, v in found.items()}
    return scores


def measured_run(words: list[str]) -> tuple[float, float]:
    """Run dps-jax in a process of its own; return seconds and peak memory in MiB.

    Memory is the kernel's own high-water mark, read while the process runs: what ``wait`` tells of a child begins with
    the memory of the process that started it. NaN where there is no such mark (it is Linux's).
    """
    start, peak = time.perf_counter(), float("nan")
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "dps_jax.cli", *words], stdout=subprocess.DEVNULL, stderr=said
        )
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            with contextlib.suppress(OSError):
                marks = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
                peak = float(marks[0]) / 1024 if marks else peak
            time.sleep(0.02)
        seconds = time.perf_counter() - start
        said.seek(0)
        message = said.read().decode()
    if process.returncode:
        raise RuntimeError(f"dps-jax {' '.join(words)} ended with {process.returncode}: {message[-500:]}")
    return seconds, peak


def optics_of(source: Source, raw: np.ndarray, pixel_size_nm: float) -> tuple[float, float]:
    """Return NA and wavelength: as stated, or an Abbe period of what decorrelation reads in the raw image."""
    if source.na is not None and source.wavelength_nm is not None:
        return source.na, source.wavelength_nm
    return 1.0, 2 * float(decorrelation_resolution(raw, pixel_size_nm=pixel_size_nm))


def real(folder: Path, source: Source, fits: list[str] | None) -> dict[str, dict[str, float]]:
    """Return scores, seconds and memory of every method on the exposures in ``folder``; blind ones if ``fits``."""
    paths = [folder / f"{name}.tif" for name in source.names]
    files = [read_image(path) for path in paths]
    pixel_nm = source.pixel_size_nm or float(files[0].pixel_size_nm or 0)
    raw = files[0].data.astype(np.float32)
    na, wavelength_nm = optics_of(source, raw, pixel_nm)
    optics = ["--na", str(na), "--wavelength-nm", str(wavelength_nm), "--pixel-size-nm", str(pixel_nm)]
    commands = {m: ["solve", m, *(fits or [])] if m in ON_THE_OWN_GRID else ["solve", m] for m in METHODS}
    if fits is None:
        commands = {m: words for m, words in commands.items() if m not in ON_THE_OWN_GRID}
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, words in {**commands, "ours": ["restore"]}.items():
            outputs = [Path(scratch) / f"{name}_{i}.tif" for i in range(len(paths))]
            costs = [
                measured_run([*words, str(path), "-o", str(output), *optics])
                for path, output in zip(paths, outputs, strict=True)
            ]
            results = [read_image(output) for output in outputs]
            found = evaluate(
                results[0].data,
                raw,
                repeat=results[1].data if len(results) > 1 else None,
                pixel_size_nm=float(results[0].pixel_size_nm or 0),
                abbe_nm=wavelength_nm / (2 * na),
            )
            rows[name] = {**found.scores, "seconds": costs[0][0], "memory_mib": costs[0][1]}
    return rows


COLUMNS = {
    "frc_nm": ("FRC nm", "{:.1f}"),
    "decorrelation_nm": ("decorrelation nm", "{:.1f}"),
    "rsp": ("RSP", "{:.4f}"),
    "misfit": ("misfit", "{:.2f}"),
    "seconds": ("seconds", "{:.1f}"),
    "memory_mib": ("memory MiB", "{:.0f}"),
}


def line(name: str, cells: list[str]) -> str:
    """Return one row of a table."""
    return f"{name:<20}" + "".join(f"{cell:>18}" for cell in cells)


def main() -> None:
    """Score, time, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("DPS_JAX_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=400, help="of the blind methods")
    parser.add_argument("--features", type=int, default=16, help="of the blind methods")
    parser.add_argument(
        "--no-blind", dest="blind", action="store_false", help="leave them out of the real images"
    )
    parser.add_argument("--parts", nargs="+", choices=("synthetic", "real"), default=("synthetic", "real"))
    parser.add_argument("--output", type=Path, default=Path("runs/microscopy"))
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    network, lines, numbers = load_network(), [], {}
    short = Settings(iterations=arguments.iterations, features=arguments.features)

    def say(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for photons in PHOTONS if "synthetic" in arguments.parts else ():
        rows = [synthetic(network, photons, FIRST_SEED + number, short) for number in range(arguments.scenes)]
        numbers[f"synthetic, {photons} photons"] = rows
        say(f"{arguments.scenes} synthetic scenes, {photons} photons")
        say(line("", ["PSNR dB", "SSIM", "out of band"]))
        names = sorted(rows[0], key=lambda n: -float(np.mean([row[n]["psnr_db"] for row in rows])))
        for name in names:
            cells = []
            for key, form in (("psnr_db", ".2f"), ("ssim", ".3f"), ("out_of_band", ".3f")):
                values = [row[name][key] for row in rows]
                error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
                cells.append(f"{np.mean(values):{form}} ± {error:{form}}")
            say(line(name, cells))
        say("")
    folder = arguments.data / "fluorescence"
    fits = ["--iterations", str(arguments.iterations), "--features", str(arguments.features)]
    if "real" in arguments.parts and not folder.is_dir():
        say(f"{folder} is not there: no real images")
    for source in SOURCES if "real" in arguments.parts and folder.is_dir() else ():
        blind = arguments.blind and source is SOURCES[0]
        found = real(folder, source, fits if blind else None)
        numbers[source.title] = found
        say(f"{source.title}: {', '.join(source.names)}")
        say(line("", [heading for heading, _ in COLUMNS.values()]))
        for name, row in found.items():
            say(line(name, [form.format(row[k]) if k in row else "-" for k, (_, form) in COLUMNS.items()]))
        say("")
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
