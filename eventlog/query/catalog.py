"""What the cache holds: a manifest that names its files and says how far each run was read.

    <root>/.evlog/cache/manifest-000000000007.msgpack     the newest one that can be read counts
                        points-01KB….parquet              immutable, named once, never written again

A manifest replaces the one before as a whole: it is linked to a name that must not exist yet, so of two
processes that commit at once one wins and the other begins anew. A crash leaves files that no manifest names;
the next commit removes them when they are old.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import msgspec

from eventlog.storage.cursor import Cursor
from eventlog.storage.layout import STATE_DIRECTORY, list_names
from eventlog.storage.system import SYSTEM, write_all

VERSION = 1
CACHE_DIRECTORY = "cache"
KEPT_S = 600.0
"""Files that no manifest names any more stay so long: somebody may still read them."""

_PREFIX, _SUFFIX = "manifest-", ".msgpack"


class RunEntry(msgspec.Struct, array_like=True):
    """A run, as far as it is in the cache.

    Attributes:
        mtime_ns: of the log's directory when it was read.
        is_settled: nobody can append to what is there; only a new file can bring something.
        cursors: the place after what is in the cache, by writer.
        generation: the commit whose rows of runs, params, tags, artifacts and damage count.
    """

    project: str
    run_id: str
    mtime_ns: int
    is_settled: bool
    generation: int
    events: int
    last_ts: int | None
    cursors: dict[str, Cursor]

    @property
    def key(self) -> tuple[str, str]:
        """Return what names the run below its root."""
        return self.project, self.run_id


class DataFile(msgspec.Struct, array_like=True, frozen=True):
    """One Parquet file of a table."""

    name: str
    rows: int
    size_bytes: int


class Manifest(msgspec.Struct, kw_only=True):
    """One state of the cache.

    Attributes:
        number: of the commit.
        files: of each table.
        runs: everything that is in the cache, and how far.
        gone: runs whose rows up to a commit do not count any more: deleted, renamed, or replaced.
    """

    version: int = VERSION
    number: int = 0
    files: dict[str, list[DataFile]] = {}
    runs: list[RunEntry] = []
    gone: list[tuple[str, str, int]] = []

    def copy(self) -> Manifest:
        """Return one whose lists can be changed."""
        return Manifest(
            number=self.number,
            files={table: list(files) for table, files in self.files.items()},
            runs=list(self.runs),
            gone=list(self.gone),
        )


def cache_directory(root: Path) -> Path:
    """Return where the cache of *root* lies: below it, or in the user's own cache if that is read-only."""
    own = root / STATE_DIRECTORY / CACHE_DIRECTORY
    with contextlib.suppress(OSError):  # a root that only others may write
        own.mkdir(parents=True, exist_ok=True)
    if os.access(own, os.W_OK):
        return own
    from hashlib import sha256

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    other = base / "evlog" / sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    other.mkdir(parents=True, exist_ok=True)
    return other


def load_manifest(directory: Path) -> Manifest:
    """Return the newest state whose files are all there; an empty one if there is none."""
    names = list_names(directory)
    there = set(names)
    for name in sorted((n for n in names if _number(n) is not None), reverse=True):
        try:
            manifest = msgspec.msgpack.decode((directory / name).read_bytes(), type=Manifest)
        except (OSError, msgspec.MsgspecError):
            continue  # half of one, of a crash on a file system without links
        files = {file.name for of_table in manifest.files.values() for file in of_table}
        if manifest.version == VERSION and files <= there:
            return manifest
    # Numbers go on where they were: a name must never mean two states.
    return Manifest(number=max((_number(name) or 0 for name in names), default=0))


def commit(directory: Path, manifest: Manifest) -> bool:
    """Make *manifest* the state after the one with the number before; False if somebody was faster."""
    target = directory / f"{_PREFIX}{manifest.number:012d}{_SUFFIX}"
    young = directory / f".{target.name}.{os.getpid()}.{os.urandom(3).hex()}.tmp"
    fd = SYSTEM.create(young)
    try:
        write_all(SYSTEM, fd, msgspec.msgpack.encode(manifest))
        SYSTEM.sync(fd)
    finally:
        SYSTEM.close(fd)
    try:
        os.link(young, target)
    except FileExistsError:
        return False
    except OSError:
        # No links here. Then the name is taken first and filled afterwards; half of it is not read.
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        young.replace(target)
    finally:
        young.unlink(missing_ok=True)
    SYSTEM.sync_directory(directory)
    return True


def remove_old(directory: Path, manifest: Manifest) -> None:
    """Remove what neither *manifest* nor the one before it names, if it is old enough."""
    kept = {file.name for of_table in manifest.files.values() for file in of_table}
    now = time.time()
    for name in list_names(directory):
        number = _number(name)
        if name in kept or (number is not None and number >= manifest.number - 1):
            continue
        path = directory / name
        try:
            if number is not None or now - path.stat().st_mtime > KEPT_S:
                path.unlink()
        except OSError:
            continue  # another process was faster, or it is in use there
    return


def _number(name: str) -> int | None:
    digits = name[len(_PREFIX) : -len(_SUFFIX)]
    is_manifest = name.startswith(_PREFIX) and name.endswith(_SUFFIX) and digits.isdigit()
    return int(digits) if is_manifest else None
