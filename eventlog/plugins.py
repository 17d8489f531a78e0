"""Finds sinks by the entry-point group ``eventlog.sinks``. Listing names imports nothing.

`importlib.metadata` brings in email, zipfile and socket: 20 ms, a quarter of what an empty run takes from
start to end. So it is imported where it is used, and our own sinks are found without it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from eventlog.errors import UnknownSinkError
from eventlog.sink import Sink

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "eventlog.sinks"


def sinks() -> dict[str, EntryPoint]:
    """Return the installed sinks by name; of two with one name the first found wins."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return dict(sorted(found.items()))


def load_sink(name: str, **options: object) -> Sink:
    """Return a new sink.

    Raises:
        UnknownSinkError: no installed package offers it.
        ImportError: it needs a package that is not installed.
        TypeError: it does not take these options.
    """
    reference = _own_sinks().get(name)
    if reference is not None:
        module, _, attribute = reference.partition(":")
        return cast("Sink", getattr(importlib.import_module(module), attribute)(**options))
    point = sinks().get(name)
    if point is None:
        raise UnknownSinkError(name, list(sinks()))
    return cast("Sink", point.load()(**options))


def _own_sinks() -> dict[str, str]:
    """Return name and ``module:class`` of the sinks of our own distribution; none if it is zipped.

    Source: https://packaging.python.org/en/latest/specifications/entry-points/
    """
    for directory in sys.path:
        for path in Path(directory).glob("evlog-*.dist-info/entry_points.txt"):
            return _group(path.read_text())
    return {}


def _group(entry_points: str) -> dict[str, str]:
    """Return the lines of our group in the text of an ``entry_points.txt``."""
    found: dict[str, str] = {}
    is_ours = False
    for line in entry_points.splitlines():
        name, equals, reference = (part.strip() for part in line.partition("="))
        if line.startswith("["):
            is_ours = line.strip() == f"[{GROUP}]"
        elif is_ours and equals:
            found[name] = reference
    return found
