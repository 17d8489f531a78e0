"""``evlog tail``: the last events of a run, and those that come."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventlog.analysis.runs import find_run
from eventlog.cli import render
from eventlog.cli.options import DEFAULT_ROOT, OneRun, Root

if TYPE_CHECKING:
    from eventlog.storage.merge import Slice

Show = Callable[["Slice"], None]


def tail(
    run: OneRun,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until the run has ended.")
    ] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, metavar="N", help="How many events from the past.")
    ] = 10,
    everything: Annotated[bool, typer.Option("--all", help="All events from the past.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Show the last events of a run, one a line."""
    found = find_run(run, root)
    show = _show_json if as_json else _show_text(found.path)
    kept = _Newest(None if everything else lines)
    if follow:
        _follow(found.path, kept, show)
        return
    from eventlog.replay import open_run

    with render.progress(f"reading {found.run_id}"):
        for part in open_run(found.path).slices():
            kept.add(part)
    for part in kept.take():
        show(part)


class _Newest:
    """The newest events of a stream, at most *limit* of them (None: all)."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._slices: deque[Slice] = deque()
        self._count = 0

    def add(self, part: Slice) -> None:
        self._slices.append(part)
        self._count += len(part.events)
        while self._limit is not None and self._slices:
            if self._count - len(self._slices[0].events) < self._limit:
                break
            self._count -= len(self._slices.popleft().events)

    def take(self) -> Iterator[Slice]:
        """Yield them, oldest first, and forget them."""
        surplus = 0 if self._limit is None else max(0, self._count - self._limit)
        while self._slices:
            part = self._slices.popleft()
            rest = part.events[surplus:]
            surplus = 0
            if rest:
                yield part._replace(events=rest)
        self._count = 0


class _Pause(threading.Event):
    """Never stops a follower, but hears when it has read all there is: it then waits on this."""

    def __init__(self, on_pause: Callable[[], None]) -> None:
        super().__init__()
        self._on_pause = on_pause

    def wait(self, timeout: float | None = None) -> bool:
        self._on_pause()
        return super().wait(timeout)


def _follow(run: Path, kept: _Newest, show: Show) -> None:
    from eventlog.tail import follow

    is_past = True

    def show_past() -> None:
        nonlocal is_past
        if is_past:
            is_past = False
            for part in kept.take():
                show(part)
            sys.stdout.flush()

    for part in follow(run, stop=_Pause(show_past)):
        if is_past:
            kept.add(part)
        else:
            show(part)
            sys.stdout.flush()
    show_past()


def _show_text(run: Path) -> Show:
    """Return what shows events to people: the sink of this name, found as any other is."""
    from eventlog.plugins import load_sink
    from eventlog.sink import Batch, RunInfo

    sink = load_sink("console")
    sink.open(RunInfo(project=run.parent.name, run_id=run.name, path=run))
    return lambda part: sink.write(Batch([part]))


def _show_json(part: Slice) -> None:
    import msgspec

    from eventlog.events import UnknownEvent

    start = b'{"writer":%b,"rank":%d,' % (msgspec.json.encode(part.writer), part.rank)
    for event in part.events:
        line = event.raw if isinstance(event, UnknownEvent) else msgspec.json.encode(event)
        render.write((start + line[1:]).decode(errors="replace"))
