"""Denoise withheld scenes and compare with what scikit-image can do at its very best.

Question: on structure families that training never saw (demo's microscope, 2 photons of background), how much noise
does one network take off, against non-local means, wavelets and total variation each tuned on the truth, image by
image? And what does a training cost that never saw a clean image?

Command:   python experiments/denoise.py --weights "clean images=dps_jax/weights/denoise.safetensors"
                                         --weights "photons split=runs/denoise_split.safetensors"
           (`experiments/train_denoise.py --mode split --output runs/denoise_split.safetensors` makes the second);
           needs PyWavelets beside the extra "test". --pixel-size-nm 40 and --no-oracles for other cameras, --repeats
           for two exposures of a real field.
Cost:      about 15 minutes on one CPU core, nearly all of it the oracles' trials.
Writes:    OUTPUT.txt (the tables), OUTPUT.json (every score), OUTPUT.png (one scene at 10 photons).

PSNR is taken as it stands, its range the maximum of the noise-free image; "scaled" allows one least-squares factor.
Each oracle tries strengths on the counts and on their Anscombe transform (with the unbiased inverse of Mäkitalo and
Foi 2011) and keeps what has the best PSNR: nobody could, without the truth. Ours are told gain and offset, as the
transform is; one row measures them on the image.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dps_jax.cli import configure_jax, keep_numpy_to_one_thread

if TYPE_CHECKING:  # these start JAX
    from dps_jax.pipelines.simulate import Acquisition
    from dps_jax.weights import Network

PHOTONS = (5, 10, 30, 100, 1000)
FIRST_SEED, SCENES, SIDE, BACKGROUND = 7000, 20, 128, 2.0
PIXEL_SIZE_NM = 65.0
ORACLES = ("non-local means", "wavelet", "total variation")
SCORES = {
    "psnr_db": ("PSNR (dB)", "{:.2f}"),
    "scaled_db": ("scaled (dB)", "{:.2f}"),
    "ssim": ("SSIM", "{:.3f}"),
}

Trial = Callable[[np.ndarray, float], Iterator[np.ndarray]]


def scores(image: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return the scores of an image against the noise-free one."""
    from dps_jax.metrics.image import psnr, ssim

    span = float(truth.max())
    return {
        "psnr_db": float(psnr(image, truth, data_range=span)),
        "scaled_db": float(psnr(image, truth, data_range=span, scale=True)),
        "ssim": float(ssim(image, truth, data_range=span)),
    }


def anscombe(counts: np.ndarray) -> np.ndarray:
    """Return Poisson counts with a noise of 1 everywhere (Anscombe 1948)."""
    return 2 * np.sqrt(np.maximum(counts, 0.0) + 0.375)


def anscombe_inverse(d: np.ndarray) -> np.ndarray:
    """Return expected counts from expected transformed counts (Mäkitalo and Foi 2011, closed form)."""
    d = np.maximum(d, anscombe(np.zeros(())))
    root = np.sqrt(1.5)
    return d**2 / 4 + root / (4 * d) - 11 / (8 * d**2) + 5 * root / (8 * d**3) - 1 / 8


def non_local_means(image: np.ndarray, sigma: float) -> Iterator[np.ndarray]:
    """Yield results of many strengths and patch sizes (Buades et al. 2005)."""
    from skimage.restoration import denoise_nl_means

    for size in (3, 5, 7):
        for strength in (0.3, 0.45, 0.6, 0.75, 0.9, 1.1, 1.4):
            options: dict[str, Any] = {"patch_size": size, "patch_distance": 9, "fast_mode": True}
            yield denoise_nl_means(image, h=strength * sigma, sigma=sigma, **options)


def wavelet(image: np.ndarray, sigma: float) -> Iterator[np.ndarray]:
    """Yield results of many strengths, wavelets and rules (Chang et al. 2000; Donoho and Johnstone 1994)."""
    from skimage.restoration import denoise_wavelet

    for rule, strengths in (
        ("BayesShrink", (0.7, 0.85, 1.0, 1.2, 1.5, 2.0)),
        ("VisuShrink", (0.25, 0.35, 0.5, 0.7)),
    ):
        for name in ("sym4", "db2"):
            for strength in strengths:
                yield denoise_wavelet(image, sigma=strength * sigma, wavelet=name, method=rule, mode="soft")


def total_variation(image: np.ndarray, sigma: float) -> Iterator[np.ndarray]:
    """Yield results of many strengths (Chambolle 2004)."""
    from skimage.restoration import denoise_tv_chambolle

    for strength in np.geomspace(0.15, 6, 16):
        yield denoise_tv_chambolle(image, weight=strength * sigma, max_num_iter=300)


def oracle(trials: Trial, made: Acquisition) -> np.ndarray:
    """Return the trial nearest to the truth, on the counts or on their Anscombe transform."""
    counts = np.asarray(made.image, np.float64)
    candidates = [*trials(counts, float(np.sqrt(made.expected.mean())))]
    candidates += [anscombe_inverse(i) for i in trials(anscombe(counts), 1.0)]
    return min(candidates, key=lambda i: float(np.mean((i - made.expected) ** 2)))


def ours(networks: dict[str, Network], made: Acquisition, orientations: int) -> dict[str, np.ndarray]:
    """Return the answers of every network, and of the first one with gain and offset measured."""
    from dps_jax.pipelines.denoise import denoise

    how: dict[str, Any] = {"abbe_px": float(made.system.abbe_px), "orientations": orientations}
    out = {
        f"ours, {name}": denoise(made.image, network, gain=1.0, offset=0.0, **how).image
        for name, network in networks.items()
    }
    first = next(iter(networks))
    out[f"ours, {first}, gain measured"] = denoise(made.image, networks[first], **how).image
    return out


def exposure(seed: int, photons: float, pixel_size_nm: float) -> Acquisition:
    """Take a picture of a withheld scene with the demo's optics and a camera of some pixel size."""
    from dps_jax.pipelines.simulate import DEMO_SYSTEM, acquire

    system = dataclasses.replace(DEMO_SYSTEM, pixel_size_nm=pixel_size_nm)
    return acquire(seed, system, shape=(SIDE, SIDE), photons=photons, background=BACKGROUND)


def score_level(
    networks: dict[str, Network],
    photons: float,
    *,
    scenes: int,
    oracles: bool = True,
    first_seed: int = FIRST_SEED,
    pixel_size_nm: float = PIXEL_SIZE_NM,
    orientations: int = 1,
) -> dict[str, list[dict[str, float]]]:
    """Return, for each method, its scores on each scene."""
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(first_seed, first_seed + scenes):
        made = exposure(seed, photons, pixel_size_nm)
        for name, image in answers(networks, made, oracles=oracles, orientations=orientations).items():
            rows.setdefault(name, []).append(scores(image, made.expected))
    return rows


def answers(
    networks: dict[str, Network], made: Acquisition, *, oracles: bool, orientations: int = 1
) -> dict[str, np.ndarray]:
    """Return the image as every method makes it."""
    trials: tuple[Trial, ...] = (non_local_means, wavelet, total_variation)
    best = {f"{n} (oracle)": oracle(t, made) for n, t in zip(ORACLES, trials, strict=True)} if oracles else {}
    return {"raw": made.image, **best, **ours(networks, made, orientations)}


def gain_on_repeats(network: Network, first: np.ndarray, second: np.ndarray, *, abbe_px: float) -> float:
    """Return how many dB a network takes off the noise of one exposure, by another one of the same field.

    The noise of the second is independent of what was made of the first: it adds its variance, half of that of their
    difference, to the squared distance of any estimate.
    """
    from dps_jax.pipelines.denoise import denoise

    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    variance = np.mean((first - second) ** 2) / 2
    left = np.mean((denoise(first, network, abbe_px=abbe_px).image - second) ** 2) - variance
    return float(10 * np.log10(variance / left))


def best_oracle(rows: dict[str, list[dict[str, float]]]) -> str:
    """Return the name of the oracle with the best mean PSNR."""
    names = [n for n in rows if n.endswith("(oracle)")]
    return max(names, key=lambda n: float(np.mean([r["psnr_db"] for r in rows[n]])))


def _mean(values: list[float], form: str) -> str:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{form.format(np.mean(values))} ± {form.format(error)}"


def gain_over(rows: dict[str, list[dict[str, float]]], name: str, other: str) -> list[float]:
    """Return how many dB a method is above another one, scene by scene."""
    return [a["psnr_db"] - b["psnr_db"] for a, b in zip(rows[name], rows[other], strict=True)]


def table(rows: dict[str, list[dict[str, float]]], title: str) -> str:
    """Return means and standard errors, and what each method gains over the raw image and the best oracle."""
    best = best_oracle(rows) if any(n.endswith("(oracle)") for n in rows) else None
    lines = [
        title,
        f"{'':<34}"
        + "".join(f"{h:>18}" for h, _ in SCORES.values())
        + f"{'over raw':>16}{'over best oracle':>18}",
    ]
    for name, entries in rows.items():
        cells = [_mean([e[k] for e in entries], form) for k, (_, form) in SCORES.items()]
        line = f"{name:<34}" + "".join(f"{c:>18}" for c in cells)
        line += f"{_mean(gain_over(rows, name, 'raw'), '{:+.2f}').replace('± +', '± '):>16}"
        if best is not None:
            line += f"{_mean(gain_over(rows, name, best), '{:+.2f}').replace('± +', '± '):>18}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def picture(path: Path, networks: dict[str, Network], *, seed: int, photons: float) -> None:
    """Draw one scene as every method makes it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from dps_jax.io import atomic_path

    made = exposure(seed, photons, PIXEL_SIZE_NM)
    images = {**answers(networks, made, oracles=True), "without noise": made.expected}
    columns = -(-len(images) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(3 * columns, 6.4), squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for axis, (name, image) in zip(axes.ravel(), images.items(), strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=float(made.expected.max()), interpolation="nearest")
        level = scores(image, made.expected)["psnr_db"]
        axis.set_title(name if np.isinf(level) else f"{name}\n{level:.1f} dB", fontsize=9)
    figure.suptitle(f"{photons:g} photons", fontsize=10)
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def main() -> None:
    """Score every level, print and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--weights", action="append", default=None, help="NAME=PATH, several; by default the released"
    )
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--pixel-size-nm", type=float, default=PIXEL_SIZE_NM, help="of the demo's camera")
    parser.add_argument("--orientations", type=int, default=1, help="1, 2, 4 or 8, as of pipelines.denoise")
    parser.add_argument("--photons", type=float, nargs="+", default=list(PHOTONS))
    parser.add_argument("--no-oracles", action="store_true", help="ours alone, in seconds")
    parser.add_argument(
        "--repeats",
        nargs=3,
        metavar=("FIRST", "SECOND", "ABBE_PX"),
        help="two exposures of one real field and the Abbe period in px, instead of scenes",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/denoise_scores"))
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    from dps_jax.io import read_image, write_text
    from dps_jax.weights import load_network, released_path

    named = [w.partition("=") for w in arguments.weights or [f"released={released_path(task='denoise')}"]]
    networks = {name: load_network(path=Path(path), task="denoise") for name, _, path in named}
    if arguments.repeats is not None:
        first, second = (read_image(Path(path)).data for path in arguments.repeats[:2])
        for name, network in networks.items():
            gain = gain_on_repeats(network, first, second, abbe_px=float(arguments.repeats[2]))
            print(f"ours, {name}: {gain:+.2f} dB")
        return
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    tables, numbers = [], {}
    options = {
        "oracles": not arguments.no_oracles,
        "pixel_size_nm": arguments.pixel_size_nm,
        "orientations": arguments.orientations,
    }
    for photons in arguments.photons:
        rows = score_level(networks, photons, scenes=arguments.scenes, **options)
        title = f"{arguments.scenes} withheld scenes (seeds {FIRST_SEED}..), {photons:g} photons"
        tables.append(table(rows, f"{title}, pixels of {arguments.pixel_size_nm:g} nm"))
        print(tables[-1], flush=True)
        numbers[f"{photons:g}"] = rows
        write_text(arguments.output.with_suffix(".txt"), "\n".join(tables))
        write_text(arguments.output.with_suffix(".json"), json.dumps(numbers, indent=1))
    if not arguments.no_oracles:
        picture(arguments.output.with_suffix(".png"), networks, seed=FIRST_SEED, photons=10)


if __name__ == "__main__":
    main()
