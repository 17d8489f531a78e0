"""Writes one segment: creates it, appends bytes, syncs, seals. Never opens a file a second time.

Not safe for concurrent use: one thread at a time, which the buffer sees to.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from eventlog.codec import body_of, close_line, encode_fields
from eventlog.events import FORMAT, Previous, RingInfo, SegmentOpened, SegmentSealed
from eventlog.storage.files import sync_above
from eventlog.storage.layout import SegmentName
from eventlog.storage.processes import Process
from eventlog.storage.processes import process_start as process_start
from eventlog.storage.system import SYSTEM, System

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors after which the same file may go on once there is room; no page was lost."""

SOFTWARE = "evlog 0.1.0"


class SegmentWriter:
    """An open segment.

    Attributes:
        size_bytes: how many bytes the system has taken.
    """

    def __init__(
        self, log_dir: Path, name: SegmentName, system: System = SYSTEM, *, above: Sequence[Path] = ()
    ) -> None:
        """Create the file, and make its name durable.

        Args:
            above: directories whose names lead to the log and may not be durable yet.

        Raises:
            OSError: it cannot be created, or is there already.
        """
        self.name = name
        self.path = name.path(log_dir)
        self.size_bytes = 0
        self._system = system
        self._sha256 = hashlib.sha256()
        self._fd = system.create(self.path)
        try:
            system.sync_directory(log_dir)
            sync_above(above, system)
        except OSError:
            self.abandon()
            raise

    def write(self, data: bytes) -> int:
        """Append as much of *data* as the system takes now; return how many bytes those were.

        Raises:
            OSError: none were taken.
        """
        taken = 0
        try:
            while taken < len(data):
                taken += self._system.write(self._fd, data[taken:] if taken else data)
        except OSError:
            if not taken:
                raise
        finally:
            self._sha256.update(data[:taken])
            self.size_bytes += taken
        return taken

    def sha256_with(self, rest: bytes) -> str:
        """Return the digest of everything written so far and *rest*."""
        digest = self._sha256.copy()
        digest.update(rest)
        return digest.hexdigest()

    def sync(self) -> None:
        """Return when all that was written is on the disk.

        Raises:
            OSError: pages may be gone while the next sync would succeed. Never try again on this file.
        """
        self._system.sync(self._fd)

    def finish(self) -> None:
        """Close the file, whose seal was written and synced, and make it read-only.

        Raises:
            OSError: the close failed, so that the bytes may not have reached the disk.
        """
        fd, self._fd = self._fd, -1
        self._system.close(fd)
        with contextlib.suppress(OSError):  # only a courtesy to people with editors
            self._system.make_read_only(self.path)

    def abandon(self) -> None:
        """Let go of the descriptor without caring what becomes of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                self._system.close(fd)


def header_fields(
    name: SegmentName,
    *,
    run_id: str,
    project: str,
    rank: int,
    stream_offset: int,
    prev: Previous | None,
    origin: str,
    durability: str,
    ring: RingInfo | None,
    process: Process | None,
    forked_from: str | None,
) -> bytes:
    """Return the fields of a segment's first line, with a new salt."""
    return encode_fields(
        SegmentOpened(
            format=FORMAT,
            run_id=run_id,
            project=project,
            writer=name.writer,
            segment=name.segment,
            stream_offset=stream_offset,
            salt=os.urandom(4).hex(),
            prev=prev,
            rank=rank,
            origin=origin,  # type: ignore[arg-type]  # a Literal, checked by the decoder
            durability=durability,  # type: ignore[arg-type]
            ring=ring,
            host=process.host if process else "",
            pid=process.pid if process else 0,
            pid_started=process.started if process else "",
            forked_from=forked_from,
            software=SOFTWARE,
        )
    )


def seal_line(
    segment: SegmentWriter, rest: bytes, *, seq: int, first_seq: int, ts: int, seed: int, reason: str
) -> tuple[bytes, int]:
    """Return the last line of *segment*, to which *rest* is still to be written, and its crc."""
    seal = SegmentSealed(
        events=seq - first_seq,
        size_bytes=segment.size_bytes + len(rest),
        sha256=segment.sha256_with(rest),
        reason=reason,
    )
    return close_line(body_of(encode_fields(seal), seq, ts), seed)
