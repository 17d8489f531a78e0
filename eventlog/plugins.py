"""Finds sinks by the entry-point group ``eventlog.sinks``. Listing names imports nothing."""

from __future__ import annotations

from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points
from typing import cast

from eventlog.errors import UnknownSinkError
from eventlog.sink import Sink

GROUP = "eventlog.sinks"


def sinks() -> dict[str, EntryPoint]:
    """Return the installed sinks by name; of two with one name the first found wins."""
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
    point = _own(name) or sinks().get(name)
    if point is None:
        raise UnknownSinkError(name, list(sinks()))
    return cast("Sink", point.load()(**options))


def _own(name: str) -> EntryPoint | None:
    """Look into our own distribution first: looking into all takes tens of milliseconds."""
    try:
        points = distribution("evlog").entry_points
    except PackageNotFoundError:
        return None
    return next((p for p in points if p.group == GROUP and p.name == name), None)
