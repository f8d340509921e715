"""Named arrays of other people's files, ``.safetensors`` or ``.npz``: no code to execute in either."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .errors import UserError, explained
from .integrity import available_bytes, check_regular


def read_arrays(path: str | os.PathLike[str], names: Iterable[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of a file as float32; what else is in it is not touched.

    Raises
    ------
    UserError
        If the file is missing, damaged or of another kind, lacks one of the names, or holds what would have to be
        unpickled.
    """
    path, wanted = Path(path), list(names)
    check_regular(path)
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
    except OSError as problem:
        raise UserError(f"cannot read the file {path}: {problem.strerror or problem}.") from None
    with explained(path):
        return _from_npz(path, wanted) if is_zip else _from_safetensors(path, wanted)


def _from_npz(path: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    # Opened here: of a damaged archive NumPy forgets to close the file.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        _refuse_missing(path, wanted, set(archive.files))
        _refuse_giant(path, sum(archive.zip.getinfo(f"{name}.npy").file_size for name in wanted))
        return {name: np.asarray(archive[name], np.float32) for name in wanted}


def _from_safetensors(path: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        _refuse_missing(path, wanted, set(file.keys()))
        return {name: np.asarray(file.get_tensor(name), np.float32) for name in wanted}


def _refuse_giant(path: Path, unpacked_bytes: int) -> None:
    """Refuse a small archive that unpacks to more than half of the free memory."""
    if unpacked_bytes > available_bytes() // 2:
        raise UserError(
            f"the arrays in {path} unpack to {unpacked_bytes / 1e9:.3g} GB, more than half of the memory that is free; "
            "choose another file."
        )


def _refuse_missing(path: Path, wanted: list[str], found: set[str]) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise UserError(
            f"expected the array {missing[0]} in {path}, found "
            f"{', '.join(sorted(found)[:5]) or 'none'}{', ...' if len(found) > 5 else ''}; "
            "save the state dict under its own names."
        )
