"""Train the flow network on for one movie, on nothing but that movie, without inventing motion for it.

Useful where a movie looks like nothing in training. To make frames alike is no way to do that: interpolation averages
noise, and networks taught by likeness learn to interpolate. Instead the movie's own registered frames are the scenes,
known flows move them, photons are counted as the movie's noise says, and the network is taught those flows. Whether
that helped is measured on the real frames, by what is found in two halves of their pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter

from dps_jax import _checks
from dps_jax.metrics.noise import estimate_photon_scale
from dps_jax.operators import warp
from dps_jax.pipelines.flow_choice import rivalry
from dps_jax.pipelines.flow_network import FlowNetwork
from dps_jax.pipelines.parallel import in_order
from dps_jax.pipelines.register import RegisterSettings, find_motion
from dps_jax.pipelines.register_template import Template, batch_size, filled_up
from dps_jax.training import data, steps
from dps_jax.training.config import OptimizerConfig
from dps_jax.training.flow import make_flow_loss
from dps_jax.training.flow_config import FlowConfig, FlowLossConfig
from dps_jax.training.flow_data import GivenScenes, make_batches

# Means of neighbouring frames that stand for states of activity, and the blur of what differs between them: a cell's
# brightness is kept, the noise of few frames is not.
_STATES, _STATE_BLUR_PX = 8, 2.0
# Side of what is cut from the movie for a step, at most; that of the released training.
_SIDE_PX = 128
# Beyond this frequency a movie is taken to hold noise only, to measure its photons.
_CUTOFF_CYCLES_PX = 0.45


@dataclass(frozen=True)
class Refinement:
    """What a refinement did: the distances of ``flow_choice`` in px, before and after, and whether it was kept."""

    steps: int
    photons: float
    before_px: float
    after_px: float
    kept: bool


def refined_network(
    network: FlowNetwork,
    sample: np.ndarray,
    template: Template,
    *,
    iterations: int,
    settings: RegisterSettings | None = None,
    learning_rate: float = 5e-4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[FlowNetwork, Refinement]:
    """Train the network on for ``iterations`` steps on the scenes of one movie, and tell whether that helped.

    Parameters
    ----------
    network
        From :func:`dps_jax.pipelines.flow_network.flow_network`.
    sample, template
        Frames ``(t, y, x)`` of the movie in any unit, and what they lie on; see
        :mod:`dps_jax.pipelines.register_template`.
    iterations
        Training steps; a hundred take about a minute on two cores.
    settings
        As for the registration.
    learning_rate
        Of Adam, which warms up over a tenth of the steps and decays.
    seed
        Of flows, crops and photons.
    progress
        Called with (steps done, steps in all).

    Returns
    -------
    ``(network, refinement)``: the refined network, which is ``kept`` where it comes nearer than the given one to what
    patches find in the other half of the pixels of real frames.

    Raises
    ------
    ValueError
        For numbers out of range.
    """
    _checks.positive_integer("iterations", iterations)
    _checks.positive("learning_rate", learning_rate)
    settings = settings or RegisterSettings()
    states = _states(sample, template, settings)
    kept = np.flatnonzero(template.kept)
    middle = sample[kept[len(kept) // 2]]
    config, scenes = _config(network, states, middle, len(kept), iterations, learning_rate, seed)
    optimizer = steps.make_optimizer(config.optimizer, iterations)
    # The step consumes what it is given, and the given network must stay.
    params = jax.tree.map(jnp.copy, jax.tree.map(jnp.asarray, network.params))
    state = {"params": params, "opt_state": optimizer.init(params), "step": jnp.zeros((), jnp.int32)}
    step = steps.step_of(make_flow_loss(config), optimizer)
    batches = data.prefetch(make_batches(config, scenes=scenes), 0, iterations)
    for done, given in enumerate(batches, start=1):
        # A step that is not finite changes nothing.
        state, _ = step(state, {name: jnp.asarray(value) for name, value in given.items()})
        if progress is not None:
            progress(done, iterations)
    refined = replace(network, params=state["params"])
    before, after = (rivalry(sample, template, n, settings=settings).network_px for n in (network, refined))
    nearer = bool(after < before)
    told = Refinement(iterations, float(np.sqrt(np.prod(config.photons))), before, after, nearer)
    return refined, told


def _states(sample: np.ndarray, template: Template, settings: RegisterSettings) -> np.ndarray:
    """Return means of neighbouring registered frames, ``(k, y, x)``, what differs between them smoothed."""
    image = jnp.asarray(template.image, jnp.float32)
    size = batch_size(sample.shape[1:])
    kept = np.flatnonzero(template.kept)

    def registered(chosen: np.ndarray) -> np.ndarray:
        frames = jnp.asarray(filled_up(np.asarray(sample[chosen], np.float32), size))
        flow = find_motion(frames, image, method="patches", settings=settings)
        return np.asarray(_moved(frames, flow))[: len(chosen)]

    parts = (kept[start : start + size] for start in range(0, len(kept), size))
    frames = np.concatenate(list(in_order(registered, parts)))
    means = [part.mean(0) for part in np.array_split(frames, min(_STATES, len(frames)))]
    mean = frames.mean(0)
    return np.stack([mean + gaussian_filter(m - mean, _STATE_BLUR_PX, mode="mirror") for m in means])


@jax.jit
def _moved(frames: jax.Array, flow: jax.Array) -> jax.Array:
    return warp(frames, flow)


def _config(
    network: FlowNetwork,
    states: np.ndarray,
    frame: np.ndarray,
    template_frames: int,
    iterations: int,
    learning_rate: float,
    seed: int,
) -> tuple[FlowConfig, GivenScenes]:
    """Return the training and its scenes, in units of what is bright in the movie."""
    module = network.module
    multiple = module.grid_multiple
    side = max(multiple, min(_SIDE_PX, *(n // multiple * multiple for n in states.shape[-2:])))
    photons = _photons(states, frame)
    bright = float(np.percentile(photons, 99))
    count = len(module.channels) + module.repeats - 1
    loss = FlowLossConfig(levels=(*[0.2] * (count - 1), 1.0))
    sizes = ("channels", "flow_features", "windows", "cost_radius", "repeats", "squarings")
    config = FlowConfig(
        **{name: getattr(module, name) for name in sizes},
        loss=loss,
        optimizer=OptimizerConfig(
            name="adam", learning_rate=learning_rate, warmup_steps=max(1, iterations // 10), clip_norm=1.0
        ),
        side_px=side,
        # Twice as little and twice as much: bleaching, and what a measurement of noise is worth.
        photons=(0.5 * bright, 2 * bright),
        template_frames=(max(1, template_frames // 2), 2 * template_frames),
        template_blur_px=0.0,  # the movie's own blur is in its frames
        read_noise=0.0,
        steps=iterations,
        seed=seed,
    )
    return config, GivenScenes((photons / bright).astype(np.float32), side)


def _photons(states: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Return states in the photons of one frame, as the noise of ``frame`` tells them."""
    try:
        scale = estimate_photon_scale(frame, cutoff_cycles_px=_CUTOFF_CYCLES_PX)
    except ValueError:  # not a trace of noise: as many photons as the released training knew
        low, high = (float(np.percentile(states, p)) for p in (1, 99))
        return np.maximum(states - low, 0) * (FlowConfig().photons[1] / max(high - low, 1e-12))
    return np.maximum(states - scale.offset, 0) / scale.gain
