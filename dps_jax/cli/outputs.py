"""Where results go: one file, or a folder that is taken away again if nothing came to be in it."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dps_jax.cli import say
from dps_jax.io import UserError

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIX = ".zarr"


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
    is_zarr = output.suffix.lower() == ZARR_SUFFIX
    if not is_zarr and (output.is_dir() or not output.suffix):
        _different_names(inputs, suffix)
        return [(path, output / result_name(path, suffix)) for path in inputs], output
    if not is_zarr and output.suffix.lower() not in TIFF_SUFFIXES:
        raise UserError(
            f"expected the output to be a .tif file or a folder, got {output}; results are TIFF files or OME-Zarr "
            "(.zarr) (if it is meant as a folder, make it first)."
        )
    if len(inputs) > 1:
        raise UserError(f"expected a folder for {len(inputs)} results, got the file name {output}.")
    return [(inputs[0], output)], None


def result_name(path: Path, suffix: str) -> str:
    """Return the name of the result of a file: an OME-Zarr of an OME-Zarr, else a TIFF."""
    if path.suffix.lower() == ZARR_SUFFIX:
        return f"{_bare(path)}_{suffix}.ome.zarr"
    return f"{path.stem}_{suffix}.tif"


def _bare(path: Path) -> str:
    """Return a name without its endings."""
    stem = path.stem
    return stem[:-4] if path.suffix.lower() == ZARR_SUFFIX and stem.lower().endswith(".ome") else stem


def expand(inputs: Sequence[Path]) -> tuple[Path, ...]:
    """Return the inputs with patterns, which a shell leaves alone in quotes, in place of the files they match.

    Raises
    ------
    UserError
        Where a pattern matches nothing.
    """
    found: list[Path] = []
    for path in inputs:
        if path.exists() or not glob.has_magic(str(path)):
            found.append(path)
            continue
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(
                f"expected files that match {path}, found none; check the folder and the pattern."
            )
        found += map(Path, matches)
    return tuple(found)


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
    seen: dict[str, Path] = {}
    for path in inputs:
        name = result_name(path, suffix)
        other = seen.setdefault(name.casefold(), path)
        if other is not path:
            raise UserError(
                f"expected inputs of different names, got {other} and {path}, whose results would both be "
                f"{name}; write them into different folders."
            )
