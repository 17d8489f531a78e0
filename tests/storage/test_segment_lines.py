"""Lines of a segment that are not there yet, are no events, or stand where none should."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.codec import encode_line
from eventlog.events import Note
from eventlog.storage.block import Problem
from eventlog.storage.layout import SegmentName
from eventlog.storage.merge import RunReader
from eventlog.storage.segment import SegmentReader
from tests.logs import WRITER_A, LogMaker, metrics, put, read_back


def without_crc(lines: list[bytes]) -> list[bytes]:
    """Return *lines* as a writer without checksums writes them."""
    return [line[:-19] + b"}\n" for line in lines]


def seqs(reader: RunReader) -> list[int]:
    """Return the seqs of what is new."""
    return [event.seq for part in reader.slices() for event in part.events]


@pytest.mark.parametrize("first", range(5))
@pytest.mark.parametrize("count", [1, 2])
def test_lines_that_have_not_arrived_are_waited_for(tmp_path: Path, first: int, count: int) -> None:
    """Also where the pages behind them are there already: nothing is passed over, nothing is damage."""
    lines = LogMaker().segment(metrics(6), is_sealed=False)
    hole = b"".join(lines[first : first + count])
    early = b"".join([*lines[:first], bytes(len(hole)), *lines[first + count :]])
    path = put(tmp_path, 1, early)
    reader = RunReader(tmp_path, waits_on_nul=True)

    before, again = seqs(reader), seqs(reader)
    path.write_bytes(b"".join(lines))
    after = seqs(reader)

    assert before == list(range(first - 1))
    assert again == []
    assert before + after == list(range(6))
    assert reader.findings == []


def test_pages_that_have_not_arrived_may_be_more_than_any_line_has(tmp_path: Path) -> None:
    """Megabytes of zeros are not an oversized line where they may still become events."""
    lines = LogMaker().segment([Note(text="x" * 1_000_000)] * 7, is_sealed=False)
    data = b"".join(lines)
    path = put(tmp_path, 1, b"".join(lines[:2]).ljust(len(data), b"\0"))
    reader = RunReader(tmp_path, waits_on_nul=True)

    before = seqs(reader)
    path.write_bytes(data)
    after = seqs(reader)

    assert (before, after) == ([0], [1, 2, 3, 4, 5, 6])
    assert reader.findings == []


def test_line_without_checksum_that_is_no_event_is_damage(tmp_path: Path) -> None:
    """Without checksums each line has to be an event for itself; the others are read."""
    lines = without_crc(LogMaker().segment(metrics(3), is_sealed=False))
    put(tmp_path, 1, b"".join([*lines[:2], b"not an event\n", *lines[2:]]))

    read = read_back(tmp_path)

    (finding,) = read.findings
    begin = len(lines[0]) + len(lines[1])
    assert read.steps == [0, 1, 2]
    assert (finding.problem, finding.start, finding.end) == (Problem.DAMAGED, begin, begin + 13)
    assert finding.detail == "not an event"


@pytest.mark.parametrize("number", [1, 2, 3])
def test_lines_that_follow_each_other_are_one_block(tmp_path: Path, number: int) -> None:
    """With whatever seq they begin: they are decoded and handed on together."""
    maker = LogMaker()
    segments = [maker.segment(metrics(4)) for _ in range(3)]
    path = put(tmp_path, number, b"".join(segments[number - 1]))

    (block,) = SegmentReader(path, SegmentName(WRITER_A, number)).read()

    assert (block.first_seq, len(block.lines)) == (4 * number - 4, 4)


def test_lines_that_repeat_a_number_are_blocks_of_their_own(tmp_path: Path) -> None:
    """Nobody counts on from the first of them to what the others do not say."""
    (header,) = LogMaker().segment([], is_sealed=False)
    lines, crc = [header], int(header[-11:-3], 16)
    for seq in (1, 7, 1):
        line, crc = encode_line(Note(), seq=seq, ts=5, seed=crc)
        lines.append(line)
    path = put(tmp_path, 1, b"".join(lines))

    blocks = list(SegmentReader(path, SegmentName(WRITER_A, 1)).read())

    assert [(block.first_seq, len(block.lines)) for block in blocks] == [(1, 1), (7, 1), (1, 1)]


def test_report_of_a_segment_that_is_gone_has_nothing_of_it(tmp_path: Path) -> None:
    """Only that it was there, which the next one says."""
    maker = LogMaker()
    maker.segment(metrics(4))
    put(tmp_path, 2, b"".join(maker.segment(metrics(4))))

    gone, there = read_back(tmp_path).reports

    assert (gone.segment, gone.state) == (1, "missing events")
    assert (gone.size_bytes, gone.events, gone.is_sealed, gone.is_verified) == (0, 0, False, False)
    assert (there.segment, there.state, there.events) == (2, "complete", 4)
