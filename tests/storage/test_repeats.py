"""What is still lost of a damaged segment when a later one repeats a part of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.layout import SegmentName
from eventlog.storage.repeats import still_lost
from tests.logs import WRITER_A, LogMaker, metrics, put, read_back
from tests.storage.test_holes import put_again

LOST = Finding(
    problem=Problem.DAMAGED, writer=WRITER_A, segment=1, start=0, end=9, first_seq=10, last_seq=19, detail="x"
)


def blocks(*ranges: tuple[int, int]) -> list[Block]:
    """Return blocks with the events from the first to before the second number of each range."""
    name = SegmentName(WRITER_A, 2)
    return [Block(name, first, [b"{}"] * (end - first), 0, 1, True) for first, end in ranges]


@pytest.mark.parametrize(
    ("again", "first", "last"),
    [
        ([(10, 15)], 15, 19),
        ([(5, 15)], 15, 19),
        ([(10, 12), (12, 15)], 15, 19),
        ([(15, 20)], 10, 14),
        ([(15, 30)], 10, 14),
        ([(14, 17), (17, 20)], 10, 13),
        ([(9, 11), (19, 21)], 11, 18),
        ([(12, 14)], 10, 19),
        ([(1, 10), (20, 30)], 10, 19),
        ([(1, 5), (25, 30)], 10, 19),
        ([], 10, 19),
    ],
)
def test_lost_is_what_nothing_repeats(again: list[tuple[int, int]], first: int, last: int) -> None:
    """A repetition takes from either end; what it holds in the middle does not split a finding."""
    (found,) = still_lost([LOST], blocks(*again))

    assert found == msgspec.structs.replace(LOST, first_seq=first, last_seq=last)


@pytest.mark.parametrize("again", [[(10, 20)], [(0, 15), (15, 99)], [(10, 11), (11, 19), (19, 20)]])
def test_nothing_is_lost_of_what_was_written_again(again: list[tuple[int, int]]) -> None:
    """The bytes stay damaged, which is told, but no event is missing."""
    (found,) = still_lost([LOST], blocks(*again))

    assert (found.problem, found.first_seq, found.last_seq) == (Problem.TORN, None, None)
    assert (found.start, found.end) == (LOST.start, LOST.end)
    assert found.detail == "x; what stood there was written again"


def test_damage_without_a_text_gets_one() -> None:
    """What is said begins with what there is to say."""
    (found,) = still_lost([msgspec.structs.replace(LOST, detail="")], blocks((10, 20)))

    assert found.detail == "what stood there was written again"


def test_damage_that_cost_no_event_stays_as_it_is() -> None:
    """A repetition changes nothing about bytes of which nobody knows what they held."""
    unknown = msgspec.structs.replace(LOST, first_seq=None, last_seq=None)

    assert still_lost([unknown, LOST], blocks((10, 15))) == [
        unknown,
        msgspec.structs.replace(LOST, first_seq=15),
    ]


def test_each_hole_is_filled_from_what_is_left(tmp_path: Path) -> None:
    """What was written again lies in one piece, and is needed for one hole after the other."""
    lines = LogMaker().segment(metrics(8), is_sealed=False)
    holes = {2, 5}
    damaged = [line.replace(b"loss", b"boss") if at - 1 in holes else line for at, line in enumerate(lines)]
    put_again(tmp_path, lines, first=1)
    put(tmp_path, 1, b"".join(damaged))

    read = read_back(tmp_path)

    assert read.steps == list(range(8))
    assert [(finding.problem, finding.first_seq) for finding in read.findings] == [(Problem.TORN, None)] * 2
