"""Training on pairs of images, what a network is shown and what it should have made of it: denoising, artefacts, SIM.

The trainings of the sharpening network have no truth (``loop.train``); those of its helpers around it may, since
simulated pairs are free, or another exposure in its place. Steps, devices, logs and checkpoints are the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax

from dps_jax import _checks
from dps_jax.losses.objective import objective
from dps_jax.training import data, loop, steps
from dps_jax.training.config import OptimizerConfig
from dps_jax.typing import Array, Params, Scalars

# A further term of the loss: (answer, target), both (n, y, x), to one value per image.
Term = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class PairLossConfig:
    """Weights of the loss terms; 0 leaves a term out.

    The published loss of the framework's modules is ``ssim`` and ``l1``, for denoising ``fft_l1`` besides (Ye et al.
    2024). Against a noisy target, whose mean is right and whose median is not, only ``l2`` and ``weighted_l2`` are
    fair; ``log_l2`` is for clean targets.
    """

    ssim: float = 1.0
    l1: float = 1.0
    fft_l1: float = 0.0
    l2: float = 0.0
    weighted_l2: float = 0.0
    log_l2: float = 0.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            _checks.non_negative(f"loss.{name}", value)

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights that are not 0, by name of the loss term."""
        return {k: float(v) for k, v in dataclasses.asdict(self).items() if v}


@dataclass(frozen=True)
class PairConfig:
    """A training on pairs; each task adds what its data depend on."""

    channels: tuple[int, ...] = (16, 32, 64)
    """Features per U-Net level, finest first."""
    blocks: int = 1
    """Residual blocks per level."""
    loss: PairLossConfig = field(default_factory=PairLossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    margin_px: int = 0
    """Pixels at the border of a target on which nothing is scored."""
    steps: int = 2000
    batch: int = 8
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 500
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name in ("blocks", "steps", "batch", "log_every", "checkpoint_every", "keep_checkpoints"):
            _checks.positive_integer(name, getattr(self, name))
        for i, features in enumerate(self.channels):
            _checks.positive_integer(f"channels[{i}]", features)


def make_pair_loss(
    config: PairConfig, module: Any, *, extra: dict[str, tuple[float, Term]] | None = None
) -> Any:
    """Return ``loss(params, batch) -> (loss, diagnostics)`` of the network's answer against the target.

    Parameters
    ----------
    config
        Weights and margin.
    module
        Maps ``(n, y, x, c)`` to ``(n, s y, s x, 1)``.
    extra
        Further terms with their weights, by name: for instance a perceptual loss.

    ``batch`` holds ``input`` ``(n, y, x, c)`` and ``target`` ``(n, s y, s x)``, in units in which bright is about 1.
    """
    m = config.margin_px

    def inner(images: Array) -> Array:
        return images[..., m : images.shape[-2] - m, m : images.shape[-1] - m]

    def loss(params: Params, batch: dict[str, Array]) -> tuple[Array, Scalars]:
        answer = inner(module.apply({"params": params}, batch["input"])[..., 0])
        target = inner(batch["target"])
        total, diagnostics = objective(answer, answer, target, weights=config.loss.weights)
        for name, (weight, term) in (extra or {}).items():
            diagnostics[name] = term(answer, target).mean()
            total = total + weight * diagnostics[name]
        return total, diagnostics

    return loss


def train_pairs(
    config: PairConfig,
    folder: Path,
    module: Any,
    make_batch: Callable[[int], data.Batch],
    *,
    extra: dict[str, tuple[float, Term]] | None = None,
    report: loop.Report | None = None,
) -> Params:
    """Run or resume a training on pairs in ``folder`` and return the parameters of ``module``.

    Parameters
    ----------
    config
        Everything that the run depends on.
    folder, report
        As :func:`dps_jax.training.loop.train`, and so is what is raised.
    module, extra
        As :func:`make_pair_loss`.
    make_batch
        ``batch(step)``, a function of the config and the step alone.
    """
    return train_with(
        config, folder, module, make_batch, make_pair_loss(config, module, extra=extra), report=report
    )


class Recipe(loop.Schedule, Protocol):
    """What :func:`train_with` must know of a config, which is a dataclass."""

    @property
    def optimizer(self) -> OptimizerConfig:
        """The optimiser."""
        ...

    @property
    def seed(self) -> int:
        """Of the first weights."""
        ...


def train_with(
    config: Recipe,
    folder: Path,
    module: Any,
    make_batch: Callable[[int], data.Batch],
    loss: Any,
    *,
    report: loop.Report | None = None,
) -> Params:
    """Run or resume the training of ``module`` by any loss; as :func:`train_pairs`.

    Parameters
    ----------
    loss
        ``loss(params, batch) -> (loss, diagnostics)``, of batches whose ``input`` the module takes.
    """
    optimizer, decay = steps.make_optimizer(config.optimizer, config.steps), config.optimizer.ema_decay
    shape = (1, *make_batch(0)["input"].shape[1:])
    return loop.run(
        config,
        Path(folder),
        make_batch=make_batch,
        initial_state=lambda: steps.first_state(
            jax.random.key(config.seed), module, optimizer, shape, average=decay > 0
        ),
        make_step=lambda mesh: steps.step_of(loss, optimizer, mesh=mesh, ema_decay=decay),
        report=report,
    )
