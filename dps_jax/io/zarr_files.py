"""The files of a Zarr array as they are read: regular ones within the image's folder, no larger than they can be.

Zarr reads whatever a chunk's name leads to, and to its end: a pipe is waited for without end, a device fills the
memory, and a link out of the folder turns somebody's file into pixels.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from .errors import UserError

_MOST_OF_METADATA = 2**24


class ImageFiles(LocalStore):
    """A folder of an image to read from.

    ``most`` is the size in bytes that no file of it has; until the metadata are known, that of metadata. Reading raises
    :class:`UserError` for a file that is larger, a pipe, a device, or a link that leads out of ``image``.
    """

    def __init__(self, root: Path, *, image: Path, most: int = _MOST_OF_METADATA) -> None:
        super().__init__(root, read_only=True)
        self._image, self._inside, self._most = image, image.resolve(), most

    def at_most(self, most: int) -> ImageFiles:
        """Return the same files, with another bound on their sizes."""
        return ImageFiles(self.root, image=self._image, most=max(most, _MOST_OF_METADATA))

    async def get(self, key: str, *words: Any, **options: Any) -> Any:
        """Read a file, or a part of it; None where there is none."""
        self._check(self.root / key)
        return await super().get(key, *words, **options)

    def _check(self, file: Path) -> None:
        try:
            where, about = file.resolve(strict=True), file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return  # which Zarr reads as empty
        if not where.is_relative_to(self._inside):
            raise UserError(
                f"{file} is a link that leads out of {self._image}; copy the image with its links followed (cp -rL)."
            )
        if stat.S_ISDIR(about.st_mode):
            return
        if not stat.S_ISREG(about.st_mode):
            raise UserError(f"{file} is a pipe or a device, but a file was expected; copy the image again.")
        if about.st_size > self._most:
            raise UserError(
                f"{self._image} is damaged: {file.name} has {about.st_size:.3g} bytes, more than what its metadata "
                f"declare can take ({self._most:.3g}); copy or export it again."
            )
