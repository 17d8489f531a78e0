"""What exactly is said of a writer's segments together, and in what parts its events come."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import pytest

from eventlog.errors import CorruptSegmentError
from eventlog.events import Event, Metrics, Note
from eventlog.storage.artifacts import spill
from eventlog.storage.block import Finding, Problem
from eventlog.storage.cursor import Checkpoint, Cursor
from eventlog.storage.layout import SegmentName, log_directory
from eventlog.storage.merge import RunReader
from eventlog.storage.reader import Policy, WriterReader
from eventlog.storage.repeats import Repeats
from eventlog.storage.system import SYSTEM
from tests.logs import START_TS, WRITER_A, WRITER_B, LogMaker, metrics, put, read_back
from tests.storage.test_holes import put_again


def seqs(reader: RunReader) -> list[int]:
    """Return the seqs of what is new."""
    return [event.seq for part in reader.slices() for event in part.events]


def put_with_a_gap(run: Path) -> Cursor:
    """Put a whole segment with events 0 to 3 and one that begins with event 6; return the place between."""
    maker = LogMaker()
    put(run, 1, b"".join(maker.segment(metrics(4))))
    maker.events += metrics(2)
    put(run, 2, b"".join(maker.segment(metrics(4))))
    return next(RunReader(run).slices()).cursor


@pytest.mark.parametrize("has_cursor", [False, True])
def test_events_between_two_whole_segments_are_missing(tmp_path: Path, has_cursor: bool) -> None:
    """They are named where the later one begins, whether the earlier one was read now or before."""
    cursor = put_with_a_gap(tmp_path)
    reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: cursor}) if has_cursor else None)

    read = seqs(reader)

    assert read == ([6, 7, 8, 9] if has_cursor else [0, 1, 2, 3, 6, 7, 8, 9])
    assert reader.findings == [
        Finding(problem=Problem.MISSING, writer=WRITER_A, segment=2, start=0, end=0, first_seq=4, last_seq=5)
    ]


def test_segment_of_a_cursor_that_is_gone_is_named(tmp_path: Path) -> None:
    """Also where earlier ones are there: it was read up to the cursor, and the rest of it is missing."""
    maker = LogMaker()
    paths = [put(tmp_path, number, b"".join(maker.segment(metrics(4)))) for number in (1, 2, 3)]
    cursor = list(RunReader(tmp_path).slices())[1].block.cursor_after(2)
    paths[1].unlink()
    reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: cursor}))

    read = seqs(reader)

    assert read == [8, 9, 10, 11]
    what = "the segment is gone that a checkpoint says was read"
    assert reader.findings == [
        Finding(problem=Problem.CUT, writer=WRITER_A, segment=2, start=0, end=cursor.offset, detail=what),
        Finding(problem=Problem.MISSING, writer=WRITER_A, segment=3, start=0, end=0, first_seq=6, last_seq=7),
    ]


@pytest.mark.parametrize("first", [2, 3, 4])
def test_half_a_line_behind_what_the_next_segment_counts_is_torn(tmp_path: Path, first: int) -> None:
    """It was never whole, and its writer had given up the segment there or before: nothing is damaged."""
    lines = LogMaker().segment(metrics(8), is_sealed=False)
    put_again(tmp_path, lines, first=first)
    data = b"".join(lines[:5])
    put(tmp_path, 1, data + lines[5][:-4])

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2, 3, 4, 5, 6, 7]
    end = len(data) + len(lines[5]) - 4
    assert read.findings == [
        Finding(problem=Problem.TORN, writer=WRITER_A, segment=1, start=len(data), end=end)
    ]


def test_segment_before_the_last_is_read_on(tmp_path: Path) -> None:
    """Its last lines may arrive after the next one's name: they are read before that one's."""
    maker = LogMaker()
    lines = maker.segment(metrics(4), is_sealed=False)
    path = put(tmp_path, 1, b"".join(lines[:3]))
    put(tmp_path, 2, b"")
    reader = RunReader(tmp_path)
    early = seqs(reader)
    path.write_bytes(b"".join(lines))
    put(tmp_path, 2, b"".join(maker.segment(metrics(2))))

    late = seqs(reader)

    assert (early, late) == ([0, 1], [2, 3, 4, 5])
    assert reader.findings == []


@pytest.mark.parametrize("policy", ["strict", "prefix"])
def test_policy_is_known_by_its_text(tmp_path: Path, policy: str) -> None:
    """Wherever that was read from: a file or an argument is another text than the one in this program."""
    put_with_a_gap(tmp_path)
    reader = RunReader(tmp_path, policy=cast("Policy", msgspec.json.decode(msgspec.json.encode(policy))))
    read: list[int] = []

    def read_all() -> None:
        for part in reader.slices():
            read.extend(event.seq for event in part.events)

    if policy == "strict":
        with pytest.raises(CorruptSegmentError):
            read_all()
    else:
        read_all()

    assert read == [0, 1, 2, 3]


def test_events_of_one_writer_up_to_the_next_ones_are_one_slice(tmp_path: Path) -> None:
    """They are handed on together, not one by one, and the same files give the same slices."""
    for writer, times in ((WRITER_A, [1, 2, 5, 6, 7, 20]), (WRITER_B, [2, 3, 4, 8, 9])):
        events: list[Event] = [Note(ts=START_TS + time, text="") for time in times]
        put(tmp_path, 1, b"".join(LogMaker(writer).segment(events)), writer=writer)

    slices = list(RunReader(tmp_path).slices())

    assert [(part.rank, [event.seq for event in part.events]) for part in slices] == [
        (0, [0, 1]),
        (1, [0, 1, 2]),
        (0, [2, 3, 4]),
        (1, [3, 4]),
        (0, [5]),
    ]


@pytest.mark.parametrize("others", [0, 1])
def test_metrics_that_lie_in_a_payload_are_read_from_there(tmp_path: Path, others: int) -> None:
    """Also where all that was read at once are such metrics."""
    fields = msgspec.json.encode(Metrics(step=7, data={"loss": 0.25}))
    large = [Metrics(payload=spill(tmp_path, "metrics", fields))] * 2
    put(tmp_path, 1, b"".join(LogMaker().segment([*large, *metrics(others)])))

    read = read_back(tmp_path)

    found = [event for event in read.events if isinstance(event, Metrics)]
    assert read.findings == []
    assert [(event.seq, event.step, event.data) for event in found[:2]] == [
        (0, 7, {"loss": 0.25}),
        (1, 7, {"loss": 0.25}),
    ]
    assert len(found) == 2 + others


def test_repetition_that_has_a_hole_itself_gives_both_its_sides(tmp_path: Path) -> None:
    """One call gives what stands on both sides of the hole, up to its end, and the next one the rest."""
    lines = LogMaker().segment(metrics(8), is_sealed=False)
    put_again(tmp_path, lines, first=0)
    name = SegmentName(WRITER_A, 2)
    path = name.path(log_directory(tmp_path))
    path.write_bytes(path.read_bytes().replace(b'"step":3,', b'"step":7,'))
    repeats = Repeats(log_directory(tmp_path), [name], SYSTEM, going_on=set())

    first = [(block.first_seq, block.end_seq) for block in repeats.take(1, 6)]
    second = [(block.first_seq, block.end_seq) for block in repeats.take(6, 8)]

    assert (first, second) == ([(1, 3), (4, 6)], [(6, 8)])


def test_segments_that_go_on_are_remembered_and_no_others(tmp_path: Path) -> None:
    """What has no first line yet, or repeats, may fill a later hole; what goes on is not read again."""
    lines = LogMaker().segment(metrics(8), is_sealed=False)
    put_again(tmp_path, lines, first=2)
    maker = LogMaker()
    goes_on = [maker.segment(metrics(2)) for _ in range(3)][2]
    put(tmp_path, 3, b"".join(goes_on))
    put(tmp_path, 4, b"")
    going_on: set[int] = set()
    names = [SegmentName(WRITER_A, number) for number in (2, 3, 4)]

    repeated = [
        (block.first_seq, block.end_seq)
        for block in Repeats(log_directory(tmp_path), names, SYSTEM, going_on=going_on).take(2, 9)
    ]

    assert repeated == [(2, 8)]
    assert going_on == {3}


@pytest.mark.parametrize("is_proven", [False, True])
def test_events_before_the_segment_in_which_a_cursor_stands_are_missing(
    tmp_path: Path, is_proven: bool
) -> None:
    """A cursor that counts fewer events than the segment begins behind has never seen those between."""
    put_with_a_gap(tmp_path)
    cursor = Cursor(segment=2, offset=0 if is_proven else 5, seq=4, crc="00000000")
    reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: cursor}))

    assert seqs(reader) == [6, 7, 8, 9]

    assert [(one.problem, one.first_seq, one.last_seq) for one in reader.findings] == [
        *([] if is_proven else [(Problem.CUT, None, None)]),
        (Problem.MISSING, 4, 5),
    ]


def test_header_is_known_to_a_reader_that_begins_in_the_middle(tmp_path: Path) -> None:
    """It says which software wrote what comes, as it does to one that begins at the start."""
    put(tmp_path, 1, b"".join(LogMaker().segment(metrics(4))))
    cursor = next(RunReader(tmp_path).slices()).block.cursor_after(2)
    reader = RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: cursor})).writer(WRITER_A)

    assert [block.first_seq for block in reader.blocks()] == [2]

    assert reader.header is not None
    assert reader.header.software == "evlog 0.1.0"


@pytest.mark.parametrize("number", [3, 300])
def test_cursor_stands_in_its_segment_whatever_its_number(tmp_path: Path, number: int) -> None:
    """Nothing is read in front of it, and what it does not fit is named."""
    maker = LogMaker()
    data = [b"".join(maker.segment(metrics(2))) for _ in range(number)][-1]
    put(tmp_path, number, data)
    cursor = next(RunReader(tmp_path).slices()).block.cursor_after(1)
    other = msgspec.structs.replace(cursor, crc="00000000")

    readers = [RunReader(tmp_path, start=Checkpoint(cursors={WRITER_A: at})) for at in (cursor, other)]
    read = [seqs(reader) for reader in readers]

    assert read == [[number * 2 - 1]] * 2
    assert [finding.problem for reader in readers for finding in reader.findings] == [Problem.CUT]


def test_half_a_line_before_what_the_next_segment_counts_is_damaged(tmp_path: Path) -> None:
    """It was whole when the next one was begun, so that no kill can have left it so."""
    maker = LogMaker()
    first, second = maker.segment(metrics(4)), maker.segment(metrics(4))
    whole = len(b"".join(first))
    good = len(b"".join(first[:-1]))
    put(tmp_path, 1, b"".join(first)[:-4])
    put(tmp_path, 2, b"".join(second))

    read = read_back(tmp_path)

    assert read.steps == [0, 1, 2, 3, 0, 1, 2, 3]
    counts = f"the next segment counts {whole} bytes in it"
    assert read.findings == [
        Finding(problem=Problem.CUT, writer=WRITER_A, segment=1, start=good, end=good, detail=counts),
        Finding(problem=Problem.DAMAGED, writer=WRITER_A, segment=1, start=good, end=whole - 4),
    ]


def test_segment_that_repeats_less_than_was_read_gives_nothing(tmp_path: Path) -> None:
    """No block is without a line: what comes with it, a cursor, would be of nothing."""
    lines = LogMaker().segment(metrics(8), is_sealed=False)
    put_again(tmp_path, lines, first=1, end=4)
    put(tmp_path, 1, b"".join(lines))

    blocks = list(WriterReader(log_directory(tmp_path), WRITER_A).blocks())

    assert [(block.name.segment, block.first_seq, block.end_seq) for block in blocks] == [(1, 0, 8)]


def test_nul_bytes_are_waited_for_only_where_it_is_said(tmp_path: Path) -> None:
    """Elsewhere they are damage like any other, which costs two events; what follows them is read."""
    lines = LogMaker().segment(metrics(5))
    lines[2] = bytes(len(lines[2]) - 1) + b"\n"
    put(tmp_path, 1, b"".join(lines))
    log = log_directory(tmp_path)

    readers = WriterReader(log, WRITER_A), WriterReader(log, WRITER_A, waits_on_nul=True)
    read = [
        [seq for block in reader.blocks() for seq in range(block.first_seq, block.end_seq)]
        for reader in readers
    ]

    assert read == [[0, 3, 4], [0]]
