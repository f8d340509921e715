"""Checkpoints for resuming a run (Orbax). Released weights are another thing: see ``dps_jax.weights``."""

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
    """The last few states of a run in a folder, written atomically; use as a context manager.

    Orbax is imported here and not at the top: it is slow to import and adds a log handler to the root logger.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        handlers = list(logging.getLogger().handlers)
        from orbax.checkpoint import v1 as ocp

        logging.getLogger().handlers[:] = handlers
        # What its threads report as errors is raised as well; on a full disk it is a thousand lines.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        policy = ocp.training.preservation_policies.LatestN(keep)
        every = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
        self._checkpointer = ocp.training.Checkpointer(
            Path(folder).absolute(),
            preservation_policy=policy,
            save_decision_policy=every,
            cleanup_tmp_directories=True,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpointer.close()

    def latest_step(self) -> int | None:
        """Return the step of the newest complete checkpoint, or None."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def save(self, state: State) -> None:
        """Write the state under its own step number."""
        self._checkpointer.save(int(state["step"]), state)

    def load(self, like: State) -> State:
        """Return the newest state, laid out (shapes, dtypes, sharding) as ``like`` is.

        Raises
        ------
        ValueError
            If the checkpoint was made by another config.
        """
        step = self.latest_step()
        # Compared first, since a load that fails leaves Orbax's half-begun reads behind.
        if _shapes(self._checkpointer.metadata(step).metadata) != _shapes(like):
            raise ValueError(_ANOTHER)
        abstract = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), like)
        try:
            return self._checkpointer.load(step, abstract)
        except (ValueError, KeyError) as problem:
            raise ValueError(f"{_ANOTHER} ({str(problem).splitlines()[0]})") from None


def _shapes(tree: Any) -> list[tuple[tuple[int, ...], str]]:
    """Return shapes and types of the arrays of a state, or of what Orbax says about one, in no tree's order."""
    return sorted((tuple(a.shape), str(a.dtype)) for a in jax.tree.leaves(tree) if hasattr(a, "shape"))
