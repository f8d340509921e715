"""A real image of actin through a known PSF, without noise: the solvers are their formulas, and near the truth.

``experiments/actin.py`` measures more, sparse-Hessian among it.
"""

import numpy as np
import pytest

from dps_jax import solvers
from dps_jax.io import read_image


@pytest.fixture(scope="module")
def actin(data_folder):
    """Image, kernel and truth; the kernel's origin is pixel (127, 127), as its makers say."""
    blurred, psf, truth = (
        np.squeeze(read_image(data_folder / "fluorescence" / f"actin_{name}.tif").data).astype(np.float64)
        for name in ("blurred", "psf", "truth")
    )
    kernel = np.maximum(psf[:255, :255], 0)
    return blurred / psf.sum(), kernel / kernel.sum(), truth


def psnr(image, truth):
    """PSNR over the truth's range after one least-squares scale."""
    image = np.asarray(image, np.float64)
    scale = (image * truth).sum() / (image * image).sum()
    return 20 * np.log10(np.ptp(truth)) - 10 * np.log10(np.mean((scale * image - truth) ** 2))


def transfer(kernel, shape):
    grid = np.zeros(shape)
    grid[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.fft.rfft2(np.roll(grid, [-(k // 2) for k in kernel.shape], (0, 1)))


def filtered(image, otf):
    return np.fft.irfft2(np.fft.rfft2(image) * otf, s=image.shape)


def test_richardson_lucy_is_its_formula(actin):
    image, kernel, truth = actin
    otf, estimate = transfer(kernel, image.shape), np.full(image.shape, image.mean())
    for _ in range(20):
        ratio = image / np.maximum(filtered(estimate, otf), 1e-12)
        estimate = np.maximum(estimate * filtered(ratio, np.conj(otf)), 0)
    found = solvers.richardson_lucy(image, kernel, iterations=20, factor=1, boundary="wrap")
    assert abs(psnr(found, truth) - psnr(estimate, truth)) < 0.1


def test_wiener_is_its_formula_and_passes_35_db(actin):
    image, kernel, truth = actin
    otf = transfer(kernel, image.shape)
    for ratio in (1e-2, 1e-5):
        expected = filtered(image, np.conj(otf) / (np.abs(otf) ** 2 + ratio))
        found = solvers.wiener(image, kernel, noise_to_signal=ratio, boundary="wrap")
        assert abs(psnr(found, truth) - psnr(expected, truth)) < 0.1
    assert psnr(found, truth) > 35
