"""A progress bar that appears only on a terminal, and only where the work takes longer than a second."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich is imported when there is something to show
    from rich.progress import Progress, TaskID

_PATIENCE_S = 1.0


class LateProgress:
    """Show a bar on standard error once a second has passed; use as a context manager."""

    def __init__(self, title: str) -> None:
        self._title, self._started = title, time.perf_counter()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> LateProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar[0].stop()

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Report ``done`` of ``total``."""
        if self._bar is None:
            if time.perf_counter() - self._started < _PATIENCE_S or done >= total:
                return
            self._bar = self._open(total)
        bar, task = self._bar
        bar.update(task, completed=done, total=total, note=note)

    def _open(self, total: float) -> tuple[Progress, TaskID]:
        from rich import progress
        from rich.console import Console

        console = Console(stderr=True)
        bar = progress.Progress(
            # No markup: a file may be called "cell[1].tif".
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,  # in a log file a bar is noise
        )
        bar.start()
        return bar, bar.add_task(self._title, total=total, note="")
