"""What later segments of a writer repeat of a damaged one.

A power cut may leave holes in a segment that its writer had given up, with good lines behind them. Those must
not hide what was written again into the next segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.layout import SegmentName
from eventlog.storage.segment import SegmentReader
from eventlog.storage.system import System


class Repeats:
    """The segments after a damaged one, read along as its holes turn up, each at most once.

    Args:
        going_on: numbers of segments that go on instead of repeating; what is found here is added.
    """

    def __init__(
        self, log_dir: Path, later: Sequence[SegmentName], system: System, *, going_on: set[int]
    ) -> None:
        self._streams = [
            _Stream(log_dir, name, system, going_on) for name in later if name.segment not in going_on
        ]

    def take(self, first_seq: int, end_seq: int) -> Iterator[Block]:
        """Yield the events from *first_seq* to before *end_seq*, as far as they are repeated.

        Each call asks for later events than the one before.
        """
        for stream in self._streams:
            for block in stream.before(end_seq):
                part = block.after(first_seq).before(end_seq)
                if part.lines:
                    first_seq = part.end_seq
                    yield part


class _Stream:
    """One later segment; nothing, if it goes on instead of repeating."""

    def __init__(self, log_dir: Path, name: SegmentName, system: System, going_on: set[int]) -> None:
        self._going_on = going_on
        self._reader = SegmentReader(name.path(log_dir), name, system=system)
        self._blocks: Iterator[Block] | None = None
        self._block: Block | None = None

    def before(self, end_seq: int) -> Iterator[Block]:
        """Yield the blocks that begin before *end_seq*; the last one is yielded again by the next call."""
        if self._blocks is None:
            self._blocks = self._reader.read()
            self._advance()
        while self._block is not None and self._block.first_seq < end_seq:
            yield self._block
            if self._block.end_seq > end_seq:
                return
            self._advance()

    def _advance(self) -> None:
        assert self._blocks is not None
        self._block = next(self._blocks, None)
        header = self._reader.header
        if header is None or header.origin == "writer":
            self._blocks, self._block = iter(()), None
            if header is not None:
                self._going_on.add(self._reader.name.segment)


def still_lost(findings: list[Finding], again: Sequence[Block]) -> list[Finding]:
    """Return *findings* as they stand when the events of *again*, in order, were read from elsewhere."""
    return [_without(finding, again) for finding in findings] if again else findings


def _without(finding: Finding, again: Sequence[Block]) -> Finding:
    if finding.first_seq is None or finding.last_seq is None:
        return finding
    first, end = finding.first_seq, finding.last_seq + 1
    for block in again:
        if block.first_seq <= first < block.end_seq:
            first = block.end_seq
    for block in reversed(again):
        if block.first_seq < end <= block.end_seq:
            end = block.first_seq
    if first < end:
        return msgspec.structs.replace(finding, first_seq=first, last_seq=end - 1)
    detail = f"{finding.detail}; what stood there was written again".removeprefix("; ")
    return msgspec.structs.replace(
        finding, problem=Problem.TORN, first_seq=None, last_seq=None, detail=detail
    )
