"""Adaptation: the objective on held-out photons of the image falls, the better network is kept, nothing is consumed."""

import dataclasses

import jax
import numpy as np
import pytest

from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines.adapt import adapt
from dps_jax.pipelines.simulate import acquire
from dps_jax.training import steps
from dps_jax.training.config import NetworkConfig, ObjectiveConfig, TrainConfig
from dps_jax.training.config_files import to_dict
from dps_jax.weights import Network

SYSTEM = OpticalSystem(na=1.4, wavelength_nm=525.0, pixel_size_nm=65.0)
CONFIG = TrainConfig(
    network=NetworkConfig(channels=(4, 8), iterates=(), consistency_steps=0),
    objective=ObjectiveConfig(shrunk_share=0.5),
    batch=4,
)


def _network_of(config):
    params = jax.device_get(steps.init_state(config)["params"])
    return Network(steps.network_of(config), params, 2.5, {"config": to_dict(config)})


@pytest.fixture(scope="module")
def network():
    return _network_of(CONFIG)


@pytest.fixture(scope="module")
def made():
    return acquire(2, SYSTEM, shape=(72, 80), photons=200.0)


def compiled(caplog):
    """Return how often a training step was compiled since the last time."""
    found = sum("Compiling jit(step)" in record.getMessage() for record in caplog.records)
    caplog.clear()
    return found


def test_the_objective_falls_and_the_better_network_is_kept(network, made, caplog):
    before = jax.tree.map(np.array, network.params)
    seen = []
    with jax.log_compiles():
        adapted, told = adapt(
            network,
            made.image,
            SYSTEM,
            iterations=25,
            gain=1.0,
            offset=0.0,
            learning_rate=1e-2,
            progress=lambda done, total: seen.append((done, total)),
        )
    assert compiled(caplog) == 1
    assert told.kept
    assert told.after < 0.8 * told.before  # an untrained network learns fast
    assert told.unseen_after < 0.8 * told.unseen_before
    assert seen == [(i, 25) for i in range(1, 26)]
    assert all(
        np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, network.params)), strict=True)
    )
    settings = {"iterations": 25, "gain": 1.0, "offset": 0.0, "learning_rate": 1e-2}
    with jax.log_compiles():
        again, told_again = adapt(network, made.image, SYSTEM, **settings)
        adapt(
            network, made.image[8:, :64], SYSTEM, seed=1, **settings
        )  # another image, and other crops of it
    assert compiled(caplog) == 0
    assert told_again == told
    assert all(
        np.array_equal(a, b)
        for a, b in zip(*map(jax.tree.leaves, (adapted.params, again.params)), strict=True)
    )


def test_a_network_that_got_worse_is_dropped(network, made):
    kept, told = adapt(network, made.image, SYSTEM, iterations=3, gain=1.0, offset=0.0, learning_rate=30.0)
    assert not told.kept
    assert not told.after < told.before
    assert kept is network


def test_smoothing_is_not_kept_however_the_objective_falls(made):
    # An objective that asks for smoothness alone is met by smoothing, and unseen photons are predicted worse for it.
    smooth = dataclasses.replace(CONFIG.objective, hessian=50.0, weighted_l2=0.01, ssim=0.0, shrunk_share=0.0)
    trained, _ = adapt(
        _network_of(CONFIG), made.image, SYSTEM, iterations=40, gain=1.0, offset=0.0, learning_rate=5e-3
    )
    bent = dataclasses.replace(
        trained, header={"config": to_dict(dataclasses.replace(CONFIG, objective=smooth))}
    )
    kept, told = adapt(bent, made.image, SYSTEM, iterations=25, gain=1.0, offset=0.0, learning_rate=5e-3)
    assert told.after < told.before
    assert told.unseen_after > told.unseen_before
    assert kept is bent
    assert not told.kept


def test_refusals(network, made):
    with pytest.raises(ValueError, match="iterations"):
        adapt(network, made.image, SYSTEM, iterations=0)
    with pytest.raises(ValueError, match="weights that carry the config of their training"):
        adapt(dataclasses.replace(network, header={}), made.image, SYSTEM, iterations=1)
    smooth = np.outer(np.hanning(64), np.hanning(64)).astype(np.float32)
    with pytest.raises(ValueError, match="expected a gain, to split the image into photons; it is unknown"):
        adapt(network, np.zeros_like(smooth) + 3, SYSTEM, iterations=1)
