"""Network parameters in one ``.safetensors`` file: named arrays and a JSON header, no code to execute.

Parameters are nested dictionaries of float arrays; in the file their names are joined with ``/``.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import atomic_path
from .errors import UserError
from .integrity import check_regular

FORMAT_VERSION = 1
_HEADER = "dps_jax"
_CHECKSUM = "content_sha256"


def flatten(params: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Return ``{"a/b/c": array}`` from nested dictionaries, in sorted order."""
    flat: dict[str, np.ndarray] = {}
    for name in sorted(params):
        value = params[name]
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = np.asarray(value, np.float32)
    return flat


def nest(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    """Invert :func:`flatten`; ``ValueError`` for an array with the name of a folder."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *folders, leaf = name.split("/")
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or leaf in place:
            raise ValueError(f"expected array names of which none is a folder of others, got {name!r}")
        place[leaf] = value
    return nested


def _checksum(flat: dict[str, np.ndarray], header: dict[str, Any]) -> str:
    """Return the SHA-256 of the arrays (names, types, shapes, values) and of the rest of the header."""
    from safetensors.numpy import save

    rest = {k: v for k, v in header.items() if k != _CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode() + save(flat)).hexdigest()


def write_parameters(path: str | os.PathLike[str], params: dict[str, Any], *, header: dict[str, Any]) -> None:
    """Write parameters and a JSON ``header`` atomically; equal arguments give equal bytes.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    flat = flatten(params)
    # As it will be read, with JSON's types; one metadata entry, since the library does not order several.
    about = json.loads(json.dumps({"format_version": FORMAT_VERSION, **header}))
    about[_CHECKSUM] = _checksum(flat, about)
    content = save(flat, metadata={_HEADER: json.dumps(about, sort_keys=True)})
    with atomic_path(path) as temporary:
        Path(temporary).write_bytes(content)


def read_parameters(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Read ``(params, header, SHA-256 of the file)``.

    Raises
    ------
    UserError
        If the file is missing, no ``.safetensors`` file of this project, or of another format version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = Path(path)
    check_regular(path)
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise UserError(f"cannot read the weights file {path}: {problem.strerror or problem}.") from None
    try:
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size]).get("__metadata__", {})
        header = json.loads(metadata[_HEADER])
        version = header["format_version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(
            f"{path} is not a weights file of dps-jax (.safetensors with its header); "
            "make one with `dps-jax train`, or leave --weights out to use the released weights."
        ) from None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} is a weights file of format version {version}, but this dps-jax reads version "
            f"{FORMAT_VERSION}; install the dps-jax it was made with, or train it again."
        )
    try:
        flat = load(content)
        # Files of before the checksum lack it; any other file must have the right one.
        if _CHECKSUM in header and header[_CHECKSUM] != _checksum(flat, header):
            raise ValueError("its checksum does not match its content")
        params = nest(flat)
    except (SafetensorError, ValueError, KeyError, TypeError) as problem:
        raise UserError(f"the weights file {path} is damaged ({problem}); copy it again.") from None
    return params, header, hashlib.sha256(content).hexdigest()
