"""Segments with holes that a later segment fills, files of zeros, and cursors that prove nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eventlog.codec import encode_line
from eventlog.events import Metrics, Previous, SegmentOpened
from eventlog.storage.block import Problem
from eventlog.storage.cursor import NO_CRC, Cursor
from eventlog.storage.layout import SegmentName
from eventlog.storage.reader import Policy
from eventlog.storage.segment import SegmentReader
from tests.logs import START_TS, WRITER_A, LogMaker, metrics, put, read_back

COUNT = 8


def put_given_up(run: Path, *, damaged: tuple[int, int]) -> list[bytes]:
    """Put a segment whose lines from *damaged[0]* to before *damaged[1]* are zeros; return what it held.

    The first line behind the zeros cannot be verified: what it is chained to is gone.
    """
    lines = LogMaker().segment(metrics(COUNT), is_sealed=False)
    begin, end = (len(b"".join(lines[: 1 + at])) for at in damaged)
    data = b"".join(lines)
    put(run, 1, data[:begin] + bytes(end - begin - 1) + b"\n" + data[end:])
    return lines


def put_again(
    run: Path, lines: list[bytes], *, first: int, end: int = COUNT, is_rewrite: bool = True
) -> None:
    """Put a segment that repeats the events from *first* to before *end*."""
    prev = Previous(segment=1, seq=first, crc=NO_CRC, size_bytes=len(b"".join(lines[: 1 + first])))
    header = SegmentOpened(
        format=1,
        run_id="run-1",
        project="demo",
        writer=WRITER_A,
        segment=2,
        stream_offset=0,
        salt="12345678",
        prev=prev,
        origin="rewrite" if is_rewrite else "writer",
    )
    line, crc = encode_line(header, seq=first, ts=START_TS, seed=0)
    again = [line]
    for seq in range(first, end):
        event = Metrics(step=seq, data={"loss": seq + 0.5})
        line, crc = encode_line(event, seq=seq, ts=START_TS + 1000 * (seq + 1), seed=crc)
        again.append(line)
    put(run, 2, b"".join(again))


@pytest.mark.parametrize("policy", ["salvage", "prefix"])
def test_hole_in_a_segment_that_was_given_up_is_filled(tmp_path: Path, policy: Policy) -> None:
    """What stands behind the hole does not hide what was written again, and nothing counts as lost."""
    put_again(tmp_path, put_given_up(tmp_path, damaged=(3, 5)), first=2)

    read = read_back(tmp_path, policy=policy)

    assert read.steps == list(range(COUNT))
    assert [event.seq for event in read.events] == list(range(COUNT))
    (finding,) = read.findings
    assert (finding.problem, finding.first_seq) == (Problem.TORN, None)
    assert "written again" in finding.detail


def test_hole_that_is_filled_in_part_names_the_rest(tmp_path: Path) -> None:
    """What no segment holds is lost, and only that."""
    put_again(tmp_path, put_given_up(tmp_path, damaged=(2, 6)), first=1, end=4)

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2, 3, 7]
    (finding,) = [f for f in read.findings if f.first_seq is not None]
    assert (finding.problem, finding.first_seq, finding.last_seq) == (Problem.DAMAGED, 4, 6)


def test_segment_that_goes_on_fills_nothing(tmp_path: Path) -> None:
    """Only a rewrite or a recovery repeats; what else has the same numbers is not taken for it."""
    lines = put_given_up(tmp_path, damaged=(3, 5))
    put_again(tmp_path, lines, first=2, is_rewrite=False)

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2, 6, 7]


def test_end_that_is_gone_is_not_lost_if_it_was_written_again(tmp_path: Path) -> None:
    """A header may count bytes that a power cut took, and still begin before them."""
    lines = LogMaker().segment(metrics(COUNT), is_sealed=False)
    put_again(tmp_path, lines, first=2)
    put(tmp_path, 1, b"".join(lines[:2]))

    read = read_back(tmp_path)

    assert read.steps == [0, 2, 3, 4, 5, 6, 7]
    assert [(f.problem, f.first_seq, f.last_seq) for f in read.findings] == [(Problem.CUT, 1, 1)]


@pytest.mark.parametrize("size", [1, 300, 40_000, 5 << 20])
def test_file_of_zeros_is_called_what_it_is(tmp_path: Path, size: int) -> None:
    """A power cut may leave a file with its size and none of its data."""
    put(tmp_path, 1, bytes(size))

    read = read_back(tmp_path)

    (finding,) = read.findings
    assert (finding.problem, finding.start, finding.end) == (Problem.TORN, 0, size)
    assert finding.detail.startswith("nothing but NUL bytes")
    assert read.reports[0].state == "torn tail"


def test_zeros_behind_good_lines_are_told_apart_from_nothing(tmp_path: Path) -> None:
    """A file that has some of its data does not count as one that has none."""
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(2), is_sealed=False)) + bytes(100))

    (finding,) = read_back(tmp_path).findings

    assert finding.detail == "NUL bytes"


@pytest.mark.parametrize(
    "wrong", [{"offset": -5}, {"offset": 1 << 63}, {"offset": 10**6}, {"crc": "ffffffff"}, {"crc": "zz"}]
)
@pytest.mark.parametrize("has_crc", [True, False])
def test_cursor_that_proves_nothing_changes_nothing(
    tmp_path: Path, wrong: dict[str, object], has_crc: bool
) -> None:
    """A checkpoint may hold anything: the segment is read from its start then."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    if not has_crc:
        lines = [line[:-19] + b"}\n" for line in lines]
    path = put(tmp_path, 1, b"".join(lines))
    good = Cursor(segment=1, offset=len(lines[0]), seq=0, crc=NO_CRC if not has_crc else "00000000")
    reader = SegmentReader(path, SegmentName(WRITER_A, 1))

    is_proven = reader.start_at(msgspec.structs.replace(good, **wrong))

    assert not is_proven
    assert sum(len(block.lines) for block in reader.read()) == 3
    assert reader.findings == []


def test_cursor_into_a_log_without_checksums_is_taken_at_a_lines_end(tmp_path: Path) -> None:
    """Where lines carry no checksum there is nothing to compare, but a line has to end there."""
    lines = [line[:-19] + b"}\n" for line in LogMaker().segment(metrics(3), is_sealed=False)]
    path = put(tmp_path, 1, b"".join(lines))
    reader = SegmentReader(path, SegmentName(WRITER_A, 1))

    offset = len(lines[0]) + len(lines[1])
    is_proven = reader.start_at(Cursor(segment=1, offset=offset, seq=1, crc=NO_CRC))

    assert is_proven
    assert next(block.first_seq for block in reader.read()) == 1
