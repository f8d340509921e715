"""Many files: two at a time, so that one is read or written while the other is computed; what is done stays done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dps_jax.cli import say
from dps_jax.cli.progress import LateProgress
from dps_jax.io import UserError
from dps_jax.io.manifest import NAME, Manifest

Pair = tuple[Path, Path]
Work = Callable[["Outcome"], None]
ABREAST = 2


@dataclass
class Outcome:
    """One file of a batch: its log and, where it could not be done, why."""

    source: Path
    target: Path
    lines: list[str] = field(default_factory=list)
    problem: str = ""
    stop: threading.Event = field(default_factory=threading.Event)

    def progress(self, done: float, total: float) -> None:
        """Give up between two tiles when the batch is interrupted."""
        if self.stop.is_set():
            raise KeyboardInterrupt


def run_batch(
    targets: Sequence[Pair], manifest: Manifest, run: Callable[[list[Outcome]], Iterator[Outcome]]
) -> int:
    """Do every file that is not done, and say at the end which could not be; return 0, 2 or 3 as the CLI does."""
    todo = [pair for pair in targets if not manifest.done(*pair)]
    for source, target in targets:
        if (source, target) not in todo:
            say(f"{source}: done before with the same settings ({target}); skipped")
    if len(todo) < len(targets):
        say(
            f"{len(targets) - len(todo)} of {len(targets)} files are done, by {NAME}; remove it to do them again."
        )
    failed: list[Outcome] = []
    with LateProgress(f"{len(todo)} files") as progress:
        for count, outcome in enumerate(run([Outcome(*pair) for pair in todo]), start=1):
            for line in outcome.lines:
                say(line)
            if outcome.problem:
                failed.append(outcome)
            else:
                manifest.add(outcome.source, outcome.target)
            progress(count, len(todo))
    for outcome in failed:
        named = str(outcome.source) in outcome.problem
        say(f"error: {outcome.problem}" if named else f"error: {outcome.source}: {outcome.problem}")
    if failed:
        say(f"error: {len(failed)} of {len(targets)} files could not be restored; the reasons are above.")
    return 0 if not failed else 2 if len(failed) == len(targets) else 3


def attempt(work: Work, outcome: Outcome) -> Outcome:
    """Do one file; what its user can mend is kept for the end."""
    try:
        work(outcome)
    except (UserError, ValueError) as problem:
        outcome.problem = str(problem)
    except MemoryError:
        outcome.problem = "there is not enough memory; give a --memory-limit."
    return outcome


def run_here(work: Work, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Do files in threads, the first one alone (it compiles what the others use); in their order."""
    waiting = list(outcomes)
    # Alone until one succeeds, since a file that is refused compiles nothing.
    while waiting:
        first = attempt(work, waiting.pop(0))
        yield first
        if not first.problem:
            break
    stop = threading.Event()
    for outcome in waiting:
        outcome.stop = stop
    with ThreadPoolExecutor(ABREAST) as threads:
        futures = [threads.submit(attempt, work, outcome) for outcome in waiting]
        try:
            for future in futures:
                yield future.result()
        finally:
            stop.set()
            threads.shutdown(cancel_futures=True)
