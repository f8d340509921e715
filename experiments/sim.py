"""SIM reconstruction measured: stripes, detail beyond the cut-off, low light, real frames.

Question: are the stripes found well enough, is what is reconstructed beyond the cut-off true, and does the network help
where photons are few?

Command:   python experiments/sim.py --output runs/sim_table
Cost:      about 15 minutes on 2 CPU cores, 2 GB of memory.
Needs:     ../shared/data/sim (--data) for the real frames; without it that part is left out.
Writes:    OUTPUT.txt, OUTPUT.json, and OUTPUT_NAME.png for each real file.

Scenes are of the structure families withheld from training, 128 px a side, Abbe period 2.885 px, stripes of 0.9
cut-offs (give or take 3 %) and a depth of 0.8; photons are those of the brightest pixel in one of nine frames. The
detail's score is the correlation with the truth between 1 and 1.8 cut-offs, of all frequencies together and, in
brackets, averaged over rings. "*" marks a setting that an oracle chose for the truth. The control is the widefield
mean with invented texture beyond its cut-off.
"""

from __future__ import annotations

import argparse
import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread
from dps_jax.io import read_image, write_text
from dps_jax.metrics import out_of_band_correlation
from dps_jax.operators import convolve
from dps_jax.optics import OpticalSystem, RadialOtf, airy_psf
from dps_jax.pipelines.sim import SimSettings, reconstruct_sim
from dps_jax.pipelines.sim_file import SimOptions, sim_file
from dps_jax.pipelines.sim_learned import learned_sim
from dps_jax.pipelines.sim_refine import refine
from dps_jax.pipelines.simulate_sim import SimAcquisition, acquire_sim
from dps_jax.solvers import (
    estimate_illumination,
    noise_to_signal,
    sim_richardson_lucy,
    sim_wiener,
)
from dps_jax.weights import load_network

SYSTEM = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
ABBE_PX = float(SYSTEM.abbe_px)
OTF = RadialOtf.airy(ABBE_PX)
BEYOND = 1.8
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
ITERATIONS = (5, 10, 20, 40)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="name of the files to write, without ending"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/sim"))
    parser.add_argument("--scenes", type=int, default=20)
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    numbers: dict[str, object] = {}

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    numbers["stripes"] = stripes(arguments.scenes, say)
    numbers["detail"] = detail(arguments.scenes, say)
    numbers["low light"] = low_light(arguments.scenes, say)
    numbers["real"] = real(arguments.data, arguments.output, say)
    write_text(arguments.output.with_suffix(".txt"), "\n".join(lines) + "\n")
    write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1) + "\n")


def mean_error(values: list[float]) -> str:
    """Return mean and standard error."""
    return f"{np.mean(values):.3f} +- {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"


def stripes(scenes: int, say) -> dict[str, float]:
    """Errors of period and phase at a depth of 0.3 and 1000 photons, 256 px fields."""
    period, phase, depth = [], [], []
    for seed in range(5000, 5000 + scenes):
        made = acquire_sim(seed, SYSTEM, shape=(256, 256), photons=1000, modulation=0.3)
        found = estimate_illumination(made.frames, OTF).illumination
        for a in range(3):
            p, q = (np.asarray(i.wavevectors[a], float) for i in (made.illumination, found))
            phi, psi = (np.asarray(i.phases_rad[a], float) for i in (made.illumination, found))
            q, psi = (-q, -psi) if p @ q < 0 else (q, psi)
            period.append(100 * abs(np.linalg.norm(p) / np.linalg.norm(q) - 1))
            off = psi - phi + 2 * np.pi * 127.5 * (q - p).sum()
            phase.append(float(np.abs(np.degrees(np.angle(np.exp(1j * off)))).max()))
            depth.append(float(found.modulation[a, 0]))
    say(
        f"stripes, depth 0.3, 1000 photons, 256 px, {len(period)} angles, not refined: period off by "
        f"{np.median(period):.3f} % (largest {max(period):.3f} %), phase by {np.median(phase):.2f} degrees (largest "
        f"{max(phase):.2f}), depth {mean_error(depth)}"
    )
    return {
        "period_percent_largest": max(period),
        "phase_degrees_largest": max(phase),
        "depth_mean": float(np.mean(depth)),
    }


def pooled(image: np.ndarray, truth: np.ndarray) -> float:
    """Correlation of all frequencies between 1 and 1.8 cut-offs, both windowed."""
    window = np.multiply.outer(*(np.hanning(n) for n in truth.shape))
    a, b = (np.fft.fft2((i - i.mean()) * window) for i in (image, truth))
    f = np.hypot(np.fft.fftfreq(truth.shape[0])[:, None], np.fft.fftfreq(truth.shape[1])[None])
    part = (f > 0.5 / ABBE_PX) & (f < BEYOND * 0.5 / ABBE_PX)
    cross = np.sum((a * np.conj(b))[part]).real
    return float(cross / np.sqrt(np.sum(np.abs(a[part]) ** 2) * np.sum(np.abs(b[part]) ** 2)))


def rings(image: np.ndarray, truth: np.ndarray) -> float:
    """Return the same averaged over rings."""
    return float(out_of_band_correlation(image, truth, cutoff_cycles_px=0.5 / ABBE_PX, extension=BEYOND))


_wiener = jax.jit(lambda y, ill, w: sim_wiener(y, ill, OTF, noise_to_signal=w, apodisation=0.2))
_bare = jax.jit(lambda y, ill, w: sim_wiener(y, ill, OTF, noise_to_signal=w, apodisation=0.0))
_richardson_lucy = jax.jit(lambda y, ill, n: sim_richardson_lucy(y, ill, OTF, iterations=n))


def invented(made: SimAcquisition, seed: int) -> np.ndarray:
    """Return the mean frame with random texture beyond the cut-off, as bright as the truth's."""
    rng = np.random.default_rng(seed)
    even = np.kron(made.frames.mean((0, 1)), np.ones((2, 2))) / 4
    f = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in even.shape), indexing="ij"))
    beyond = (f > 0.5 / ABBE_PX) & (f < BEYOND * 0.5 / ABBE_PX)
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=even.shape)) * beyond).real
    strength = np.fft.ifft2(np.fft.fft2(made.truth) * beyond).real.std()
    return even + noise * (strength / noise.std()) * np.sqrt(np.maximum(even, 0) / max(even.mean(), 1e-9))


def detail(scenes: int, say) -> dict[str, dict[str, list[float]]]:
    """Score what each reconstruction knows beyond the cut-off, stripes found and refined, 1000 photons."""
    table: dict[str, list[tuple[float, float]]] = {}
    for seed in range(5000, 5000 + scenes):
        made = acquire_sim(seed, SYSTEM, photons=1000)
        found, _ = refine(made.frames, estimate_illumination(made.frames, OTF).illumination, (OTF, OTF))
        own = noise_to_signal(made.frames, OTF) or 3e-3
        y = jnp.asarray(made.frames)
        images = {
            "mean frame": np.kron(made.frames.mean((0, 1)), np.ones((2, 2))),
            "mean frame, invented texture": invented(made, seed),
            "wiener": _wiener(y, found, own),
            "richardson-lucy, 40": _richardson_lucy(y, found, jnp.asarray(40)),
            "wiener, true stripes": _wiener(y, made.illumination, own),
            "network": learned_sim(made.frames, found, (OTF, OTF), network(), noise_to_signal=own),
        }
        for name, image in images.items():
            image = np.asarray(image, float)
            table.setdefault(name, []).append((pooled(image, made.truth), rings(image, made.truth)))
    say(f"\ncorrelation with the truth from 1 to {BEYOND} cut-offs, 1000 photons, {scenes} scenes:")
    for name, rows in table.items():
        a, b = zip(*rows, strict=True)
        say(f"  {name:30} {mean_error(list(a))} ({mean_error(list(b))})")
    return {name: [list(r) for r in rows] for name, rows in table.items()}  # type: ignore[misc]


@cache
def network():
    """Return the released network, loaded once."""
    return load_network(task="sim")


def psnr(image: np.ndarray, target: np.ndarray) -> float:
    """PSNR after one least-squares scale, for the target's range, without a rim of 8 px."""
    a, b = (np.asarray(i, float)[8:-8, 8:-8] for i in (image, target))
    a = a * (a * b).sum() / max((a * a).sum(), 1e-30)
    return float(10 * np.log10(b.max() ** 2 / np.mean((a - b) ** 2)))


def low_light(scenes: int, say) -> dict[str, dict[str, list[float]]]:
    """Score against the object at the stripes' resolution; stripes known, as of calibrated instruments."""
    target_psf = airy_psf(abbe_px=2 * ABBE_PX / 1.9)
    found: dict[str, dict[str, list[float]]] = {}
    say(
        f"\nPSNR (dB) at the resolution of the stripes, {scenes} scenes, stripes known; * best for the truth:"
    )
    for photons in (5, 15, 100, 1000):
        rows: dict[str, list[float]] = {}
        for seed in range(5000, 5000 + scenes):
            made = acquire_sim(seed, SYSTEM, photons=photons)
            target = np.asarray(convolve(jnp.asarray(made.truth), target_psf))
            y, ill = jnp.asarray(made.frames), made.illumination
            own = noise_to_signal(made.frames, OTF) or 3e-3
            learned = learned_sim(made.frames, ill, (OTF, OTF), network(), noise_to_signal=own)

            def seen(x: jax.Array, target: np.ndarray = target) -> float:
                """Score an estimate of the object as it would look at the stripes' resolution."""
                return psnr(convolve(x, target_psf), target)

            scores = {
                "mean frame": psnr(np.kron(made.frames.mean((0, 1)), np.ones((2, 2))), target),
                "wiener": seen(_bare(y, ill, own)),
                "wiener*": max(seen(_bare(y, ill, w)) for w in STRENGTHS),
                "richardson-lucy*": max(seen(_richardson_lucy(y, ill, jnp.asarray(n))) for n in ITERATIONS),
                "network": psnr(learned, target),
            }
            for name, value in scores.items():
                rows.setdefault(name, []).append(value)
        gains = {
            name: mean_error([a - b for a, b in zip(rows["network"], rows[name], strict=True)])
            for name in ("wiener", "wiener*", "richardson-lucy*")
        }
        say(f"  {photons:5} photons: " + ", ".join(f"{n} {np.mean(v):.2f}" for n, v in rows.items()))
        say("                 network over " + ", ".join(f"{n} {g}" for n, g in gains.items()))
        found[str(photons)] = rows
    return found


def real(data: Path, output: Path, say) -> dict[str, object]:
    """Reconstruct the real and the published frames, by the command's own code."""
    if not data.is_dir():
        say(f"\nno real frames at {data}")
        return {}
    found: dict[str, object] = {}
    cases = {
        "raw_sim2d_microtubules": SimOptions(),
        "raw_sim3d_phantom": SimOptions(
            phases=5,
            frame_order="angle-plane-phase",
            pixel_size_nm=80.0,
            otf=data / "raw_sim3d_phantom_otf.tif",
            settings=SimSettings(orders=2),
        ),
    }
    for name, options in cases.items():
        say(f"\n{name}:")
        report = output.with_name(f"{output.name}_{name}.json")
        full = SimOptions(
            **{
                **{k: getattr(options, k) for k in options.__dataclass_fields__},
                "json": report,
                "figure": report.with_suffix(".png"),
            }
        )
        sim_file(data / f"{name}.tif", report.with_suffix(".tif"), full, log=say)
        numbers = json.loads(report.read_text())
        d = numbers["decorrelation_px"]
        say(
            f"decorrelation: mean frame {d['mean_frame']:.3f} px, reconstruction {d['reconstruction']:.3f} px, "
            f"{d['mean_frame'] / d['reconstruction']:.2f} times finer"
        )
        found[name] = numbers
    apart = vectors_apart(data / "raw_sim2d_microtubules.tif", found["raw_sim2d_microtubules"]["angles"])
    say(f"\nvectors against the peaks of (frame - mean) x mean: {apart:.3f} samples of the FFT apart at most")
    found["vectors_apart"] = apart
    found["own forward model"] = own_model(data, say)
    return found


def vectors_apart(path: Path, angles: list[dict[str, float]]) -> float:
    """Return by how much found vectors differ, along y or x, from an estimate that shares nothing with ours.

    A frame less the mean of its angle is the object times a wave; times that mean it is the object's square times the
    wave, whose transform has its peak at the vector. Median of the three frames, Hann window.
    """
    frames = read_image(path).data.astype(float)
    side = frames.shape[-1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    apart = 0.0
    for number, angle in enumerate(angles):
        stack = frames[3 * number : 3 * number + 3]
        mean = stack.mean(axis=0)
        own = side * np.array([angle["wavevector_y_per_px"], angle["wavevector_x_per_px"]])
        peaks = []
        for frame in stack:
            product = (frame * mean.mean() / frame.mean() - mean) * mean * window
            at, reach = np.round(own), 1.0
            while reach > 1e-3:
                steps = np.linspace(-reach, reach, 5)
                rows, columns = (
                    np.exp(-2j * np.pi * np.outer(a + steps, np.arange(side)) / side) for a in at
                )
                sizes = np.abs(rows @ product @ columns.T)
                i, j = np.unravel_index(np.argmax(sizes), sizes.shape)
                at, reach = at + np.array([steps[i], steps[j]]), reach / 2
            peaks.append(at)
        apart = max(apart, float(np.abs(np.median(peaks, axis=0) - own).max()))
    return apart


def own_model(data: Path, say) -> float:
    """Make the phantom's middle plane anew by our forward model, from its reconstruction, and reconstruct that."""
    import tifffile

    from dps_jax.pipelines.sim_otf import read_otf
    from dps_jax.solvers.sim_reconstruction import faded, periodic_frames

    pages = tifffile.imread(data / "raw_sim3d_phantom.tif").reshape(3, 9, 5, 64, 64)
    middle = pages[:, 4][None].astype(np.float64)
    otfs = read_otf(data / "raw_sim3d_phantom_otf.tif", orders=2)
    settings = SimSettings(orders=2, method="richardson-lucy", background=0.0)
    first = reconstruct_sim(middle, otfs, settings=settings)
    wide, margins = faded(jnp.asarray(first.image[0]))
    before = (margins[0] // 2, margins[1] // 2)
    made = np.asarray(periodic_frames(wide, first.illumination, otfs, before))
    made = made[..., before[0] : before[0] + 64, before[1] : before[1] + 64]
    again = reconstruct_sim(np.maximum(made, 0)[None], otfs, settings=settings)
    r = float(np.corrcoef(first.image.ravel(), again.image.ravel())[0, 1])
    frames = float(np.corrcoef(made.ravel(), middle[0].ravel())[0, 1])
    say(
        f"\nphantom, middle plane: frames of our own model correlate with the file's at {frames:.4f}; its "
        f"reconstruction from them with that from the file at {r:.4f}"
    )
    return r


if __name__ == "__main__":
    main()
