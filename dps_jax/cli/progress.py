"""A progress bar that appears only where the work takes longer than a second."""

from __future__ import annotations

import time
from types import TracebackType

_PATIENCE_S = 1.0


class LateProgress:
    """Show a bar on standard error once a second has passed; use as a context manager."""

    def __init__(self, title: str) -> None:
        self._title, self._started = title, time.perf_counter()
        self._bar = self._task = None

    def __enter__(self) -> LateProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Report ``done`` of ``total``."""
        if self._bar is None and (time.perf_counter() - self._started < _PATIENCE_S or done >= total):
            return
        if self._bar is None:
            self._open(total)
        self._bar.update(self._task, completed=done, total=total, note=note)

    def _open(self, total: float) -> None:
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._title, total=total, note="")
        self._bar.start()
