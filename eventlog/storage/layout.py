"""Where things lie, and what the file system below them can do.

<root>/<project>/<run_id>/log/<writer>.<segment>.jsonl      the truth
                              <writer>.<segment>.ring       what is not synced yet, while the writer lives
                              <writer>.reserve              room for the end of a log on a full disk
                          artifacts/                        copies of logged files
                          .evlog/                           checkpoints and dead letters of sinks
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eventlog.errors import warn_once
from eventlog.storage.modes import ARTIFACTS_DIRECTORY as ARTIFACTS_DIRECTORY
from eventlog.storage.modes import LOG_DIRECTORY as LOG_DIRECTORY
from eventlog.storage.modes import STATE_DIRECTORY as STATE_DIRECTORY
from eventlog.storage.system import SYSTEM, System

# At least six digits, and never more zeros in front than that: one number has one name.
_SEGMENT = re.compile(r"(r[0-9]{1,9}-[0-9A-Z]{26})\.([0-9]{6}|[1-9][0-9]{6,17})\.(jsonl|ring)")
LAST_SEGMENT = 10**18 - 1

# Where a shared mapping is not shared between hosts, or where writing to a preallocated page can still
# fail for want of space (copy on write), the ring must not be a file: that write would be a SIGBUS.
_RING_FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "f2fs", "jfs", "overlay", "ramfs"})
_LOCAL_FILE_SYSTEMS = _RING_FILE_SYSTEMS | {"btrfs", "zfs", "bcachefs", "vfat", "exfat", "ntfs3", "reiserfs"}


class RunPath(NamedTuple):
    """A run's directory and the names that lead to it."""

    project: str
    run_id: str
    path: Path


class SegmentName(NamedTuple):
    """A segment of a writer."""

    writer: str
    segment: int

    def path(self, log_directory: Path) -> Path:
        """Return the segment's file."""
        return log_directory / f"{self.writer}.{self.segment:06d}.jsonl"

    def ring_path(self, log_directory: Path) -> Path:
        """Return the ring whose stream begins in this segment."""
        return log_directory / f"{self.writer}.{self.segment:06d}.ring"


def log_directory(run: Path) -> Path:
    """Return the directory of the run's segments."""
    return run / LOG_DIRECTORY


def reserve_path(log_directory: Path, writer: str) -> Path:
    """Return the writer's reserve file."""
    return log_directory / f"{writer}.reserve"


def parse_segment(name: str) -> SegmentName | None:
    """Return what a segment's file name says, or None for any other name."""
    match = _SEGMENT.fullmatch(name)
    return SegmentName(match[1], int(match[2])) if match and match[3] == "jsonl" else None


def parse_ring(name: str) -> SegmentName | None:
    """Return the segment in which the ring of this file name begins, or None for any other name."""
    match = _SEGMENT.fullmatch(name)
    return SegmentName(match[1], int(match[2])) if match and match[3] == "ring" else None


def list_names(directory: Path, system: System = SYSTEM) -> list[str]:
    """Return the names in *directory*, sorted; none if it is not there."""
    try:
        return sorted(system.list_directory(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_segments(log_directory: Path, system: System = SYSTEM) -> dict[str, list[SegmentName]]:
    """Return the segments of each writer, in order; writers sorted."""
    found: dict[str, list[SegmentName]] = {}
    for name in map(parse_segment, list_names(log_directory, system)):
        if name:
            found.setdefault(name.writer, []).append(name)
    for segments in found.values():
        segments.sort()
    return found


def list_rings(log_directory: Path, system: System = SYSTEM) -> dict[str, list[SegmentName]]:
    """Return, for each writer that has rings, the segments in which they begin, in order."""
    found: dict[str, list[SegmentName]] = {}
    for name in map(parse_ring, list_names(log_directory, system)):
        if name:
            found.setdefault(name.writer, []).append(name)
    return found


def is_run(path: Path) -> bool:
    """Tell whether *path* is a run's directory. One that may not be entered counts: readers will name it.

    One whose log is a link does not: it would be read from, and written to, elsewhere.
    """
    try:
        return stat.S_ISDIR((path / LOG_DIRECTORY).lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        return True


def iter_runs(root: Path) -> Iterator[RunPath]:
    """Yield the runs below *root*, sorted by project and id. Symbolic links are not followed.

    A project that only others may list is left out, with a warning.
    """
    for project in _directories(root):
        try:
            runs = _directories(project)
        except PermissionError as error:
            warn_once(f"list {project}", f"{project}: {error.strerror}. Its runs are left out.")
            continue
        for run in runs:
            if is_run(run):
                yield RunPath(project.name, run.name, run)


def _directories(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            names = [
                e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path / name for name in sorted(names)]


def why_no_ring_file(path: Path, system: System = SYSTEM) -> str | None:
    """Return why a ring below *path* must be memory instead of a file, or None if it may be a file."""
    if not sys.platform.startswith("linux"):
        return f"shared mappings are not proven on {sys.platform}"
    kind = system.file_system(path)
    return None if kind in _RING_FILE_SYSTEMS else f"{kind} is not known to keep shared mappings safely"


def is_network_file_system(path: Path, system: System = SYSTEM) -> bool:
    """Tell whether other hosts may write below *path*; what is not known to be local counts as network."""
    return sys.platform.startswith("linux") and system.file_system(path) not in _LOCAL_FILE_SYSTEMS
