"""Configs as plain data: to JSON and back, and from TOML, with every name and type checked."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from dps_jax.training.config import TrainConfig

T = TypeVar("T")

# A config has some sixty settings. Beyond these sizes a short file can keep the parser busy for hours: it needs the
# square of the length of a dotted name.
_MOST_BYTES, _LONGEST_LINE = 2**16, 2000


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain JSON types."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def from_dict(kind: type[T], values: dict[str, Any], *, where: str = "config") -> T:
    """Make a config class from plain values, refusing names it does not have.

    Raises
    ------
    ValueError
        For an unknown name or a section that is not a table.
    """
    hints = get_type_hints(kind)
    if not isinstance(values, dict):
        raise ValueError(f"expected {where} to be a table of settings, got {values!r}")
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"expected settings of {where} among {', '.join(hints)}, got {', '.join(unknown)}")
    return kind(**{k: _typed(hints[k], v, f"{where}.{k}") for k, v in values.items()})


def _typed(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where=where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        return _typed_tuple(get_args(hint), value, where)
    if isinstance(value, list):
        raise ValueError(f"expected {where} to be one value, got {value!r}")
    optional = type(None) in get_args(hint)
    if value is None and optional:
        return None
    if Path in get_args(hint):
        if not isinstance(value, (str, Path)):
            raise ValueError(f"expected {where} to be a path, got {value!r}")
        return Path(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and abs(value) >= 2**63 and isinstance(value, int):
        raise ValueError(
            f"expected {where} to be a number of at most 64 bits, got one of {value.bit_length()}"
        )
    wants = "str" if hint is str else "a whole number" if hint is int else "a number"
    fits = (
        isinstance(value, str)
        if hint is str
        else isinstance(value, int) and number
        if hint is int
        else number
    )
    if not fits:
        raise ValueError(f"expected {where} to be {wants}, got {value!r}")
    return float(value) if hint is not int and number else value


def _typed_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    many = kinds[-1] is Ellipsis
    if not isinstance(value, (list, tuple)) or not (many or len(value) == len(kinds)):
        wants = "a list" if many else f"a list of {len(kinds)}"
        raise ValueError(f"expected {where} to be {wants}, got {value!r}")
    return tuple(_typed(kinds[0], v, f"{where}[{i}]") for i, v in enumerate(value))


def read_config(path: Path) -> TrainConfig:
    """Read a training config from a TOML file; relative paths in it begin at its own folder, and must stay in it.

    A config that came from someone else can so name no file of yours; on the command line any path can be given.

    Raises
    ------
    ValueError
        For a file that is missing, not TOML, or holds unknown or unusable settings, or paths out of its folder.
    """
    path = Path(path)
    try:
        values = tomllib.loads(_text(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ValueError(
            f"expected a TOML config file at {path}, got: {' '.join(str(problem).split())}"
        ) from None
    except (
        RecursionError,
        ValueError,
    ) as problem:  # nested beyond all reason; numbers of thousands of digits
        raise ValueError(f"expected a TOML config file at {path}, got: {type(problem).__name__}") from None
    return _within(path, from_dict(TrainConfig, values))


def _text(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES or max(map(len, content.splitlines()), default=0) > _LONGEST_LINE:
        raise tomllib.TOMLDecodeError(
            f"more than {_MOST_BYTES} bytes, or a line of more than {_LONGEST_LINE}, which no config needs"
        )
    return content.decode("utf-8")


def _within(path: Path, config: TrainConfig) -> TrainConfig:
    """Return the config with its paths taken from the folder of its file, refusing those that lead out of it."""
    images = config.images
    folder = None if images.folder is None else _inside(path, "images.folder", images.folder)
    initial = None if config.initial is None else _inside(path, "initial", config.initial)
    return dataclasses.replace(config, initial=initial, images=dataclasses.replace(images, folder=folder))


def _inside(path: Path, name: str, place: Path) -> Path:
    found = path.parent / place
    try:
        inside = found.resolve().is_relative_to(path.parent.resolve())
    except (OSError, ValueError, RuntimeError):  # too long a name, a zero byte in it, links in a circle
        inside = False
    if not inside:
        option = "--" + name.replace("_", "-")
        raise ValueError(
            f"expected {name} to stay in the folder of the config file, {path.parent}, got {str(place)[:200]!r}; move "
            f"it there, or give it with {option} on the command line"
        )
    return found
