"""Every real image at hand, restored and judged without a truth, beside bicubic and Richardson-Lucy.

Question: on images of instruments that training never saw, by how much does the resolution that decorrelation analysis
reads improve, and does the result still explain the image (RSP, RSE)? And does a restored widefield image of beads come
closer to the SIM image of the same beads than Richardson-Lucy at any iteration?

Data:      the folder fluorescence/ of --data (default: $DPS_JAX_DATA, else ../shared/data).
Command:   python experiments/real_files.py --output runs/real_files
Cost:      about 12 minutes on 2 CPU cores, 6 GB of memory.
Expected:  see README: decorrelation improves 1.6 to 2.9 times, as it does for bicubic interpolation of the noise; the
           beads come closer to SIM than the raw image does, and as close as Richardson-Lucy at its best iteration.
Writes:    OUTPUT.txt (the table), OUTPUT.json, OUTPUT.png (middle crops, raw to restored).

Where the optics are not stated, the Abbe period is what decorrelation analysis reads in the raw image. Neither score
knows the truth: invented texture improves the first and hardly harms the second, as the last row of each file shows.
A reading cannot fall below the period of two output pixels; where 1.67 times the raw one would, the table says so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

keep_numpy_to_one_thread()
configure_jax()

from dps_jax.io import atomic_path, read_image, write_text  # noqa: E402
from dps_jax.metrics import decorrelation_resolution, squirrel  # noqa: E402
from dps_jax.operators.sampling import resample  # noqa: E402
from dps_jax.optics import OpticalSystem, srpsf  # noqa: E402
from dps_jax.pipelines import photometry  # noqa: E402
from dps_jax.pipelines.compare import invented_texture  # noqa: E402
from dps_jax.pipelines.restore import restore  # noqa: E402
from dps_jax.solvers.richardson_lucy import richardson_lucy, richardson_lucy_step  # noqa: E402
from dps_jax.weights import Network, load_network  # noqa: E402

PROMISED = 1.67
BEAD_ITERATIONS = 100
SIM_SHIFT = 3  # half pixels either way within which the SIM image of the beads lies
# The optics of the beads are not stated: decorrelation reads 10.4 px, the spectrum meets its floor between 8.5 and 6.4
# px, and 7.3 px is what NA 1.4, an emission of 665 nm and half a pixel of 65 nm would make.
BEAD_PERIODS_PX = (10.4, 8.5, 7.3, 6.4)


@dataclass(frozen=True)
class Source:
    """A file and what is known of its optics; without a wavelength they are read from the image."""

    name: str
    pixel_size_nm: float | None = None
    na: float = 1.0
    wavelength_nm: float | None = None


SOURCES = (
    Source("confocal_mt_au1.2_a", na=1.45, wavelength_nm=525.0),
    Source("confocal_mt_au0.4_a", na=1.45, wavelength_nm=525.0),
    Source("sted_cos7_tubulin", pixel_size_nm=15.34),
    Source("widefield_celegans", pixel_size_nm=42.6),
    # No pixel size is known: lengths are in units of 1/100 px.
    Source("actin_blurred", pixel_size_nm=100.0),
    Source("bpae_twophoton", pixel_size_nm=100.0),
    Source("beads_widefield", pixel_size_nm=100.0),
)


def load(source: Source, folder: Path) -> tuple[np.ndarray, OpticalSystem]:
    """Return an image and its optics."""
    file = read_image(folder / f"{source.name}.tif")
    image = file.data.astype(np.float64)
    pixel_nm = source.pixel_size_nm or float(file.pixel_size_nm or 0)
    wavelength = source.wavelength_nm
    if wavelength is None:
        # With an NA of 1 the Abbe period is half the wavelength.
        wavelength = 2 * float(decorrelation_resolution(image, pixel_size_nm=pixel_nm))
    return image, OpticalSystem(na=source.na, wavelength_nm=wavelength, pixel_size_nm=pixel_nm)


def restorations(image: np.ndarray, system: OpticalSystem, network: Network) -> dict[str, np.ndarray]:
    """Return the image above its background by every method, on the grid twice as fine."""
    level = photometry.background_level(image, abbe_px=float(system.abbe_px))
    above = jnp.asarray(image - level, jnp.float32)
    psf = fine_psf(system)
    out = {"bicubic": resample(above, 2.0, kernel="cubic")}
    for iterations in (10, 30):
        out[f"RL {iterations}"] = richardson_lucy(above, psf, iterations=iterations)
    out["ours"] = restore(image, system, network).image
    out["RL 30 + texture"] = invented_texture(np.asarray(out["RL 30"]), abbe_px=2 * float(system.abbe_px))
    return {name: np.asarray(value) for name, value in out.items()}


def fine_psf(system: OpticalSystem) -> jnp.ndarray:
    """Return the PSF on pixels half as long."""
    return srpsf(
        OpticalSystem(
            na=float(system.na),
            wavelength_nm=float(system.wavelength_nm),
            pixel_size_nm=float(system.pixel_size_nm) / 2,
        )
    )


def beads_like_sim(image: np.ndarray, network: Network, folder: Path) -> dict[str, dict[str, float]]:
    """Return correlations with the SIM image, by Abbe period: raw, ours, and Richardson-Lucy at its best iteration.

    The two images were not taken on one grid: each method is moved, by half pixels, to where it fits best, Richardson-
    Lucy by what suits its 30th iteration.
    """
    sim = read_image(folder / "beads_sim.tif").data.astype(np.float64)
    shifts = list(itertools.product(range(-SIM_SHIFT, SIM_SHIFT + 1), repeat=2))
    rim = (slice(8, -8),) * 2

    def correlation(result: np.ndarray, shift: tuple[int, int]) -> float:
        moved = np.roll(result, shift, (0, 1)).reshape(sim.shape[0], 2, sim.shape[1], 2).mean((1, 3))
        return float(np.corrcoef(moved[rim].ravel(), sim[rim].ravel())[0, 1])

    def best(result: np.ndarray) -> tuple[float, tuple[int, int]]:
        return max((correlation(result, shift), shift) for shift in shifts)

    raw = best(np.asarray(resample(jnp.asarray(image, jnp.float32), 2.0, kernel="cubic")))[0]
    found = {}
    for period_px in BEAD_PERIODS_PX:
        # With an NA of 1 and pixels of 100 nm the Abbe period in px is the wavelength over 200 nm.
        system = OpticalSystem(na=1.0, wavelength_nm=200.0 * period_px, pixel_size_nm=100.0)
        level = photometry.background_level(image, abbe_px=period_px)
        above, psf = jnp.asarray(image - level, jnp.float32), fine_psf(system)
        shift = best(np.asarray(richardson_lucy(above, psf, iterations=30)))[1]
        step, scores = jax.jit(richardson_lucy_step), []
        estimate = richardson_lucy(above, psf, iterations=1)
        for _ in range(BEAD_ITERATIONS):
            scores.append(correlation(np.asarray(estimate), shift))
            estimate = step(estimate, above, psf)
        found[f"{period_px:.1f} px"] = {
            "raw": raw,
            "ours": best(restore(image, system, network).image)[0],
            "RL best": max(scores),
            "RL best iteration": int(np.argmax(scores)) + 1,
        }
    return found


def draw(path: Path, pictures: list[tuple[str, dict[str, np.ndarray]]]) -> None:
    """Draw the middle of every file, by method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = ("bicubic", "RL 30", "ours")
    figure = Figure(figsize=(3 * len(names), 3 * len(pictures)), layout="constrained")
    for axes, (title, images) in zip(figure.subplots(len(pictures), len(names)), pictures, strict=True):
        for axis, name in zip(axes, names, strict=True):
            image = images[name]
            middle = [slice(n // 2 - 100, n // 2 + 100) for n in image.shape]
            crop = image[tuple(middle)]
            axis.imshow(crop, cmap="magma", vmin=0, vmax=np.percentile(crop, 99.8))
            axis.set_title(f"{title}: {name}", fontsize=7)
            axis.set_axis_off()
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})


def main() -> None:
    """Print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("DPS_JAX_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--weights", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=Path("runs/real_files"))
    arguments = parser.parse_args()
    network, folder = load_network(path=arguments.weights), arguments.data / "fluorescence"
    lines, numbers, pictures = [], {}, []

    def say(text: str) -> None:
        lines.append(text)
        print(text, flush=True)

    for source in SOURCES:
        image, system = load(source, folder)
        pixel_nm = float(system.pixel_size_nm)
        raw = float(decorrelation_resolution(image, pixel_size_nm=pixel_nm))
        allowed = raw / pixel_nm
        limit = (
            ""
            if allowed >= PROMISED
            else f"; its sampling allows {allowed:.2f}x at most on a grid twice as fine"
        )
        say(f"{source.name}: raw {raw:.1f} nm, Abbe period taken as {float(system.abbe_nm):.0f} nm{limit}")
        results = restorations(image, system, network)
        numbers[source.name] = {"raw_nm": raw}
        for name, result in results.items():
            nm = float(decorrelation_resolution(result, pixel_size_nm=pixel_nm / 2))
            found = squirrel(result, image)
            rse = found.rse / float(image.max() - image.min())
            numbers[source.name][name] = {"decorrelation_nm": nm, "rsp": found.rsp, "rse_of_range": rse}
            say(
                f"  {name:16} {nm:7.1f} nm  {raw / nm:5.2f}x  RSP {found.rsp:.4f}  RSE {100 * rse:.2f} % of range"
            )
        if source.name == "beads_widefield":
            likeness = beads_like_sim(image, network, folder)
            numbers[source.name]["correlation with SIM"] = likeness
            for period, scores in likeness.items():
                told = ", ".join(f"{k} {v:.4g}" for k, v in scores.items())
                say(f"  correlation with SIM, Abbe period taken as {period}: {told}")
        pictures.append((source.name, results))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1))
    draw(arguments.output.with_suffix(".png"), pictures)


if __name__ == "__main__":
    main()
