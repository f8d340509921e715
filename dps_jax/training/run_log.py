"""The log of a run: JSON lines, written by one process of it, and what no log should go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import jax

from dps_jax.io.atomic import atomic_path
from dps_jax.training.throughput import Speed

Report = Callable[[dict[str, float]], None]

# A gradient falls as a network learns, by a factor of ten or so; one that has died is millions of times smaller.
_DEAD_SHARE, _DEAD_LINES = 1e-3, 3


class RunLog:
    """JSON lines, one per report; lines after the resumed step are dropped, since they will come again.

    It refuses what no log should go on from: numbers that are not finite, and a gradient that has died. Of the
    latter the loss alone tells nothing; it goes up and down with the batches as it does in a training that learns.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        report: Report | None,
        *,
        speed: Speed | None = None,
        writes: bool = True,
    ) -> None:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= start]
        if writes:
            with atomic_path(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._path, self._report, self._writes = path, report, writes
        self._gradients = [float(json.loads(line).get("gradient_norm", math.nan)) for line in kept]
        self._clock, self._step, self._speed = time.perf_counter(), start, speed

    def write(self, step: int, diagnostics: dict[str, jax.Array], batch: int) -> None:
        """Append one line; refuse a loss that is not finite. A step that was skipped has none."""
        if float(diagnostics.get("skipped_in_a_row", 0)):
            return
        _refuse_non_finite(step, diagnostics)
        values = {k: float(v) for k, v in diagnostics.items() if k != "skipped_in_a_row"}
        self._refuse_dead_gradient(step, values["gradient_norm"])
        now = time.perf_counter()
        rate = (step - self._step) / max(now - self._clock, 1e-9)
        self._clock, self._step = now, step
        line = {"step": step, **values, **(self._speed or Speed()).of(rate, batch)}
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if self._report is not None:
            self._report(line)

    def _refuse_dead_gradient(self, step: int, norm: float) -> None:
        self._gradients.append(norm)
        first, last = self._gradients[0], self._gradients[-_DEAD_LINES:]
        if len(self._gradients) > _DEAD_LINES and max(last) < _DEAD_SHARE * first:
            raise FloatingPointError(
                f"expected a gradient that trains the network, got a norm of {norm:.2g} at step {step}, "
                f"{first:.2g} at first: the network no longer depends on its parameters; "
                "train anew with a smaller learning rate or another seed"
            )


def _refuse_non_finite(step: int, diagnostics: dict[str, jax.Array]) -> None:
    # The loss is that of the parameters before the update, the norm that of those after it.
    for what, name in (("loss", "loss"), ("norm of the parameters", "parameter_norm")):
        value = float(diagnostics[name])
        if not math.isfinite(value):
            raise FloatingPointError(f"expected a finite {what}, got {value} at step {step}")


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a line cut short by a kill
        return math.inf
