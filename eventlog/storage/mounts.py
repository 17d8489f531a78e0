"""Tells what kind of file system holds a path, from what Linux says of its mounts."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")


def file_system_of(path: Path) -> str:
    """Return the type of the file system that holds *path* (``ext4``, ``nfs4``, …), or ``unknown``."""
    if not sys.platform.startswith("linux"):
        return "unknown"
    try:
        device = path.stat().st_dev
        wanted = f"{os.major(device)}:{os.minor(device)}"
        for line in _MOUNTS.read_text(errors="replace").splitlines():
            left, _, right = line.partition(" - ")
            if left.split()[2] == wanted:
                return right.split()[0]
    except (OSError, IndexError):
        pass
    return _by_name(path)


def _by_name(path: Path) -> str:
    """Find the mount by its longest prefix: btrfs gives its files another device than its mount."""
    best, kind = "", "unknown"
    try:
        real = str(path.resolve())
        for line in _MOUNTS.read_text(errors="replace").splitlines():
            left, _, right = line.partition(" - ")
            mount = left.split()[4].replace("\\040", " ")
            if len(mount) >= len(best) and (real == mount or real.startswith(mount.rstrip("/") + "/")):
                best, kind = mount, right.split()[0]
    except (OSError, IndexError):
        return "unknown"
    return kind
