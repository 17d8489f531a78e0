"""How a writer works, and for whom."""

from __future__ import annotations

from typing import Literal

import msgspec

Durability = Literal["buffered", "synced"]


class WriterOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What may be tuned; the defaults are right for training jobs.

    Attributes:
        durability: ``buffered`` (a call returns when the line is in the ring) or ``synced`` (on the disk).
        ring: ``auto`` takes a file where that is safe, ``memory`` never does.
        ring_bytes: memory that a writer may use for events that are not synced.
        segment_bytes: a segment is sealed when it has grown to this.
        reserve_bytes: disk space set aside for the end of the log.
        write_interval_s: longest time from a call to the segment file.
        sync_interval_s: longest time from the segment file to the disk.
        max_block_s: longest time that a call waits for room in a full ring.
        sync_timeout_s: longest time that a call waits for the disk in ``synced`` mode.
        close_timeout_s: longest time that the end of a run waits for the disk.
    """

    durability: Durability = "buffered"
    ring: Literal["auto", "memory"] = "auto"
    ring_bytes: int = 8 << 20
    segment_bytes: int = 64 << 20
    reserve_bytes: int = 256 << 10
    write_interval_s: float = 0.05
    sync_interval_s: float = 1.0
    max_block_s: float = 0.1
    sync_timeout_s: float = 30.0
    close_timeout_s: float = 10.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose events a writer writes."""

    run_id: str
    project: str
    writer: str
    rank: int = 0
    forked_from: str | None = None
