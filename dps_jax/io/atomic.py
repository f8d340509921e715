"""Output files appear whole or not at all; those that cannot be written are refused before any computing."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PathLike = str | os.PathLike[str]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
# On a disk with less than this free, a write that ended early without saying why has filled it.
_NEARLY_FULL_BYTES = 2**16


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Give a temporary name beside ``path``; move it to ``path`` if the block succeeds, else remove it.

    The temporary file is hidden, in the same folder (a rename is atomic only within one disk) and has the
    same suffix (writers choose their format by it). A ``path`` that is a link keeps linking. What a run that was killed
    outright left behind of the same ``path`` is removed; a file that a living process writes is locked, and stays.

    Raises
    ------
    UserError
        Where the folder is missing or cannot be written, ``path`` is a folder, or the disk is full.
    """
    _check_place(path)
    final = Path(os.path.realpath(path))
    remove_orphans(final)
    temporary = final.with_name(f".{final.stem[:32]}-{secrets.token_hex(8)}{final.suffix}")
    descriptor = None
    try:
        descriptor = _create(temporary)
        yield temporary
        _flush(temporary)
        os.replace(temporary, final)
    except OSError as problem:
        raise UserError(os_sentence(path, problem)) from problem
    finally:  # also on KeyboardInterrupt; after a success there is nothing left to remove
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)
    flush_folder(final.parent)


def write_text(path: PathLike, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Raises
    ------
    UserError
        As :func:`atomic_path`.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_output(path: PathLike, *, inputs: Sequence[PathLike] = (), overwrite: bool = True) -> None:
    """Refuse, before any computing, an output that cannot be written or would destroy an input.

    Raises
    ------
    UserError
        Where ``path`` is one of ``inputs`` (also through a link or another spelling), is a folder, is
        write-protected, exists although ``overwrite`` is False, or its folder is missing or read-only.
    """
    _check_place(path)
    for source in inputs:
        if _same_file(path, source):
            raise UserError(
                f"The output {path} is the same file as the input {source}; "
                "choose another output name, so that the original is kept."
            )
    if os.path.exists(path) and not overwrite:
        raise UserError(f"The output {path} already exists; choose another name or allow overwriting.")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise UserError(f"The output {path} is write-protected; choose another name or unlock the file.")


def _check_place(path: PathLike) -> None:
    """Refuse a path that is a folder, or whose folder is missing or read-only."""
    parent = Path(os.path.realpath(path)).parent
    if os.path.isdir(path):
        raise UserError(f"The output {path} is a folder; give the name of a file in it.")
    if not parent.exists():
        raise UserError(f"The folder {parent} of the output {path} does not exist; create it first.")
    if not parent.is_dir():
        raise UserError(f"The output {path} should be in a folder, but {parent} is a file; choose another.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"The folder {parent} cannot be written to; choose another folder for {path}.")


def _same_file(a: PathLike, b: PathLike) -> bool:
    """Tell whether two paths lead to one file, whether or not it exists yet."""
    if os.path.exists(a) and os.path.exists(b):
        return os.path.samefile(a, b)
    return os.path.realpath(a) == os.path.realpath(b)


def _create(path: Path) -> int:
    """Make an empty file that was not there, with the user's usual permissions (``mkstemp`` has its own), and lock it.

    The lock lasts as long as the descriptor that is returned, and ends with the process however that ends.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    lock(descriptor, wait=True)
    if os.path.exists(path):
        return descriptor
    os.close(descriptor)  # taken for an orphan before it was locked
    return _create(path)


def lock(descriptor: int, *, wait: bool = False) -> bool:
    """Tell whether the file could be locked; some systems and network disks know no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def remove_orphans(final: Path) -> None:
    """Remove the temporary files or folders of ``final`` whose process is gone: nothing else holds their lock."""
    start, digits = f".{final.stem[:32]}-", "[0-9a-f]{16}"
    pattern = re.compile(re.escape(start) + digits + re.escape(final.suffix))
    with contextlib.suppress(OSError):
        for name in os.listdir(final.parent):
            if name.startswith(start) and pattern.fullmatch(name):
                _remove_if_unlocked(final.parent / name)


def _remove_if_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        if lock(descriptor):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    """Wait until the bytes are on the disk, so that a power cut cannot leave a renamed, empty file."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the new name is on the disk; not every system lets a folder be opened for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def os_sentence(path: PathLike, problem: OSError) -> str:
    """Say in one sentence why ``path`` could not be written."""
    if problem.errno in _FULL or (problem.errno is None and _nearly_full(path)):
        return f"The disk is full, so {path} could not be written; free some space or choose another disk."
    if problem.errno in _FORBIDDEN:
        return f"Writing {path} is not permitted here; choose another folder or ask for the right to write."
    return f"{path} could not be written ({problem.strerror or problem}); check the disk and the file name."


def _nearly_full(path: PathLike) -> bool:
    """Tell whether the disk of ``path`` has next to nothing free: NumPy does not say why a write ended early."""
    with contextlib.suppress(OSError):
        return shutil.disk_usage(Path(os.path.realpath(path)).parent).free < _NEARLY_FULL_BYTES
    return False
