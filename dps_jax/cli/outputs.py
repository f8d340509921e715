"""Where results go: one file, or a folder that is taken away again if nothing came to be in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dps_jax.cli import say
from dps_jax.io import UserError

TIFF_SUFFIXES = (".tif", ".tiff")


def pair_outputs(
    inputs: Sequence[Path], output: Path | None, *, suffix: str = "restored"
) -> tuple[list[tuple[Path, Path]], Path | None]:
    """Pair every input with the file for its result, in a folder ``NAME_suffix.tif``; also return that folder.

    Raises
    ------
    UserError
        Where there is no input or output, one name would be written twice, or a file is named where a folder
        is needed.
    """
    if not inputs:
        raise UserError("expected at least one TIFF file, got none; name it before the options.")
    output = required(output, "a .tif file or a folder")
    if output.is_dir() or not output.suffix:
        _different_names(inputs, suffix)
        return [(path, output / f"{path.stem}_{suffix}.tif") for path in inputs], output
    if output.suffix.lower() not in TIFF_SUFFIXES:
        raise UserError(
            f"expected the output to be a .tif file or a folder, got {output}; results are TIFF files "
            "(if it is meant as a folder, make it first)."
        )
    if len(inputs) > 1:
        raise UserError(f"expected a folder for {len(inputs)} results, got the file name {output}.")
    return [(inputs[0], output)], None


def required(output: Path | None, what: str) -> Path:
    """Return the output that the user gave, or say which to give."""
    if output is None:
        raise UserError(f"expected an output, got none; give {what} with -o.")
    return output


def run_each(work: Callable[[Path, Path], None], targets: Sequence[tuple[Path, Path]], *, done: str) -> int:
    """Do what can be done and say what cannot be; return 0, 2 if nothing was ``done``, or 3 if some was not."""
    failed = 0
    for source, target in targets:
        try:
            work(source, target)
        except (UserError, ValueError) as problem:
            failed += 1
            say(f"error: {problem}" if str(source) in str(problem) else f"error: {source}: {problem}")
    if failed:
        say(f"error: {failed} of {len(targets)} files could not be {done}; the reasons are above.")
    return 0 if not failed else 2 if failed == len(targets) else 3


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[Path]:
    """Make a folder and those above it; if the block leaves them empty, remove those that were made.

    Raises
    ------
    UserError
        Where the folder is a file or cannot be made.
    """
    above = (folder, *folder.parents)
    made = [path for path in above if not path.exists()]
    blocking = next((path for path in above if path.exists() and not path.is_dir()), None)
    if blocking is not None:
        raise UserError(f"expected {folder} to be a folder, but {blocking} is a file; choose another output.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as problem:
        if folder.is_dir():
            raise
        raise UserError(f"the folder {folder} cannot be made ({problem.strerror}); choose another.") from None
    finally:
        with contextlib.suppress(OSError):  # not empty: it holds results
            for path in made:
                path.rmdir()


def _different_names(inputs: Sequence[Path], suffix: str) -> None:
    # Some disks do not tell capital letters from small ones.
    names = [path.stem.casefold() for path in inputs]
    for first, path in enumerate(inputs):
        if names.count(path.stem.casefold()) > 1:
            second = inputs[names.index(names[first], first + 1)]
            raise UserError(
                f"expected inputs of different names, got {path} and {second}, whose results would both be "
                f"{path.stem}_{suffix}.tif; write them into different folders."
            )
