"""Rings behind segments of every kind: exactly which events are taken from them, and what is said."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from eventlog.codec import encode_line
from eventlog.events import FORMAT, Event, RingInfo, SegmentOpened
from eventlog.storage.layout import LAST_SEGMENT, SegmentName, log_directory
from eventlog.storage.remains import LARGEST_RING_BYTES
from eventlog.storage.repair import Recovery, recover_run
from tests.logs import WRITER_A, LogMaker, metrics, names, put, read_back

RING_BYTES = 1 << 14
Origin = Literal["writer", "recovery", "rewrite"]


def put_ring(run: Path, segment: int, lines: Sequence[bytes], *, size: int = RING_BYTES) -> Path:
    """Put a ring of *segment*, with *lines* from its first byte on; return its path."""
    log_directory(run).mkdir(parents=True, exist_ok=True)
    path = SegmentName(WRITER_A, segment).ring_path(log_directory(run))
    path.write_bytes(b"".join(lines))
    os.truncate(path, size)
    return path


def begun(
    segment: int, first_seq: int, events: Sequence[Event], *, origin: Origin, ring_bytes: int = RING_BYTES
) -> list[bytes]:
    """Return the lines of a segment in whose header a new ring begins, and which is not sealed."""
    header = SegmentOpened(
        format=FORMAT,
        run_id="run-1",
        project="demo",
        writer=WRITER_A,
        segment=segment,
        stream_offset=0,
        salt=f"{segment:08x}",
        prev=None,
        origin=origin,
        ring=RingInfo(kind="file", size_bytes=ring_bytes),
    )
    line, crc = encode_line(header, seq=first_seq, ts=5, seed=0)
    lines = [line]
    for seq, event in enumerate(events, first_seq):
        line, crc = encode_line(event, seq=seq, ts=5 + seq, seed=crc)
        lines.append(line)
    return lines


def recovered(run: Path, segment: int, events: int, problem: str = "") -> Recovery:
    """Return what is told of *events* that were put into *segment*."""
    return Recovery(WRITER_A, events, SegmentName(WRITER_A, segment).path(log_directory(run)), problem)


def test_ring_that_holds_what_the_segment_holds_goes(tmp_path: Path) -> None:
    """It repeats the log's last line right before its end, and behind that there is nothing new."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    put(tmp_path, 1, b"".join(lines))
    put_ring(tmp_path, 1, lines)

    assert recover_run(tmp_path) == [Recovery(WRITER_A, 0, None, "")]

    assert names(tmp_path) == [f"{WRITER_A}.000001.jsonl"]
    assert read_back(tmp_path).steps == [0, 1, 2]


def test_ring_goes_on_behind_a_sealed_segment(tmp_path: Path) -> None:
    """Behind a seal the chain begins anew, with the header of the next segment."""
    maker = LogMaker()
    first = maker.segment(metrics(3))
    second = maker.segment(metrics(4, start=3), is_sealed=False)
    put(tmp_path, 1, b"".join(first))
    put_ring(tmp_path, 1, [*first, *second])

    assert recover_run(tmp_path) == [recovered(tmp_path, 3, 4)]

    assert read_back(tmp_path).steps == list(range(7))


def test_what_a_segment_before_the_ring_holds_is_written_again(tmp_path: Path) -> None:
    """That segment was given up: it can be read now, and may be gone after a power cut."""
    put(tmp_path, 1, b"".join(begun(1, 0, metrics(5), origin="writer")))
    put_ring(tmp_path, 2, begun(2, 2, metrics(5, start=2), origin="rewrite"))

    assert recover_run(tmp_path) == [recovered(tmp_path, 3, 5)]

    assert read_back(tmp_path).steps == list(range(7))


def test_what_was_recovered_before_the_ring_is_not_written_again(tmp_path: Path) -> None:
    """A recovered segment is on the disk for sure: it had its name only when it was."""
    put(tmp_path, 1, b"".join(begun(1, 0, metrics(5), origin="writer")))
    put(tmp_path, 2, b"".join(begun(2, 0, metrics(5), origin="recovery")))
    put_ring(tmp_path, 3, begun(3, 2, metrics(5, start=2), origin="rewrite"))

    assert recover_run(tmp_path) == [recovered(tmp_path, 4, 2)]

    assert read_back(tmp_path).steps == list(range(7))


def test_earlier_ring_goes_on_from_the_segments_before_the_later_one(tmp_path: Path) -> None:
    """What the later ring's stream holds says nothing of the earlier one, also if its header is damaged."""
    maker = LogMaker()
    first, second, third = (maker.segment(metrics(3, start=start), is_sealed=False) for start in (0, 3, 6))
    put(tmp_path, 1, b"".join(first[:3]))
    put(tmp_path, 2, b"".join(second).replace(b"demo", b"dome"))
    put(tmp_path, 3, b"".join(third))
    put_ring(tmp_path, 1, first)
    put_ring(tmp_path, 2, [])

    done = recover_run(tmp_path)

    assert [(one.events, one.problem) for one in done] == [(2, ""), (0, "")]
    assert names(tmp_path, ".ring-unusable") == []


def test_first_event_of_a_ring_that_is_damaged_is_named(tmp_path: Path) -> None:
    """One event is lost, and it is the very first that no segment holds."""
    lines = begun(1, 0, metrics(4), origin="writer")
    lines[1] = lines[1].replace(b'"loss"', b'"lass"')
    path = put_ring(tmp_path, 1, lines)

    problem = f"{path}: it is damaged: events 0-0 are lost"
    assert recover_run(tmp_path) == [recovered(tmp_path, 2, 3, problem)]

    assert read_back(tmp_path).steps == [1, 2, 3]


def test_empty_ring_goes_whatever_its_number(tmp_path: Path) -> None:
    """Where there is nothing to recover no number is needed for a segment."""
    put_ring(tmp_path, LAST_SEGMENT, [])

    assert recover_run(tmp_path) == [Recovery(WRITER_A, 0, None, "")]
    assert names(tmp_path) == []


def test_recovered_segment_comes_not_before_its_ring(tmp_path: Path) -> None:
    """Also if a broken writer counted backwards: a lower number could be one that there was."""
    lines = begun(4, 0, metrics(2), origin="writer")
    put_ring(tmp_path, 4, [*lines, *_chained_behind(lines, 2)])

    (recovery,) = recover_run(tmp_path)

    assert recovery.events == 2
    assert recovery.segment is not None
    assert recovery.segment.name >= f"{WRITER_A}.000004.jsonl"


def _chained_behind(lines: Sequence[bytes], segment: int) -> list[bytes]:
    """Return a header of *segment* that goes on behind *lines*, which its writer should have sealed."""
    header = SegmentOpened(
        format=FORMAT,
        run_id="run-1",
        project="demo",
        writer=WRITER_A,
        segment=segment,
        stream_offset=0,
        salt="",
        prev=None,
    )
    seed = int(lines[-1][-11:-3], 16)
    return [encode_line(header, seq=len(lines) - 1, ts=9, seed=seed)[0]]


@pytest.mark.parametrize("size", [LARGEST_RING_BYTES, RING_BYTES])
@pytest.mark.parametrize("file_size", [LARGEST_RING_BYTES, RING_BYTES])
def test_ring_may_have_a_gibibyte(tmp_path: Path, size: int, file_size: int) -> None:
    """As its header says, or its file; if the two do not agree that is told, and nothing is lost."""
    lines = begun(1, 0, metrics(3), origin="writer", ring_bytes=size)
    path = put_ring(tmp_path, 1, lines, size=file_size)

    problem = "" if size == file_size else f"{path}: it has {file_size} bytes instead of {size}"
    assert recover_run(tmp_path) == [recovered(tmp_path, 2, 3, problem)]

    assert read_back(tmp_path).steps == [0, 1, 2]
