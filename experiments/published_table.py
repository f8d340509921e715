"""The comparison that Ye et al. 2024 publish for six photographs, as an experiment that can be run.

Question: how do Richardson-Lucy, MSSR, sparse-Hessian, deep priors and this project's network, none of which was
trained on photographs, restore Barbara, Room, Cameraman, Lena, Peppers and Pirate?

Command:   python experiments/published_table.py --output runs/published
Cost:      about two hours on 2 CPU cores; resumed if stopped. --published gives the deep priors their published size
           and length (a GPU and a day).
Needs:     a folder with the six photographs (--images, by default ../shared/data/natural); without one,
           scikit-image's own.
Writes:    OUTPUT.txt (tables), OUTPUT.json (every number, with seconds and settings), OUTPUT.png (one case).

The published blur and noise are not public: this is our own experiment. Photographs are binned to 256 px, blurred by
one of three kernels, cut to their middle 128 px (so that light comes in from outside, which no method is told of) and
exposed to 100 or 1000 photons in a white pixel. Scores are PSNR for a range of 1, without a rim of 8 px. "*" marks what
an oracle chose for the truth: the iteration of Richardson-Lucy and of the deep priors, which fit the noise in the end,
the settings of the filters and of sparse-Hessian, and the shift of blind results. MSSR, which knows no amounts of
light, is scaled to the truth. Our network knows optics only: it is told those whose Airy pattern is most like the
kernel, and its result is binned to the photograph's pixels. It is adapted to the image where the kernel is one of
optics.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from skimage import data, img_as_float
from skimage.io import imread

from dps_jax import solvers
from dps_jax.cli import configure_jax, keep_numpy_to_one_thread
from dps_jax.io import atomic_path, write_text
from dps_jax.operators import convolve
from dps_jax.optics import OpticalSystem, airy_psf, gaussian_psf
from dps_jax.pipelines.adapt import adapt
from dps_jax.pipelines.restore import restore
from dps_jax.training.deep_prior import DeepPrior, Fit, make_fit
from dps_jax.weights import Network, load_network

NAMES = ("barbara", "room", "cameraman", "lena", "peppers", "pirate")
SPARE_NAMES = ("camera", "coins", "moon", "brick", "grass", "gravel")
PHOTONS = (100, 1000)
WIDE, SIDE, RIM = 256, 128, 8
KERNEL_PX = 17
LOOK_EVERY, FARTHEST = 20, 4
SRPSF, ADAPTED = "srPSF of 2.5 px", "ours, adapted"
PUBLISHED = {
    "proposed": (19.45, 21.78, 22.06, 21.15, 22.57, 22.33),
    "SelfDeblur": (18.76, 21.37, 19.69, 21.71, 25.85, 22.30),
    "RL": (12.83, 14.51, 11.17, 13.90, 12.58, 15.11),
}


def streak(length_px: float, degrees: float) -> np.ndarray:
    """Return the kernel of a camera that moves straight and evenly, ``KERNEL_PX`` a side."""
    along = np.linspace(-length_px / 2, length_px / 2, 2001)
    y, x = (
        KERNEL_PX // 2 + along * np.sin(np.deg2rad(degrees)),
        KERNEL_PX // 2 + along * np.cos(np.deg2rad(degrees)),
    )
    kernel, *_ = np.histogram2d(y, x, bins=KERNEL_PX, range=[[-0.5, KERNEL_PX - 0.5]] * 2)
    return (kernel / kernel.sum()).astype(np.float32)


def kernels() -> dict[str, np.ndarray]:
    """Return the three kernels, odd sides, unit sum."""
    return {
        SRPSF: np.asarray(airy_psf(abbe_px=2.5, size=25)),
        "Gaussian of 2 px": np.asarray(gaussian_psf(sigma_px=2.0)),
        "motion over 9 px": streak(9.0, 30.0),
    }


def wanted(method: str, kernel: str) -> bool:
    """Return whether a method is run on a kernel: adaptation needs the kernel to be one of optics."""
    return method != ADAPTED or kernel == SRPSF


def nearest_optics(kernel: np.ndarray) -> OpticalSystem:
    """Return the optics, on pixels of 100 nm, whose Airy pattern is closest to a kernel."""

    def apart(abbe_px: float) -> float:
        return float(np.sum((np.asarray(airy_psf(abbe_px=abbe_px, size=kernel.shape[0])) - kernel) ** 2))

    best = min(np.arange(2.0, 10.01, 0.1), key=apart)
    return OpticalSystem(na=1.0, wavelength_nm=200.0 * float(best), pixel_size_nm=100.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One photograph through one kernel at one light level; images in units of white."""

    truth: np.ndarray
    seen: np.ndarray
    psf: np.ndarray
    photons: float

    def score(self, image: np.ndarray) -> float:
        """Return PSNR in dB for a range of 1, without the rim."""
        return float(-10 * np.log10(_squared_error(np.asarray(image), self.truth)))


def _squared_error(image: jax.Array, truth: jax.Array) -> jax.Array:
    inner = (slice(RIM, -RIM),) * 2
    return ((image.clip(0, 1) - truth)[inner] ** 2).mean()


def make_case(photograph: np.ndarray, psf: np.ndarray, photons: float, seed: int) -> Case:
    """Blur, cut and expose a photograph ``(512, 512)`` between 0 and 1."""
    binned = photograph.reshape(WIDE, photograph.shape[0] // WIDE, WIDE, -1).mean((1, 3))
    middle = (slice((WIDE - SIDE) // 2, (WIDE + SIDE) // 2),) * 2
    blurred = np.asarray(convolve(jnp.asarray(binned), jnp.asarray(psf), boundary="reflect"))[middle]
    counts = np.random.default_rng(seed).poisson(photons * np.maximum(blurred, 0))
    return Case(binned[middle], (counts / photons).astype(np.float32), psf, photons)


Result = tuple[np.ndarray, str]


def best_of(case: Case, candidates: list[tuple[str, Callable[[], jax.Array]]]) -> Result:
    """Return the candidate that is closest to the truth, and its settings: an oracle's choice."""
    results = [(np.asarray(make()), said) for said, make in candidates]
    return max(results, key=lambda r: case.score(r[0]))


@jax.jit
def _oracle(seen: jax.Array, psf: jax.Array, truth: jax.Array) -> tuple[jax.Array, jax.Array]:
    best, at, _ = solvers.richardson_lucy_oracle(
        seen, psf, lambda x: -_squared_error(x, truth), iterations=300, factor=1
    )
    return best, at


# Compiled once for each setting, not once for each case.
@partial(jax.jit, static_argnames=("weight", "iterations"))
def _total_variation(seen: jax.Array, psf: jax.Array, *, weight: float, iterations: int) -> jax.Array:
    return solvers.richardson_lucy(seen, psf, iterations=iterations, tv_weight=weight, factor=1)


@partial(jax.jit, static_argnames=("fidelity", "sparsity", "iterations"))
def _sparse(
    seen: jax.Array, psf: jax.Array, *, fidelity: float, sparsity: float, iterations: int
) -> jax.Array:
    return solvers.sparse_hessian(
        seen, psf, fidelity=fidelity, sparsity=sparsity, deconvolution_iterations=iterations
    )


def richardson_lucy(case: Case) -> Result:
    """Stop where the truth says."""
    best, at = _oracle(jnp.asarray(case.seen), jnp.asarray(case.psf), jnp.asarray(case.truth))
    return np.asarray(best), f"iteration {int(at)}"


def total_variation(case: Case) -> Result:
    """Search Richardson-Lucy with total variation over weights and iterations."""
    return best_of(
        case,
        [
            (
                f"weight {w}, {n} iterations",
                partial(_total_variation, case.seen, case.psf, weight=w, iterations=n),
            )
            for w, n in itertools.product((0.002, 0.01, 0.03, 0.1), (10, 30, 80))
        ],
    )


def wiener(case: Case) -> Result:
    """Search the Wiener filter over its one number."""
    grid = [float(f"{k:.2g}") for k in 10.0 ** np.arange(-4, 0.6, 0.25)]
    return best_of(
        case,
        [
            (f"k {k}", lambda k=k: solvers.wiener(case.seen, case.psf, noise_to_signal=k, boundary="reflect"))
            for k in grid
        ],
    )


def sparse(case: Case) -> Result:
    """Search sparse-Hessian over fidelity, sparsity and the iterations of its last stage."""
    grid = itertools.product((5.0, 30.0, 150.0), (0.0, 5.0), (3, 10))
    return best_of(
        case,
        [
            (
                f"fidelity {f}, sparsity {s}, {n} iterations",
                partial(_sparse, case.seen, case.psf, fidelity=f, sparsity=s, iterations=n),
            )
            for f, s, n in grid
        ],
    )


def mssr(case: Case) -> Result:
    """Scale order 1 to the truth, as MSSR knows no amounts of light."""
    fwhm_px = 1.029 * float(nearest_optics(case.psf).abbe_px)
    image = np.asarray(solvers.mssr(case.seen, fwhm_px=fwhm_px, order=1, magnification=1))
    design = np.stack([image.ravel(), np.ones(image.size)], 1)
    slope, level = np.linalg.lstsq(design, case.truth.ravel(), rcond=None)[0]
    return slope * image + level, "order 1, scale and level fitted to the truth"


@cache
def _fit(prior: DeepPrior, psf_shape: tuple[int, ...] | None) -> Fit:
    fit = make_fit((SIDE, SIDE), prior, psf_shape=psf_shape)
    return Fit(jax.jit(fit.init), jax.jit(fit.step, donate_argnums=0), jax.jit(fit.result))


def deep_prior(case: Case, prior: DeepPrior, *, blind: bool) -> Result:
    """Fit untrained networks, stopped where the truth says; a blind result is moved to where it fits best."""
    fit = _fit(prior, None if blind else case.psf.shape)
    given = (case.seen,) if blind else (case.seen, case.psf)
    state = fit.init(jax.random.key(0), *given)
    shifts = list(itertools.product(range(-FARTHEST, FARTHEST + 1), repeat=2)) if blind else [(0, 0)]
    best, said = case.seen, "iteration 0"
    for done in range(1, prior.iterations + 1):
        state = fit.step(state)
        if done % LOOK_EVERY == 0:
            image = np.asarray(fit.result(state).image)
            moved = max((np.roll(image, s, (0, 1)) for s in shifts), key=case.score)
            if case.score(moved) > case.score(best) or done == LOOK_EVERY:
                best, said = moved, f"iteration {done}"
    return best, f"{said} of {prior.iterations}, {prior.features} features"


def ours(case: Case, network: Network, *, orientations: int = 1, steps: int = 0) -> Result:
    """Restore, after ``steps`` of adaptation to this image, and bin to the photograph's pixels."""
    system, counts, said = nearest_optics(case.psf), case.seen * case.photons, ""
    if steps:
        network, told = adapt(
            network,
            counts,
            system,
            iterations=steps,
            gain=1.0,
            offset=0.0,
            background=0.0,
            learning_rate=1e-3,
        )
        said = (
            f", {steps} steps: objective {told.before:.5f} to {told.after:.5f}, "
            f"{'kept' if told.kept else 'not kept'}"
        )
    restored = restore(
        counts, system, network, background=0.0, gain=1.0, offset=0.0, orientations=orientations
    )
    fine = np.asarray(restored.image)
    return (
        fine.reshape(SIDE, 2, SIDE, 2).sum((1, 3)) / case.photons,
        f"{float(system.abbe_px):.1f} px per period{said}",
    )


def photographs(folder: Path) -> dict[str, np.ndarray]:
    """Return six photographs between 0 and 1."""
    if folder.is_dir():
        return {name: img_as_float(imread(folder / f"{name}.png", as_gray=True)) for name in NAMES}
    print(f"{folder} is not there: scikit-image's own photographs are taken")
    images = {name: np.asarray(getattr(data, name)(), float) for name in SPARE_NAMES}
    cut = {
        name: i[: min(i.shape) // WIDE * WIDE, : min(i.shape) // WIDE * WIDE] for name, i in images.items()
    }
    return {name: (i / i.max()).astype(float) for name, i in cut.items()}


def table(
    numbers: dict[str, dict[str, float | str]], title: str, names: list[str], key: str, methods: list[str]
) -> str:
    """Return one table: a row per photograph and one for the mean, a column per method; the best in brackets."""
    lines = [title, f"{'':<12}" + "".join(f"{m:>14}" for m in methods)]
    rows = [
        [numbers.get(f"{name}, {key}, {m}", {}).get("psnr_db", np.nan) for m in methods] for name in names
    ]
    for name, row in zip(names, rows, strict=True):
        best = max(
            (v for m, v in zip(methods, row, strict=True) if m != "blurred" and v == v), default=np.nan
        )
        marked = [f"[{v:.2f}]" if v == best else f"{v:.2f} " for v in row]
        lines.append(f"{name:<12}" + "".join(f"{m:>14}" for m in marked))
    return "\n".join([*lines, f"{'mean':<12}" + "".join(f"{v:>13.2f} " for v in np.mean(rows, axis=0))])


def figure(path: Path, images: dict[str, np.ndarray], title: str) -> None:
    """Save what each method made of one photograph."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(images) // columns)
    fig = Figure(figsize=(3 * columns, 3.3 * rows), layout="constrained")
    FigureCanvasAgg(fig)
    fig.suptitle(title)
    for axis in (axes := fig.subplots(rows, columns)).ravel():
        axis.axis("off")
    for axis, (name, image) in zip(axes.ravel(), images.items(), strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=9)
    with atomic_path(path) as temporary:
        fig.savefig(temporary, dpi=110)


def main() -> None:
    """Fill every cell, saving as it goes; print and save the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--output", type=Path, default=Path("runs/published"))
    parser.add_argument("--images", type=Path, default=here.parent / "shared" / "data" / "natural")
    parser.add_argument("--iterations", type=int, default=200, help="of the deep priors")
    parser.add_argument("--features", type=int, default=16, help="of the deep priors")
    parser.add_argument("--adapt", type=int, default=300, help="steps of adaptation")
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="columns to fill, as the tables name them; by default all",
    )
    parser.add_argument("--published", action="store_true", help="deep priors as published: 5000, 128")
    arguments = parser.parse_args()
    keep_numpy_to_one_thread()
    configure_jax()
    network = load_network()
    prior = DeepPrior(kernel_px=KERNEL_PX, iterations=arguments.iterations, features=arguments.features)
    if arguments.published:
        prior = DeepPrior(kernel_px=KERNEL_PX)
    guided = dataclasses.replace(prior, guided=True)
    known: dict[str, Callable[[Case], Result]] = {
        "blurred": lambda case: (case.seen, ""),
        "RL*": richardson_lucy,
        "RL-TV*": total_variation,
        "Wiener*": wiener,
        "Sparse*": sparse,
        "MSSR*": mssr,
        "DIP*": lambda case: deep_prior(case, prior, blind=False),
        "ours": lambda case: ours(case, network),
        "ours, turned": lambda case: ours(case, network, orientations=8),
        ADAPTED: lambda case: ours(case, network, orientations=8, steps=arguments.adapt),
    }
    blind: dict[str, Callable[[Case], Result]] = {
        "blurred": known["blurred"],
        "SelfDeblur*": lambda case: deep_prior(case, prior, blind=True),
        "W-DIP*": lambda case: deep_prior(case, guided, blind=True),
    }
    saved = arguments.output.with_suffix(".json")
    methods = {**known, **blind}
    if unknown := set(arguments.methods or ()) - set(methods):
        parser.error(f"--methods: expected names of {', '.join(methods)}, got {', '.join(sorted(unknown))}")
    # What is filled does not change what it is filled with: a table can be completed by and by.
    said = {k: str(v) for k, v in vars(arguments).items() if k not in ("output", "methods")}
    numbers = json.loads(saved.read_text()) if saved.exists() else {"arguments": said}
    if numbers["arguments"] != said:
        parser.error(
            f"{saved} holds numbers of other arguments ({numbers['arguments']}); choose another --output"
        )
    images = photographs(arguments.images)
    kept = arguments.output.with_suffix("")  # the images of the one case that is drawn
    kept.mkdir(parents=True, exist_ok=True)
    # The cheap columns of every case first, then the fits, so that a run that is stopped leaves whole tables.
    asked = arguments.methods or list(methods)
    order = sorted(asked, key=lambda m: (m == ADAPTED or "DIP" in m or "Self" in m, m != ADAPTED))
    for method, (kernel, psf), photons in itertools.product(order, kernels().items(), PHOTONS):
        for number, (name, photograph) in enumerate(images.items()):
            key = f"{name}, {kernel}, {photons}, {method}"
            if key in numbers or not wanted(method, kernel):
                continue
            case = make_case(photograph, psf, photons, seed=number)
            start = time.perf_counter()
            image, said = methods[method](case)
            seconds = round(time.perf_counter() - start, 1)
            numbers[key] = {"psnr_db": round(case.score(image), 3), "seconds": seconds, "settings": said}
            print(key, numbers[key], flush=True)
            if (name, kernel, photons) == (list(images)[2], SRPSF, 1000):
                with atomic_path(kept / f"{method}.npy") as temporary:
                    np.save(temporary, image)
            saved.parent.mkdir(parents=True, exist_ok=True)
            write_text(saved, json.dumps(numbers, indent=1))
    text = []
    for kernel, photons in itertools.product(kernels(), PHOTONS):
        key = f"{kernel}, {photons}"
        for group, columns in (("kernel known", known), ("blind", blind)):
            title = f"{kernel}, {photons} photons, {group}: PSNR in dB"
            filled = [m for m in columns if any(f"{name}, {key}, {m}" in numbers for name in images)]
            if filled:
                text.append(table(numbers, title, list(images), key, filled))
    text.append("As published by Ye et al. 2024, for other blur and noise, for orientation only:")
    text += [f"{m:<12}" + "".join(f"{v:>10.2f}" for v in values) for m, values in PUBLISHED.items()]
    write_text(arguments.output.with_suffix(".txt"), "\n\n".join(text) + "\n")
    print("\n\n".join(text))
    shown = {
        f"{m}: {numbers[f'{list(images)[2]}, {SRPSF}, 1000, {m}']['psnr_db']:.2f} dB": np.load(
            kept / f"{m}.npy", allow_pickle=False
        )
        for m in methods
        if (kept / f"{m}.npy").exists()
    }
    if shown:
        figure(arguments.output.with_suffix(".png"), shown, f"{list(images)[2]}, {SRPSF}, 1000 photons")


if __name__ == "__main__":
    main()
