"""Lines whose checksums fit and that no writer of ours would write: named, and in nobody's way."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eventlog.codec import close_line
from eventlog.errors import CorruptSegmentError
from eventlog.events import Previous
from eventlog.storage.block import Problem
from eventlog.storage.cursor import Checkpoint
from eventlog.storage.layout import SegmentName
from eventlog.storage.merge import RunReader
from eventlog.storage.segment import CHUNK_BYTES, SegmentReader
from tests.logs import WRITER_A, WRITER_B, LogMaker, ReadBack, metrics, put, read_back

HEADER = LogMaker().segment([], is_sealed=False)[0][:-19]


def event(seq: object) -> bytes:
    """Return the body of an event."""
    return b'{"seq":%b,"ts":1,"type":"metrics","step":%b,"data":{}' % ((str(seq).encode(),) * 2)


def seal(seq: int, size_bytes: int) -> bytes:
    """Return the body of a seal."""
    fields = b'"type":"segment_sealed","events":1,"size_bytes":%d,"sha256":"","reason":"x"' % size_bytes
    return b'{"seq":%d,"ts":1,%b' % (seq, fields)


def chained(*bodies: bytes) -> bytes:
    """Return lines whose checksums fit."""
    lines, crc = [], 0
    for body in bodies:
        line, crc = close_line(body, crc)
        lines.append(line)
    return b"".join(lines)


def found_in(run: Path, *bodies: bytes) -> ReadBack:
    """Read a segment of these lines."""
    put(run, 1, chained(*bodies))
    return read_back(run)


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("body", [b"x", b"{", b'{"seq":-1', event(1 << 63), event("9" * 5000), event('"1"')])
def test_line_that_is_no_event_is_named(body: bytes, at: int, tmp_path: Path) -> None:
    """At the start, in the middle and at the end; its neighbours are read."""
    bodies = [event(0), event(1)]
    bodies.insert(at, body)

    read = found_in(tmp_path, HEADER, *bodies)

    assert read.steps == [0, 1]
    assert read.reports[0].state in {"damaged range", "complete"}
    assert [f.detail for f in read.findings] == ["not an event"] * len(read.findings)
    assert read.findings or len(read.events) == 3


@pytest.mark.parametrize("at", [0, 1, 2])
def test_header_in_the_middle_hides_no_event(at: int, tmp_path: Path) -> None:
    """A frame carries the seq of the event that comes next, and must not be taken for it."""
    bodies = [event(0), event(1)]
    bodies.insert(at, HEADER.replace(b'{"seq":0', b'{"seq":%d' % at))

    read = found_in(tmp_path, HEADER, *bodies)

    assert read.steps == [0, 1]
    assert len(read.events) == 2
    assert [f.problem for f in read.findings] == [Problem.DAMAGED]


@pytest.mark.parametrize("is_seal", [False, True])
def test_frame_of_another_shape_is_of_a_later_version(is_seal: bool, tmp_path: Path) -> None:
    """It is no event, and hides none."""
    odd = seal(1, 0).replace(b'"events":1', b'"events":"a"')
    bodies = (HEADER, event(0), odd) if is_seal else (HEADER.replace(b'"salt"', b'"pepper"'), event(0))

    read = found_in(tmp_path, *bodies)

    assert read.steps == [0]
    assert len(read.events) == 1
    assert read.reports[0].state == "newer format"


@pytest.mark.parametrize("format", [0, -1, -(1 << 62)])
def test_format_that_never_was_is_named(format: int, tmp_path: Path) -> None:
    """There is no step that leads from it to ours."""
    read = found_in(tmp_path, HEADER.replace(b'"format":1', b'"format":%d' % format), event(0))

    assert read.steps == [0]
    assert read.reports[0].state == "damaged range"


@pytest.mark.parametrize("between", [0, CHUNK_BYTES])
@pytest.mark.parametrize("is_chained", [True, False])
def test_nothing_behind_a_seal_is_an_event(between: int, is_chained: bool, tmp_path: Path) -> None:
    """However far behind it, and also if its checksum fits."""
    note = b'{"seq":1,"ts":1,"type":"note","text":"%b"' % (b"x" * (between // 2))
    before = chained(HEADER, event(0))
    whole = chained(HEADER, event(0), seal(1, len(before)), note, note, note, event(1), event(2))
    if not is_chained:
        at = whole.index(b'"type":"note"')
        whole = whole[:at] + b'"tYpe"' + whole[at + 6 :]
    put(tmp_path, 1, whole)

    read = read_back(tmp_path)

    assert read.steps == [0]
    assert len(read.events) == 1
    assert {f.detail for f in read.findings} == {"lines after the seal"}
    assert sum(f.end - f.start for f in read.findings) == len(whole) - len(
        chained(HEADER, event(0), seal(1, len(before)))
    )


@pytest.mark.parametrize("between", [1, 2 * CHUNK_BYTES])
def test_nothing_behind_the_seal_of_a_log_without_checksums_is_an_event(between: int, tmp_path: Path) -> None:
    """The same where nothing can be checked."""
    note = b'{"seq":1,"ts":1,"type":"note","text":"%b"' % (b"x" * between)
    bodies = (HEADER, event(0), seal(1, len(HEADER) + len(event(0)) + 4), note, event(1))
    put(tmp_path, 1, b"".join(body + b"}\n" for body in bodies))

    read = read_back(tmp_path)

    assert read.steps == [0]
    assert len(read.events) == 1
    assert {f.detail for f in read.findings} == {"lines after the seal"}


def test_damage_before_a_seal_that_counts_wrong_is_named_with_its_events(tmp_path: Path) -> None:
    """What the seal says is compared after what stands before it."""
    whole = chained(HEADER, event(0), event(1), seal(2, 7))
    put(tmp_path, 1, whole.replace(b'"step":1', b'"step":7'))

    findings = read_back(tmp_path).findings

    assert [(f.problem, f.first_seq) for f in findings] == [(Problem.DAMAGED, 1), (Problem.CUT, None)]


# --- segments of somebody else -------------------------------------------------------------------------


@pytest.mark.parametrize("has_crc", [True, False])
@pytest.mark.parametrize("writer", [WRITER_A, WRITER_B])
def test_segment_of_another_name_is_not_read(writer: str, has_crc: bool, tmp_path: Path) -> None:
    """Numbers of another stream would be taken for ours: nothing of it is read, and it is named."""
    maker = LogMaker(writer)
    foreign = [maker.segment(metrics(2)), maker.segment(metrics(4))][1]
    data = b"".join(foreign if has_crc else [line[:-19] + b"}\n" for line in foreign])
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(3), is_sealed=False)))
    put(tmp_path, 3, data)

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2]
    (finding,) = read.findings
    assert (finding.problem, finding.segment) == (Problem.DAMAGED, 3)
    assert f"segment 2 of {writer}" in finding.detail
    with pytest.raises(CorruptSegmentError):
        read_back(tmp_path, policy="strict")


def test_segment_of_another_name_is_named_to_who_read_it_before(tmp_path: Path) -> None:
    """Also if a checkpoint fits to it: a consumer of an earlier version may have taken it for ours."""
    put(tmp_path, 1, b"".join(LogMaker(WRITER_B).segment(metrics(3))), writer=WRITER_B)
    cursor = next(RunReader(tmp_path).slices()).block.cursor_after(1)
    put(tmp_path, 1, b"".join(LogMaker(WRITER_B).segment(metrics(3))))

    reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: cursor}))
    slices = [part for part in reader.slices() if part.writer == WRITER_A]

    assert slices == []
    assert [f.problem for f in reader.findings] == [Problem.CUT, Problem.DAMAGED]


def test_run_under_another_name_is_read(tmp_path: Path) -> None:
    """A run that was copied, or whose directory has another name, is the same run."""
    put(tmp_path / "any" / "name", 1, b"".join(LogMaker().segment(metrics(3))))

    assert read_back(tmp_path / "any" / "name").is_clean


# --- what a checkpoint says ------------------------------------------------------------------------------


def test_checkpoint_that_counts_too_far_is_not_believed(tmp_path: Path) -> None:
    """A flipped digit in a file without checksums must not hide events in silence."""
    path = put(tmp_path, 1, b"".join(LogMaker().segment(metrics(4))))
    cursor = next(RunReader(tmp_path).slices()).block.cursor_after(2)
    reader = SegmentReader(path, SegmentName(WRITER_A, 1))

    assert not reader.start_at(msgspec.structs.replace(cursor, seq=3))
    assert not reader.start_at(msgspec.structs.replace(cursor, seq=5))
    assert reader.start_at(cursor)


@pytest.mark.parametrize("size", range(12))
def test_checkpoint_before_half_a_line_is_believed(size: int, tmp_path: Path) -> None:
    """The number of a line that is being written may not be whole yet: ``1`` of ``12`` is no lower one."""
    data = b"".join(LogMaker().segment(metrics(13), is_sealed=False)[:13])
    path = put(tmp_path, 1, data)
    cursor = next(RunReader(tmp_path).slices()).block.cursor_after(12)
    path.write_bytes(data + b'{"seq":12,"ts"'[:size])

    assert cursor.seq == 12
    assert SegmentReader(path, SegmentName(WRITER_A, 1)).start_at(cursor)


# --- nothing but zeros -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 9 << 20])
@pytest.mark.parametrize(
    ("follows", "state"), [("nothing", "torn tail"), ("zeros", "torn tail"), ("events", "damaged range")]
)
def test_zeros_are_a_torn_tail_only_at_the_end(follows: str, state: str, size: int, tmp_path: Path) -> None:
    """A segment without any data before one with events is a loss, whoever counts it."""
    maker = LogMaker()
    put(tmp_path, 1, b"".join(maker.segment(metrics(2))))
    put(tmp_path, 2, bytes(size))
    if follows == "zeros":
        put(tmp_path, 3, bytes(size))
    elif follows == "events":
        maker._segment = 2
        put(tmp_path, 3, b"".join(maker.segment(metrics(2, start=2), is_sealed=False)))

    read = read_back(tmp_path)

    assert read.reports[1].state == state
    assert read.reports[1].findings[0].detail.startswith("nothing but NUL bytes")
    assert read.steps == [0, 1, 2, 3][: len(read.steps)]


def test_zeros_whose_events_were_written_again_are_a_torn_tail(tmp_path: Path) -> None:
    """A recovery repeats what a segment was to hold: nothing is lost with it."""
    maker = LogMaker()
    first = maker.segment(metrics(2))
    put(tmp_path, 1, b"".join(first))
    put(tmp_path, 2, bytes(100))
    prev = Previous(segment=1, seq=2, crc=first[-1][-11:-3].decode(), size_bytes=len(b"".join(first)))
    maker._segment, maker._prev = 2, prev
    lines = maker.segment(metrics(2, start=2))
    bodies = [line[:-19] for line in lines[:-1]]
    bodies[0] = bodies[0].replace(b'"software"', b'"origin":"recovery","software"')
    put(tmp_path, 3, chained(*bodies))

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2, 3]
    assert [report.state for report in read.reports] == ["complete", "torn tail", "complete"]
