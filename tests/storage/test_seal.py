"""The seal of a segment, made before everything that it counts is written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from eventlog.events import SegmentSealed
from eventlog.storage.layout import SegmentName, log_directory
from eventlog.storage.writer import SegmentWriter, seal_line
from tests.faults import WatchedSystem
from tests.logs import WRITER_A, LogMaker, metrics, read_back


@pytest.mark.parametrize("written", range(6))
def test_seal_counts_what_is_still_to_be_written(tmp_path: Path, written: int) -> None:
    """Bytes, events and digest are those of all lines before it, also of those that still wait."""
    lines = LogMaker().segment(metrics(5), is_sealed=False)
    before, rest = b"".join(lines[:written]), b"".join(lines[written:])
    log_directory(tmp_path).mkdir()
    segment = SegmentWriter(log_directory(tmp_path), SegmentName(WRITER_A, 1))
    segment.write(before)

    line, _ = seal_line(
        segment, rest, seq=5, first_seq=0, ts=9, seed=int(lines[-1][-11:-3], 16), reason="ended"
    )
    segment.write(rest + line)
    segment.sync()
    segment.finish()

    seal = msgspec.json.decode(line, type=SegmentSealed)
    assert (seal.seq, seal.ts, seal.events, seal.size_bytes) == (5, 9, 5, len(before + rest))
    assert seal.sha256 == hashlib.sha256(before + rest).hexdigest()
    assert segment.size_bytes == len(before + rest + line)
    read = read_back(tmp_path)
    assert read.is_clean
    assert [report.is_sealed for report in read.reports] == [True]


def test_segment_that_is_abandoned_twice_closes_one_descriptor(tmp_path: Path) -> None:
    """The number may be somebody else's file by then, and 0 is standard input."""
    closed: list[int] = []

    class Noting(WatchedSystem):
        def close(self, fd: int) -> None:
            closed.append(fd)
            super().close(fd)

    segment = SegmentWriter(tmp_path, SegmentName(WRITER_A, 1), Noting())
    closed.clear()

    segment.abandon()
    segment.abandon()

    assert len(closed) == 1
