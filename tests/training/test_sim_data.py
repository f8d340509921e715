"""Pairs for the learned SIM reconstruction: repeatable, consistent, and learnable."""

import dataclasses

import jax
import numpy as np
import pytest

from dps_jax.training.pairs import train_pairs
from dps_jax.training.sim_data import SimConfig, make_batches, sim_network

SMALL = SimConfig(
    channels=(8, 16),
    patch_px=32,
    batch=4,
    orientations=1,
    steps=12,
    margin_px=4,
    log_every=4,
    checkpoint_every=12,
)


@pytest.fixture(scope="module")
def batches():
    return make_batches(SMALL)


def test_a_batch_is_a_function_of_its_step(batches):
    first, again, other = batches(3), make_batches(SMALL)(3), batches(4)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        assert np.abs(value - other[name]).max() > 0
    assert first["input"].shape == (4, 32, 32, 10)
    assert first["target"].shape == (4, 64, 64)


def test_target_and_features_hold_the_same_light(batches):
    # With so many photons that noise is nothing, the mean frame is the target, blurred and binned: the same light, up
    # to what a blur carries across the borders of a patch.
    bright = make_batches(SimConfig(patch_px=48, batch=4, orientations=1, photons=(1e6, 1e6)))(0)
    mean = bright["input"][..., 0].mean((1, 2))
    np.testing.assert_allclose(bright["target"].mean((1, 2)), mean, rtol=0.25)
    # The linear reconstruction keeps the light of the mean frame, but for the fading of its borders; to Richardson-Lucy
    # light at a border may as well come from beyond it.
    np.testing.assert_allclose(bright["input"][..., 5:9].mean((1, 2, 3)), mean, rtol=0.05)
    np.testing.assert_allclose(bright["input"][..., 1:5].mean((1, 2, 3)), mean, rtol=0.25)


def test_each_pair_is_seen_in_every_round_and_turned():
    config = dataclasses.replace(SMALL, batch=2, orientations=2)
    seen = [make_batches(config)(step) for step in range(5)]

    def light(batch):  # which a turn does not change
        return np.sort(batch["target"].mean((1, 2)))

    first, second = (np.sort(np.concatenate([light(b) for b in part])) for part in (seen[:2], seen[2:4]))
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert len(np.unique(first)) == 4
    assert not np.isin(light(seen[4]), first).any()
    targets = [{t.tobytes() for b in part for t in b["target"]} for part in (seen[:2], seen[2:4])]
    assert not targets[0] & targets[1]


@pytest.mark.parametrize("orientations", [0, 9, 4.0])
def test_orientations_that_there_are_not(orientations):
    with pytest.raises(ValueError, match=r"expected orientations (from|to be a whole number of) 1 "):
        SimConfig(orientations=orientations)


def test_training_lowers_the_loss(tmp_path, batches):
    lines = []
    module = sim_network(SMALL)
    fixed = batches(0)
    params = train_pairs(SMALL, tmp_path / "run", module, lambda step: fixed, report=lines.append)
    # On one batch, over and over: from the classical reconstruction to something nearer.
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
    apply = jax.jit(module.apply)
    answer = np.asarray(apply({"params": params}, fixed["input"]))[..., 0]
    base = np.asarray(apply({"params": jax.tree.map(np.zeros_like, params)}, fixed["input"]))[..., 0]
    assert np.mean((answer - fixed["target"]) ** 2) < np.mean((base - fixed["target"]) ** 2)
