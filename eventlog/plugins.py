"""Finds sinks by the entry-point group ``eventlog.sinks``. Listing names imports nothing.

`importlib.metadata` brings in email, zipfile and socket: 20 ms, a quarter of what an empty run takes from
start to end. So it is imported where it is used, and our own sinks are found without it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from eventlog.errors import BadSinkOptionError, MissingPackageError, UnknownSinkError
from eventlog.sink import Sink

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "eventlog.sinks"


def sinks() -> dict[str, EntryPoint]:
    """Return the installed sinks by name; of two with one name the first found wins."""
    return dict(_found_on(tuple(sys.path)))


# Following a thousand runs makes a thousand sinks, and each look reads a file of every installed package.
@lru_cache(maxsize=4)
def _found_on(search_path: tuple[str, ...]) -> dict[str, EntryPoint]:  # noqa: ARG001 - what it depends on
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, point)
    return dict(sorted(found.items()))


def load_sink(name: str, **options: object) -> Sink:
    """Return a new sink.

    Raises:
        UnknownSinkError: no installed package offers it.
        MissingPackageError: it needs a package that is not installed.
        BadSinkOptionError: it does not take these options.
    """
    try:
        make = _class_of(name)
        _check_options(name, make, options)
        return cast("Sink", make(**options))
    except ImportError as error:
        raise missing_package(name, error) from error


def takes_option(name: str, option: str) -> bool:
    """Tell whether a sink's class takes an option of this name.

    Raises:
        UnknownSinkError: no installed package offers it.
        MissingPackageError: it needs a package that is not installed.
    """
    import inspect

    try:
        known = inspect.signature(_class_of(name)).parameters
    except ImportError as error:
        raise missing_package(name, error) from error
    return option in known or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())


def _class_of(name: str) -> Callable[..., object]:
    reference = _own_sinks().get(name)
    if reference is not None:
        module, _, attribute = reference.partition(":")
        return cast("Callable[..., object]", getattr(importlib.import_module(module), attribute))
    point = sinks().get(name)
    if point is None:
        raise UnknownSinkError(name, list(sinks()))
    return cast("Callable[..., object]", point.load())


def missing_package(sink_name: str, error: ImportError) -> MissingPackageError:
    """Return *error*, which a sink raised, with the command that mends it if that is known."""
    # Of somebody else's sink we know only the module that it missed.
    package = f"'evlog[{sink_name}]'" if sink_name in _own_sinks() else (error.name or "").partition(".")[0]
    command = f"pip install {package}" if package else ""
    return MissingPackageError(sink_name, str(error), command)


def _check_options(name: str, make: Callable[..., object], options: Mapping[str, object]) -> None:
    if not options:
        return
    import inspect

    known = inspect.signature(make).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        return  # it takes any, and looks at them itself
    for option in options:
        if option not in known:
            raise BadSinkOptionError(name, f"it has no option {option!r}", sorted(known))


def _own_sinks() -> dict[str, str]:
    """Return name and ``module:class`` of the sinks of our own distribution; none if it is zipped.

    Source: https://packaging.python.org/en/latest/specifications/entry-points/
    """
    return _own_sinks_on(tuple(sys.path))


@lru_cache(maxsize=4)
def _own_sinks_on(search_path: tuple[str, ...]) -> dict[str, str]:
    for directory in search_path:
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
