"""Checkpoints for resuming a run (Orbax). Released weights are another thing: see ``dps_jax.weights``.

They hold arrays and their names, and nothing that is executed. Every process of a run writes its own part; a
checkpoint appears under its number when all parts are there, and can be read onto any other mesh.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

State = dict[str, Any]

_ANOTHER = (
    "expected a checkpoint of this config's network and optimizer, found another or a damaged one: "
    "use a new run folder"
)


class Checkpoints:
    """The last few states of a run in a folder and its best, written atomically; use as a context manager.

    Orbax is imported here and not at the top: it is slow to import and adds a log handler to the root logger.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        handlers = list(logging.getLogger().handlers)
        from orbax.checkpoint import v1 as ocp

        logging.getLogger().handlers[:] = handlers
        # What its threads report as errors is raised as well; on a full disk it is a thousand lines.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        policies = ocp.training.preservation_policies
        best = policies.BestN(get_metric_fn=_loss, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        self._checkpointer = ocp.training.Checkpointer(
            Path(folder).absolute(),
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            cleanup_tmp_directories=True,
        )
        self._writing: Any = None  # the answer of the last save; unasked for, it keeps a thread for good

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._wait()
        finally:
            self._checkpointer.close()

    def _wait(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def latest_step(self) -> int | None:
        """Return the step of the newest complete checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def best_step(self) -> int | None:
        """Return the step of the checkpoint with the lowest loss, or None where none came with a loss."""
        scored = [c for c in self._checkpointer.checkpoints if c.metrics]
        return min(scored, key=lambda c: _loss(c.metrics)).step if scored else None

    def save(self, state: State, *, loss: float | None = None) -> None:
        """Write the state under its own step number, in the background; the one before is waited for.

        ``loss`` is what the best checkpoint is chosen by. The arrays may be donated as soon as this returns.
        """
        self._wait()
        metrics = None if loss is None else {"loss": loss}
        self._writing = self._checkpointer.save_async(int(state["step"]), state, metrics=metrics)

    def load(self, like: State, *, step: int | None = None) -> State:
        """Return the newest state, or that of ``step``, laid out (shapes, dtypes, sharding) as ``like`` is.

        Raises
        ------
        ValueError
            If the checkpoint was made by another config.
        """
        step = self.latest_step() if step is None else step
        # Compared first, since a load that fails leaves Orbax's half-begun reads behind.
        if _shapes(self._checkpointer.metadata(step).metadata) != _shapes(like):
            raise ValueError(_ANOTHER)
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like)
        try:
            return self._checkpointer.load(step, abstract)
        except (ValueError, KeyError) as problem:
            raise ValueError(f"{_ANOTHER} ({str(problem).splitlines()[0]})") from None


def _loss(metrics: Any) -> float:
    return float(metrics["loss"])


def _shapes(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    """Return shapes and types of the arrays of a state, or of what Orbax says about one, in no tree's order."""
    return sorted((tuple(a.shape), str(a.dtype)) for a in jax.tree.leaves(tree) if hasattr(a, "shape"))
