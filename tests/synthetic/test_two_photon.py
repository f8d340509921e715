"""Two-photon movies: cells with dark nuclei, firing that decays as the sensor does, photons that are counts."""

import numpy as np
import pytest

from dps_jax.synthetic import two_photon


@pytest.fixture(scope="module")
def drawn():
    return two_photon.movie(np.random.default_rng(5), (96, 112), frames=40)


def test_shapes_and_ranges(drawn):
    clean, traces, masks = drawn
    cells = len(masks)
    assert clean.shape == (40, 96, 112)
    assert traces.shape == (cells, 40)
    assert masks.shape == (cells, 96, 112)
    assert clean.dtype == traces.dtype == masks.dtype == np.float32
    assert clean.min() >= 0
    assert traces.min() >= 1 - 1e-6
    assert cells > 10
    np.testing.assert_allclose(masks.max((1, 2)), 1.0, rtol=1e-5)


def test_frames_differ_by_the_traces_alone(drawn):
    clean, traces, masks = drawn
    change = (clean - clean[:1]).reshape(40, -1).astype(float)
    basis = masks.reshape(len(masks), -1).astype(float)
    light = np.linalg.lstsq(basis.T, change.T, rcond=None)[0]
    np.testing.assert_allclose(light.T @ basis, change, rtol=0, atol=1e-5)
    moved = traces - traces[:, :1]
    firing = np.abs(moved).max(1) > 0.05
    share = (light[firing] * moved[firing]).sum(1) / (moved[firing] ** 2).sum(1)
    assert np.all((share > 0.3) & (share < 1.05))  # the resting brightness of each cell


def test_nuclei_are_dark():
    rng = np.random.default_rng(2)
    darker = 0
    for _ in range(20):
        cell = two_photon._cell(rng, (41, 41), np.array([20.0, 20.0]), 8.0)
        darker += cell[19:22, 19:22].mean() < 0.7
    assert darker >= 18


def test_one_spike_rises_fast_and_decays_as_the_sensor_does():
    traces = two_photon.firing(np.random.default_rng(0), 200, frames=300, frame_rate_hz=100.0, spikes_hz=0.05)
    assert traces.min() >= 1 - 1e-9
    change = traces - 1
    alone = [t for t in change if t[0] < 1e-4 and 0.75 < t.max() < 0.85 and t.argmax() < 150]
    assert alone
    for t in alone:
        peak = t.argmax()
        # Past the rise, 1 s is a factor exp(-1 / 0.6).
        late = t[peak + 50 : peak + 150]
        if len(late) == 100 and np.all(np.diff(late) < 0):
            assert late[-1] / late[0] == pytest.approx(np.exp(-0.99 / 0.6), rel=0.02)


def test_mean_activity_is_rate_times_the_area_of_a_spike():
    traces = two_photon.firing(np.random.default_rng(1), 3000, frames=60, spikes_hz=0.5)
    time = np.arange(0, 6, 1 / 30)
    spike = np.exp(-time / 0.6) - np.exp(-time / 0.08)
    # 3000 exponential rates: the mean is good to 1/sqrt(3000), 2 %, and the spikes' own number; four times that.
    expected = 0.5 * 0.8 * spike.sum() / 30 / spike.max()
    assert (traces - 1).mean() == pytest.approx(expected, rel=0.1)


def test_counts_are_poisson():
    clean = np.full((200, 200), 0.5, np.float32)
    counts = two_photon.count_photons(np.random.default_rng(0), clean, photons=8.0)
    assert counts.dtype == np.float32
    np.testing.assert_array_equal(counts, np.round(counts))
    # 40,000 pixels of mean 4: the mean is good to 2/200, the variance to sqrt(2) 4/200; four times that.
    assert counts.mean() == pytest.approx(4.0, abs=0.04)
    assert counts.var() == pytest.approx(4.0, abs=0.12)


RNG = np.random.default_rng(0)
REFUSED = {
    "frames": (lambda: two_photon.movie(RNG, (32, 32), frames=0), "expected frames"),
    "shape": (lambda: two_photon.movie(RNG, (32,), frames=3), r"expected shape as \(y, x\)"),
    "radius": (lambda: two_photon.movie(RNG, (32, 32), frames=3, radius_px=-1.0), "expected radius_px"),
    "cells": (lambda: two_photon.firing(RNG, 0, frames=3), "expected cells"),
    "photons": (lambda: two_photon.count_photons(RNG, np.ones((4, 4)), photons=0.0), "expected photons"),
    "negative": (
        lambda: two_photon.count_photons(RNG, -np.ones((4, 4)), photons=1.0),
        "expected a movie of 0 or more",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
