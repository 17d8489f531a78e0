"""The `console` sink: a line per event, for eyes. `evlog tail` shows runs with it.

    12:00:01.123  metrics      step 10  loss=0.5  val/f1=NaN
    12:00:01.124  console      err| warning: no GPU

It writes to a stream and keeps nothing, so a repeated batch is merely shown again. What could move the
cursor or change colours is written as an escape, whatever was logged.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, TextIO

import msgspec

from eventlog import events as ev
from eventlog.errors import printable
from eventlog.events import AnyEvent, type_name
from eventlog.sink import Batch, Entry, RunInfo, RunStatus, Traits
from eventlog.storage.cursor import Checkpoint

MAX_CELL = 200
_LOUD = {"run_ended": "1", "alert": "33", "dropped": "31"}


class ConsoleSink:
    """Writes each event as a line of text to *stream* (default: standard output)."""

    traits: ClassVar[Traits] = Traits(is_projection=True)
    destination: ClassVar[str] = ""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._has_colour = self._stream.isatty() and not os.environ.get("NO_COLOR")

    def open(self, run: RunInfo) -> Checkpoint | None:  # noqa: ARG002 - a line tells of its event only
        """Return None: everything is shown each time."""
        return None

    def write(self, batch: Batch) -> None:
        """Write the lines."""
        for entry in batch.entries():
            for text in describe(entry.event) or [""]:
                self._line(entry, text)

    def close(self, status: RunStatus | None) -> None:  # noqa: ARG002 - there is nothing to finish
        """Bring the lines out."""
        self._stream.flush()

    def _line(self, entry: Entry, text: str) -> None:
        time, kind = _clock(entry.event.ts), f"{type_name(entry.event):<12}"
        kind = printable(kind)
        if self._has_colour:
            loud = _LOUD.get(kind.strip(), "36")
            time, kind = f"\x1b[2m{time}\x1b[0m", f"\x1b[{loud}m{kind}\x1b[0m"
        rank = f"[{entry.rank}] " if entry.rank else ""
        self._stream.write(f"{time}  {kind} {rank}{printable(text)}".rstrip() + "\n")


def _clock(t_us: int) -> str:
    try:
        return datetime.fromtimestamp(t_us / 1e6).strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, OSError, ValueError):
        return str(t_us)


def describe(event: AnyEvent) -> list[str]:
    """Return what *event* says, as lines."""
    match event:
        case ev.Metrics():
            step = [] if event.step is None else [f"step {event.step}"]
            return ["  ".join([*step, *_pairs(event.data)])]
        case ev.Params() | ev.Summary() | ev.System():
            return ["  ".join(_pairs(event.data))]
        case ev.Console():
            mark = {"stdout": "out|", "stderr": "err|"}[event.stream]
            return [f"{mark} {line}" for line in event.text.split("\n")]
        case ev.RunEnded():
            return _ended(event)
        case ev.Context():
            return ["  ".join([event.kind, *_pairs(event.data)])]
        case ev.Note():
            return event.text.splitlines()
        case ev.UnknownEvent():
            return [_short(event.raw.decode(errors="replace"))]
        case _:
            return ["  ".join(_pairs(_fields(event)))]


def _ended(event: ev.RunEnded) -> list[str]:
    first = [event.status]
    first += [f"exit code {event.exit_code}"] if event.exit_code is not None else []
    first += [event.signal] if event.signal else []
    first += [_short(f"{event.error.type}: {event.error.message}")] if event.error else []
    return ["  ".join(first)]


def _fields(event: ev.Event) -> dict[str, object]:
    fields = msgspec.to_builtins(event)
    return {name: value for name, value in fields.items() if name not in {"type", "seq", "ts"}}


def _pairs(data: Mapping[str, object]) -> list[str]:
    return [f"{key}={_value(value)}" for key, value in data.items()]


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return _short(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _short(text: str) -> str:
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"
