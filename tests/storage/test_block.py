"""Blocks: parts of them, and the places in them."""

from __future__ import annotations

import itertools

import pytest

from eventlog.events import Metrics, Note
from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.cursor import NO_CRC, Cursor
from eventlog.storage.layout import SegmentName
from tests.logs import WRITER_A, LogMaker

NAME = SegmentName(WRITER_A, 3)
FIRST = 5
COUNT = 4


def block_of(lines: list[bytes], *, is_verified: bool = True) -> Block:
    """Return all *lines* but the first as a block whose seqs begin with FIRST."""
    return Block(
        NAME,
        FIRST,
        [line[:-1] for line in lines[1:]],
        sum(map(len, lines)),
        format=1,
        is_verified=is_verified,
    )


@pytest.fixture
def lines() -> list[bytes]:
    """Return lines of different lengths, with a header."""
    notes = [Note(text="x" * 7 * number) for number in range(COUNT)]
    return LogMaker().segment(notes, is_sealed=False)


@pytest.mark.parametrize(("first", "end"), list(itertools.product(range(3, 12), repeat=2)))
def test_part_of_a_block_is_where_its_lines_are(lines: list[bytes], first: int, end: int) -> None:
    """Its seqs and its end are those of the lines that are left."""
    block = block_of(lines)

    part = block.after(first).before(end)
    other = block.before(end).after(first)

    kept = [seq for seq in range(FIRST, FIRST + COUNT) if first <= seq < end]
    assert part.lines == other.lines == [block.lines[seq - FIRST] for seq in kept]
    if kept:
        assert part == other
        assert (part.first_seq, part.end_seq) == (kept[0], kept[-1] + 1)
        assert part.end_offset == sum(map(len, lines[: kept[-1] + 2 - FIRST]))
        assert [part.cursor_after(count) for count in range(1, len(kept) + 1)] == [
            block.cursor_after(seq + 1 - FIRST) for seq in kept
        ]


def test_place_after_a_line_is_proven_by_that_line(lines: list[bytes]) -> None:
    """It has the line's checksum, the byte behind it, and the seq that comes next."""
    block = block_of(lines)

    for count in range(1, COUNT + 1):
        offset = sum(map(len, lines[: count + 1]))
        crc = lines[count][-11:-3].decode()
        assert block.cursor_after(count) == Cursor(segment=3, offset=offset, seq=FIRST + count, crc=crc)


def test_place_after_a_line_without_checksum_has_none(lines: list[bytes]) -> None:
    """There is nothing that could prove it but the line's end."""
    bare = [line[:-19] + b"}\n" for line in lines]
    block = block_of(bare, is_verified=False)

    assert block.cursor_after(1) == Cursor(
        segment=3, offset=len(bare[0]) + len(bare[1]), seq=FIRST + 1, crc=NO_CRC
    )


def test_block_gives_its_events() -> None:
    """Decoded as the format of its segment says."""
    lines = LogMaker().segment([Metrics(step=1), Note(text="a")], is_sealed=False)

    assert [type(event) for event in block_of(lines).events()] == [Metrics, Note]


@pytest.mark.parametrize("problem", Problem)
def test_torn_tail_is_the_only_damage_that_cost_nothing(problem: Problem) -> None:
    """It never was whole; of all else something is not there any more."""
    finding = Finding(problem=problem, writer=WRITER_A, segment=1, start=0, end=1)

    assert finding.is_loss == (problem != "torn tail")
