"""Writers of a crowd of runs, in a process of their own: ``python -m tests.torture.crowd '<json>'``.

First the runs that are over are made, as fast as it goes: each directory, the log in it and the file in
that appear one right after the other. Then the live ones log in bursts, several lines at a time.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import msgspec

from eventlog.events import Event, Metrics, RunEnded, RunStarted
from eventlog.storage.buffer import LogBuffer
from eventlog.storage.layout import SegmentName, log_directory
from eventlog.storage.options import WriterOptions
from tests.logs import WRITER_A, LogMaker, metrics

PROJECTS = 10
FINISHED_EVENTS = 5
_OPTIONS = WriterOptions(ring_bytes=1 << 15, reserve_bytes=4096, write_interval_s=0.1, segment_bytes=8192)


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """What a process writes.

    Attributes:
        finished, live: numbers of its runs, half open.
        bursts, of: how often each live run logs, and how many events at a time.
        pause_s: between two rounds of bursts.
    """

    root: str
    finished: tuple[int, int]
    live: tuple[int, int] = (0, 0)
    bursts: int = 0
    of: int = 4
    pause_s: float = 0.0

    @property
    def live_events(self) -> int:
        """Return how many events a live run has in the end: a start, what it logs, an end."""
        return self.bursts * self.of + 2


def finished_run(root: Path, number: int) -> Path:
    """Return where a run is that is over."""
    return root / f"p{number % PROJECTS}" / f"finished-{number:05d}"


def live_run(root: Path, number: int) -> Path:
    """Return where a live run is."""
    return root / f"p{number % PROJECTS}" / f"live-{number:05d}"


def make_finished(root: Path, numbers: range) -> None:
    """Make runs that are over, each in one go and its file in two appends."""
    events: list[Event] = [RunStarted(name="x"), *metrics(FINISHED_EVENTS - 2), RunEnded(status="finished")]
    lines = LogMaker().segment(events, reason="ended")
    for number in numbers:
        path = SegmentName(WRITER_A, 1).path(log_directory(finished_run(root, number)))
        path.parent.mkdir(parents=True)
        with path.open("ab", buffering=0) as file:
            file.write(b"".join(lines[:2]))
            file.write(b"".join(lines[2:]))


def log_live(crowd: Crowd) -> None:
    """Log into all live runs, round after round, and end them."""
    buffers = []
    for number in range(*crowd.live):
        run = live_run(Path(crowd.root), number)
        buffer = LogBuffer(run, run_id=run.name, project=run.parent.name, options=_OPTIONS)
        buffer.open()
        buffer.append(RunStarted(name=run.name))
        buffers.append(buffer)
    tick = threading.Event()
    for burst in range(crowd.bursts):
        for buffer in buffers:
            for at in range(crowd.of):
                buffer.append(Metrics(step=burst * crowd.of + at, data={"loss": 0.5}))
        tick.wait(crowd.pause_s)
    for buffer in buffers:
        buffer.append(RunEnded(status="finished"))
        buffer.close("ended")


def main() -> None:
    """Write a crowd."""
    crowd = msgspec.json.decode(sys.argv[1], type=Crowd)
    make_finished(Path(crowd.root), range(*crowd.finished))
    log_live(crowd)


if __name__ == "__main__":
    main()
