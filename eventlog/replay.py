"""Replays a run's events, in the one order that everybody sees.

Opening a run brings what a killed writer left in its ring into the log first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from eventlog.codec import decode_lines
from eventlog.events import AnyEvent
from eventlog.projections import RunFold, RunView
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.ends import Ends, ends_of
from eventlog.storage.layout import SegmentName, list_rings, list_segments, log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.reader import Policy
from eventlog.storage.repair import is_alive, recover_run

_BULK = (b',"type":"metrics",', b',"type":"system",', b',"type":"console",', b',"type":"sample",')


def open_run(run: Path, *, start: Checkpoint | None = None, policy: Policy = "salvage") -> RunReader:
    """Return a reader of *run*, after recovering what dead writers left behind."""
    recover_run(run)
    return RunReader(run, start=start, policy=policy)


def events(run: Path, *, policy: Policy = "salvage") -> Iterator[AnyEvent]:
    """Yield all events of *run*, without frames.

    Raises:
        CorruptSegmentError: under ``strict``, at the first thing that is wrong.
    """
    for part in open_run(run, policy=policy).slices():
        yield from part.events


def alive_writers(reader: RunReader) -> set[str]:
    """Return the writers that may still append to the run that *reader* has read."""
    log_dir = log_directory(reader.run)
    alive = set()
    for writer, one in reader.writers.items():
        reports = one.reports(is_alive=True)
        is_sealed = bool(reports) and reports[-1].is_sealed
        if is_alive(log_dir, writer, one.header, is_sealed=is_sealed):
            alive.add(writer)
    return alive


def living_writers(run: Path) -> set[str]:
    """Return the writers that may still append to *run*; reads at most the ends of its files."""
    log_dir = log_directory(run)
    rings = list_rings(log_dir)
    alive = set()
    for writer, segments in list_segments(log_dir).items():
        # A ring's lock says everything; who has none is judged by the ends of its segments.
        ends = Ends(None, False) if writer in rings else _newest_ends(log_dir, segments)
        if is_alive(log_dir, writer, ends.header, is_sealed=ends.is_sealed):
            alive.add(writer)
    return alive


def _newest_ends(log_dir: Path, segments: Sequence[SegmentName]) -> Ends:
    """Return the newest good header, and whether the newest segment is sealed."""
    newest = ends_of(segments[-1].path(log_dir))
    for name in reversed(segments[:-1]):
        if newest.header is not None:
            break
        # The header of the newest one is just being written; the one before is of the same process.
        newest = Ends(ends_of(name.path(log_dir)).header, newest.is_sealed)
    return newest


def is_running(run: Path) -> bool:
    """Tell whether a writer may still append to *run*."""
    return bool(living_writers(run))


def view(run: Path) -> RunView:
    """Return everything that the log says of *run*, folded."""
    reader = open_run(run)
    fold = RunFold(run.parent.name, run.name)
    for part in reader.slices():
        fold.apply_slice(part.writer, part.rank, part.events)
    return fold.view(alive_writers(reader), findings=len(reader.findings))


def outline(run: Path) -> RunView:
    """Return what the log says of *run* without metrics, samples, console and system: for lists.

    Every line is verified, but few are decoded, so this is about twice as fast as `view`.
    """
    reader = open_run(run)
    fold = RunFold(run.parent.name, run.name)
    for writer in reader.known_writers():
        one = reader.writer(writer)
        for block in one.blocks():
            lines = [line for line in block.lines if not any(mark in line[:70] for mark in _BULK)]
            fold.skip(len(block.lines) - len(lines))
            if lines:
                fold.apply_slice(writer, one.rank, decode_lines(lines, from_format=block.format))
    return fold.view(alive_writers(reader), findings=len(reader.findings))
