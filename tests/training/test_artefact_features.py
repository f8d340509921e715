"""The extractor learns to name what it sees, and its loss sees what it was trained to name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dps_jax import models
from dps_jax.training.artefact_data import ArtefactConfig, make_batches
from dps_jax.training.artefact_features import (
    layer_weights,
    make_label_loss,
    perceptual_term,
    train_features,
)
from dps_jax.training.config import OptimizerConfig

CONFIG = ArtefactConfig(
    single=True,
    patch_px=16,
    batch=4,
    steps=4,
    log_every=2,
    checkpoint_every=4,
    optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=1),
)


@pytest.fixture(scope="module")
def module():
    return models.build("artefact_features", {"channels": (4, 4), "counts": (1, 2)})


@pytest.fixture(scope="module")
def params(module):
    return jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1)))["params"]


def test_the_loss_is_the_sum_of_two_cross_entropies(module, params):
    batch = make_batches(CONFIG)(0)
    total, diagnostics = jax.jit(make_label_loss(module))(
        params, {k: jnp.asarray(v) for k, v in batch.items()}
    )
    answers = jax.jit(module.apply)({"params": params}, batch["input"])
    expected, right = 0.0, {}
    for name, label in (("kinds", "kind"), ("families", "family")):
        logits = np.asarray(answers[name], float)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected -= np.mean([np.log(chances[i, batch[label][i]]) for i in range(4)])
        right[label] = np.mean([int(np.argmax(chances[i])) == batch[label][i] for i in range(4)])
    assert float(total) == pytest.approx(expected, rel=1e-5)
    assert {k: float(diagnostics[f"{k}_right"]) for k in right} == pytest.approx(right)


def test_training_runs_and_changes_every_layer(module, params, tmp_path):
    lines = []
    trained = train_features(CONFIG, tmp_path / "run", module, report=lines.append)
    assert [line["step"] for line in lines] == [2, 4]
    first = jax.jit(module.init)(jax.random.key(CONFIG.seed), jnp.zeros((1, 16, 16, 1)))["params"]
    for layer in module.layers:
        name = layer.replace("relu", "conv")
        assert np.abs(trained[name]["kernel"] - first[name]["kernel"]).max() > 1e-5
    with pytest.raises(ValueError, match="expected images of one family each"):
        train_features(dataclasses.replace(CONFIG, single=False), tmp_path / "other", module)


def test_the_term_is_0_for_equal_images_and_about_1_for_unrelated_ones(module, params):
    images = np.concatenate([make_batches(CONFIG)(i)["input"] for i in range(4)])
    weights = layer_weights(module, params, images)
    assert len(weights) == len(module.layers)
    term = jax.jit(perceptual_term(module, params, weights))
    seen, other = jnp.asarray(images[:, :, :, 0]), jnp.asarray(images[::-1, :, :, 0])
    np.testing.assert_array_equal(term(seen, seen), 0.0)
    # |a - b|^2 = |a|^2 + |b|^2 - 2ab: between 0 and 2 in units of the mean square, of non-negative features.
    assert 0.02 < float(term(seen, other).mean()) < 2
    # Against darkness, of which the features are not quite 0: the biases are, at first.
    assert float(term(seen, jnp.zeros_like(seen)).mean()) == pytest.approx(1.0, rel=1e-3)
