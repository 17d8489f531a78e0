"""What the cache holds: a manifest that names its files and says how far each run was read.

    <root>/.evlog/cache/manifest-000000000007.msgpack     the newest one that can be read counts
                        points-01KB….parquet              immutable, named once, never written again

A manifest replaces the one before as a whole: it is linked to a name that must not exist yet, so of two
processes that commit at once one wins and the other begins anew. A crash leaves files that no manifest names;
a later commit removes them when they are old.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from eventlog.storage.cursor import Checkpoint, Cursor
from eventlog.storage.layout import STATE_DIRECTORY, list_names
from eventlog.storage.modes import is_ours
from eventlog.storage.ring import lock_file
from eventlog.storage.system import SYSTEM, System, write_all

VERSION = 3
CACHE_DIRECTORY = "cache"
KEPT_S = 600.0
"""Files that no manifest names any more stay so long: somebody may still read them."""
ABANDONED_S = 86_400.0
"""A scratch directory of which nobody can tell whether its owner lives goes after this time."""

_PREFIX, _SUFFIX = "manifest-", ".msgpack"
_SCRATCH, _YOUNG, _LOCK = ".scratch-", ".young-", "lock"


class Place(msgspec.Struct, array_like=True, frozen=True):
    """How far one writer of a run is in the cache.

    Attributes:
        segment, offset, seq, crc: as in `Cursor`.
        max_ts: the latest time so far of the writer's events: what its next event is sorted by, at least.
        files: number of its segments up to this one.
        energy_kwh: the energy that it has measured; None if it has measured none.
    """

    segment: int
    offset: int
    seq: int
    crc: str
    max_ts: int
    files: int
    energy_kwh: float | None = None

    @property
    def cursor(self) -> Cursor:
        """Return the place as readers want it."""
        return Cursor(segment=self.segment, offset=self.offset, seq=self.seq, crc=self.crc)


class RunEntry(msgspec.Struct, array_like=True):
    """A run, as far as it is in the cache.

    Attributes:
        mtime_ns: of the log's directory when it was read.
        size_bytes: of all its segments when it was read; -1 if some of it could not be read.
        is_alive: a writer could append to it.
        is_settled: nobody can append to what is there; only a new file can bring something.
        generation: the commit whose rows of runs, params, tags, artifacts and damage count.
        places: the place after what is in the cache, by writer.
    """

    project: str
    run_id: str
    mtime_ns: int
    size_bytes: int
    is_alive: bool
    is_settled: bool
    generation: int
    events: int
    places: dict[str, Place]

    @property
    def key(self) -> tuple[str, str]:
        """Return what names the run below its root."""
        return self.project, self.run_id

    @property
    def checkpoint(self) -> Checkpoint:
        """Return where reading goes on."""
        return Checkpoint(cursors={writer: place.cursor for writer, place in self.places.items()})


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

    def names(self) -> set[str]:
        """Return the names of all files."""
        return {file.name for of_table in self.files.values() for file in of_table}


def cache_directory(root: Path) -> Path:
    """Return where the cache of *root* lies: below it, or in the user's own cache if it cannot be ours there.

    Who owns a cache reads and may change it: nobody uses another user's, nor one behind a link.
    """
    own = root / STATE_DIRECTORY / CACHE_DIRECTORY
    if not own.is_symlink() and not own.parent.is_symlink():
        with contextlib.suppress(OSError):  # a root that only others may write
            own.mkdir(parents=True, exist_ok=True)
            if os.access(own, os.W_OK) and is_ours(own):
                return own
    from hashlib import sha256

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    other = base / "evlog" / sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    other.mkdir(parents=True, exist_ok=True)
    return other


def load_manifest(directory: Path) -> Manifest:
    """Return the newest state whose files are all there, whole; an empty one if there is none."""
    sizes = _sizes(directory)
    numbers = sorted((n for n in map(_number, sizes) if n is not None), reverse=True)
    for number in numbers:
        try:
            data = (directory / _name(number)).read_bytes()
            manifest = msgspec.msgpack.decode(data, type=Manifest)
        except (OSError, msgspec.MsgspecError):
            continue  # half of one, of a crash on a file system without links
        files = (file for of_table in manifest.files.values() for file in of_table)
        if manifest.version == VERSION and all(sizes.get(file.name) == file.size_bytes for file in files):
            manifest.number = numbers[0]
            return manifest
    # Numbers go on where they were: a name must never mean two states.
    return Manifest(number=numbers[0] if numbers else 0)


def commit(directory: Path, manifest: Manifest, system: System = SYSTEM) -> bool:
    """Make *manifest* the state after the one with the number before; False if somebody was faster."""
    target = directory / _name(manifest.number)
    young = directory / f".{target.name}.{os.getpid()}.{os.urandom(3).hex()}.tmp"
    fd = system.create(young)
    try:
        try:
            write_all(system, fd, msgspec.msgpack.encode(manifest))
            system.sync(fd)
        finally:
            system.close(fd)
        if not _take_name(young, target, system):
            return False
    finally:
        with contextlib.suppress(OSError):
            system.unlink(young)
    system.sync_directory(directory)
    return True


def _take_name(young: Path, target: Path, system: System) -> bool:
    try:
        os.link(young, target)
    except FileExistsError:
        return False
    except OSError:
        # No links here. Then the name is taken first and filled afterwards; half of it is not read.
        try:
            system.close(system.create(target))
        except FileExistsError:
            return False
        system.rename(young, target)
    return True


def forget(directory: Path) -> None:
    """Make the cache empty for whoever looks next: its files turned out to be unreadable.

    The number of the newest state is kept, so that no name comes to mean two states.
    """
    newest = load_manifest(directory).number
    commit(directory, Manifest(number=newest + 1))


def note_dropped(directory: Path, files: Sequence[DataFile]) -> None:
    """Note that *files* are in use until now, so that they are kept for `KEPT_S` from here on."""
    for file in files:
        with contextlib.suppress(OSError):  # not ours to touch: then it goes sooner
            os.utime(directory / file.name)


def remove_old(directory: Path, manifest: Manifest) -> None:
    """Remove what neither *manifest* nor the one before it names, if it is old enough."""
    kept = manifest.names()
    now = time.time()
    for name in list_names(directory):
        number = _number(name)
        path = directory / name
        if name in kept or name == "refresh.lock" or (number is not None and number >= manifest.number - 1):
            continue
        try:
            age = now - path.stat().st_mtime
            if name.startswith(_SCRATCH):
                _remove_scratch(path, age)
            elif name.startswith(_YOUNG) and age > KEPT_S:
                shutil.rmtree(path, ignore_errors=True)
            elif number is not None or age > KEPT_S:
                path.unlink()
        except OSError:
            continue  # another process was faster, or it is in use there


@contextlib.contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """Make a directory for what is only needed now; another process removes it if this one dies."""
    # Locked under another name first: a scratch directory that somebody finds has an owner or a dead one.
    young = Path(tempfile.mkdtemp(prefix=_YOUNG, dir=directory))
    path = young.with_name(_SCRATCH + young.name.removeprefix(_YOUNG))
    fd = None
    try:
        with contextlib.suppress(OSError):  # no locks here: then its age decides
            (young / _LOCK).touch()
            fd = lock_file(young / _LOCK)
        young.rename(path)
        yield path
    finally:
        shutil.rmtree(young, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)
        if fd is not None:
            os.close(fd)


def _remove_scratch(path: Path, age_s: float) -> None:
    """Remove a scratch directory whose owner is dead."""
    try:
        fd = lock_file(path / _LOCK)
    except OSError:
        if age_s > ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)
        return
    if fd is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def _sizes(directory: Path) -> dict[str, int]:
    try:
        with os.scandir(directory) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    sizes = {}
    for entry in entries:
        with contextlib.suppress(OSError):  # it has just been removed
            sizes[entry.name] = entry.stat().st_size
    return sizes


def _name(number: int) -> str:
    return f"{_PREFIX}{number:012d}{_SUFFIX}"


def _number(name: str) -> int | None:
    digits = name[len(_PREFIX) : -len(_SUFFIX)]
    is_manifest = name.startswith(_PREFIX) and name.endswith(_SUFFIX) and digits.isdecimal()
    return int(digits) if is_manifest and _name(int(digits)) == name else None
