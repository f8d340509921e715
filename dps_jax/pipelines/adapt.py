"""Adapt a network to one image: a few more steps of its own unsupervised training, on nothing but that image.

Useful where a sample looks like nothing in training. The image's photons are split as in training: no truth enters,
and the noise of the image is hardly rewarded. Whether the steps helped is judged on other random splits, of the same
photons, by two numbers: the whole objective, and how well the half that is not shown is predicted from the other. The
first falls nearly always, as most of it asks for detail like that of the image itself, shrunk; on structures that do
not look alike at other scales this smooths what is there, and only the second tells. The adapted network is kept where
the first is better and the second is better by more than chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.metrics.noise import PhotonScale
from dps_jax.optics.system import OpticalSystem
from dps_jax.pipelines import photometry
from dps_jax.training import data, steps
from dps_jax.training.config import OptimizerConfig, TrainConfig
from dps_jax.training.config_files import from_dict
from dps_jax.training.folder import ImagePatches, plane_in_photons
from dps_jax.weights import Network

# Batches of held-out splits by which the networks before and after are compared, and the standard errors by which
# unseen photons must be predicted better.
_JUDGES = 12
_LEAST_CERTAINTY = 2.0


@dataclass(frozen=True)
class Adaptation:
    """Two measures on other splits of the image before and after, and whether the adapted network was kept.

    ``before`` and ``after`` are the objective of the training; ``unseen_before`` and ``unseen_after`` the squared error
    of the predicted camera image on photons that were not shown, in units of their noise, weighted as in training.
    ``certainty`` is by how many standard errors, from split to split, the last is less.
    """

    steps: int
    before: float
    after: float
    unseen_before: float
    unseen_after: float
    certainty: float
    kept: bool


def adapt(
    network: Network,
    image: np.ndarray,
    system: OpticalSystem,
    *,
    iterations: int,
    gain: float | None = None,
    offset: float | None = None,
    background: float | None = None,
    learning_rate: float = 2e-4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Network, Adaptation]:
    """Train a network on for ``iterations`` steps on one image; return the better of the two.

    Parameters
    ----------
    network
        With the config of its training in its header, as `dps-jax train` and the released weights have it.
    image
        ``(y, x)`` or ``(frame, y, x)`` in camera units.
    system
        Optics and pixel size of the image.
    iterations
        Training steps; a hundred take about a minute on two cores.
    gain, offset
        Camera units per photon and camera value in the dark; by default from the mean-variance line.
    background
        Constant background in camera units, as it is taken off for a restoration; by default measured.
    learning_rate
        Of Adam, which warms up over a tenth of the steps and decays to a hundredth.
    seed
        Of crops and splits.
    progress
        Called with (steps done, steps in all).

    Returns
    -------
    ``(network, adaptation)``: the given network where the adapted one is no better.

    Raises
    ------
    ValueError
        Where the weights do not carry the config of their training, the gain is unknown, or a number is out of range.
    """
    _checks.positive_integer("iterations", iterations)
    _checks.positive("learning_rate", learning_rate)
    config = _config(network, iterations, learning_rate, seed)
    stack = image if np.ndim(image) == 3 else np.asarray(image)[None]
    abbe_px = float(system.abbe_px)
    light = photometry.weigh_light(stack, abbe_px=abbe_px, gain=gain, offset=offset)
    if light.gain is None:
        raise ValueError(
            f"expected a gain, to split the image into photons; it is {light.origin}; give --gain"
        )
    # Without a dark level, the darkest pixels stand for it.
    scale = PhotonScale(light.gain, float(stack.min()) if light.offset is None else light.offset)
    factor = float(config.scenes.abbe_px / abbe_px)
    planes = [
        plane_in_photons(plane, scale, factor=factor, abbe_px=abbe_px, background=background)
        for plane in stack
    ]
    patches = ImagePatches(planes, config)
    batch = data.make_batches(config, images=patches)
    params = jax.tree.map(jnp.asarray, network.params)
    programs = _programs(dataclasses.replace(config, seed=0))
    judge = _judge(config, programs.objective, patches)
    unseen = _judge(_prediction_alone(config), programs.prediction, patches)
    before, unseen_before = np.mean(judge(params)), unseen(params)
    optimizer = steps.make_optimizer(config.optimizer, iterations)
    # The step consumes what it is given, and the given network must stay.
    state = {
        "params": jax.tree.map(jnp.copy, params),
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
    }
    for done, given in enumerate(data.prefetch(batch, 0, iterations), start=1):
        state, _ = programs.step(state, {name: jnp.asarray(value) for name, value in given.items()})
        if progress is not None:
            progress(done, iterations)
    after, unseen_after = np.mean(judge(state["params"])), unseen(state["params"])
    # Both networks saw the same splits: what varies for both alike leaves no doubt about which is better.
    gains = unseen_before - unseen_after
    certainty = float(np.mean(gains) / max(float(np.std(gains, ddof=1)) / _JUDGES**0.5, 1e-30))
    kept = bool(after < before and certainty > _LEAST_CERTAINTY)  # false for NaN
    errors = (float(np.mean(unseen_before)), float(np.mean(unseen_after)))
    told = Adaptation(iterations, float(before), float(after), *errors, certainty, kept)
    if not kept:
        return network, told
    adapted = jax.device_get(state["params"])
    return dataclasses.replace(network, params=adapted), told


class _Programs(NamedTuple):
    """The compiled step, and the two losses that networks are compared by."""

    step: Callable[..., Any]
    objective: Callable[..., Any]
    prediction: Callable[..., Any]


@lru_cache(maxsize=2)
def _programs(config: TrainConfig) -> _Programs:
    """Return the programs of a config, the same for every image: compiling them takes longer than a hundred steps."""
    return _Programs(
        steps.make_step(config),
        jax.jit(steps.make_loss(config)),
        jax.jit(steps.make_loss(_prediction_alone(config))),
    )


def _judge(
    config: TrainConfig, loss: Callable[..., Any], patches: ImagePatches
) -> Callable[[Any], np.ndarray]:
    """Return the losses ``(batch,)`` of parameters on batches that training does not come to."""
    batch = data.make_batches(config, images=patches)
    batches = [batch(config.steps + i) for i in range(_JUDGES)]
    return lambda params: np.asarray([float(loss(params, given)[0]) for given in batches])


def _prediction_alone(config: TrainConfig) -> TrainConfig:
    """Return a config whose loss is the squared error of the predicted photons, in units of their noise."""
    changes: dict[str, Any] = {name: 0.0 for name in config.objective.weights}
    changes |= {"weighted_l2": 1.0, "shrunk_share": 0.0}
    objective = dataclasses.replace(config.objective, **changes)
    return dataclasses.replace(config, objective=objective)


def _config(network: Network, iterations: int, learning_rate: float, seed: int) -> TrainConfig:
    """Return the config that the network was trained by, for the image alone."""
    if "config" not in network.header:
        raise ValueError("expected weights that carry the config of their training, got some that do not")
    trained = from_dict(TrainConfig, network.header["config"])
    optimizer = OptimizerConfig(
        name="adam",
        learning_rate=learning_rate,
        warmup_steps=max(1, iterations // 10),
        clip_norm=trained.optimizer.clip_norm,
    )
    return dataclasses.replace(
        trained,
        scenes=dataclasses.replace(trained.scenes, frames=1),
        images=dataclasses.replace(trained.images, folder=None, share=1.0),
        optimizer=optimizer,
        initial=None,
        steps=iterations,
        seed=seed,
    )
