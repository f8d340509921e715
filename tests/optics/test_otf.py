"""The OTF against its definition, the overlap of two pupils, and its behaviour at the cut-off."""

import jax
import numpy as np
import pytest

from dps_jax.optics import incoherent_otf, radial_frequency


def test_overlap_of_two_discs():
    # The OTF is the autocorrelation of the pupil: share of a disc of diameter 1 covered by its copy at s.
    n = 1500
    axis = (np.arange(n) + 0.5) / n - 0.5
    y, x = axis[:, None], np.append(axis, axis + 1)[None, :]
    disc = np.hypot(y, x) < 0.5
    for s in (0.0, 0.1, 0.35, 0.6, 0.95):
        covered = (disc & (np.hypot(y, x - s) < 0.5)).sum() / disc.sum()
        # Counting squares errs by the pixels on the rim: about sqrt(2 pi n) of n^2, far below 1e-3.
        assert float(incoherent_otf(s, cutoff=1.0)) == pytest.approx(covered, abs=1e-3)


def test_zero_from_the_cutoff_on():
    cutoff = 0.2
    beyond = incoherent_otf(np.float32([0.2, 0.2001, 0.3, 1.0, 100.0]), cutoff=cutoff)
    assert np.all(np.asarray(beyond) == 0)
    assert np.all(np.asarray(incoherent_otf(np.float32([0.0, 0.1, 0.19, 0.199]), cutoff=cutoff)) > 0)
    # arccos of 1 - 1e-6 is 1.4e-3, so the clip that keeps its slope finite moves the peak by 2/pi * 1e-6 only.
    assert float(incoherent_otf(0.0, cutoff=cutoff)) == pytest.approx(1, abs=1e-6)


def test_even_and_scale_free():
    f = np.linspace(0, 1.5, 50, dtype=np.float32)
    np.testing.assert_array_equal(incoherent_otf(-f, cutoff=1.0), incoherent_otf(f, cutoff=1.0))
    np.testing.assert_allclose(incoherent_otf(f / 4, cutoff=0.25), incoherent_otf(f, cutoff=1.0), atol=1e-6)


def test_slope_is_the_closed_form_and_finite():
    f = np.float32([0.0, 0.1, 0.5, 0.9, 0.999, 1.0, 1.1])
    slope = jax.vmap(jax.grad(lambda s: incoherent_otf(s, cutoff=1.0)))(f)
    assert np.all(np.isfinite(slope))
    # d OTF / ds = -4/pi sqrt(1 - s^2); the absolute value has slope 0 or 1 at the origin, both are right.
    inside = f[1:4]
    np.testing.assert_allclose(slope[1:4], -4 / np.pi * np.sqrt(1 - inside**2), rtol=1e-4)
    assert np.all(np.asarray(slope[5:]) == 0)
    towards_cutoff = jax.grad(lambda c: incoherent_otf(0.5, cutoff=c))(1.0)
    np.testing.assert_allclose(towards_cutoff, 4 / np.pi * np.sqrt(0.75) * 0.5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (1, 5)])
def test_radial_frequency_layout(shape):
    full, half = radial_frequency(shape), radial_frequency(shape, half=True)
    assert full.dtype == np.float32
    assert full.shape == shape
    assert half.shape == (shape[0], shape[1] // 2 + 1)
    for i in range(shape[0]):
        for j in range(shape[1]):
            fy, fx = min(i, shape[0] - i) / shape[0], min(j, shape[1] - j) / shape[1]
            assert full[i, j] == pytest.approx(np.hypot(fy, fx), abs=1e-7)
            if j < half.shape[1]:
                assert half[i, j] == pytest.approx(full[i, j], abs=1e-7)
