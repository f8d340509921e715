"""Train the flow network: on the known flow of simulated pairs, or on the likeness of corrected frames alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dps_jax.losses import registration
from dps_jax.losses.fidelity import l2_loss
from dps_jax.models.flow_unet import flow_grids, normalised
from dps_jax.models.registry import build
from dps_jax.operators.sampling import bin_area
from dps_jax.operators.warp import warp
from dps_jax.training import loop, steps
from dps_jax.training.flow_config import FlowConfig
from dps_jax.training.flow_data import make_batches
from dps_jax.typing import Array, Params, Scalars

Batch = dict[str, Array]


def flow_network(config: FlowConfig) -> Any:
    """Return the network of a config."""
    return build("flow_unet", config.sizes)


def make_flow_loss(config: FlowConfig) -> steps.Loss:
    """Return ``loss(params, batch) -> (loss, diagnostics)``; ``batch`` as ``flow_data`` makes it.

    The diagnostics hold ``endpoint``, the mean end-point error in px of the last level where the batch has a true
    flow, whatever the training is scored on.
    """
    module = flow_network(config)
    grids = flow_grids(module)

    def loss(params: Params, batch: Batch) -> tuple[Array, Scalars]:
        flows = [jnp.moveaxis(f, -1, -3) for f in _flows(module, params, batch)]
        frames = batch["frame"].shape[1]
        known = jnp.repeat(batch["template_known"], frames, axis=0)
        if config.loss.objective == "endpoint":
            truth = batch["flow"].reshape(-1, *batch["flow"].shape[2:])
            term = _endpoint_term(truth, known)
        else:
            term = _likeness_term(config.loss.objective, batch)
        total = jnp.mean(registration.multi_level_loss(term, flows, grids, weights=config.loss.levels))
        diagnostics = {"data": total}
        for order, weight in ((1, config.loss.first_order), (2, config.loss.second_order)):
            if weight:
                name = f"smoothness_{order}"
                diagnostics[name] = jnp.mean(registration.flow_smoothness(flows[-1], order=order))
                total = total + weight * diagnostics[name]
        if "flow" in batch:
            truth = batch["flow"].reshape(flows[-1].shape)
            error = registration.endpoint_loss(flows[-1], truth, mask=known, softness_px=1e-4)
            diagnostics["endpoint"] = jax.lax.stop_gradient(jnp.mean(error))
        return total, diagnostics

    return loss


def _flows(module: Any, params: Params, batch: Batch) -> list[Array]:
    """Return the flows of all frames at all levels, the features of each template made once."""
    frames = batch["frame"].shape[1]
    flat = {k: batch[k].reshape(-1, *batch[k].shape[2:]) for k in ("frame", "known")}
    images = jnp.concatenate([batch["template"], flat["frame"]])
    known = jnp.concatenate([batch["template_known"], flat["known"]])
    every = module.apply({"params": params}, images, known, method="features")
    count = batch["template"].shape[0]
    template = [jnp.repeat(f[:count], frames, axis=0) for f in every]
    return module.apply({"params": params}, template, [f[count:] for f in every], method="match")


def _mean_of_cells(image: Array, cell: int) -> Array:
    return image if cell == 1 else bin_area(image, cell) / cell**2


def _endpoint_term(truth: Array, known: Array) -> Any:
    def term(flow: Array, cell: int) -> Array:
        return registration.endpoint_loss(flow, _mean_of_cells(truth, cell), mask=_mean_of_cells(known, cell))

    return term


def _likeness_term(objective: str, batch: Batch) -> Any:
    """Return the loss of the corrected frame against the template, on the grid of each level."""
    frames = batch["frame"].shape[1]
    known = batch["known"].reshape(-1, *batch["known"].shape[2:])
    frame = normalised(batch["frame"].reshape(known.shape), known)[..., 0]
    template = normalised(batch["template"], batch["template_known"])[..., 0]
    template = jnp.repeat(template, frames, axis=0)
    known_template = jnp.repeat(batch["template_known"], frames, axis=0)

    def term(flow: Array, cell: int) -> Array:
        seen, there = (_mean_of_cells(i, cell) for i in (frame, known))
        wanted, mask = (_mean_of_cells(i, cell) for i in (template, known_template))
        both = jnp.stack([jax.lax.stop_gradient(i) for i in (seen, there)], axis=1)
        moved = warp(both, flow[:, None] / cell)
        mask = mask * jax.lax.stop_gradient(moved[:, 1])
        if objective == "l2":
            return l2_loss(moved[:, 0] * mask, wanted * mask)
        if objective == "ncc" or min(seen.shape[-2:]) < 9:
            return registration.ncc_loss(moved[:, 0], wanted, mask=mask)
        return registration.local_ncc_loss(moved[:, 0], wanted, mask=mask)

    return term


def train_flow(
    config: FlowConfig, folder: Path, *, initial: Params | None = None, report: loop.Report | None = None
) -> Params:
    """Run or resume a training of the flow network in ``folder`` and return its parameters.

    Parameters
    ----------
    config
        Everything that the run depends on, ``initial`` apart.
    folder, report
        As :func:`dps_jax.training.loop.train`, and so is what is raised.
    initial
        Parameters to start from, by default random ones; a run that is resumed must be given the same.
    """
    optimizer = steps.make_optimizer(config.optimizer, config.steps)
    module = flow_network(config)
    shape = (1, config.side_px, config.side_px, module.inputs)

    def initial_state() -> steps.State:
        state = steps.first_state(jax.random.key(config.seed), module, optimizer, shape)
        return state if initial is None else {**state, "params": jax.tree.map(jnp.asarray, initial)}

    return loop.run(
        config,
        Path(folder),
        make_batch=make_batches(config),
        initial_state=initial_state,
        make_step=lambda mesh: steps.step_of(make_flow_loss(config), optimizer, mesh=mesh),
        report=report,
    )
