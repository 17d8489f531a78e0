"""Takes verified lines apart: metrics stay lines, everything else becomes events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from eventlog import events as ev
from eventlog.codec import decode_lines, seq_of
from eventlog.events import AnyEvent
from eventlog.query import rows
from eventlog.storage.block import Block

# What our own writers make of metrics: {"seq":1,"ts":1763700000124001,"type":"metrics","step":10,"data":{"…
_METRICS = b',"type":"metrics"'
_DATA = b',"data":{"'
_TIME = b',"ts":'
_TIME_BYTES = len(_TIME) + 16
EARLIEST, LATEST = -(1 << 63), (1 << 63) - 1


class Line(NamedTuple):
    """An event other than metrics, who wrote it, and the time that it is sorted by."""

    writer: str
    rank: int
    event: AnyEvent
    at: int


class Taker(Protocol):
    """Takes what a block brings."""

    def add_metrics(self, writer: str, rank: int, lines: Sequence[bytes], at: int | None = None) -> None:
        """Add lines of metrics as they are; *at* if they are sorted by another time than their own."""

    def add_event(self, line: Line, raw: bytes) -> None:
        """Add an event as it lies."""

    def resolved(self, event: AnyEvent, block: Block, index: int) -> AnyEvent:
        """Return *event* with the fields that lie in a file of its own."""


class BlockReading:
    """Takes the lines of a block apart.

    Attributes:
        latest: latest time so far of the writer's events.
    """

    def __init__(self, taker: Taker, writer: str, rank: int, latest: int) -> None:
        self._taker, self._writer, self._rank = taker, writer, rank
        self.latest = latest

    def read(self, block: Block, *, is_ours: bool) -> int:
        """Add all lines; return the latest time."""
        lines = block.lines
        if not is_ours or block.format != ev.FORMAT:
            self._decode(block, range(len(lines)))
            return self.latest
        heads = _heads(block)
        begin = 0
        for index in [i for i, head in enumerate(heads) if head[_TIME_BYTES:] != _METRICS]:
            self._metrics(block, begin, index, heads)
            self._decode(block, range(index, index + 1))
            begin = index + 1
        self._metrics(block, begin, len(lines), heads)
        return self.latest

    def _metrics(self, block: Block, begin: int, end: int, heads: Sequence[bytes]) -> None:
        """Add the lines of metrics from *begin* to *end*."""
        if begin == end:
            return
        lines, times = block.lines[begin:end], heads[begin:end]
        # Heads of one length are ordered as their times are; empty metrics have no data.
        is_plain = b"".join(lines).count(_DATA) == len(lines)
        if is_plain and sorted(times) == times and _time(times[0]) >= self.latest:
            self._taker.add_metrics(self._writer, self._rank, lines)
            self.latest = _time(times[-1])
            return
        for index, line in enumerate(lines, begin):
            if _DATA not in line:
                self._decode(block, range(index, index + 1))
                continue
            ts = _time(heads[index])
            self.latest = max(self.latest, ts)
            at = self.latest if self.latest > ts else None
            self._taker.add_metrics(self._writer, self._rank, [line], at)

    def _decode(self, block: Block, indexes: Iterable[int]) -> None:
        for index in indexes:
            raw = block.lines[index]
            event = _decoded(raw, block.format)
            self.latest = min(max(self.latest, event.ts), LATEST)
            whole = self._taker.resolved(event, block, index)
            is_said = isinstance(whole, ev.Metrics) and self._foreign_metrics(whole)
            if not is_said or whole is not event:
                self._taker.add_event(Line(self._writer, self._rank, whole, self.latest), raw)

    def _foreign_metrics(self, event: ev.Metrics) -> bool:
        """Add the points of *event*; tell whether they say all that it says."""
        points = rows.points_of(event)
        ts = rows.int_of(event.ts, 64)
        if not points or ts is None or rows.int_of(event.seq, 64) is None:
            return False
        step = rows.int_of(event.step, 64)
        line = {"seq": event.seq, "ts": ts, "step": step, "data": points}
        at = self.latest if self.latest > ts else None
        self._taker.add_metrics(self._writer, self._rank, [msgspec.json.encode(line)], at)
        return len(points) == len(event.data) and step == event.step


def _heads(block: Block) -> list[bytes]:
    """Return of each line the time and the type, as far as it may be one of metrics; else nothing."""
    heads: list[bytes] = []
    done, count = 0, len(block.lines)
    while done < count:
        digits = len(str(block.first_seq + done))
        # Up to the next seq with more digits, the time stands at the same place in all lines.
        until = min(count, 10**digits - block.first_seq)
        begin = len(b'{"seq":') + digits
        end = begin + _TIME_BYTES + len(_METRICS)
        heads += [line[begin:end] for line in block.lines[done:until]]
        done = until
    if (
        all(head[: len(_TIME)] == _TIME for head in heads)
        and b"".join([head[len(_TIME) : _TIME_BYTES] for head in heads]).isdigit()
    ):
        return heads
    return [head if _is_timed(head) else b"" for head in heads]


def _is_timed(head: bytes) -> bool:
    return head[: len(_TIME)] == _TIME and head[len(_TIME) : _TIME_BYTES].isdigit()


def _time(head: bytes) -> int:
    return int(head[len(_TIME) : _TIME_BYTES])


def _decoded(line: bytes, from_format: int) -> AnyEvent:
    try:
        return decode_lines([line], from_format=from_format)[0]
    except RecursionError:  # nested deeper than anything that we could have written
        return ev.UnknownEvent(seq=seq_of(line), ts=0, type="?", raw=line)
