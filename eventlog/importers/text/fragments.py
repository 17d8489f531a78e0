"""JSON and Python literals in a line, or over several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from eventlog.importers.text.observed import Value
from eventlog.importers.text.values import MAX_LITERAL, literal_of, pairs
from eventlog.values import flatten

MAX_BLOCK_LINES = 500

_CONFIG = re.compile(
    r"\b(?:config(?:uration)?|args|arguments|hparams|hyper-?param\w*|param\w*|settings|options)\b\W*$",
    re.IGNORECASE,
)
_NAMESPACE = re.compile(r"\b(?:Namespace|[A-Z]\w*(?:Config|Args|Arguments|Options))\((.*)\)\s*$")
_COMMAND = re.compile(r"^\s*[$+>]?\s*(?:\S*/)?(?:python[\d.]*|torchrun|accelerate)\s+.*?(\s--?\w.*)$")
_FLAG = re.compile(
    r"""--?([A-Za-z][\w.-]*)(?:[=\ ]+("[^"]*"|'[^']*'|(?!--?[A-Za-z]|[\w.]+=)\S+))?
      | (?<=\s)\+{0,2}([A-Za-z][\w.]*)=(\S+)""",
    re.VERBOSE,
)


class Fragment(NamedTuple):
    """Named values that were printed together; *is_config*: the words before say that they are inputs."""

    data: dict[str, Value]
    is_config: bool
    lines: int


def fragment_of(lines: Sequence[str], at: int) -> Fragment | None:
    """Return the object that begins in line *at*, if there is one."""
    line = lines[at]
    start = line.find("{")
    if start < 0:
        return None
    text, taken = line[start:], 1
    if len(text) > MAX_LITERAL:
        return None
    depth = _depth(text)
    if depth > 0 and text.rstrip().endswith(("{", ",", "[")):
        parts = [text]
        while depth > 0 and taken < MAX_BLOCK_LINES and at + taken < len(lines):
            parts.append(lines[at + taken])
            depth += _depth(lines[at + taken])
            taken += 1
        text = "\n".join(parts)
    found = literal_of(text[: text.rfind("}") + 1])
    if not isinstance(found, dict) or not found:
        return None
    return Fragment(_named(found), bool(_CONFIG.search(line[:start])) or taken > 1, taken)


def _depth(text: str) -> int:
    return text.count("{") - text.count("}")


def _named(found: Mapping[object, object]) -> dict[str, Value]:
    flat = flatten({str(key): value for key, value in found.items()})
    return {key: _plain(value) for key, value in flat.items()}


def _plain(value: object) -> Value:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return list(value) if isinstance(value, (list, tuple)) else str(value)


def namespace_of(line: str) -> dict[str, Value] | None:
    """Return what ``Namespace(lr=0.1, …)`` or ``TrainConfig(…)`` says."""
    found = _NAMESPACE.search(line)
    if found is None:
        return None
    data = {pair.key: pair.value for pair in pairs(found[1])}
    return data or None


def command_of(line: str) -> dict[str, Value] | None:
    """Return the flags of a command line of Python that was printed; without a value they are True."""
    found = _COMMAND.match(line)
    return dict(_flags(found[1])) if found else None


def _flags(text: str) -> Iterator[tuple[str, Value]]:
    from eventlog.importers.text.values import value_of

    for found in _FLAG.finditer(text):
        value = found[2] or found[4]
        yield (found[1] or found[3]).replace("-", "_"), True if value is None else value_of(value)
