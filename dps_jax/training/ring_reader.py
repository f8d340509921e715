"""Training of the network that reads rings: from measures of images to curves that are known, all made beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from dps_jax import _checks
from dps_jax.solvers.hammer_stroke import dark_powers
from dps_jax.solvers.ringing import RADII, ring_powers
from dps_jax.training import data, loop
from dps_jax.training.config import OptimizerConfig
from dps_jax.training.pairs import train_with
from dps_jax.typing import Array, Params, Scalars


@dataclass(frozen=True)
class RingConfig:
    """A training of the reader."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    examples: int = 16000
    """Images that are made for it; the last tenth is not trained on."""
    shaken: float = 0.1
    """Standard deviation of what is added to measures, so that none is learnt by heart."""
    steps: int = 8000
    batch: int = 256
    seed: int = 0
    log_every: int = 500
    checkpoint_every: int = 2000
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        for name in ("examples", "steps", "batch", "log_every", "checkpoint_every", "keep_checkpoints"):
            _checks.positive_integer(name, getattr(self, name))
        _checks.non_negative("shaken", self.shaken)


def curves(image: np.ndarray, clean: np.ndarray, kind: str, *, abbe_px: float) -> np.ndarray:
    """Return what the reader is to answer ``(2, 44)``, from a pair ``(y, x)`` whose values were not set to 0 anywhere.

    Of ringing the first curve is the logarithm of the filter's factor, of hammer-stroke the second is that of the ratio
    of powers where the image is dark; all others are 0.
    """
    out = np.zeros((2, RADII.size), np.float32)
    if kind == "ringing":
        own, bare = (ring_powers(i, abbe_px=abbe_px) for i in (image, clean))
        out[0] = 0.5 * np.log(np.maximum(own, 1e-30) / np.maximum(bare, 1e-30))
    if kind == "hammer_stroke":
        own, bare = (dark_powers(i, abbe_px=abbe_px) for i in (image, clean))
        out[1] = np.log(np.maximum(own, 1e-30) / np.maximum(bare, 1e-30))
    return np.maximum(out, 0.0)


def train_reader(
    config: RingConfig,
    folder: Path,
    module: Any,
    bank: dict[str, np.ndarray],
    *,
    report: loop.Report | None = None,
) -> Params:
    """Run or resume a training in ``folder``; see :func:`dps_jax.training.loop.train`.

    Parameters
    ----------
    config
        Everything that the run depends on but the examples.
    bank
        ``measures`` ``(n, inputs)`` and ``curves`` ``(n, 2, rings)`` to train on.
    module
        The reader.
    """

    def make_batch(step: int) -> data.Batch:
        rng = np.random.default_rng([config.seed, step])
        rows = rng.integers(0, len(bank["measures"]), config.batch)
        shaken = config.shaken * rng.standard_normal((config.batch, bank["measures"].shape[1]))
        return {
            "input": (bank["measures"][rows] + shaken).astype(np.float32),
            "target": bank["curves"][rows],
        }

    def loss(params: Params, batch: dict[str, Array]) -> tuple[Array, Scalars]:
        answer = module.apply({"params": params}, batch["input"])
        return jnp.mean((answer - batch["target"]) ** 2), {}

    return train_with(config, folder, module, make_batch, loss, report=report)
