"""Words of the command line to a dataclass, by tyro; every mistake becomes one sentence."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro
from tyro import constructors

from dps_jax.io.errors import UserError

T = TypeVar("T")

_RULE = re.compile(r"^(─+|--+)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def parse(kind: type[T], words: Sequence[str], *, command: str, default: T | None = None) -> T:
    """Return the arguments of ``dps-jax command``.

    Raises
    ------
    UserError
        For an unknown option, a missing value, or a value of another kind, in one sentence.
    SystemExit
        With code 0, after ``--help``.
    """
    given: Any = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=words, prog=f"dps-jax {command}", registry=_registry(), **given)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_sentence(said.getvalue(), command)) from None


def size(word: str | None, option: str) -> int | None:
    """Return the bytes that a size such as 3GB or 500 MB stands for; None for None.

    Raises
    ------
    UserError
        For a word that is no size, in one sentence.
    """
    if word is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kMGT]?)(i?)B?\s*", word, re.IGNORECASE)
    if not found or not float(found[1]):
        raise UserError(f"expected {option} to be a size such as 3GB or 500MB, got {word!r}.")
    base = 1024 if found[3] else 1000
    return int(float(found[1]) * base ** " KMGT".index(found[2].upper() or " "))


def flag(name: str) -> str:
    """Return the option of a setting, as the user typed it."""
    return "--" + name.replace("_", "-")


def _registry() -> constructors.ConstructorRegistry:
    """Return rules that say in plain words what a value should have been; tyro's speak of Python types."""
    registry = constructors.ConstructorRegistry()
    rules: dict[Any, tuple[str, Callable[[str], Any]]] = {
        float: ("NUMBER", _number),
        int: ("INTEGER", _integer),
        Path: ("PATH", Path),
    }

    @registry.primitive_rule
    def _rule(info: constructors.PrimitiveTypeInfo) -> constructors.PrimitiveConstructorSpec[Any] | None:
        for kind, (metavar, read) in rules.items():
            if info.type in (kind, kind | None):
                return _spec(metavar, read)
        return None

    return registry


def _spec(metavar: str, read: Callable[[str], Any]) -> constructors.PrimitiveConstructorSpec[Any]:
    return constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: True,  # defaults are checked by mypy
        str_from_instance=lambda value: ["none" if value is None else str(value)],
    )


def _number(word: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(float(word)):
            return float(word)
    raise ValueError(f"expected a number, got {word!r}")


def _integer(word: str) -> int:
    with contextlib.suppress(ValueError):
        if abs(int(word)) < 2**63:
            return int(word)
    raise ValueError(f"expected a whole number, got {word[:80]!r}")


def _sentence(boxed: str, command: str) -> str:
    """Return tyro's framed report as one sentence."""
    said, rest = _paragraphs(boxed)
    help_hint = f"see `dps-jax {command} --help`."
    if unknown := re.match(r"Unrecognized options: (.*)", said):
        words = unknown[1].replace(",", "").split()
        what = "option" if words[0].startswith("-") else "word"
        close = next((w for w in rest.replace(",", " ").split() if w.startswith("--") and w != "--help"), "")
        guess = f"did you mean {close}? {help_hint.capitalize()}" if close else help_hint
        return f"unknown {what} {words[0]}; {guess}"
    if missing := re.match(r"Missing value for argument '(.*?)'\. Expected (\d+) values", said):
        count = "a value" if missing[2] == "1" else f"{missing[2]} values"
        return f"expected {count} after {missing[1]}, got fewer; {help_hint}"
    if unread := re.match(r"Error parsing (.*?): Could not find valid parse for arguments: \[(.*)\]", said):
        return f"{unread[1]}: expected values of another kind, got {unread[2]}; {help_hint}"
    return f"{said.removeprefix('Error parsing ').rstrip('.')}; {help_hint}"


def _paragraphs(boxed: str) -> tuple[str, str]:
    """Return the text above the first rule of tyro's frame, and the text below it."""
    parts: list[list[str]] = [[]]
    for line in _COLOUR.sub("", boxed).splitlines():
        inner = "" if line[:1] in ("╭", "╰") else line.strip("│ ")
        if _RULE.match(inner):
            parts.append([])
        elif inner:
            parts[-1].append(inner)
    # Where the frame cannot be drawn, in ASCII, its title is a paragraph of its own.
    said, *rest = parts if "╭" in boxed else parts[1:]
    return " ".join(said), " ".join(line for part in rest for line in part)
