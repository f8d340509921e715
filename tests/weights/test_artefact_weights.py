"""The released files of the removal of artefacts: small, whole, and with what was measured in their header."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.io.errors import UserError
from dps_jax.synthetic.artefacts import ARTEFACTS
from dps_jax.synthetic.structures import TRAINING_FAMILIES
from dps_jax.training.artefact_data import KINDS
from dps_jax.weights import load_network, released_path

TASKS = {"artefacts": "res_u_net", "artefact-features": "artefact_features"}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_released_files_are_small_and_say_how_they_were_made(task):
    assert released_path(task=task).stat().st_size < 2e6
    network = load_network(task=task)
    assert network.abbe_px == 5.0
    assert network.header["model"] == TASKS[task]
    assert network.header["config"]["steps"] > 0
    assert isinstance(network.header["seed"], int)
    assert network.header["command"].startswith("python experiments/train_artefacts.py")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(network.params))
    with pytest.raises(UserError, match=f"expected weights to restore with, got some to {task} with"):
        load_network(path=released_path(task=task))


def test_the_network_carries_its_scores_and_the_features_it_was_trained_on():
    network = load_network(task="artefacts")
    assert set(network.header["numbers"]) == {"none", *ARTEFACTS}
    assert network.header["features_sha256"] == load_network(task="artefact-features").sha256


def test_the_extractor_names_what_it_sees_and_weighs_its_layers():
    network = load_network(task="artefact-features")
    assert (network.module.families, network.module.kinds) == (len(TRAINING_FAMILIES), len(KINDS))
    weights = network.header["layer_weights"]
    assert len(weights) == len(network.module.layers) == 9
    assert min(weights) > 0
    # Far above chance, which is an eighth and a tenth.
    assert network.header["numbers"]["right"]["kinds"] > 0.5
    assert network.header["numbers"]["right"]["families"] > 0.3
    features = network.module.apply({"params": network.params}, jnp.zeros((1, 16, 24, 1)))
    assert features["relu4_2"].shape[:3] == (1, 2, 3)
