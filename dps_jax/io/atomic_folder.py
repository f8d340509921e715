"""Folders that appear whole or not at all: made beside their place under a hidden name, and moved there at the end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from .atomic import PathLike, flush_folder, lock, os_sentence, remove_orphans
from .errors import UserError

# Linux, renameat2(2): swap two names in one step. -100 stands for the working folder.
_EXCHANGE, _HERE = 2, -100


@contextlib.contextmanager
def atomic_folder(path: PathLike, *, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a new hidden folder beside ``path``; move it to ``path`` if the block succeeds, else remove it.

    A folder that stands at ``path`` is replaced, in one step where the system can, if ``replaceable`` says so. What a
    run that was killed outright left behind of the same ``path`` is removed.

    Raises
    ------
    UserError
        As :func:`check_folder_output`, or where the disk is full or may not be written.
    """
    check_folder_output(path, replaceable=replaceable)
    final = Path(os.path.realpath(path))
    remove_orphans(final)
    temporary = final.with_name(f".{final.stem[:32]}-{secrets.token_hex(8)}{final.suffix}")
    descriptor = None
    try:
        temporary.mkdir()
        descriptor = os.open(temporary, os.O_RDONLY)
        lock(descriptor, wait=True)
        yield temporary
        _flush_all(temporary)
        _put(temporary, final)
    except OSError as problem:
        raise UserError(os_sentence(path, problem)) from problem
    finally:  # also on KeyboardInterrupt; after a replacement the old folder has this name
        shutil.rmtree(temporary, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)
    flush_folder(final.parent)


def check_folder_output(path: PathLike, *, replaceable: Callable[[Path], bool]) -> None:
    """Refuse, before any computing, an output folder that cannot be made or would take the place of something else.

    Raises
    ------
    UserError
        Where ``path`` is a file or a folder that is not ``replaceable``, or its parent is missing or read-only.
    """
    final = Path(os.path.realpath(path))
    parent = final.parent
    if final.exists() and not (final.is_dir() and replaceable(final)):
        raise UserError(f"The output {path} exists and is no Zarr image; choose another name.")
    if not parent.is_dir():
        raise UserError(f"The folder {parent} of the output {path} does not exist; create it first.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"The folder {parent} cannot be written to; choose another folder for {path}.")


def _put(temporary: Path, final: Path) -> None:
    """Move a folder to its place; the one that was there gets the temporary name."""
    if not final.exists():
        os.rename(temporary, final)
    elif not _exchanged(temporary, final):
        # Two steps: a kill between them leaves the old folder under its hidden name.
        aside = temporary.with_name(temporary.name + ".old")
        os.rename(final, aside)
        try:
            os.rename(temporary, final)
        except OSError:
            os.rename(aside, final)
            raise
        os.rename(aside, temporary)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system or the disk cannot."""
    try:
        swap = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return not swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)


def _flush_all(folder: Path) -> None:
    """Wait until every file is on the disk, before the name that promises them is."""
    for place, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(place, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        flush_folder(Path(place))
