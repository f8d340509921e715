"""Training of the feature extractor: it names the family of structures and what is wrong with the image.

Nothing is to come of its answers; what the network must see in an image to give them is what the perceptual loss
compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax.losses.perceptual import feature_loss
from dps_jax.training import loop
from dps_jax.training.artefact_data import ArtefactConfig, make_batches
from dps_jax.training.pairs import Term, train_with
from dps_jax.typing import Array, Params, Scalars


def make_label_loss(module: Any) -> Any:
    """Return ``loss(params, batch) -> (loss, diagnostics)``: cross-entropies of kind and family, and shares right."""

    def loss(params: Params, batch: dict[str, Array]) -> tuple[Array, Scalars]:
        answers = module.apply({"params": params}, batch["input"])
        total: Array = jnp.zeros(())
        diagnostics: Scalars = {}
        for logits, label in ((answers["kinds"], batch["kind"]), (answers["families"], batch["family"])):
            name = "kind" if label is batch["kind"] else "family"
            right = jax.nn.log_softmax(logits)[jnp.arange(label.shape[0]), label]
            diagnostics[f"{name}_right"] = jnp.mean((jnp.argmax(logits, axis=1) == label).astype(jnp.float32))
            total = total - jnp.mean(right)
        return total, diagnostics

    return loss


def train_features(
    config: ArtefactConfig, folder: Path, module: Any, *, report: loop.Report | None = None
) -> Params:
    """Run or resume the training of ``module`` in ``folder``; see :func:`dps_jax.training.loop.train`.

    Raises
    ------
    ValueError
        If images of the config show several families at once.
    """
    if not config.single:
        raise ValueError("expected images of one family each (single=True), so that it can be named")
    return train_with(config, folder, module, make_batches(config), make_label_loss(module), report=report)


def layer_weights(module: Any, params: Params, images: np.ndarray) -> tuple[float, ...]:
    """Return one weight per layer that makes all layers count alike: one over the mean square of its features.

    Parameters
    ----------
    module, params
        The extractor.
    images
        ``(n, y, x, 1)`` such as will be compared.
    """
    features = module.apply({"params": params}, jnp.asarray(images))
    return tuple(float(1 / (jnp.mean(features[name] ** 2) + 1e-12)) for name in module.layers)


def perceptual_term(module: Any, params: Params, weights: tuple[float, ...]) -> Term:
    """Return the feature reconstruction loss as a term of :func:`dps_jax.training.pairs.make_pair_loss`.

    The weights are divided by the number of layers, so that the term is about 1 for images that have nothing in common.
    """
    shares = [w / len(weights) for w in weights]

    def term(answer: Array, target: Array) -> Array:
        both = [module.apply({"params": params}, image[..., None]) for image in (answer, target)]
        seen, wanted = ([features[name] for name in module.layers] for features in both)
        return feature_loss(seen, wanted, weights=shares)

    return term
