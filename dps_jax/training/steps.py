"""The pure training step: state and batch in, state and diagnostics out.

The state is a plain dictionary ``{"params", "opt_state", "step", "skipped"}`` and, where it is asked for, ``"ema"``,
the running mean of the parameters; the step does without the last two. This is one of the two places that call
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
from dps_jax.training.sharding import MODEL, mean_over_devices, state_layout
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
    return first_state(
        jax.random.key(config.seed),
        network_of(config),
        optimizer,
        (1, side, side, 1),
        average=config.optimizer.ema_decay > 0,
    )


def first_state(
    key: Key,
    module: Any,
    optimizer: optax.GradientTransformation,
    shape: tuple[int, ...],
    *,
    average: bool = False,
) -> State:
    """Return the state before the first step of a network that takes images of ``shape``.

    With ``average`` it holds the running mean of the parameters besides.
    """
    # Compiled, since of the network's forward pass, which nobody wants here, nothing is left then.
    params = jax.jit(lambda k: module.init(k, jnp.zeros(shape, jnp.float32))["params"])(key)
    none = {name: jnp.zeros((), jnp.int32) for name in ("in_a_row", "in_all")}
    state = {
        "params": params,
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
        "skipped": none,
    }
    return state | ({"ema": jax.tree.map(jnp.copy, params)} if average else {})


def result_of(state: State) -> Params:
    """Return the parameters that a training is for: their running mean, where there is one."""
    return state.get("ema", state["params"])


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

    The diagnostics are the loss, every term, the norms of gradient, parameters and update and, of a state that counts
    them, the steps skipped.
    """
    return step_of(
        make_loss(config),
        make_optimizer(config.optimizer, config.steps),
        mesh=mesh,
        accumulate=config.parallel.accumulate,
        shard_above=config.parallel.shard_above,
        ema_decay=config.optimizer.ema_decay,
    )


def step_of(
    loss_of: Loss,
    optimizer: optax.GradientTransformation,
    *,
    mesh: Mesh | None = None,
    accumulate: int = 1,
    shard_above: int = 0,
    ema_decay: float = 0.0,
) -> Callable[[State, dict[str, Array]], tuple[State, Scalars]]:
    """Return the jitted step of any ``loss_of(params, batch) -> (loss, diagnostics)``; see :func:`make_step`.

    Parameters
    ----------
    loss_of, optimizer
        What is minimised, and how.
    mesh
        Devices that share the work.
    accumulate
        Parts that a batch comes in, on a leading axis; their mean gradient is that of the batch.
    shard_above
        Numbers from which on an array of the state is divided along the mesh's ``model`` axis.
    ema_decay
        Memory of the averaged weights of a state that holds them.

    Of a step whose loss, gradient or update is not finite nothing is kept but its number: parameters and optimiser
    state stay as they were, since one NaN would spoil all that was learned.
    """
    if mesh is not None:
        loss_of = mean_over_devices(mesh, loss_of, above=shard_above)
    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    if accumulate > 1:
        value_and_grad = _mean_over_parts(value_and_grad)

    def step(state: State, batch: dict[str, Array]) -> tuple[State, Scalars]:
        (loss, terms), gradient = value_and_grad(state["params"], batch)
        update, opt_state = optimizer.update(gradient, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], update)
        norms = {
            "gradient_norm": optax.tree.norm(gradient),
            "parameter_norm": optax.tree.norm(params),
            "update_norm": optax.tree.norm(update),
        }
        new = {"params": params, "opt_state": opt_state}
        if "ema" in state:
            new["ema"] = _average(state["ema"], params, ema_decay, state["step"])
        sound = jnp.isfinite(loss) & jnp.isfinite(norms["gradient_norm"]) & jnp.isfinite(norms["update_norm"])
        new = jax.tree.map(lambda a, b: jnp.where(sound, a, b), new, {name: state[name] for name in new})
        said = {"loss": loss, **terms, **norms}
        if "skipped" in state:
            new["skipped"] = _count(state["skipped"], sound)
            said |= {"skipped": new["skipped"]["in_all"], "skipped_in_a_row": new["skipped"]["in_a_row"]}
        new["step"] = state["step"] + 1
        if mesh is not None and mesh.shape[MODEL] > 1:
            new = jax.lax.with_sharding_constraint(new, state_layout(mesh, new, above=shard_above))
        return new, said

    return jax.jit(step, donate_argnums=0)


def _mean_over_parts(value_and_grad: Callable[..., Any]) -> Callable[..., Any]:
    """Make ``value_and_grad(params, batch)`` take a batch in parts, one after another, and average what it returns."""

    def mean(params: Params, batch: dict[str, Array]) -> Any:
        parts = len(jax.tree.leaves(batch)[0])

        def add(total: Any, part: dict[str, Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, value_and_grad(params, part)), None

        first = jax.eval_shape(value_and_grad, params, {k: v[0] for k, v in batch.items()})
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), first)
        total, _ = jax.lax.scan(add, zeros, batch)
        return jax.tree.map(lambda a: a / parts, total)

    return mean


def _average(mean: Params, params: Params, decay: float, step: Array) -> Params:
    """Return the running mean of parameters; over few steps it is the plain mean, so that it forgets the start."""
    kept = jnp.minimum(decay, (step + 1.0) / (step + 10.0))
    return jax.tree.map(lambda m, p: kept * m + (1 - kept) * p, mean, params)


def _count(skipped: dict[str, Array], sound: Array) -> dict[str, Array]:
    """Count the steps that were skipped: those since the last sound one, and all."""
    return {
        "in_a_row": jnp.where(sound, 0, skipped["in_a_row"] + 1),
        "in_all": skipped["in_all"] + jnp.where(sound, 0, 1),
    }
