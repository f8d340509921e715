"""The pure training step: state and batch in, state and diagnostics out.

The state is a plain dictionary ``{"params", "opt_state", "step"}``. This is one of the two places that call
``jit`` (the other is ``pipelines``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dps_jax import models
from dps_jax.losses.objective import objective
from dps_jax.operators.forward import camera_image
from dps_jax.optics.psf import airy_psf
from dps_jax.training.config import OptimizerConfig, TrainConfig
from dps_jax.training.data import SCALE
from dps_jax.typing import Array, Params, Scalars

State = dict[str, Any]


def network_of(config: TrainConfig) -> Any:
    """Return the network of a config, told the sampling it will be used at."""
    return models.build(config.network.name, {**config.network.sizes, "abbe_px": config.scenes.abbe_px})


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Return Adam with warm-up, cosine decay over ``steps`` and clipping of the global norm."""
    warmup = min(config.warmup_steps, max(1, steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(steps, warmup + 1),
        end_value=config.final_fraction * config.learning_rate,
    )
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), optax.adam(schedule))


def init_state(config: TrainConfig) -> State:
    """Return the state before the first step; a function of the config's seed."""
    module = network_of(config)
    side = config.scenes.patch_px
    params = module.init(jax.random.key(config.seed), jnp.zeros((1, side, side, 1), jnp.float32))["params"]
    optimizer = make_optimizer(config.optimizer, config.steps)
    return {"params": params, "opt_state": optimizer.init(params), "step": jnp.zeros((), jnp.int32)}


def make_loss(config: TrainConfig) -> Callable[[Params, dict[str, Array]], tuple[Array, Scalars]]:
    """Return ``loss(params, batch) -> (loss, diagnostics)``: network, forward model, objective."""
    module = network_of(config)
    psf = airy_psf(abbe_px=SCALE * config.scenes.abbe_px)
    m = config.objective.margin_px
    weights = config.objective.weights
    # Relative to 100 photons, so that the weight of the regularizers has a fixed meaning.
    exponent = config.objective.photon_exponent

    def loss(params: Params, batch: dict[str, Array]) -> tuple[Array, Scalars]:
        estimate = module.apply({"params": params}, batch["input"][..., None])[..., 0]
        predicted = camera_image(estimate, psf, factor=SCALE)
        inner = (slice(None), slice(m, -m or None), slice(m, -m or None))
        fine = (slice(None), slice(SCALE * m, -SCALE * m or None), slice(SCALE * m, -SCALE * m or None))
        importance = (batch["photons"] / 100.0) ** exponent
        return objective(
            estimate[fine],
            predicted[inner],
            batch["target"][inner],
            weights=weights,
            fidelity_importance=importance,
        )

    return loss


def make_step(config: TrainConfig) -> Callable[[State, dict[str, Array]], tuple[State, Scalars]]:
    """Return the jitted step; it consumes (donates) the state it is given.

    The diagnostics are the loss, every term, and the norms of gradient, parameters and update.
    """
    optimizer = make_optimizer(config.optimizer, config.steps)
    value_and_grad = jax.value_and_grad(make_loss(config), has_aux=True)

    def step(state: State, batch: dict[str, Array]) -> tuple[State, Scalars]:
        (loss, terms), gradient = value_and_grad(state["params"], batch)
        update, opt_state = optimizer.update(gradient, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], update)
        norms = {
            "gradient_norm": optax.tree.norm(gradient),
            "parameter_norm": optax.tree.norm(params),
            "update_norm": optax.tree.norm(update),
        }
        new = {"params": params, "opt_state": opt_state, "step": state["step"] + 1}
        return new, {"loss": loss, **terms, **norms}

    return jax.jit(step, donate_argnums=0)
