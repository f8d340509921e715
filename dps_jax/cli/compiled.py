"""The folder of compiled programs, kept between runs; what a killed run left half-written in it is replaced.

JAX writes an entry straight to its name and never again: a broken one would be read, warned of and compiled anew by
every later run.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_TROUBLE = re.compile(
    r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)", re.DOTALL
)


def cache_folder() -> str:
    """Return where compiled programs are kept: where the user says, or in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.path.join(home, "dps_jax", "xla")


@contextlib.contextmanager
def mending_cache(say: Callable[[str], None]) -> Iterator[None]:
    """Remove a broken entry when JAX warns of it, so that the program that follows is kept in its place."""
    usual = warnings.showwarning
    told: set[str] = set()

    def show(message: Any, *where: Any, **more: Any) -> None:
        found = _TROUBLE.match(str(message))
        if not found:
            usual(message, *where, **more)
            return
        _remove(found[2])
        if found[1] == "writing" and not told:
            told.add(found[2])
            say(
                f"note: compiled programs cannot be kept in {cache_folder()} ({' '.join(found[3].split())[:160]})"
            )

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


def _remove(program: str) -> None:
    """Remove every entry of a program, whole ones of other sizes included: they are compiled again when needed."""
    for path in glob.glob(os.path.join(glob.escape(cache_folder()), f"{glob.escape(program)}-*")):
        with contextlib.suppress(OSError):
            os.unlink(path)
