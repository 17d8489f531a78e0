"""What there is to mirror of a run: its files, and its segments as far as they are to be copied."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.events import SegmentSealed
from eventlog.storage.layout import (
    LOG_DIRECTORY,
    STATE_DIRECTORY,
    SegmentName,
    list_segments,
    log_directory,
)
from eventlog.storage.repair import is_alive
from eventlog.storage.segment import SegmentReader

# Names that a process of ours uses for what is not whole yet.
_YOUNG = re.compile(r"\.young-\d+-[0-9a-f]{8}|\..+\.\d+(\.[0-9a-f]{6})?\.tmp")


class Segment(NamedTuple):
    """A segment as it was when it was looked at.

    Attributes:
        path: relative to the run.
        size_bytes: so much of it is to be copied: whole lines that verify while it grows, else all.
    """

    path: str
    source: Path
    size_bytes: int
    mtime_ns: int
    seal: SegmentSealed | None


def segment_path(name: SegmentName) -> str:
    """Return where a segment lies in its run."""
    return f"{LOG_DIRECTORY}/{name.path(Path()).name}"


class Source:
    """A run's directory; reads on in growing segments where it was."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._log_dir = log_directory(run)
        self._readers: dict[SegmentName, SegmentReader] = {}

    def files(self, note: Callable[[Path, str], None]) -> Iterator[tuple[str, Path]]:
        """Yield the files that are not the log; links are not followed.

        Args:
            note: told of each directory that cannot be read, and why.
        """
        waiting = [self.run]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                note(directory, error.strerror or str(error))
                continue
            reserved = {STATE_DIRECTORY, LOG_DIRECTORY} if directory == self.run else set()
            for entry in found:
                if _YOUNG.fullmatch(entry.name):
                    continue
                path = directory / entry.name
                if entry.is_file(follow_symlinks=False):
                    yield path.relative_to(self.run).as_posix(), path
                elif entry.is_dir(follow_symlinks=False) and entry.name not in reserved:
                    waiting.append(path)

    def segments(self, is_done: Callable[[str], bool]) -> Iterator[Segment]:
        """Yield the segments, each writer's in order, but those that *is_done* tells of by path."""
        for writer, names in list_segments(self._log_dir).items():
            for name in names:
                if not is_done(segment_path(name)):
                    yield self._look(writer, name, is_last=name == names[-1])

    def _look(self, writer: str, name: SegmentName, *, is_last: bool) -> Segment:
        source = name.path(self._log_dir)
        reader = self._readers.setdefault(name, SegmentReader(source, name))
        mtime_ns = source.stat().st_mtime_ns
        _read_on(reader)
        if is_last and reader.seal is None:
            is_growing = is_alive(self._log_dir, writer, reader.header, is_sealed=False)
            _read_on(reader)  # what was written before it was found dead
        else:
            is_growing = False
        # Half a line is copied only where nobody will complete it: then the copy is what lies here.
        size = reader.verified_end if is_growing and reader.seal is None else source.stat().st_size
        return Segment(segment_path(name), source, size, mtime_ns, reader.seal)


def _read_on(reader: SegmentReader) -> None:
    for _block in reader.read():
        pass
