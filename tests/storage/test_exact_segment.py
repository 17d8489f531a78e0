"""Where exactly a segment's reader says that something is wrong, and what it asks for when there is more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from eventlog.codec import body_of, close_line, encode_fields
from eventlog.events import Event, Note, SegmentOpened, SegmentSealed
from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.layout import SegmentName
from eventlog.storage.merge import RunReader
from eventlog.storage.segment import SegmentReader
from eventlog.storage.system import RealSystem
from tests.logs import WRITER_A, LogMaker, metrics, put

NAME = SegmentName(WRITER_A, 1)
UNKNOWN_FRAME = b'{"type":"segment_opened","shape":"of a later version"}'


def chained(lines: Sequence[bytes], *more: tuple[int, bytes]) -> list[bytes]:
    """Return *lines* with *more* behind them: the seq and the fields of each."""
    made, crc = list(lines), int(lines[-1][-11:-3], 16)
    for seq, fields in more:
        line, crc = close_line(body_of(fields, seq, 5), crc)
        made.append(line)
    return made


def found(
    problem: Problem, start: int, end: int, *, lost: tuple[int, int] | None = None, detail: str = ""
) -> Finding:
    """Return what is expected to be found in the segment."""
    first, last = lost or (None, None)
    return Finding(
        problem=problem,
        writer=WRITER_A,
        segment=1,
        start=start,
        end=end,
        first_seq=first,
        last_seq=last,
        detail=detail,
    )


def places(blocks: Sequence[Block]) -> list[tuple[int, int, int]]:
    """Return of each block the seqs between which it lies and the byte after it."""
    return [(block.first_seq, block.end_seq, block.end_offset) for block in blocks]


def size(lines: Sequence[bytes]) -> int:
    """Return how many bytes *lines* have."""
    return len(b"".join(lines))


def notes(*widths: int) -> list[Event]:
    """Return notes with texts of the given lengths."""
    return [Note(text="x" * width) for width in widths]


def test_file_that_says_it_is_another_segment_is_named_by_its_first_line(tmp_path: Path) -> None:
    """Nothing in it is read; the finding has that line and no byte more, and says what it says."""
    maker = LogMaker()
    maker.segment(metrics(2))
    lines = maker.segment(metrics(2))
    reader = SegmentReader(put(tmp_path, 1, b"".join(lines)), NAME)

    blocks = list(reader.read())

    detail = f"it says that it is segment 2 of {WRITER_A}: nothing in it is read"
    assert blocks == []
    assert reader.findings == [found(Problem.DAMAGED, 0, len(lines[0]), detail=detail)]
    assert (reader.verified_end, reader.size_bytes) == (0, size(lines))


@pytest.mark.parametrize("first", [40, 41])
@pytest.mark.parametrize("second", [40, 41])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_damage_ends_where_the_next_good_line_begins(
    tmp_path: Path, first: int, second: int, count: int
) -> None:
    """However long the damaged lines are, and however many: bytes and events of the finding are theirs."""
    lines = LogMaker().segment(notes(40, first, second, first, 40, 40), is_sealed=False)
    bad = [line.replace(b"xxxx", b"yyyy") for line in lines[2 : 2 + count]]
    data = b"".join([*lines[:2], *bad, *lines[2 + count :]])
    reader = SegmentReader(put(tmp_path, 1, data), NAME)

    blocks = list(reader.read())

    begin, end = size(lines[:2]), size(lines[: 2 + count])
    assert places(blocks) == [(0, 1, begin), (1 + count, 6, len(data))]
    assert reader.findings == [
        found(Problem.DAMAGED, begin, end, lost=(1, count), detail="checksum does not fit")
    ]


@pytest.mark.parametrize("width", [40, 41])
def test_first_line_in_the_middle_is_damage_of_its_own_bytes(tmp_path: Path, width: int) -> None:
    """Wherever it ends: the events before and behind it are read, and none is said to be lost."""
    first = LogMaker().segment(notes(width), is_sealed=False)
    again = msgspec.json.decode(first[0], type=SegmentOpened)
    lines = chained(first, (1, encode_fields(again)), (1, encode_fields(Note(text="behind"))))
    reader = SegmentReader(put(tmp_path, 1, b"".join(lines)), NAME)

    blocks = list(reader.read())

    begin, end = size(lines[:2]), size(lines[:3])
    what = "the first line of a segment, in the middle"
    assert places(blocks) == [(0, 1, begin), (1, 2, size(lines))]
    assert reader.findings == [found(Problem.DAMAGED, begin, end, detail=what)]


@pytest.mark.parametrize("width", [40, 41])
def test_frame_of_a_later_shape_is_not_where_events_were_lost(tmp_path: Path, width: int) -> None:
    """A jump of the seqs right behind it is told for itself: nobody knows whether the two belong together."""
    first = LogMaker().segment(notes(width), is_sealed=False)
    lines = chained(first, (1, UNKNOWN_FRAME), (4, encode_fields(Note(text="behind"))))
    reader = SegmentReader(put(tmp_path, 1, b"".join(lines)), NAME)

    blocks = list(reader.read())

    begin, end = size(lines[:2]), size(lines[:3])
    what = "a first or last line of a shape that is not known here"
    assert places(blocks) == [(0, 1, begin), (4, 5, size(lines))]
    assert reader.findings == [
        found(Problem.UNSUPPORTED, begin, end, detail=what),
        found(Problem.MISSING, end, end, lost=(1, 3)),
    ]


@pytest.mark.parametrize("width", [40, 41])
def test_what_follows_a_seal_is_named_from_the_seals_end_on(tmp_path: Path, width: int) -> None:
    """The seal counts, wherever it ends; the finding has all bytes behind it and none of it."""
    first = LogMaker().segment(notes(width), is_sealed=False)
    seal = SegmentSealed(events=1, size_bytes=size(first), sha256="", reason="rotated")
    lines = chained(first, (1, encode_fields(seal)), (1, encode_fields(Note(text="behind"))))
    reader = SegmentReader(put(tmp_path, 1, b"".join(lines)), NAME)

    blocks = list(reader.read())

    assert places(blocks) == [(0, 1, size(lines[:2]))]
    assert reader.seal is not None
    assert reader.findings == [
        found(Problem.DAMAGED, size(lines[:3]), size(lines), detail="lines after the seal")
    ]


def test_header_whose_checksum_is_not_one_costs_no_event(tmp_path: Path) -> None:
    """The lines behind it are chained to what its own checksum would be, and are read from the first on."""
    lines = LogMaker().segment(metrics(3), is_sealed=False)
    lines[0] = lines[0].replace(b'"crc"', b'"krc"')
    reader = SegmentReader(put(tmp_path, 1, b"".join(lines)), NAME)

    blocks = list(reader.read())

    assert places(blocks) == [(0, 3, size(lines))]
    assert reader.findings == [found(Problem.DAMAGED, 0, len(lines[0]), detail="checksum does not fit")]
    assert reader.is_verified


def test_line_of_more_than_four_mebibytes_is_passed_over(tmp_path: Path) -> None:
    """Also if it verifies: nobody writes such a line, and readers hold no more than that in memory."""
    lines = LogMaker().segment(notes(40, 9 << 19, 40, 40), is_sealed=False)
    reader = SegmentReader(put(tmp_path, 1, b"".join(lines)), NAME)

    blocks = list(reader.read())

    begin, end = size(lines[:2]), size(lines[:3])
    assert places(blocks) == [(0, 1, begin), (2, 4, size(lines))]
    assert reader.findings == [
        found(Problem.DAMAGED, begin, end, lost=(1, 1), detail="checksum does not fit")
    ]


class CountingSystem(RealSystem):
    """The real system, which notes from where bytes are asked for."""

    def __init__(self) -> None:
        self.offsets: list[int] = []

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self.offsets.append(offset)
        return super().read(fd, size, offset)


def test_little_that_is_new_takes_one_read(tmp_path: Path) -> None:
    """A follower of many runs asks the system once for what a few events are, from where it was."""
    lines = LogMaker().segment(metrics(9), is_sealed=False)
    path, system = put(tmp_path, 1, b"".join(lines[:3])), CountingSystem()
    reader = RunReader(tmp_path, system=system)
    early = [event.seq for part in reader.slices() for event in part.events]
    path.write_bytes(b"".join(lines))
    system.offsets.clear()

    late = [event.seq for part in reader.slices() for event in part.events]

    assert (early, late) == ([0, 1], [2, 3, 4, 5, 6, 7, 8])
    assert system.offsets == [size(lines[:3])]
