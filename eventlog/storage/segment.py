"""Reads one segment forwards, verifying every line, also while the file grows.

What can be wrong is told apart, never collapsed (`Problem`), and nothing that did not verify is ever
yielded. After a bad line the reader goes on at the next newline and trusts the chain again as soon as
a line verifies: with the crc stored on the line before it, or with that line's own, computed one. So a
flipped bit costs one line, or two where it hit a newline.

Not safe for concurrent use; any number of readers may read one segment.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from eventlog.codec import MAX_LINE_BYTES, SUFFIX_BYTES, decode, stored_crc, verifies
from eventlog.events import FORMAT, SegmentOpened, SegmentSealed, UnknownEvent
from eventlog.storage.block import Block, Finding, Problem
from eventlog.storage.cursor import NO_CRC, Cursor
from eventlog.storage.files import first_line, opened
from eventlog.storage.frames import FRAME_MARK, frame_of, header_of, seq_if_any, size_of
from eventlog.storage.layout import SegmentName
from eventlog.storage.system import SYSTEM, System

CHUNK_BYTES = 1 << 20
# Room for a large chunk costs more than reading the little by which a live segment has grown.
FIRST_BYTES = 1 << 15
# Room for lines of foreign writers; what is longer is skipped without being held in memory.
LONGEST_LINE_BYTES = 4 * MAX_LINE_BYTES
_LARGEST_FILE = 1 << 62
_HEAD_BYTES = 32  # in which a line says its seq
_ZEROS = bytes(CHUNK_BYTES)


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
        self._is_foreign = False
        self._header_end = self._header_crc = 0

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
            around = self._system.read(fd, size + _HEAD_BYTES, cursor.offset - size)
        before, behind = around[:size], seq_if_any(around[size:])
        if cursor.offset < len(first) or not before.endswith(b"\n"):
            return False
        if behind is not None and behind < cursor.seq:
            return False  # what comes next would be taken for a repetition, and passed over in silence
        stored = stored_crc(before[:-1])
        if (NO_CRC if stored is None else f"{stored:08x}") != cursor.crc:
            return False
        self._read_header(first.rstrip(b"\n"))
        if self._is_foreign or (stored is None and self.is_verified):
            self.header, self._is_foreign = None, False
            self.findings.clear()
            return False
        self.offset = self.verified_end = cursor.offset
        self._seed, self.next_seq, self.is_nul_only = stored or 0, cursor.seq, False
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
                self.is_nul_only = self.is_nul_only and not chunk[0] and chunk == _ZEROS[: len(chunk)]
                data = rest + chunk if rest else chunk
                end = data.rfind(b"\n") + 1
                rest = data[end:] if end else data
                if end:
                    lines = data[: end - 1].split(b"\n")
                    if self._skipping:
                        self._skip_to(lines)
                    if self._waits_on_nul and b"\0" in data[:end]:
                        lines = list(itertools.takewhile(lambda line: b"\0" not in line, lines))
                        yield from self._take(lines, data)
                        self.pending_has_nul, self.pending_bytes = True, 0
                        return
                    yield from self._take(lines, data)
                if len(rest) > (SUFFIX_BYTES if self._skipping else LONGEST_LINE_BYTES):
                    if self._waits_on_nul and b"\0" in rest:
                        break  # pages that have not arrived may be more than a line has
                    self._start_skipping(len(rest) - SUFFIX_BYTES, b"\0" in rest)
                    rest = rest[-SUFFIX_BYTES:]  # its crc may still follow
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

    # --- complete lines -----------------------------------------------------------------

    def _take(self, lines: list[bytes], data: bytes) -> Iterator[Block]:
        if not lines:
            return
        start = self._first_line(lines[0]) if self.offset == 0 else 0
        if self._is_foreign or self.seal is not None:
            self._refuse(lines[start:])
        elif self.is_verified:
            yield from self._take_verified(lines, start, may_frame=FRAME_MARK in data)
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
        header = header_of(line)
        if header is None:
            return
        if (header.writer, header.segment) != self.name:
            # Its events have numbers of another stream: taken for ours they would be invented.
            self._is_foreign = True
            what = f"it says that it is segment {header.segment} of {header.writer}: nothing in it is read"
            self._find(Problem.DAMAGED, 0, len(line) + 1, detail=what)
            return
        self.header, self.is_verified = header, stored_crc(line) is not None
        if header.format > FORMAT:
            what = f"format {header.format}, this software reads {FORMAT}"
            self._find(Problem.UNSUPPORTED, 0, 0, detail=what)

    def _take_verified(self, lines: list[bytes], start: int, *, may_frame: bool) -> Iterator[Block]:
        index = start
        while index < len(lines):
            if self.seal is not None:
                self._refuse(lines[index:])
                return
            if self._bad_start is not None:
                index = self._resync(lines, index)
                continue
            begin, seed, end = index, self._seed, -SUFFIX_BYTES
            for index in range(begin, len(lines)):
                line = lines[index]
                crc = crc32(line[:end], seed)
                if not line.endswith(b',"crc":"%08x"}' % crc):
                    break
                seed = crc
            else:
                index = len(lines)
            self._seed = seed
            good = lines[begin:index] if begin or index < len(lines) else lines
            if good:
                self.offset += size_of(good)
                self.verified_end = self.offset
                yield from self._blocks(good, may_frame=may_frame)
            if index < len(lines) and self.seal is None:
                self._start_bad(lines[index])
                index += 1

    def _take_unverified(self, lines: list[bytes], start: int) -> Iterator[Block]:
        """Take lines without checksums, one by one: each has to be JSON with a seq."""
        for index, line in enumerate(lines[start:], start):
            if stored_crc(line) is not None:
                self._verify_after_all()
                yield from self._take_verified(lines, index, may_frame=True)
                return
            begin = self.offset
            self.offset += len(line) + 1
            try:
                decode(line, from_format=self._format)
            except msgspec.MsgspecError:
                self._find(Problem.DAMAGED, begin, self.offset, detail="not an event")
                continue
            self.verified_end = self.offset
            yield from self._blocks([line], may_frame=FRAME_MARK in line)
            if self.seal is not None:
                self._refuse(lines[index + 1 :])
                return

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

    def _blocks(self, lines: list[bytes], *, may_frame: bool) -> Iterator[Block]:
        """Yield verified *lines* without frames, split where seqs jump; keep the seal."""
        if not may_frame:
            yield from self._events(lines, self.offset)
            return
        begin, done = self.offset - size_of(lines), 0
        for index, line in enumerate(lines):
            frame = frame_of(line)
            if frame is None:
                continue
            begin += size_of(lines[done:index])
            yield from self._events(lines[done:index], begin)
            end, done = begin + len(line) + 1, index + 1
            if isinstance(frame, SegmentSealed):
                self._take_seal(frame, begin)
                self.offset = end
                self._refuse(lines[done:])
                return
            problem, what = Problem.DAMAGED, "the first line of a segment, in the middle"
            if isinstance(frame, UnknownEvent):
                problem, what = Problem.UNSUPPORTED, "a first or last line of a shape that is not known here"
            self._find(problem, begin, end, detail=what)
            begin = end
        yield from self._events(lines[done:], self.offset)

    def _events(self, lines: list[bytes], end: int) -> Iterator[Block]:
        """Yield *lines*, which hold no frames and end at byte *end*."""
        if not lines:
            return
        begin = end - size_of(lines)
        first, last = seq_if_any(lines[0]), seq_if_any(lines[-1])
        if first is not None and last is not None and last - first + 1 == len(lines):
            yield self._block(lines, first, begin, end)
            return
        for line in lines:  # of a writer that skips numbers: each is a block of its own
            end, seq = begin + len(line) + 1, seq_if_any(line)
            if seq is None:
                self._find(Problem.DAMAGED, begin, end, detail="not an event")
            else:
                yield self._block([line], seq, begin, end)
            begin = end

    def _block(self, lines: list[bytes], first_seq: int, begin: int, end: int) -> Block:
        self._expect(first_seq, begin)
        self.next_seq = first_seq + len(lines)
        return Block(self.name, first_seq, lines, end, self._format, self.is_verified)

    def _take_seal(self, seal: SegmentSealed, start: int) -> None:
        self.seal = seal
        self._expect(seal.seq, start)
        if seal.size_bytes != start:
            self._find(Problem.CUT, start, start, detail=f"the seal counts {seal.size_bytes} bytes before it")

    def _refuse(self, lines: list[bytes]) -> None:
        """Pass over lines that nobody vouches for: behind a seal, or of another writer."""
        begin, self.offset = self.offset, self.offset + size_of(lines)
        if self.seal is not None and lines:
            self._find(Problem.DAMAGED, begin, self.offset, detail="lines after the seal")

    def _expect(self, seq: int, offset: int) -> None:
        """Compare the next event's seq with the one that should come."""
        if self.next_seq is None or seq <= self.next_seq:
            return
        first, end = self.next_seq, seq - 1
        last = self.findings[-1] if self.findings else None
        if last is not None and last.problem is Problem.DAMAGED and last.end == offset:
            self.findings[-1] = msgspec.structs.replace(last, first_seq=first, last_seq=end)
        else:
            self._find(Problem.MISSING, offset, offset, lost=(first, end))

    def _find(
        self, problem: Problem, start: int, end: int, *, lost: tuple[int, int] | None = None, detail: str = ""
    ) -> None:
        first, last = lost or (None, None)
        self.findings.append(
            Finding(
                problem=problem,
                writer=self.name.writer,
                segment=self.name.segment,
                start=start,
                end=end,
                first_seq=first,
                last_seq=last,
                detail=detail,
            )
        )
