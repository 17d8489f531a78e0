"""Verifies what is new in runs, and lays it out for DuckDB to parse.

Lines that did not verify never get further; they become rows of `damage`. Metrics, by far the most, are not
decoded here: their lines go to a file as they are, with the names of their run and writer around them.
Everything else is decoded and folded, because what is known of a run follows from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import orjson

from eventlog import events as ev
from eventlog.codec import decode, decode_lines
from eventlog.events import AnyEvent, type_name
from eventlog.projections import RunFold, RunView
from eventlog.query.catalog import RunEntry
from eventlog.query.scan import Changed, is_racy
from eventlog.replay import living_writers, open_run
from eventlog.storage.block import Block, Finding
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.layout import RunPath, list_names, log_directory
from eventlog.storage.merge import RunReader
from eventlog.values import number_on_disk

_METRICS = re.compile(rb'^\{"seq":\d+,"ts":-?\d+,"type":"metrics",', re.MULTILINE)

NOT_FOLDED = ("metrics", "system", "console", "sample", "histogram", "table", "media", "evaluation", "alert")
"""These say nothing of what is known of a run; they are not read back to fold it."""


class Line(NamedTuple):
    """An event other than metrics, and who wrote it."""

    writer: str
    rank: int
    event: AnyEvent


class Gathered(NamedTuple):
    """What was added of one run.

    Attributes:
        entry: how far it was read.
        is_replaced: it is another run than the one that the cache holds under this name.
        size_bytes: of its new lines.
    """

    entry: RunEntry
    is_replaced: bool
    size_bytes: int


class Gathering:
    """Files with what is new in runs, one for each table. Not safe for several threads.

    Attributes:
        lines: of metrics so far.
    """

    def __init__(self, directory: Path, generation: int) -> None:
        self.directory, self.generation = directory, generation
        self.lines = 0
        self._files: dict[str, IO[bytes]] = {}

    def path(self, table: str) -> Path | None:
        """Return the file of a table, None if nothing came for it."""
        return self.directory / f"{table}.jsonl" if table in self._files else None

    def close(self) -> None:
        """Make the files whole."""
        for file in self._files.values():
            file.close()

    def add(
        self, changed: Changed, before: Sequence[Line], damage: Sequence[Mapping[str, object]]
    ) -> Gathered:
        """Read what is new in a run.

        Args:
            before: what the cache holds of it that is folded, in any order.
            damage: what was found wrong with it before.

        Raises:
            OSError: its files cannot be read; then nothing of it was added.
        """
        entry = changed.entry
        reader = open_run(changed.run.path, start=Checkpoint(cursors=entry.cursors) if entry else None)
        blocks = {writer: list(reader.writer(writer).blocks()) for writer in reader.known_writers()}
        if entry is not None and self._is_another(reader, entry):
            whole = self.add(changed._replace(entry=None), [], [])
            return whole._replace(is_replaced=True)
        return self._take(changed, reader, blocks, before, damage)

    def _is_another(self, reader: RunReader, entry: RunEntry) -> bool:
        """Tell whether the cursors do not fit: the run was deleted and another one has its name."""
        starts = {(writer, cursor.segment) for writer, cursor in entry.cursors.items()}
        return not entry.cursors.keys() <= set(reader.writers) or any(
            (finding.writer, finding.segment) in starts and "checkpoint says" in finding.detail
            for finding in reader.findings
        )

    def _take(
        self,
        changed: Changed,
        reader: RunReader,
        blocks: Mapping[str, Sequence[Block]],
        before: Sequence[Line],
        damage: Sequence[Mapping[str, object]],
    ) -> Gathered:
        run, entry = changed.run, changed.entry
        lines = list(before)
        cursors = dict(entry.cursors) if entry else {}
        events, size, last_ts = (entry.events, 0, entry.last_ts) if entry else (0, 0, None)
        for writer, of_writer in blocks.items():
            rank = reader.writers[writer].rank
            for block in of_writer:
                lines += self._block(run, writer, rank, block)
                events += len(block.lines)
                size += sum(map(len, block.lines))
                newest = decode(block.lines[-1], from_format=block.format).ts
                last_ts = newest if last_ts is None else max(last_ts, newest)
            if of_writer:
                cursors[writer] = of_writer[-1].cursor_after(len(of_writer[-1].lines))
        alive = living_writers(run.path)
        findings = [*damage, *(_damage_row(finding) for finding in reader.findings)]
        self._rows_of_run(run, _view(run, lines, alive, events, last_ts, len(findings)), findings)
        # A ring of a writer that died since the log was opened may hold more.
        is_settled = not alive and not is_racy(changed.mtime_ns) and _is_whole(run.path)
        found = RunEntry(
            run.project,
            run.run_id,
            changed.mtime_ns,
            is_settled,
            self.generation,
            events,
            last_ts,
            cursors,
        )
        return Gathered(found, False, size)

    def _block(self, run: RunPath, writer: str, rank: int, block: Block) -> list[Line]:
        """Write the lines of a block to their files; return those that are not metrics."""
        data = b"\n".join(block.lines)
        if block.format != ev.FORMAT or len(_METRICS.findall(data)) != len(block.lines):
            return self._mixed(run, writer, rank, block)
        self._write_metrics(run, writer, rank, data, len(block.lines))
        return []

    def _mixed(self, run: RunPath, writer: str, rank: int, block: Block) -> list[Line]:
        metrics: list[bytes] = []
        others: list[bytes] = []
        for line in block.lines:
            (metrics if _METRICS.match(line) else others).append(line)
        if metrics:
            self._write_metrics(run, writer, rank, b"\n".join(metrics), len(metrics))
        found = [Line(writer, rank, event) for event in decode_lines(others, from_format=block.format)]
        who = {"project": run.project, "run_id": run.run_id, "writer": writer, "rank": rank}
        self._rows(
            "events",
            (
                {
                    **who,
                    "seq": one.event.seq,
                    "ts": one.event.ts,
                    "type": type_name(one.event),
                    "payload": line.decode(errors="replace"),
                }
                for one, line in zip(found, others, strict=True)
            ),
        )
        return found

    def _write_metrics(self, run: RunPath, writer: str, rank: int, data: bytes, count: int) -> None:
        start = b'{"p":%b,"r":%b,"w":"%b","k":%d,"l":' % (
            orjson.dumps(run.project),
            orjson.dumps(run.run_id),
            writer.encode(),
            rank,
        )
        self._file("metrics").write(start + data.replace(b"\n", b"}\n" + start) + b"}\n")
        self.lines += count

    def _file(self, table: str) -> IO[bytes]:
        if table not in self._files:
            self._files[table] = (self.directory / f"{table}.jsonl").open("wb")
        return self._files[table]

    def _rows(self, table: str, rows: Iterable[Mapping[str, object]]) -> None:
        for row in rows:
            self._file(table).write(orjson.dumps(row) + b"\n")

    def _rows_of_run(self, run: RunPath, view: RunView, findings: Sequence[Mapping[str, object]]) -> None:
        who: dict[str, object] = {
            "project": run.project,
            "run_id": run.run_id,
            "generation": self.generation,
        }
        self._rows("runs", [{**who, **_run_row(run, view)}])
        self._rows("params", [{**who, "key": k, "value": _as_text(v)} for k, v in view.flat_params.items()])
        self._rows("tags", [{**who, "tag": k, "value": v} for k, v in view.tags.items()])
        self._rows("artifacts", [{**who, **_artifact_row(a)} for a in view.artifacts])
        self._rows("damage", [{**who, **finding} for finding in findings])


def _view(
    run: RunPath, lines: list[Line], alive: set[str], events: int, last_ts: int | None, findings: int
) -> RunView:
    """Fold *lines* in the one order of events: by time, then by writer."""
    fold = RunFold(run.project, run.run_id)
    for line in sorted(lines, key=lambda line: (line.event.ts, line.writer, line.event.seq)):
        fold.apply_slice(line.writer, line.rank, [line.event])
    fold.skip(events - fold.events)
    fold.note_time(last_ts)
    return fold.view(alive, findings=findings)


def _is_whole(run: Path) -> bool:
    """Tell whether no ring is left that somebody would have to recover."""
    return not any(name.endswith(".ring") for name in list_names(log_directory(run)))


def _run_row(run: RunPath, view: RunView) -> dict[str, object]:
    git = view.context.get("git", {})
    command = view.context.get("command", {})
    environment = view.context.get("environment", {})
    return {
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status,
        "started_at": view.started_at,
        "ended_at": view.ended_at,
        "duration_s": view.duration_s,
        "parent_run_id": view.parent_run_id,
        "tags": view.tags,
        "note": "\n".join(view.notes) or None,
        "params": view.params,
        "summary": view.summary,
        "error_type": view.error.type if view.error else None,
        "error_message": view.error.message if view.error else None,
        "exit_code": view.exit_code,
        "events": view.events,
        "dropped": sum(view.dropped.values()),
        "damage": view.findings,
        "host": environment.get("host") or command.get("host"),
        "git_commit": git.get("commit"),
        "path": str(run.path),
    }


def _artifact_row(artifact: ev.Artifact) -> dict[str, object]:
    return {
        "name": artifact.name,
        "type": artifact.artifact_type,
        "version": artifact.version,
        "path": artifact.path,
        "stored": artifact.stored,
        "size_bytes": artifact.size_bytes,
        "sha256": artifact.sha256,
        "ts": artifact.ts,
    }


def _damage_row(finding: Finding) -> dict[str, object]:
    return {
        "writer": finding.writer,
        "segment": finding.segment,
        "problem": str(finding.problem),
        "start_byte": finding.start,
        "end_byte": finding.end,
        "first_seq": finding.first_seq,
        "last_seq": finding.last_seq,
        "detail": finding.detail,
    }


def _as_text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(number_on_disk(value))
    return orjson.dumps(value).decode()
