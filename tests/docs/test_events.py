"""The page on events has every type and every field, as the structs have them."""

from __future__ import annotations

import json
import re
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from eventlog.events import KNOWN, ErrorInfo, Event, FileEntry, PayloadRef, Previous, RingInfo

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "events.md").read_text("utf-8")
SHARED: tuple[type[msgspec.Struct], ...] = (PayloadRef, Previous, RingInfo, ErrorInfo, FileEntry)
PLAIN = {int: "int", float: "float", str: "string", bool: "bool", object: "json", type(None): "null"}


def type_text(hint: Any) -> str:
    """Return how the page spells a type."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if set(arguments) == {int, float, str}:
        return "number"
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments)
    if origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return f"object of {type_text(arguments[1])}"
    return f"[{hint.__name__}](#{hint.__name__.lower()})"


def default_text(field: msgspec.structs.FieldInfo) -> str:
    """Return how the page spells a field's default."""
    if field.required:
        return "*required*"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{json.dumps(value)}`"


def fields_of(kind: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    """Return name, type and default of each field that is the kind's own."""
    shared = {name for name in Event.__struct_fields__ if issubclass(kind, Event)}
    hints = get_type_hints(kind)
    return [
        (field.name, type_text(hints[field.name]), default_text(field))
        for field in msgspec.structs.fields(kind)
        if field.name not in shared
    ]


def rows_of(title: str) -> list[tuple[str, ...]]:
    """Return the cells of the table below the heading *title*."""
    section = re.search(rf"^## {title}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/reference/events.md has no section {title}"
    lines = [line for line in section[1].splitlines() if line.startswith("| `")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines]


@pytest.mark.parametrize("kind", [*KNOWN, *SHARED], ids=lambda kind: kind.__name__)
def test_page_has_every_field_of_every_event(kind: type[msgspec.Struct]) -> None:
    """Name, type and default are those of the struct, in its order, and each has a meaning."""
    title = str(kind.__struct_config__.tag) if issubclass(kind, Event) else kind.__name__

    rows = rows_of(title)

    assert [(name.strip("`"), type_, default) for name, type_, default, _ in rows] == fields_of(kind)
    assert all(len(row[3]) > 2 for row in rows)


def test_page_has_no_event_that_is_not_there() -> None:
    """What was renamed or never was is not described."""
    titles = set(re.findall(r"^## (\S+)$", PAGE, re.MULTILINE))

    assert titles == {str(k.__struct_config__.tag) for k in KNOWN} | {k.__name__ for k in SHARED}
