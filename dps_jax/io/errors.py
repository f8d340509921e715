"""The one exception that reaches the person at the keyboard, and how a library's troubles become it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
    """A problem the user can solve: one sentence with what was expected, what was found and what to do."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as problem:  # decoders raise their own, struct's, zlib's, NumPy's and memory errors
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:160]
        raise UserError(f"{path} is damaged or of an unknown kind ({reason}); export it again.") from problem


@contextlib.contextmanager
def library_warnings(name: str) -> Iterator[list[str]]:
    """Collect what the logger ``name`` warns of, so that it reaches the user as notes and not as noise."""
    collector, logger = _Collector(logging.WARNING), logging.getLogger(name)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield collector.messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


class _Collector(logging.Handler):
    """Keeps messages in a list."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message, cut to a line's length."""
        self.messages.append(f"{record.name}: {record.getMessage()[:200]}")
