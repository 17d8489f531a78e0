"""Copies of logged files, hashed while they are copied, whole under their final names or not there.

Never follows a symbolic link out of the directory that it copies. Thread-safe, also between processes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import msgspec

from eventlog.errors import BadValueError
from eventlog.events import AnyEvent, FileEntry, PayloadRef, UnknownEvent
from eventlog.storage.files import make_directories, opened, read_from
from eventlog.storage.layout import ARTIFACTS_DIRECTORY
from eventlog.storage.system import SYSTEM, System, replace_file, write_all

CHUNK_BYTES = 1 << 20
PAYLOADS = "payloads"


class Stored(NamedTuple):
    """A file or directory that was hashed and, unless by reference, copied to *path* below the run."""

    path: str
    size_bytes: int
    sha256: str
    files: list[FileEntry]
    skipped: list[str]


def store(run: Path, source: Path, name: str, version: int, system: System = SYSTEM) -> Stored:
    """Copy *source* (a file, or a directory with all that is below it) into the run.

    Args:
        name: checked by the caller; may hold ``/``.
        version: from 1; a later version lies beside the first as ``name.v2.ext``.

    Raises:
        OSError: *source* cannot be read or the copy cannot be written; nothing is left behind.
        BadValueError: *source* is neither a file nor a directory.
    """
    artifacts = run / ARTIFACTS_DIRECTORY
    final = artifacts / _versioned(name, version)
    _refuse_links(run, final.parent)
    above = make_directories(final.parent, system)
    young = final.parent / f".young-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        if source.is_dir():
            files, skipped = _copy_tree(source, young, system)
            stored = _of_directory(files, skipped)
        else:
            size, sha256 = _copy_file(source, young, system, follows_link=True)
            stored = Stored("", size, sha256, [], [])
        final = _place(young, final, system)
    except BaseException:
        import shutil  # here and below, not above: it brings in five compressors, 2 ms of each start

        shutil.rmtree(young) if young.is_dir() else young.unlink(missing_ok=True)
        raise
    for directory in (final.parent, *above):
        system.sync_directory(directory)
    return stored._replace(path=final.relative_to(run).as_posix())


def describe(source: Path) -> Stored:
    """Return size and hash of *source* where it lies, for an artifact by reference.

    Raises:
        OSError: it cannot be read.
        BadValueError: it is neither a file nor a directory.
    """
    if not source.is_dir():
        size, sha256 = _hash_file(source, follows_link=True)
        return Stored(str(source), size, sha256, [], [])
    files, skipped = [], []
    for relative, path in _walk(source):
        if path is None:
            skipped.append(relative)
            continue
        size, sha256 = _hash_file(path)
        files.append(FileEntry(path=relative, size_bytes=size, sha256=sha256))
    return _of_directory(files, skipped)._replace(path=str(source))


def spill(run: Path, kind: str, payload: bytes, system: System = SYSTEM) -> PayloadRef:
    """Write the fields of an event that is too large for a line; the same payload is written once."""
    digest = hashlib.sha256(payload).hexdigest()
    directory = run / ARTIFACTS_DIRECTORY / PAYLOADS
    _refuse_links(run, directory)
    above = make_directories(directory, system)
    path = directory / f"{kind}-{digest[:20]}.json"
    if _is_there(path, len(payload), system):
        above.append(directory)  # who made it may have been killed before the name was on the disk
    else:
        replace_file(path, payload, system)
    for changed in above:
        system.sync_directory(changed)
    return PayloadRef(path=path.relative_to(run).as_posix(), size_bytes=len(payload), sha256=digest)


def load_payload(run: Path, reference: PayloadRef, system: System = SYSTEM) -> bytes:
    """Return a payload that `spill` wrote.

    Raises:
        OSError: it cannot be read.
        BadValueError: it is not what was written, or lies outside of the run.
    """
    path = run / PurePosixPath(reference.path)
    try:
        is_inside = path.resolve().is_relative_to(run.resolve())
    except (ValueError, RuntimeError):  # a NUL byte, a circle of links: logs may come from anybody
        is_inside = False
    if not is_inside:
        raise BadValueError(reference.path, "payload", "it lies outside of the run")
    # In pieces first: what is not what was written may be larger than memory.
    digest, offset = hashlib.sha256(), 0
    with opened(path, system) as fd:
        while part := system.read(fd, CHUNK_BYTES, offset):
            digest.update(part)
            offset += len(part)
            if offset > reference.size_bytes:
                break
        if digest.hexdigest() != reference.sha256 or offset != reference.size_bytes:
            raise BadValueError(reference.path, "payload", "its content has changed")
        return read_from(fd, system, at_most=offset)


def resolve(run: Path, event: AnyEvent, system: System = SYSTEM) -> AnyEvent:
    """Return *event* with the fields that lie in a payload file, or as it is if it has none.

    Raises:
        OSError, BadValueError, msgspec.MsgspecError: the payload is not there or not what was written.
    """
    if isinstance(event, UnknownEvent) or event.payload is None:
        return event
    whole = msgspec.json.decode(load_payload(run, event.payload, system), type=type(event))
    return msgspec.structs.replace(whole, seq=event.seq, ts=event.ts)


def _refuse_links(run: Path, directory: Path) -> None:
    """Refuse to write into *directory* of *run* where a link leads out of the run."""
    if not directory.resolve().is_relative_to(run.resolve()):
        raise OSError(errno.ELOOP, "a link there leads out of the run", str(directory))


def _is_there(path: Path, size_bytes: int, system: System) -> bool:
    """Tell whether *path* is whole already; one of another size is what a power cut left."""
    try:
        return system.stat(path).size_bytes == size_bytes
    except FileNotFoundError:
        return False


def _versioned(name: str, version: int) -> str:
    if version == 1:
        return name
    path = PurePosixPath(name)
    return str(path.with_name(f"{path.stem}.v{version}{path.suffix}"))


def _place(young: Path, final: Path, system: System) -> Path:
    """Give *young* the name *final*, or a similar one that nobody has; never replace anything."""
    for attempt in range(1000):
        target = final if attempt == 0 else final.with_name(f"{final.stem}-{attempt}{final.suffix}")
        try:
            if young.is_dir():
                # It claims the name; a rename then replaces the empty directory.
                if not system.make_directory(target):
                    continue
                system.rename(young, target)
            else:
                system.link(young, target)
                system.unlink(young)
        except FileExistsError:
            continue
        except OSError:
            if target.exists() or young.is_dir():
                raise
            system.rename(young, target)  # a file system without hard links
        return target
    raise FileExistsError(f"{final}: a thousand artifacts have this name")


def _copy_file(source: Path, target: Path, system: System, *, follows_link: bool = False) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with _open_regular(source, follows_link=follows_link) as reading:
        about = os.fstat(reading.fileno())
        fd = system.create(target)
        try:
            while chunk := reading.read(CHUNK_BYTES):
                digest.update(chunk)
                write_all(system, fd, chunk)
                size += len(chunk)
            system.sync(fd)
        finally:
            system.close(fd)
    with contextlib.suppress(OSError):
        made = target.stat().st_mode
        # As `cp` does: what the source allows, cut by the umask; no other rights, flags or attributes.
        target.chmod(stat.S_IMODE(about.st_mode & (made | (made & 0o444) >> 2)) | stat.S_IRUSR)
        os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))
    return size, digest.hexdigest()


def _open_regular(source: Path, *, follows_link: bool) -> BinaryIO:
    """Open what was looked at: a link or a pipe that was put in its place meanwhile is refused."""
    file = open(source, "rb", opener=_open_followed if follows_link else _open_itself)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BadValueError(str(source), "artifact", "it is neither a file nor a directory")
    return file


def _open_followed(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # of a pipe, or it would never return


def _open_itself(path: str, flags: int) -> int:
    return _open_followed(path, flags | getattr(os, "O_NOFOLLOW", 0))


def _hash_file(source: Path, *, follows_link: bool = False) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with _open_regular(source, follows_link=follows_link) as reading:
        while chunk := reading.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def _copy_tree(source: Path, target: Path, system: System) -> tuple[list[FileEntry], list[str]]:
    system.make_directory(target)
    files, skipped = [], []
    directories = {target}
    for relative, path in _walk(source):
        if path is None:
            skipped.append(relative)
            continue
        copy = target / relative
        directories.update(make_directories(copy.parent, system), [copy.parent])
        size, sha256 = _copy_file(path, copy, system)
        files.append(FileEntry(path=relative, size_bytes=size, sha256=sha256))
    for directory in directories:
        system.sync_directory(directory)
    return files, skipped


def _walk(source: Path) -> Iterator[tuple[str, Path | None]]:
    """Yield the files below *source*, sorted; None in place of what is not a file or leads out of it."""
    root = source.resolve()
    found: list[tuple[str, Path | None]] = []
    for directory, names, files in os.walk(source):
        names.sort()
        links = [name for name in names if (Path(directory) / name).is_symlink()]
        for name in files + links:
            path = Path(directory) / name
            relative = path.relative_to(source).as_posix()
            real = path.resolve()
            is_good = real.is_relative_to(root) and real.is_file()
            found.append((relative, real if is_good else None))
    yield from sorted(found, key=lambda item: item[0])


def _of_directory(files: list[FileEntry], skipped: list[str]) -> Stored:
    listing = "".join(f"{entry.sha256}  {entry.path}\n" for entry in files)
    digest = hashlib.sha256(listing.encode()).hexdigest()
    return Stored("", sum(entry.size_bytes for entry in files), digest, files, skipped)
