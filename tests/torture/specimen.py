"""The log that row 4 damages, and readers that stand at any line of it."""

from __future__ import annotations

import functools
import random
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from eventlog.codec import seq_of
from eventlog.events import Event, Metrics, Note, Params, Summary, System, Tags
from eventlog.storage.cursor import Cursor
from eventlog.storage.layout import SegmentName
from eventlog.storage.segment import SegmentReader
from tests.logs import WRITER_A, WRITER_B, LogMaker
from tests.torture.memory import OneFile

SEGMENTS = 4


class Segment(NamedTuple):
    """A segment of the log.

    Attributes:
        lines: with their newlines.
        starts: offset of each line, and of the end.
        seqs: seq of each line; a frame carries that of the event that comes next.
        is_sealed: whether the last line is a seal.
    """

    number: int
    lines: list[bytes]
    starts: list[int]
    seqs: list[int]
    is_sealed: bool

    @property
    def data(self) -> bytes:
        """Return the whole file."""
        return b"".join(self.lines)

    def is_event(self, line: int) -> bool:
        """Tell whether line number *line* is no frame."""
        return 0 < line < len(self.lines) - self.is_sealed

    def cursor(self, line: int) -> Cursor:
        """Return the place before line number *line*, at least 1."""
        return Cursor(
            segment=self.number,
            offset=self.starts[line],
            seq=self.seqs[line] if line < len(self.lines) else self.seqs[-1] + 1,
            crc=self.lines[line - 1][-11:-3].decode(),
        )


class Log(NamedTuple):
    """The log, and another one to splice from."""

    segments: list[Segment]
    other: list[Segment]

    @property
    def lines(self) -> dict[int, bytes]:
        """Return the events' lines without newlines, by seq."""
        return {
            segment.seqs[at]: line[:-1]
            for segment in self.segments
            for at, line in enumerate(segment.lines)
            if segment.is_event(at)
        }


def _events(count: int, seed: int) -> list[Event]:
    generator = random.Random(seed)
    events: list[Event] = []
    for step in range(count):
        kind = generator.randrange(40)
        if kind == 0:
            events.append(Note(text=f'step {step}: ünïcode \n and "quotes" ' * generator.randrange(1, 9)))
        elif kind == 1:
            events.append(Params(data={"lr": generator.random(), "layers": [1, 2, {"deep": None}]}))
        elif kind == 2:
            events.append(Tags(data={"stage": str(step)}))
        elif kind == 3:
            events.append(Summary(data={"best": "NaN", "at": step}))
        elif kind == 4:
            events.append(System(data={"cpu/percent": generator.uniform(0, 100)}))
        else:
            names = ("train/loss", "train/acc", "val/loss", "lr", "grad/norm", "tokens")
            data: dict[str, int | float | str] = {k: generator.random() for k in names}
            events.append(Metrics(step=step, data=data))
    return events


def _segments(writer: str, count: int, seed: int) -> list[Segment]:
    maker, events, made = LogMaker(writer), _events(count, seed), []
    size = -(-count // SEGMENTS)
    for number in range(1, SEGMENTS + 1):
        part = events[(number - 1) * size : number * size]
        lines = maker.segment(part, is_sealed=number < SEGMENTS)
        starts = [0, *accumulate(map(len, lines))]
        made.append(Segment(number, lines, starts, [seq_of(line) for line in lines], number < SEGMENTS))
    return made


@functools.lru_cache(maxsize=2)
def build(count: int, seed: int) -> Log:
    """Return a log of *count* events of several types in four segments; the last one has no seal."""
    return Log(_segments(WRITER_A, count, seed), _segments(WRITER_B, max(40, count // 50), seed + 1))


class Standing:
    """A reader that can be put before any line of a segment, and given other bytes to read there.

    Attributes:
        states: what a reader is that has read all lines before, for each line and for the end.
    """

    def __init__(self, segment: Segment, writer: str = WRITER_A) -> None:
        self.segment = segment
        self.file = OneFile()
        self._name = SegmentName(writer, segment.number)
        reader = SegmentReader(self._name.path(Path("log")), self._name, system=self.file)
        reader.next_seq = segment.seqs[0]
        self.states: list[dict[str, Any]] = [dict(vars(reader))]
        for start, line in zip(segment.starts, segment.lines, strict=False):
            self.file.base, self.file.data = start, line
            for _ in reader.read():
                pass
            self.states.append(dict(vars(reader)))

    def reader_at(self, line: int, data: bytes) -> SegmentReader:
        """Return a reader that has read everything before *line* and finds *data* there."""
        reader: SegmentReader = object.__new__(SegmentReader)
        vars(reader).update(self.states[line])
        reader.findings = []
        self.file.base, self.file.data = self.segment.starts[line], data
        return reader

    def is_back_at(self, reader: SegmentReader, line: int) -> bool:
        """Tell whether *reader* is what it would be before *line* had nothing been damaged.

        What it reads from there on is then the same, too, whatever comes.
        """
        # Findings are what differs; candidates count only within a damaged range, and are set at its start.
        return vars(reader) | {"findings": [], "_candidates": frozenset()} == self.states[line]
