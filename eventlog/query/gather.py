"""Verifies what is new in runs, and lays it out for DuckDB to parse.

Lines that did not verify never get further; they become rows of `damage`. Metrics, by far the most, are not
decoded here: their lines go to a file as they are, with the names of their run and writer around them.
Everything else is decoded and folded, because what is known of a run follows from it.

Events of a run are ordered as replay orders them: by time, then by writer, each writer in its own order. A
clock that was set back would break that, so an event counts, where order matters, as at least as late as
those before it of the same writer (``at``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from eventlog.errors import BadValueError
from eventlog.events import AnyEvent, type_name
from eventlog.projections import RunFold, RunView
from eventlog.query import rows
from eventlog.query.catalog import Place, RunEntry
from eventlog.query.lines import EARLIEST, BlockReading, Line
from eventlog.query.rows import Row, Usage
from eventlog.query.scan import Changed, is_racy
from eventlog.replay import open_run
from eventlog.storage.artifacts import resolve
from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.layout import RunPath, SegmentName, list_segments, log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.segment import SegmentReader

_OURS = "evlog "

FOLDED = (
    "run_started",
    "run_resumed",
    "run_ended",
    "params",
    "summary",
    "tags",
    "note",
    "artifact",
    "context",
    "dropped",
)
"""Events from which follows what is known of a run; they are read back to fold it anew."""

NOT_FOLDED = (
    "metrics",
    "system",
    "console",
    "sample",
    "histogram",
    "table",
    "media",
    "evaluation",
    "alert",
    "?",
)
"""The most frequent of the others."""


class Gathered(NamedTuple):
    """What was added of one run.

    Attributes:
        entry: how far it was read.
        is_replaced: it is another run than the one that the cache holds under this name.
        problem: why the rest could not be read, if so.
    """

    entry: RunEntry
    is_replaced: bool
    problem: str | None


class ScratchError(Exception):
    """What was read cannot be written: nothing that is under way counts."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Gathering:
    """Files with what is new, one for each table, to be converted at once.

    Attributes:
        lines: of metrics.
        longest: bytes of the longest row.
    """

    def __init__(self, directory: Path, generation: int) -> None:
        self.directory, self.generation = directory, generation
        self.lines = 0
        self.longest = 0
        self._files: dict[str, IO[bytes]] = {}

    def path(self, table: str) -> Path | None:
        """Return the file of a table, None if nothing came for it."""
        return self.directory / f"{table}.jsonl" if table in self._files else None

    def write(self, table: str, data: bytes) -> None:
        """Add lines to the file of a table.

        Raises:
            ScratchError: there is no room.
        """
        try:
            if table not in self._files:
                self._files[table] = (self.directory / f"{table}.jsonl").open("wb")
            self._files[table].write(data)
        except OSError as error:
            raise ScratchError(error) from error

    def add(self, table: str, found: Iterable[Row]) -> None:
        """Add rows.

        Raises:
            ScratchError: there is no room.
        """
        for row in found:
            line = msgspec.json.encode(row)
            self.longest = max(self.longest, len(line))
            self.write(table, line + b"\n")

    def add_run(self, run: RunPath, view: RunView, damage: Sequence[Row], usage: Usage) -> None:
        """Add what is known of a run.

        Raises:
            ScratchError: there is no room.
        """
        who = {"project": run.project, "run_id": run.run_id}
        self.add("runs", [{**who, **rows.run_row(run, view, usage)}])
        self.add("params", ({**who, **row} for row in rows.param_rows(view)))
        self.add("tags", ({**who, **row} for row in rows.tag_rows(view)))
        self.add("artifacts", ({**who, **row} for row in rows.artifact_rows(view)))
        self.add("damage", ({**who, **row} for row in damage))

    def close(self) -> None:
        """Make the files whole."""
        for file in self._files.values():
            file.close()


class Gatherer:
    """Reads what is new in runs into chunks. Not safe for several threads.

    Args:
        start: makes a chunk.
        put: takes a full one; without it, everything goes into one.
    """

    def __init__(
        self,
        start: Callable[[], Gathering],
        put: Callable[[Gathering], None] | None = None,
        *,
        chunk_lines: int = 0,
    ) -> None:
        self.chunk = start()
        self._start, self._put, self._chunk_lines = start, put, chunk_lines

    def cut(self) -> None:
        """Give the chunk away and begin another one, if it is full."""
        if self._put is not None and self.chunk.lines >= self._chunk_lines:
            self._put(self.chunk)
            self.chunk = self._start()

    def add(self, changed: Changed, before: Sequence[Line], damage: Sequence[Row]) -> Gathered:
        """Read what is new in a run.

        Args:
            before: what the cache holds of it that is folded, in any order.
            damage: what was found wrong with it before.

        Raises:
            OSError: its files cannot be read; then nothing of it was added.
        """
        entry = changed.entry
        reader = open_run(changed.run.path, start=entry.checkpoint if entry else None)
        if entry is None or not _is_another(changed.run.path, entry):
            return _Reading(self, changed, reader, before, damage).read(is_replaced=False)
        return _Reading(self, changed._replace(entry=None), open_run(changed.run.path), [], []).read(
            is_replaced=True
        )


def _is_another(run: Path, entry: RunEntry) -> bool:
    """Tell whether what the cache holds is not the beginning of what lies there now.

    Then another run has its name, or segments are gone; or some are missing further on, which only a
    reader that has seen all can name.
    """
    log_dir = log_directory(run)
    there = list_segments(log_dir)
    for writer, place in entry.places.items():
        numbers = [name.segment for name in there.get(writer, [])]
        upto = [number for number in numbers if number <= place.segment]
        if len(upto) != place.files or upto[-1] != place.segment:
            return True
        if numbers[-1] - place.segment != len(numbers) - len(upto):
            return True
        name = SegmentName(writer, place.segment)
        try:
            if not SegmentReader(name.path(log_dir), name).start_at(place.cursor):
                return True
        except FileNotFoundError:
            return True
    return False


class _Reading:
    """One run, read from where the cache ends."""

    def __init__(
        self,
        gatherer: Gatherer,
        changed: Changed,
        reader: RunReader,
        before: Sequence[Line],
        damage: Sequence[Row],
    ) -> None:
        self._gatherer, self._changed, self._reader = gatherer, changed, reader
        self._run = changed.run
        entry = changed.entry
        self._events = entry.events if entry else 0
        self._places = dict(entry.places) if entry else {}
        self._lines = list(before)
        self._damage = [row for row in damage if _is_behind(row, self._places)]
        self._lost_payloads: list[Finding] = []
        self._energies: dict[str, float] = {}

    def read(self, *, is_replaced: bool) -> Gathered:
        """Read all writers and add what is known of the run.

        Raises:
            OSError: before anything was added.
        """
        known, problem = self._events, None
        try:
            for writer, segments in list_segments(log_directory(self._run.path)).items():
                self._writer(writer, [name.segment for name in segments])
        except (OSError, RecursionError) as error:
            # What was read is kept: its place is known, and the rest is tried again each time.
            if self._events == known:
                raise error if isinstance(error, OSError) else OSError(str(error)) from error
            problem = f"{self._run.path}: {getattr(error, 'strerror', None) or error}"
        self._add_what_is_known()
        look, changed = self._changed.look, self._changed
        entry = RunEntry(
            self._run.project,
            self._run.run_id,
            changed.mtime_ns,
            -1 if problem else look.size_bytes,
            look.is_alive,
            problem is None and look.is_over and not is_racy(changed.mtime_ns),
            self._gatherer.chunk.generation,
            self._events,
            self._places,
        )
        return Gathered(entry, is_replaced, problem)

    def _writer(self, writer: str, segments: list[int]) -> None:
        reader = self._reader.writer(writer)
        place = self._places.get(writer)
        latest = place.max_ts if place else EARLIEST
        for block in reader.blocks():
            is_ours = reader.header is not None and reader.header.software.startswith(_OURS)
            latest = BlockReading(self, writer, reader.rank, latest).read(block, is_ours=is_ours)
            self._events += len(block.lines)
            cursor = block.cursor_after(len(block.lines))
            files = sum(number <= cursor.segment for number in segments)
            energy = self._energies.get(writer, place.energy_kwh if place else None)
            self._places[writer] = Place(
                cursor.segment, cursor.offset, cursor.seq, cursor.crc, latest, files, energy
            )
            self._gatherer.cut()

    # --- what a block brings -----------------------------------------------------------------------

    def add_metrics(self, writer: str, rank: int, lines: Sequence[bytes], at: int | None = None) -> None:
        """Add lines of metrics as they are; *at* if they are sorted by another time than their own."""
        start = b'{"p":%b,"r":%b,"w":"%b","k":%d,' % (
            msgspec.json.encode(self._run.project),
            msgspec.json.encode(self._run.run_id),
            writer.encode(),
            rank,
        )
        start += b'"l":' if at is None else b'"m":%d,"l":' % at
        chunk = self._gatherer.chunk
        chunk.write("metrics", start + (b"}\n" + start).join(lines) + b"}\n")
        chunk.lines += len(lines)

    def add_event(self, line: Line, raw: bytes) -> None:
        """Add an event as it lies."""
        event = line.event
        row = {
            "project": self._run.project,
            "run_id": self._run.run_id,
            "writer": line.writer,
            "rank": line.rank,
            "seq": rows.int_of(event.seq, 64),
            "ts": rows.int_of(event.ts, 64),
            "sorted_at": rows.int_of(line.at, 64) if line.at != event.ts else None,
            "type": type_name(event),
            "payload": raw.decode(errors="replace"),
        }
        self._gatherer.chunk.add("events", [row])
        if type_name(event) in FOLDED:
            self._lines.append(line)
        energy = rows.energy_of(event)
        if energy is not None:
            self._energies[line.writer] = energy

    def resolved(self, event: AnyEvent, block: Block, index: int) -> AnyEvent:
        """Return *event* with the fields that lie in a file of its own; note if they are lost."""
        try:
            return resolve(self._run.path, event)
        except (OSError, BadValueError, msgspec.MsgspecError) as error:
            end = block.cursor_after(index + 1).offset
            self._lost_payloads.append(
                Finding(
                    problem=Problem.DAMAGED,
                    writer=block.name.writer,
                    segment=block.name.segment,
                    start=end - len(block.lines[index]) - 1,
                    end=end,
                    first_seq=event.seq,
                    last_seq=event.seq,
                    detail=f"payload: {error}",
                )
            )
            return event

    # --- what is known of the run ------------------------------------------------------------------

    def _add_what_is_known(self) -> None:
        run, chunk = self._run, self._gatherer.chunk
        damage = [*self._damage, *map(rows.damage_row, self._findings())]
        fold = RunFold(run.project, run.run_id)
        lines = sorted(self._lines, key=lambda line: (line.at, line.writer, line.event.seq))
        for line in lines:
            fold.apply_slice(line.writer, line.rank, [line.event])
        fold.skip(self._events - fold.events)
        fold.note_time(max((place.max_ts for place in self._places.values()), default=None))
        alive = {"?"} if self._changed.look.is_alive else set()
        view = fold.view(alive, findings=len(damage))
        chunk.add_run(run, view, damage, self._usage(lines))

    def _usage(self, lines: Sequence[Line]) -> Usage:
        starts: dict[str, int] = {}
        for line in lines:
            starts.setdefault(line.writer, line.at)
        spans = {w: (start, self._places[w].max_ts) for w, start in starts.items() if w in self._places}
        energies = [place.energy_kwh for place in self._places.values()]
        return rows.usage_of(((line.writer, line.rank, line.event) for line in lines), spans, energies)

    def _findings(self) -> list[Finding]:
        """Return what is wrong: also lines at the ends of segments that do not verify."""
        found = [*self._reader.findings, *self._lost_payloads]
        for one in self._reader.writers.values():
            for report in one.reports(is_alive=self._changed.look.is_alive):
                found += [f for f in report.findings if f.is_loss and f not in found]
        return found


def _is_behind(row: Row, places: Mapping[str, Place]) -> bool:
    """Tell whether reading goes on after *row*, so that its damage is not found once more."""
    place = places.get(str(row["writer"]))
    segment, start = row["segment"], row["start_byte"]
    assert isinstance(segment, int)
    assert isinstance(start, int)
    return place is not None and (segment, start) < (place.segment, place.offset)
