"""Kernels that are no PSF: one sentence, and no result in another unit or of NaN."""

import numpy as np
import pytest

from dps_jax import solvers
from dps_jax.optics import gaussian_psf

SOLVERS = {
    "richardson_lucy": lambda image, psf: solvers.richardson_lucy(image, psf, factor=1, iterations=2),
    "wiener": solvers.wiener,
    "tikhonov": solvers.tikhonov,
    "sparse_hessian": lambda image, psf: solvers.sparse_hessian(image, psf, iterations=2),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda psf: psf[:, 1:], "odd sides"),
        (lambda psf: np.where(psf == psf.max(), np.nan, psf), "without NaN or infinity"),
        (lambda psf: psf - 1e-3, "nowhere negative, got -0.0"),
        (lambda psf: 3 * psf, "sums to 1, got 3: divide it by its sum"),
        (lambda psf: 0 * psf, "sums to 1, got 0"),
    ],
    ids=["even", "nan", "negative", "three", "none"],
)
def test_kernels_that_are_no_psf_are_refused(rng, solver, change, message):
    psf = change(np.asarray(gaussian_psf(sigma_px=1.5, size=11)))
    with pytest.raises(ValueError, match=message):
        SOLVERS[solver](rng.random((24, 20)).astype(np.float32), psf)
