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
import optax.contrib
from jax.sharding import Mesh

from dps_jax import models
from dps_jax.losses.fidelity import weighted_l2_loss
from dps_jax.losses.objective import objective
from dps_jax.metrics.scores import VIEW_ABBE
from dps_jax.operators.convolve import convolve
from dps_jax.operators.forward import camera_image
from dps_jax.optics.psf import airy_psf, gaussian_psf
from dps_jax.training.config import OptimizerConfig, TrainConfig
from dps_jax.training.psf_bank import SCALE
from dps_jax.training.sharding import mean_over_devices
from dps_jax.typing import Array, Key, Params, Scalars

State = dict[str, Any]
Loss = Callable[[Params, dict[str, Array]], tuple[Array, Scalars]]


def network_of(config: TrainConfig) -> Any:
    """Return the network of a config, told the sampling it will be used at."""
    return models.build(config.network.name, {**config.network.sizes, "abbe_px": config.scenes.abbe_px})


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Return the optimiser with warm-up, cosine decay over ``steps`` and clipping of the global norm.

    Muon (Jordan et al. 2024) is scaled to move a kernel as far as Adam would (Liu et al. 2025), so that a learning
    rate means about the same for both.
    """
    warmup = min(config.warmup_steps, max(1, steps // 10))
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(steps, warmup + 1),
        end_value=config.final_fraction * config.learning_rate,
    )
    rule = optax.adam(schedule) if config.name == "adam" else _muon(schedule)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), rule)


def _muon(schedule: optax.Schedule) -> optax.GradientTransformation:
    def is_inner_kernel(path: tuple[Any, ...], leaf: Array) -> optax.contrib.MuonDimensionNumbers | None:
        # The last layer maps to a few numbers of different meaning; there Adam's scale per number is the better one.
        if leaf.ndim != 4 or any(getattr(key, "key", None) == "head" for key in path):
            return None
        return optax.contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=(3,))

    def dimensions(params: Params) -> Any:
        return jax.tree_util.tree_map_with_path(is_inner_kernel, params)

    return optax.contrib.muon(
        schedule,
        consistent_rms=0.2,
        muon_weight_dimension_numbers=dimensions,
    )


def init_state(config: TrainConfig) -> State:
    """Return the state before the first step; a function of the config's seed."""
    side = config.scenes.patch_px
    optimizer = make_optimizer(config.optimizer, config.steps)
    return first_state(jax.random.key(config.seed), network_of(config), optimizer, (1, side, side, 1))


def first_state(
    key: Key, module: Any, optimizer: optax.GradientTransformation, shape: tuple[int, ...]
) -> State:
    """Return the state before the first step of a network that takes images of ``shape``."""
    # Compiled, since of the network's forward pass, which nobody wants here, nothing is left then.
    params = jax.jit(lambda k: module.init(k, jnp.zeros(shape, jnp.float32))["params"])(key)
    return {"params": params, "opt_state": optimizer.init(params), "step": jnp.zeros((), jnp.int32)}


def make_loss(config: TrainConfig) -> Loss:
    """Return ``loss(params, batch) -> (loss, diagnostics)``: network, forward model, objective.

    ``batch`` holds ``input``, ``target`` and ``photons`` and, for the scale transfer, the same with the prefix
    ``shrunk_``; see ``training.data``. Either half may be absent.
    """
    module = network_of(config)
    psf = airy_psf(abbe_px=SCALE * config.scenes.abbe_px)
    # The resolution at which the detail is wanted; most of what lies beyond cannot be known from an image, and
    # scored in full it drowns the gradient in noise.
    view = gaussian_psf(sigma_px=VIEW_ABBE * SCALE * config.scenes.abbe_px)
    margin, frames = config.objective.margin_px, config.scenes.frames

    def as_movies(images: Array) -> Array:
        """Give the frames of a movie, which follow each other in the batch, an axis of their own."""
        return images.reshape(-1, frames, *images.shape[1:]) if frames > 1 else images

    def importance(photons: Array) -> Array:
        # Relative to 100 photons, so that the weights of the regularizers have a fixed meaning.
        return (photons / 100.0) ** config.objective.photon_exponent

    def physics(x: Array, batch: dict[str, Array]) -> tuple[Array, Scalars]:
        """Score the prediction of what the camera sees on photons that the network did not."""
        return objective(
            as_movies(_inner(x, SCALE * margin)),
            as_movies(_inner(camera_image(x, psf, factor=SCALE), margin)),
            as_movies(_inner(batch["target"], margin)),
            weights=config.objective.weights,
            fidelity_importance=as_movies(importance(batch["photons"])),
            hessian_time=config.objective.hessian_time if frames > 1 else None,
        )

    def transfer(x: Array, batch: dict[str, Array]) -> tuple[Array, Scalars]:
        """Score the estimate itself on the shrunken image, in intensity per camera pixel."""
        pair = SCALE**2 * jnp.stack([x, batch["shrunk_target"]])
        fine, seen = (_inner(p, SCALE * margin) for p in (pair, convolve(pair, view, boundary="reflect")))
        errors = {"shrunk": weighted_l2_loss(*seen), "shrunk_fine": weighted_l2_loss(*fine)}
        weights = (config.objective.shrunk, config.objective.shrunk_fine)
        total = sum(w * e for w, e in zip(weights, errors.values(), strict=True))
        return jnp.mean(importance(batch["shrunk_photons"]) * total), {
            k: jnp.mean(e) for k, e in errors.items()
        }

    def loss(params: Params, batch: dict[str, Array]) -> tuple[Array, Scalars]:
        parts = {n: p for n, p in (("input", physics), ("shrunk_input", transfer)) if n in batch}
        counts = [batch[name].shape[0] for name in parts]
        # One pass for both parts: two small batches take two devices more than twice the time of one.
        images = jnp.concatenate([batch[name] for name in parts])
        estimates = module.apply({"params": params}, images[..., None])[..., 0]
        split = jnp.split(estimates, [counts[0]]) if len(parts) > 1 else [estimates]
        total: Array = jnp.zeros(())
        diagnostics: Scalars = {}
        for part, count, x in zip(parts.values(), counts, split, strict=True):
            value, terms = part(x, batch)
            total, diagnostics = total + count / sum(counts) * value, {**diagnostics, **terms}
        return total, diagnostics

    return loss


def _inner(image: Array, margin: int) -> Array:
    """Cut ``margin`` pixels off every side of ``(..., y, x)``."""
    return image[..., margin : image.shape[-2] - margin, margin : image.shape[-1] - margin]


def make_step(
    config: TrainConfig, *, mesh: Mesh | None = None
) -> Callable[[State, dict[str, Array]], tuple[State, Scalars]]:
    """Return the jitted step; it consumes (donates) the state it is given.

    With a ``mesh`` every device works on its own share of the batch, as ``training.sharding`` lays it out.

    The diagnostics are the loss, every term, and the norms of gradient, parameters and update.
    """
    optimizer = make_optimizer(config.optimizer, config.steps)
    return step_of(make_loss(config), optimizer, mesh=mesh)


def step_of(
    loss_of: Loss, optimizer: optax.GradientTransformation, *, mesh: Mesh | None = None
) -> Callable[[State, dict[str, Array]], tuple[State, Scalars]]:
    """Return the jitted step of any ``loss_of(params, batch) -> (loss, diagnostics)``; see :func:`make_step`."""
    if mesh is not None:
        loss_of = mean_over_devices(mesh, loss_of)
    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)

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
