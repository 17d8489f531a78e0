"""The files that are stored whole when a delivery ends, made from what the spool holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import orjson

from eventlog.projections import merge
from sinks._mlflow.mapping import PARAMS_FILE
from sinks._mlflow.names import file_name
from sinks._mlflow.spool import Spool

Fields = dict[str, object]


def whole_files(spool: Spool, kinds: Iterable[str], directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and place of each file made of the spool's *kinds*; they are made in *directory*.

    A kind of which lines were lost is left out: what is stored already is more.
    """
    for number, kind in enumerate(sorted(kinds)):
        if kind in spool.lost:
            continue
        below = directory / str(number)
        below.mkdir()
        make = _MAKERS.get(kind, _events)
        names = make(kind, spool.lines(kind), below)
        for name in dict.fromkeys(names):
            yield name, below / _local(name)


def _local(name: str) -> str:
    return name.replace("/", "%")


def _put(below: Path, name: str, data: bytes) -> str:
    with (below / _local(name)).open("ab") as file:
        file.write(data)
    return name


def _pretty(value: object) -> bytes:
    return orjson.dumps(
        value, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
    )


def _params(kind: str, lines: Iterator[object], below: Path) -> list[str]:  # noqa: ARG001
    nested: Fields = {}
    for data in lines:
        merge(nested, cast("Fields", data))
    return [_put(below, PARAMS_FILE, _pretty(nested))]


def _summary(kind: str, lines: Iterator[object], below: Path) -> list[str]:
    values: Fields = {}
    for data in lines:
        values.update(cast("Fields", data))
    return [_put(below, f"evlog/{kind}.json", _pretty(values))]


def _keymap(kind: str, lines: Iterator[object], below: Path) -> list[str]:
    pairs = dict(cast("Iterator[tuple[str, str]]", lines))
    return [_put(below, f"evlog/{kind}.json", _pretty(pairs))]


def _notes(kind: str, lines: Iterator[object], below: Path) -> list[str]:
    text = "\n\n".join(cast("Iterator[str]", lines)) + "\n"
    return [_put(below, f"evlog/{kind}.txt", text.encode(errors="replace"))]


def _console(kind: str, lines: Iterator[object], below: Path) -> list[str]:
    name = f"evlog/{kind}.log"
    with (below / _local(name)).open("wb") as file:
        for some in lines:
            file.writelines(line.encode(errors="replace") + b"\n" for line in cast("list[str]", some))
    return [name]


def _split(field: str) -> Callable[[str, Iterator[object], Path], list[str]]:
    """Return what makes a file of JSON lines for each value of *field*."""

    def make(kind: str, lines: Iterator[object], below: Path) -> list[str]:
        return [
            _put(
                below,
                f"evlog/{kind}/{file_name(str(cast('Fields', line)[field]))}.jsonl",
                json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n",
            )
            for line in lines
        ]

    return make


def _events(kind: str, lines: Iterator[object], below: Path) -> list[str]:
    return [_put(below, f"evlog/{kind}.json", _pretty(list(lines)))]


_MAKERS: dict[str, Callable[[str, Iterator[object], Path], list[str]]] = {
    "params": _params,
    "summary": _summary,
    "keymap": _keymap,
    "notes": _notes,
    "console": _console,
    "samples": _split("benchmark"),
    "histograms": _split("key"),
}
