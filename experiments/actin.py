"""The classical methods on a real image of actin, blurred without noise by a known PSF: they are their formulas.

Question: does each solver give what its formula gives in NumPy (float64, circular, as the image was blurred), and how
near to the truth does the best of them come?

Command:   python experiments/actin.py --folder FOLDER
Cost:      about 3 minutes on 2 CPU cores.
Needs:     FOLDER with actin_blurred.tif, actin_psf.tif and actin_truth.tif (see the data's own licence; not in the
           repository).
Expected:  Richardson-Lucy 45.7 dB after 100 steps (57.9 after 500 accelerated ones) and Wiener 63.8 dB at 1e-5, each
           within 0.01 dB of its formula; below that float32 rounds what is left (68.4 dB for 79.4).

PSNR over the truth's range after one least-squares scale. The image was blurred on a periodic grid, and nothing beyond
its border is made up: every method runs with a periodic boundary.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from scipy.signal import fftconvolve

from dps_jax import solvers
from dps_jax.cli import configure_jax
from dps_jax.io import read_image
from dps_jax.pipelines.measured_psf import usable_psf


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Return PSNR in dB after one least-squares scale."""
    image = np.asarray(image, np.float64)
    scale = (image * truth).sum() / (image * image).sum()
    return float(20 * np.log10(np.ptp(truth)) - 10 * np.log10(np.mean((scale * image - truth) ** 2)))


def transfer(psf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the transform of a kernel, its middle at the origin, on a periodic grid; float64."""
    grid = np.zeros(shape)
    grid[: psf.shape[0], : psf.shape[1]] = psf
    return np.fft.rfft2(np.roll(grid, [-(k // 2) for k in psf.shape], (0, 1)))


def filtered(image: np.ndarray, otf: np.ndarray) -> np.ndarray:
    """Multiply by a transfer function."""
    return np.fft.irfft2(np.fft.rfft2(image) * otf, s=image.shape)


def richardson_lucy_formula(image: np.ndarray, otf: np.ndarray, iterations: int) -> np.ndarray:
    """Run the textbook iteration in NumPy."""
    estimate = np.full(image.shape, image.mean())
    for _ in range(iterations):
        ratio = image / np.maximum(filtered(estimate, otf), 1e-12)
        estimate = np.maximum(estimate * filtered(ratio, np.conj(otf)), 0)
    return estimate


def wiener_formula(image: np.ndarray, otf: np.ndarray, ratio: float) -> np.ndarray:
    """Apply the Wiener filter in NumPy."""
    return filtered(image, np.conj(otf) / (np.abs(otf) ** 2 + ratio))


def sparse_hessian_formula(
    image: np.ndarray, psf: np.ndarray, *, fidelity: float, iterations: int
) -> np.ndarray:
    """Run Zhao et al. 2022 without sparsity in NumPy: split Bregman under the Hessian, then accelerated RL.

    Both continue the image by its mirror image, as the solver does. The operators are those of the paper's formula:
    ``x_xx`` and ``x_yy`` as central differences, ``2 x_xy`` as forward ones.
    """
    unit = image.max()
    data = np.pad(image / unit, 8, mode="symmetric")
    wy, wx = (np.exp(2j * np.pi * f) for f in np.meshgrid(*map(np.fft.fftfreq, data.shape), indexing="ij"))
    transfers = [wx - 2 + 1 / wx, wy - 2 + 1 / wy, 2 * (wx - 1) * (wy - 1)]
    total = fidelity + sum(np.abs(t) ** 2 for t in transfers)
    splits, bregmans = [[np.zeros_like(data) for _ in transfers] for _ in range(2)]
    for _ in range(100):
        pull = sum(
            np.conj(t) * np.fft.fft2(d - b) for t, d, b in zip(transfers, splits, bregmans, strict=True)
        )
        spectrum = (fidelity * np.fft.fft2(data) + pull) / total
        for i, t in enumerate(transfers):
            wanted = np.fft.ifft2(t * spectrum).real + bregmans[i]
            splits[i] = np.sign(wanted) * np.maximum(np.abs(wanted) - 1, 0)
            bregmans[i] = wanted - splits[i]
    clean = unit * np.maximum(np.fft.ifft2(spectrum).real[8:-8, 8:-8], 0)

    def blurred(x: np.ndarray) -> np.ndarray:
        reach = psf.shape[0] // 2
        return fftconvolve(np.pad(x, reach, mode="symmetric"), psf, mode="valid")

    def blurred_back(x: np.ndarray) -> np.ndarray:
        """Apply the adjoint: what went into the mirrored rim comes back where it was mirrored from."""
        reach = psf.shape[0] // 2
        wide = fftconvolve(x, psf[::-1, ::-1], mode="full")
        for axis in (0, 1):
            wide = np.moveaxis(wide, axis, 0)
            inner = wide[reach:-reach].copy()
            inner[:reach] += wide[:reach][::-1]
            inner[-reach:] += wide[-reach:][::-1]
            wide = np.moveaxis(inner, 0, axis)
        return wide

    seen = blurred_back(np.ones_like(clean))
    x = before = np.full_like(clean, clean.mean())
    change = change_before = np.zeros_like(clean)
    for _ in range(iterations):
        share = np.clip((change * change_before).sum() / max((change_before**2).sum(), 1e-12), 0, 1)
        ahead = np.maximum(x + share * (x - before), 0)
        new = ahead * blurred_back(clean / np.maximum(blurred(ahead), 1e-6 * clean.mean())) / seen
        x, before, change, change_before = new, x, new - ahead, change
    return x * image.sum() / x.sum()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    configure_jax()
    blurred, psf, truth = (
        np.squeeze(read_image(arguments.folder / f"actin_{name}.tif").data).astype(np.float64)
        for name in ("blurred", "psf", "truth")
    )
    # The kernel's origin is pixel (127, 127), as its makers say; its brightest pixel lies beside it.
    kernel, notes = usable_psf(psf[:255, :255])
    for note in notes:
        print(f"note: {note}")
    image, otf = (blurred / psf.sum()).astype(np.float32), transfer(kernel.astype(np.float64), blurred.shape)
    rl = partial(solvers.richardson_lucy, psf=kernel, factor=1, boundary="wrap")
    rows: list[tuple[str, Callable[..., jax.Array], np.ndarray | None]] = [
        *(
            (f"Richardson-Lucy, {n}", partial(rl, iterations=n), richardson_lucy_formula(image, otf, n))
            for n in (20, 100, 500)
        ),
        ("Richardson-Lucy accelerated, 500", partial(rl, iterations=500, accelerated=True), None),
        *(
            (
                f"Wiener, {k:g}",
                partial(solvers.wiener, psf=kernel, noise_to_signal=k, boundary="wrap"),
                wiener_formula(image, otf, k),
            )
            for k in (1e-3, 1e-5, 1e-7)
        ),
        ("Tikhonov, 1e-07", partial(solvers.tikhonov, psf=kernel, weight=1e-7, boundary="wrap"), None),
        *(
            (
                f"sparse-Hessian, {fidelity:g} / 0, {n}",
                partial(
                    solvers.sparse_hessian,
                    psf=kernel,
                    fidelity=fidelity,
                    sparsity=0.0,
                    deconvolution_iterations=n,
                ),
                sparse_hessian_formula(
                    image.astype(np.float64), kernel.astype(np.float64), fidelity=fidelity, iterations=n
                ),
            )
            for fidelity, n in ((150.0, 10), (1e4, 50))
        ),
    ]
    print(f"{'method':<36}{'PSNR (dB)':>10}{'formula':>10}{'difference':>12}")
    print(f"{'blurred, as it is':<36}{psnr(image, truth):>10.2f}")
    for name, solve, formula in rows:
        ours = psnr(np.asarray(jax.jit(solve)(image)), truth)
        if formula is None:
            print(f"{name:<36}{ours:>10.2f}", flush=True)
        else:
            theirs = psnr(formula, truth)
            print(f"{name:<36}{ours:>10.2f}{theirs:>10.2f}{ours - theirs:>12.3f}", flush=True)


if __name__ == "__main__":
    main()
