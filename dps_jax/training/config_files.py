"""Configs as plain data: to JSON and back, and from TOML, with every name and type checked."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from dps_jax.training.config import TrainConfig

T = TypeVar("T")


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
    """Read a training config from a TOML file.

    Raises
    ------
    ValueError
        For a file that is missing, not TOML, or holds unknown or unusable settings.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ValueError(f"expected a TOML config file at {path}, got: {problem}") from None
    return from_dict(TrainConfig, values)
