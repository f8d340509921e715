"""An eye on every step: its loss, and whether it was skipped because something in it was not finite."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dps_jax.io.atomic import atomic_path
from dps_jax.training.data import Batch

# Steps that may be under way while an earlier one is looked at: to read a step's numbers at once is to wait for it.
_LAG = 2


class Watch:
    """Counts, tells and ends a row of skipped steps; keeps the losses since the last checkpoint.

    A step that was skipped changed neither weights nor optimiser state (``training.steps``). After ``most`` in a row
    the batch of the first of them is saved in ``folder`` and training is stopped.
    """

    def __init__(self, folder: Path, *, most: int) -> None:
        self._folder, self._most = folder, most
        self._under_way: deque[tuple[int, Batch, dict[str, jax.Array]]] = deque()
        self._losses: list[float] = []
        self._first: tuple[int, Batch] | None = None

    def see(self, step: int, batch: Batch, diagnostics: dict[str, jax.Array]) -> None:
        """Take note of a step that was begun, and look at an earlier one.

        Raises
        ------
        FloatingPointError
            If that was the last of too many skipped in a row.
        """
        self._under_way.append((step, batch, diagnostics))
        while len(self._under_way) > _LAG:
            self._look(*self._under_way.popleft())

    def settle(self) -> float | None:
        """Wait for all steps; return the mean of the losses since this was last called, None if there were none."""
        while self._under_way:
            self._look(*self._under_way.popleft())
        losses, self._losses = self._losses, []
        return float(np.mean(losses)) if losses else None

    def _look(self, step: int, batch: Batch, diagnostics: dict[str, jax.Array]) -> None:
        in_a_row = int(diagnostics["skipped_in_a_row"])
        if not in_a_row:
            self._losses.append(float(diagnostics["loss"]))
            self._first = None
            return
        found = f"loss {float(diagnostics['loss']):.3g}, gradient {float(diagnostics['gradient_norm']):.3g}"
        logging.getLogger(__name__).warning(
            "step %d was skipped: its loss or gradient is not finite (%s); skipped so far: %d",
            *(step, found, int(diagnostics["skipped"])),
        )
        self._first = self._first or (step, batch)
        if in_a_row >= self._most:
            first, path = self._first[0], _save(self._folder, *self._first)
            raise FloatingPointError(
                f"expected a finite loss and gradient, got {found} at step {step}, the last of {in_a_row} in a row "
                f"that were skipped; the batch of step {first} is saved in {path}"
            )


def _save(folder: Path, step: int, batch: dict[str, Any]) -> Path:
    """Write this process's rows of a batch, plain arrays that NumPy reads without executing anything."""
    of = f"_process_{jax.process_index()}" if jax.process_count() > 1 else ""
    path = folder / f"skipped_step_{step:08d}{of}.npz"
    with atomic_path(path) as temporary:
        np.savez(temporary, **batch)
    return path
