"""Ctrl-C and SIGTERM end a command alike: what was begun is cleaned up, and the exit code says which it was."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_LATER_S = 0.02


@contextlib.contextmanager
def heeding_signals() -> Iterator[set[int]]:
    """Stop for Ctrl-C and SIGTERM, also where Python would drop them: in a destructor or a callback of the collector.

    Gives the set of those that came. They can be heard in the main thread only; elsewhere, and where the caller has a
    handler of its own or ignores them, nothing is changed.
    """
    heard: set[int] = set()

    def stop(number: int, frame: FrameType | None) -> None:
        heard.add(number)
        raise KeyboardInterrupt

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            # Later, from another thread: now it would be raised in this hook, and dropped once more.
            number = signal.Signals(next(iter(heard), signal.SIGINT))
            again = threading.Timer(_LATER_S, _thread.interrupt_main, [number])
            again.daemon = True
            again.start()
        else:
            usual(dropped)

    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if threading.current_thread() is not threading.main_thread():
        defaults = {}
    changed = {number: old for number, old in defaults.items() if signal.getsignal(number) is old}
    usual, sys.unraisablehook = sys.unraisablehook, hook
    try:
        for number in changed:
            signal.signal(number, stop)
        yield heard
    finally:
        sys.unraisablehook = usual
        for number, old in changed.items():
            signal.signal(number, old)
