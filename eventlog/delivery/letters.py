"""Dead letters: events that a destination refused for good, kept beside the ledger until somebody acts.

One JSON object a line: who wrote the event, why it was refused, how often it was tried, and the event as it
was to be delivered. The file is replaced as a whole, like a ledger; it holds few lines, or somebody
should look at it soon.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from eventlog.clock import SYSTEM_CLOCK, Clock
from eventlog.codec import body_of, encode_fields
from eventlog.errors import CheckpointError
from eventlog.events import FORMAT, AnyEvent, UnknownEvent
from eventlog.sink import Entry
from eventlog.storage.block import Block
from eventlog.storage.files import make_directories, read_file
from eventlog.storage.layout import SegmentName
from eventlog.storage.merge import Slice
from eventlog.storage.system import SYSTEM, System, replace_file


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was refused. Times are microseconds since the epoch."""

    writer: str
    rank: int
    seq: int
    error: str
    attempts: int
    first_at: int
    last_at: int
    event: msgspec.Raw

    @property
    def key(self) -> tuple[str, int]:
        """Return what names the event in its run."""
        return self.writer, self.seq

    def as_slice(self) -> Slice:
        """Return the event as a sink takes it."""
        raw = bytes(self.event)
        block = Block(SegmentName(self.writer, 0), self.seq, [raw], 0, FORMAT, False)
        return Slice(self.writer, self.rank, block.events(), block, 1)


class DeadLetters:
    """The file of one run at one destination. Not safe for several threads; the lease keeps others away."""

    def __init__(self, ledger: Path, *, clock: Clock = SYSTEM_CLOCK, system: System = SYSTEM) -> None:
        self.path = ledger.with_suffix(".dead.jsonl")
        self._clock, self._system = clock, system

    def read(self) -> list[DeadLetter]:
        """Return all letters, in the order in which they were refused.

        Raises:
            CheckpointError: the file holds something else.
        """
        try:
            data = read_file(self.path, self._system, at_most=sys.maxsize)
        except FileNotFoundError:
            return []
        try:
            return [msgspec.json.decode(line, type=DeadLetter) for line in data.split(b"\n") if line]
        except msgspec.MsgspecError as error:
            raise CheckpointError(self.path, f"not a file of dead letters ({error})") from error

    def add(self, entries: Iterable[Entry], error: str) -> int:
        """Keep *entries*, each once; return how many letters there are."""
        now = self._clock.now_us()
        letters = {letter.key: letter for letter in self.read()}
        for entry in entries:
            key = (entry.writer, entry.event.seq)
            old = letters.get(key)
            letters[key] = DeadLetter(
                writer=entry.writer,
                rank=entry.rank,
                seq=entry.event.seq,
                error=error,
                attempts=old.attempts + 1 if old else 1,
                first_at=old.first_at if old else now,
                last_at=now,
                event=msgspec.Raw(_raw(entry.event)),
            )
        self._write(list(letters.values()))
        return len(letters)

    def remove(self, keys: Iterable[tuple[str, int]]) -> int:
        """Forget letters that were delivered; return how many are left."""
        gone = set(keys)
        letters = self.read()
        left = [letter for letter in letters if letter.key not in gone]
        if len(left) < len(letters):
            self._write(left)
        return len(left)

    def clear(self) -> None:
        """Forget all, also after a power cut."""
        self._system.unlink(self.path)
        self._system.sync_directory(self.path.parent)

    def _write(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            self.clear()
            return
        make_directories(self.path.parent, self._system)
        replace_file(self.path, b"".join(msgspec.json.encode(one) + b"\n" for one in letters), self._system)


def _raw(event: AnyEvent) -> bytes:
    """Return *event* as JSON in one line."""
    if isinstance(event, UnknownEvent):
        try:
            return msgspec.json.format(event.raw, indent=-1)
        except msgspec.MsgspecError:
            # What a broken writer left is no JSON. Its seq has to stand first.
            text = event.raw.decode(errors="replace")
            return msgspec.json.encode({"seq": event.seq, "ts": event.ts, "type": event.type, "text": text})
    return body_of(encode_fields(event), event.seq, event.ts) + b"}"
