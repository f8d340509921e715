"""Piecewise-rigid registration: nearer to a true deformation than the best rigid shift can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.solvers import piecewise_rigid
from dps_jax.solvers.piecewise_rigid import patch_starts, spline_matrix
from dps_jax.synthetic import deformations, two_photon

compiled = jax.jit(piecewise_rigid, static_argnames=("patch_px", "stride_px"))


def deformed_movie(seed, *, frames=6, side=96, margin=20):
    rng = np.random.default_rng(seed)
    clean = two_photon.movie(rng, (side + 2 * margin,) * 2, frames=20 + frames)[0]
    flow = np.stack(
        [deformations.bump_flow(rng, (side, side)) + rng.normal(0, 2, (2, 1, 1)) for _ in range(frames)]
    )
    wide = np.pad(flow, [(0, 0), (0, 0), (margin, margin), (margin, margin)], mode="edge")
    inner = (..., slice(margin, -margin), slice(margin, -margin))
    moved = deformations.displaced(clean[20:], deformations.invert_flow(wide, iterations=12))
    return rng, clean[:20][inner], moved[inner], flow


@pytest.mark.parametrize("photons", [100, 10])
def test_nearer_to_the_truth_than_the_best_shift(photons):
    rng, still, moved, truth = deformed_movie(3)
    template = two_photon.count_photons(rng, still, photons=photons).mean(0)
    flow = np.asarray(compiled(two_photon.count_photons(rng, moved, photons=photons), template))
    assert flow.shape == truth.shape
    error = np.hypot(*np.moveaxis(flow - truth, 1, 0)).mean()
    rigid_at_best = np.hypot(*np.moveaxis(truth - truth.mean((-2, -1), keepdims=True), 1, 0)).mean()
    assert error < 0.6 * rigid_at_best


def test_a_shift_stays_a_shift_and_a_still_frame_still():
    clean = two_photon.movie(np.random.default_rng(0), (104, 104), frames=2)[0]
    shift = np.broadcast_to(np.array([2.3, -1.6])[:, None, None], (2, 104, 104))
    moved = deformations.displaced(clean[0], -shift)[12:-12, 12:-12]
    flow = compiled(jnp.stack([moved, clean[0, 12:-12, 12:-12]]), clean[0, 12:-12, 12:-12])
    # A tenth of a pixel: patches at the border lack what moved out of the frame.
    np.testing.assert_allclose(flow[0].mean((-2, -1)), [2.3, -1.6], rtol=0, atol=0.1)
    assert float(jnp.abs(flow[0] - shift[:, :80, :80]).max()) < 0.5
    np.testing.assert_allclose(flow[1], np.zeros((2, 80, 80)), rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("length", "patch", "stride"), [(128, 48, 16), (100, 32, 24), (20, 48, 16), (48, 48, 16)]
)
def test_patches_cover_the_image(length, patch, stride):
    starts = patch_starts(length, patch, stride)
    assert starts[0] == 0
    assert starts[-1] + patch == max(length, patch)
    assert np.all(np.diff(starts) <= stride)


def test_interpolation_keeps_constants_and_slopes():
    centres = np.array([10.0, 20.0, 30.0, 40.0, 50.0])
    weights = spline_matrix(np.arange(64), centres)
    np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-12)
    # B-splines hold straight lines where they do not feel the repeated ends, one knot in.
    np.testing.assert_allclose((weights @ centres)[20:41], np.arange(20, 41), rtol=1e-12)
    assert spline_matrix(np.arange(5), np.array([2.0])).shape == (5, 1)


def test_small_images_are_one_patch():
    assert compiled(jnp.ones((3, 20, 24)), jnp.ones((20, 24))).shape == (3, 2, 20, 24)


IMAGE = jnp.zeros((40, 40))
REFUSED = {
    "a template each": (lambda: piecewise_rigid(IMAGE[None], IMAGE[None]), r"expected a template \(y, x\)"),
    "patch": (lambda: piecewise_rigid(IMAGE, IMAGE, patch_px=0), "expected patch_px"),
    "stride": (lambda: piecewise_rigid(IMAGE, IMAGE, stride_px=0), "expected stride_px"),
    "deviation": (
        lambda: piecewise_rigid(IMAGE, IMAGE, largest_deviation_px=0.0),
        "expected largest_deviation_px",
    ),
    "sizes": (lambda: piecewise_rigid(IMAGE, jnp.zeros((40, 41))), "expected image and template of one size"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
