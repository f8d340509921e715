"""What of a batch is done: one JSON file beside the results, so that an interrupted batch goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic import atomic_path
from .errors import UserError

NAME = "dps_jax_manifest.json"
_VERSION = 1


class Manifest:
    """The finished results of a folder, by name: made from which input, with which settings.

    Raises
    ------
    UserError
        Where the folder's manifest is damaged or of another version.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        self.settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self._files = self._read() if self.path.exists() else {}

    def done(self, source: Path, target: Path) -> bool:
        """Tell whether ``target`` is there and was made from this very input with these settings."""
        found = self._files.get(target.name)
        return found is not None and target.exists() and found == self._entry(source, target)

    def add(self, source: Path, target: Path) -> None:
        """Record a finished result; the file is replaced whole.

        Raises
        ------
        UserError
            Where it cannot be written.
        """
        self._files[target.name] = self._entry(source, target)
        text = json.dumps({"version": _VERSION, "files": self._files}, indent=1, sort_keys=True)
        with atomic_path(self.path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def _entry(self, source: Path, target: Path) -> dict[str, Any]:
        size, changed = _stamp(source)
        return {
            "input": str(source),
            "input_bytes": size,
            "input_changed_ns": changed,
            "settings_sha256": self.settings,
            "output_bytes": _stamp(target)[0],
        }

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["version"] == _VERSION and all(isinstance(v, dict) for v in found["files"].values()):
                return dict(found["files"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        raise UserError(
            f"{self.path} is damaged or of another version, so what is done is not known; "
            "remove it to restore all files again."
        )


def _stamp(path: Path) -> tuple[int, int]:
    """Return bytes and time of the last change of a file, or of all files of a folder."""
    if not path.is_dir():
        found = path.stat() if path.exists() else None
        return (found.st_size, found.st_mtime_ns) if found else (-1, -1)
    stats = [os.stat(os.path.join(place, name)) for place, _, names in os.walk(path) for name in names]
    return sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=-1)
