"""The released files of the removal of artefacts: small, whole, and with what was measured in their header."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax.io.errors import UserError
from dps_jax.pipelines.artefacts import EXCESS, RAISED
from dps_jax.synthetic.artefacts import ARTEFACTS
from dps_jax.synthetic.structures import TRAINING_FAMILIES
from dps_jax.training.artefact_data import KINDS
from dps_jax.weights import load_network, released_path, save_network

TASKS = {"artefacts": "res_u_net", "artefact-features": "artefact_features", "rings": "ring_reader"}


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


def test_the_reader_of_rings_tells_its_two_artefacts_from_others():
    """Nineteen of twenty lie on the right side of what is believed (held-out images, in the header)."""
    numbers = load_network(task="rings").header["numbers"]
    for name, believed in (("raised", RAISED), ("excess", EXCESS)):
        assert numbers[name]["error"] < 0.5 * numbers[name]["size"]
        assert numbers[name]["peak_of_others_95_percent"] < believed


def test_a_reader_in_a_named_file_is_checked(tmp_path):
    network = load_network(task="rings")
    kept = dict(network.params)
    path = tmp_path / "rings.safetensors"
    save_network(path, network.module, kept, abbe_px=5.0, header={}, task="rings")
    assert load_network(path=path, task="rings").module == network.module
    kept.pop("Dense_0")
    save_network(path, network.module, kept, abbe_px=5.0, header={}, task="rings")
    with pytest.raises(UserError, match=r"does not fit this dps-jax: expected the array \['Dense_0'\]"):
        load_network(path=path, task="rings")
