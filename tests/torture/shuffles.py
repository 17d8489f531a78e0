"""Lines, and whole segments, that were taken out, repeated, swapped, or put in from another run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

from tests.torture.reading import Verdict, window
from tests.torture.specimen import Log, Segment

Change = Literal["dropped", "repeated", "swapped", "replaced", "inserted"]
CHANGES: tuple[Change, ...] = get_args(Change)
WORST: dict[Change, int] = {"dropped": 2, "repeated": 0, "swapped": 3, "replaced": 2, "inserted": 1}
"""How many events each may cost: those that are not there or not in their place, and the next one."""
AROUND = 6


def changed(lines: list[bytes], at: int, change: Change, foreign: bytes) -> list[bytes]:
    """Return *lines* with line *at* dropped, repeated, swapped, replaced or preceded by another."""
    line, rest = lines[at], lines[at + 1 :]
    if change == "dropped":
        there = []
    elif change == "repeated":
        there = [line, line]
    elif change == "swapped":
        there, rest = [rest[0], line], rest[1:]
    elif change == "replaced":
        there = [foreign]
    else:
        there = [foreign, line]
    return lines[:at] + there + rest


class Shuffle(NamedTuple):
    """One change of one line of a segment."""

    segment: Segment
    line: int
    change: Change
    foreign: bytes

    @property
    def data(self) -> bytes:
        """Return the whole changed file."""
        return b"".join(changed(self.segment.lines, self.line, self.change, self.foreign))

    def verdict(self, following: Segment | None) -> Verdict:
        """Return what is read; for a line that is neither the header nor the first behind it."""
        segment, line = self.segment, self.line
        after = min(len(segment.lines), line + AROUND)
        lines = changed(segment.lines[line:after], 0, self.change, self.foreign)
        is_at_the_end = after == len(segment.lines)
        where = window(
            segment, b"".join(lines), line=line, after=after, following=following if is_at_the_end else None
        )
        return where.verdict()


def shuffles(log: Log, segment: Segment, line: int) -> Iterator[Shuffle]:
    """Yield every change of a line."""
    source = log.other[segment.number % len(log.other)].lines
    foreign = source[1 + line % (len(source) - 2)]
    for change in CHANGES:
        # Behind the last line there is nothing to swap with, and without it the log is one that was cut.
        if change in ("swapped", "dropped") and line == len(segment.lines) - 1:
            continue
        yield Shuffle(segment, line, change, foreign)


def complaints(verdict: Verdict, shuffle: Shuffle, *, is_at_the_end: bool) -> Iterator[str]:
    """Yield what a reader should not say, or should have said.

    Args:
        is_at_the_end: of a log without a seal, where nobody knows how many events the bad bytes were.
    """
    if not verdict.findings:
        yield "not found"
    if verdict.wrong:
        yield f"invented {verdict.wrong}"
    if len(verdict.lost) > WORST[shuffle.change]:
        yield f"{len(verdict.lost)} events lost"
    if not is_at_the_end and not verdict.named >= verdict.lost:
        yield f"lost {sorted(verdict.lost)}, named {sorted(verdict.named)}"
    if verdict.findings and all(finding.segment != shuffle.segment.number for finding in verdict.findings):
        yield f"the wrong segment is named: {verdict.findings}"


class Rearranged(NamedTuple):
    """Whole segments that are not what or where they were: what was done, and the files by number."""

    what: str
    files: dict[int, bytes | None]
    lost: frozenset[int]


def rearrangements(log: Log) -> Iterator[Rearranged]:
    """Yield the log with each segment dropped, repeated, swapped with the next, and from another run."""
    segments = log.segments
    for at, segment in enumerate(segments):
        own = frozenset(seq for line, seq in enumerate(segment.seqs) if segment.is_event(line))
        foreign = log.other[at].data
        if at + 1 < len(segments):
            after = segments[at + 1]
            theirs = frozenset(seq for line, seq in enumerate(after.seqs) if after.is_event(line))
            yield Rearranged(f"segment {segment.number} dropped", {segment.number: None}, own)
            swapped: dict[int, bytes | None] = {segment.number: after.data, after.number: segment.data}
            yield Rearranged(f"segments {segment.number} and {after.number} swapped", swapped, own | theirs)
            yield Rearranged(
                f"segment {segment.number} in place of {after.number}", {after.number: segment.data}, theirs
            )
        yield Rearranged(f"segment {segment.number} of another run", {segment.number: foreign}, own)


def complaints_of_segments(verdict: Verdict, one: Rearranged) -> Iterator[str]:
    """Yield what a reader should not say, or should have said, of whole segments that were moved."""
    if not verdict.findings:
        yield "not found"
    if verdict.wrong:
        yield f"{len(verdict.wrong)} events invented: {verdict.wrong[:5]}"
    if not verdict.lost <= one.lost:
        yield f"{len(verdict.lost - one.lost)} events lost that were not touched"
