"""Reads one segment forwards, verifying every line, also while the file grows.

What can be wrong is told apart, never collapsed (`Problem`), and nothing that did not verify is ever
yielded. After a bad line the reader goes on at the next newline and trusts the chain again as soon as
a line verifies: with the crc stored on the line before it, or with that line's own, computed one. So a
flipped bit costs one line, or two where it hit a newline.

Not safe for concurrent use; any number of readers may read one segment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from eventlog.codec import MAX_LINE_BYTES, SUFFIX_BYTES, decode, seq_of, stored_crc, verifies
from eventlog.events import FORMAT, SegmentOpened, SegmentSealed
from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.cursor import NO_CRC, Cursor
from eventlog.storage.files import first_line, opened
from eventlog.storage.layout import SegmentName
from eventlog.storage.system import SYSTEM, System

CHUNK_BYTES = 1 << 20
# Room for a large chunk costs more than reading the little by which a live segment has grown.
FIRST_BYTES = 1 << 15
# Room for lines of foreign writers; what is longer is skipped without being held in memory.
LONGEST_LINE_BYTES = 4 * MAX_LINE_BYTES
_LARGEST_FILE = 1 << 62
_SEAL_MARK = b'"type":"segment_sealed","events":'


class SegmentReader:
    """One segment, read from the start or from a cursor.

    Attributes:
        header: the first line, once it was read and is good.
        seal: the last line, if the segment is sealed.
        offset: where the next unread line begins.
        verified_end: byte after the last line that verified.
        next_seq: seq of the event that should come next, None while that is unknown.
        pending_bytes: bytes after the last newline at the last look.
        is_nul_only: all bytes so far were NUL: the file has its size and none of its data.
        findings: damage so far, in order.
    """

    def __init__(
        self, path: Path, name: SegmentName, *, waits_on_nul: bool = False, system: System = SYSTEM
    ) -> None:
        self.path, self.name = path, name
        self._system = system
        self._file_name = os.fspath(path)
        self.header: SegmentOpened | None = None
        self.seal: SegmentSealed | None = None
        self.offset = 0
        self.verified_end = 0
        self.next_seq: int | None = None
        self.pending_bytes = 0
        self.pending_has_nul = False
        self.is_nul_only = True
        self.findings: list[Finding] = []
        self.is_verified = True
        self._waits_on_nul = waits_on_nul
        self._seed = 0
        self._bad_start: int | None = None
        self._bad_has_nul = False
        self._candidates: frozenset[int] = frozenset()
        self._skipping = False
        self._header_end = 0
        self._header_crc = 0

    @property
    def crc(self) -> str:
        """Return the crc on the last verified line."""
        return f"{self._seed:08x}"

    @property
    def size_bytes(self) -> int:
        """Return how many bytes were seen, verified or not."""
        return self.offset + self.pending_bytes

    @property
    def has_bad_tail(self) -> bool:
        """Tell whether the last complete lines failed to verify and nothing came after them."""
        return self._bad_start is not None

    @property
    def bad_tail_start(self) -> int:
        """Return the byte at which what cannot be trusted at the end begins."""
        return self.offset if self._bad_start is None else self._bad_start

    @property
    def bad_tail_has_nul(self) -> bool:
        """Tell whether that tail holds NUL bytes, which our JSON never does: pages lost in a power cut."""
        return self._bad_has_nul or self.pending_has_nul

    def start_at(self, cursor: Cursor) -> bool:
        """Go to *cursor* and tell whether its crc proves the place; if not, nothing has changed."""
        with opened(self.path, self._system) as fd:
            if cursor.offset == 0:
                return True
            if not 0 < cursor.offset < _LARGEST_FILE:
                return False  # a checkpoint is a file, and files may hold anything
            first = first_line(fd, self._system, at_most=LONGEST_LINE_BYTES)
            size = min(cursor.offset, SUFFIX_BYTES + 1)
            before = self._system.read(fd, size, cursor.offset - size)
        if cursor.offset < len(first) or not before.endswith(b"\n"):
            return False
        stored = stored_crc(before[:-1])
        if (NO_CRC if stored is None else f"{stored:08x}") != cursor.crc:
            return False
        self._read_header(first.rstrip(b"\n"))
        if stored is None and self.is_verified:
            self.header = None
            self.findings.clear()
            return False
        self.offset = self.verified_end = cursor.offset
        self._seed, self.next_seq = stored or 0, cursor.seq
        return True

    def read(self) -> Iterator[Block]:
        """Yield what is new since the last call, as far as lines are complete. Frames are kept inside.

        Raises:
            OSError: the file cannot be read.
        """
        # Not a file object: a follower of a thousand runs is here thousands of times a second.
        system = self._system
        fd = system.open(self._file_name)
        try:
            at, rest, wanted, is_end = self.offset, b"", FIRST_BYTES, False
            while not is_end and (chunk := system.read(fd, wanted, at)):
                is_end, wanted, at = len(chunk) < wanted, CHUNK_BYTES, at + len(chunk)
                self.is_nul_only = self.is_nul_only and not chunk.strip(b"\0")
                data = rest + chunk if rest else chunk
                end = data.rfind(b"\n") + 1
                rest = data[end:] if end else data
                if end:
                    lines = data[: end - 1].split(b"\n")
                    if self._skipping:
                        self._skip_to(lines)
                    if self._waits_on_nul and b"\0" in data[:end]:
                        lines = self._before_nul(lines)
                        yield from self._take(lines, data)
                        rest = b""
                        self.pending_has_nul = True
                        self.pending_bytes = 0
                        return
                    yield from self._take(lines, data)
                if len(rest) > LONGEST_LINE_BYTES:
                    self._start_skipping(len(rest), b"\0" in rest)
                    rest = b""
            self.pending_bytes = len(rest)
            self.pending_has_nul = b"\0" in rest
        finally:
            system.close(fd)

    # --- oversized lines: hostile or broken, never ours ---------------------------------

    def _start_skipping(self, size: int, has_nul: bool) -> None:
        if self._bad_start is None:
            self._bad_start = self.offset
        self._bad_has_nul |= has_nul
        self._candidates = frozenset()
        self.offset += size
        self._skipping = True

    def _skip_to(self, lines: list[bytes]) -> None:
        """Drop the end of an oversized line; what stands after its newline is looked at again."""
        last = lines.pop(0)
        stored = stored_crc(last)
        self._candidates = frozenset() if stored is None else frozenset({stored})
        self.offset += len(last) + 1
        self._skipping = False

    def _before_nul(self, lines: list[bytes]) -> list[bytes]:
        for i, line in enumerate(lines):
            if b"\0" in line:
                return lines[:i]
        return lines

    # --- complete lines -----------------------------------------------------------------

    def _take(self, lines: list[bytes], data: bytes) -> Iterator[Block]:
        if not lines:
            return
        start = 0
        if self.offset == 0:
            start = self._first_line(lines[0])
        if self.is_verified:
            yield from self._take_verified(lines, start, may_seal=_SEAL_MARK in data)
        else:
            yield from self._take_unverified(lines, start)

    def _first_line(self, line: bytes) -> int:
        """Take the header if it is good; return how many lines that used up."""
        self._read_header(line)
        if self.header is None:
            return 0
        self.next_seq = self.header.seq
        self._seed = stored_crc(line) or 0
        self.offset = self.verified_end = self._header_end = len(line) + 1
        self._header_crc = crc32(line[:-SUFFIX_BYTES])
        return 1

    def _read_header(self, line: bytes) -> None:
        has_crc = stored_crc(line) is not None
        if has_crc and not verifies(line, 0):
            return
        try:
            event = decode(line)
        except msgspec.MsgspecError:
            return
        if not isinstance(event, SegmentOpened):
            return
        self.header, self.is_verified = event, has_crc
        if event.format > FORMAT:
            self._find(
                Problem.UNSUPPORTED, 0, 0, detail=f"format {event.format}, this software reads {FORMAT}"
            )

    def _take_verified(self, lines: list[bytes], start: int, *, may_seal: bool) -> Iterator[Block]:
        index = start
        while index < len(lines):
            if self._bad_start is not None:
                index = self._resync(lines, index)
                continue
            begin, seed, size = index, self._seed, 0
            while index < len(lines):
                line = lines[index]
                crc = crc32(line[:-SUFFIX_BYTES], seed)
                if line[-SUFFIX_BYTES:] != b',"crc":"%08x"}' % crc:
                    break
                seed = crc
                size += len(line) + 1
                index += 1
            self._seed = seed
            self.offset += size
            if size:
                self.verified_end = self.offset
            good = lines[begin:index] if begin or index < len(lines) else lines
            yield from self._blocks(good, may_seal=may_seal)
            if index < len(lines):
                self._start_bad(lines[index])
                index += 1

    def _take_unverified(self, lines: list[bytes], start: int) -> Iterator[Block]:
        """Take lines without checksums, one by one: each has to be JSON with a seq."""
        for index, line in enumerate(lines[start:], start):
            if stored_crc(line) is not None:
                self._verify_after_all()
                yield from self._take_verified(lines, index, may_seal=True)
                return
            begin = self.offset
            self.offset += len(line) + 1
            try:
                seq_of(line)
                decode(line, from_format=self._format)
            except (ValueError, msgspec.MsgspecError):
                self._find(Problem.DAMAGED, begin, self.offset, detail="not an event")
                continue
            self.verified_end = self.offset
            yield from self._blocks([line], may_seal=_SEAL_MARK in line)

    def _verify_after_all(self) -> None:
        """Check from here on: where lines carry checksums, it is the header's own that was damaged."""
        self.is_verified = True
        is_header_only = self.offset == self._header_end
        self._bad_start = 0 if is_header_only else self.offset
        self._candidates = frozenset({self._header_crc if is_header_only else self._seed})

    @property
    def _format(self) -> int:
        return FORMAT if self.header is None else self.header.format

    def _start_bad(self, line: bytes) -> None:
        """Note a line that fails and which seeds would make the next one trustworthy."""
        self._bad_start = self.offset
        self._bad_has_nul = b"\0" in line
        own = crc32(line[:-SUFFIX_BYTES], self._seed)
        stored = stored_crc(line)
        self._candidates = frozenset({own} if stored is None else {own, stored})
        self.offset += len(line) + 1

    def _resync(self, lines: list[bytes], index: int) -> int:
        """Close the damaged range if the line at *index* verifies, else pass over that line too."""
        line = lines[index]
        for seed in self._candidates:
            if verifies(line, seed):
                self._seed = seed
                self._close_damage()
                return index
        self._bad_has_nul |= b"\0" in line
        stored = stored_crc(line)
        self._candidates = frozenset() if stored is None else frozenset({stored})
        self.offset += len(line) + 1
        return index + 1

    def _close_damage(self) -> None:
        start, self._bad_start = self._bad_start, None
        assert start is not None
        what = "NUL bytes" if self._bad_has_nul else "checksum does not fit"
        self._bad_has_nul = False
        self._find(Problem.DAMAGED, start, self.offset, detail=what)

    def _blocks(self, lines: list[bytes], *, may_seal: bool) -> Iterator[Block]:
        """Yield verified *lines*, split where seqs jump; keep the seal."""
        seal_start = None
        if may_seal and lines:
            lines, seal_start = self._take_seal(lines)
        if lines:
            end = self.offset if seal_start is None else seal_start
            begin = end - sum(map(len, lines)) - len(lines)
            first, last = seq_of(lines[0]), seq_of(lines[-1])
            if last - first + 1 == len(lines):
                yield self._block(lines, first, begin, end)
            else:
                yield from self._split(lines, begin)
        if self.seal is not None and seal_start is not None:
            self._expect(self.seal.seq, seal_start)

    def _split(self, lines: list[bytes], begin: int) -> Iterator[Block]:
        """Yield *lines* of a writer that skipped numbers: each line is a block of its own."""
        for line in lines:
            end = begin + len(line) + 1
            yield self._block([line], seq_of(line), begin, end)
            begin = end

    def _block(self, lines: list[bytes], first_seq: int, begin: int, end: int) -> Block:
        self._expect(first_seq, begin)
        self.next_seq = first_seq + len(lines)
        return Block(self.name, first_seq, lines, end, self._format, self.is_verified)

    def _take_seal(self, lines: list[bytes]) -> tuple[list[bytes], int | None]:
        """Return the lines before the seal and where it begins; all *lines* and None if there is none."""
        for i, line in enumerate(lines):
            if _SEAL_MARK not in line[:100]:
                continue
            event = decode(line)
            if isinstance(event, SegmentSealed):
                size = sum(len(later) + 1 for later in lines[i:])
                start = self.offset - size
                self.seal = event
                self._check_seal(event, start, len(line) + 1, size)
                return lines[:i], start
        return lines, None

    def _check_seal(self, seal: SegmentSealed, start: int, line_size: int, size: int) -> None:
        if seal.size_bytes != start:
            self._find(Problem.CUT, start, start, detail=f"the seal counts {seal.size_bytes} bytes before it")
        if size != line_size:
            self._find(Problem.DAMAGED, start + line_size, start + size, detail="lines after the seal")

    def _expect(self, seq: int, offset: int) -> None:
        """Compare the next event's seq with the one that should come."""
        if self.next_seq is None or seq <= self.next_seq:
            return
        first, end = self.next_seq, seq - 1
        last = self.findings[-1] if self.findings else None
        if last is not None and last.problem is Problem.DAMAGED and last.end == offset:
            self.findings[-1] = msgspec.structs.replace(last, first_seq=first, last_seq=end)
        else:
            self._find(Problem.MISSING, offset, offset, first_seq=first, last_seq=end)

    def _find(
        self,
        problem: Problem,
        start: int,
        end: int,
        *,
        first_seq: int | None = None,
        last_seq: int | None = None,
        detail: str = "",
    ) -> None:
        self.findings.append(
            Finding(
                problem=problem,
                writer=self.name.writer,
                segment=self.name.segment,
                start=start,
                end=end,
                first_seq=first_seq,
                last_seq=last_seq,
                detail=detail,
            )
        )
