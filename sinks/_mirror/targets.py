"""Where the `mirror` sink copies to: a directory, or whatever fsspec reaches by URL.

A `put` is whole or not there: a file is written under another name, synced, read back and renamed; an
object store shows an object when all of it has arrived, and what it holds is read back after that.

Not safe for concurrent use.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from eventlog.errors import EvlogError, SinkUnavailableError
from eventlog.storage.modes import mode_for, opener
from eventlog.storage.system import SYSTEM, System, write_all

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

CHUNK_BYTES = 1 << 20
# Up to here an object goes in one request from memory; the parts of a larger one are read from its file.
IN_MEMORY_BYTES = 64 << 20
YOUNG = ".evlog/mirror-young"

# There a put is atomic. Elsewhere (sftp, hdfs, …) the copy gets its name when it is whole.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "obs", "r2"})
_PACKAGES_OF_NETWORKS = frozenset(
    {"aiobotocore", "aiohttp", "azure", "botocore", "google", "http", "paramiko", "requests", "urllib3"}
)


# What a name or a setting causes, and no waiting cures.
_FOR_EVER = frozenset({errno.EINVAL, errno.EMSGSIZE, errno.ENAMETOOLONG, errno.ENOSYS})


class ChangedError(EvlogError):
    """What arrived is not what was to be copied: the source changed meanwhile, or the copy is bad."""


class Held(NamedTuple):
    """A file as a target's listing shows it; another *mark* means that somebody wrote it anew."""

    size_bytes: int
    mark: str


class Content:
    """The first *size_bytes* of a file, with *head* in place of its first bytes; read twice at most.

    Attributes:
        sha256: of all of it, as it was when it was first read.
    """

    def __init__(self, path: Path, size_bytes: int, head: bytes = b"") -> None:
        self.path, self.size_bytes, self._head = path, size_bytes, head
        self._data = b"".join(self._read()) if size_bytes <= IN_MEMORY_BYTES else None
        self.sha256 = self.hash_of(size_bytes)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes."""
        if self._data is None:
            yield from self._read()
        else:
            yield self._data

    def _read(self) -> Iterator[bytes]:
        yield self._head[: self.size_bytes]
        left = self.size_bytes - len(self._head)
        if left <= 0:
            return
        with open(self.path, "rb", opener=opener) as file:
            file.seek(len(self._head))
            while left > 0 and (chunk := file.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk

    def hash_of(self, size_bytes: int) -> str:
        """Return the SHA-256 of the first *size_bytes*."""
        digest, left = hashlib.sha256(), size_bytes
        for chunk in self.chunks():
            digest.update(memoryview(chunk)[: max(0, left)])
            left -= len(chunk)
        return digest.hexdigest()

    @property
    def is_whole_file(self) -> bool:
        """Tell whether it is all of the file, as it lies."""
        return not self._head and self.path.stat().st_size == self.size_bytes


class Target(Protocol):
    """A tree of files, by paths relative to it."""

    def list(self, directory: str) -> dict[str, Held]:
        """Return the files below *directory* by their paths relative to it."""

    def put(self, path: str, content: Content, *, is_final: bool = False) -> Held:
        """Copy *content* to *path* and read it back.

        Args:
            is_final: it will never change.

        Raises:
            ChangedError: what arrived is something else.
            SinkUnavailableError: the target cannot be reached, or has no room, now.
        """

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield what *path* holds.

        Raises:
            FileNotFoundError: there is nothing.
        """

    def clear_young(self, run: str) -> None:
        """Remove what a killed copy into *run* has left."""


def sha256_of(chunks: Iterable[bytes]) -> str:
    """Return the SHA-256 of all *chunks*."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def is_url(to: str) -> bool:
    """Tell a URL (``s3://bucket/runs``) from a directory."""
    return "://" in to or "::" in to


def without_secrets(url: str) -> str:
    """Return *url* without passwords, query and fragment; a bare user stays, for Azure's is a container."""
    return "::".join(_plain(part) for part in url.split("::"))


def _plain(url: str) -> str:
    if "://" not in url:
        return url.partition("?")[0]
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if ":" in user or parts.scheme in {"http", "https"}:
        user = at = ""
    return urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path.rstrip("/"), "", ""))


# --- a directory --------------------------------------------------------------------------------


class DirectoryTarget:
    """A directory of this machine's file systems."""

    def __init__(self, root: Path, system: System = SYSTEM) -> None:
        self.root, self._system = root, system

    def list(self, directory: str) -> dict[str, Held]:
        """Return the files below *directory* by their paths relative to it."""
        start, found = self.root / directory, {}
        for folder, _, names in os.walk(start):
            for name in names:
                path = Path(folder) / name
                found[path.relative_to(start).as_posix()] = self._held(path)
        return found

    def put(self, path: str, content: Content, *, is_final: bool = False) -> Held:
        """Copy *content* to *path* and read it back before it gets its name."""
        final = self.root / path
        young = self.root.joinpath(*Path(path).parts[:2], YOUNG, os.urandom(8).hex())
        with _directory_errors(self.root):
            self._make(young.parent)
            self._make(final.parent)
            self._write(young, content)
            if sha256_of(_read(young)) != content.sha256:
                self._system.unlink(young)
                raise ChangedError(f"{content.path} changed while it was copied to {final}")
            if is_final:
                self._system.make_read_only(young)
            held = self._held(young)
            self._system.rename(young, final)
            # Sync the directory too: after a power cut the new name may be lost although the file is not.
            self._system.sync_directory(final.parent)
        return held

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield what *path* holds."""
        return _read(self.root / path)

    def clear_young(self, run: str) -> None:
        """Remove what a killed copy into *run* has left."""
        with _directory_errors(self.root):
            for left in (self.root / run / YOUNG).glob("*"):
                self._system.unlink(left)

    def _write(self, young: Path, content: Content) -> None:
        fd = self._system.create(young)
        try:
            for chunk in content.chunks():
                write_all(self._system, fd, chunk)
            self._system.sync(fd)
        finally:
            self._system.close(fd)

    def _make(self, directory: Path) -> None:
        """Make *directory* and what is missing above it, each name on the disk."""
        if directory.is_dir():
            return
        if directory != directory.parent:
            self._make(directory.parent)
        directory.mkdir(mode_for(directory, 0o777), exist_ok=True)
        self._system.sync_directory(directory.parent)

    @staticmethod
    def _held(path: Path) -> Held:
        found = path.lstat()
        return Held(found.st_size, str(found.st_mtime_ns))


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def _directory_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise EvlogError(
            f"{root} cannot take the mirror ({error}). Choose a directory that you may write to."
        ) from error
    except OSError as error:
        if error.errno in _FOR_EVER:
            raise
        raise SinkUnavailableError(f"{root} cannot be written now: {error}") from error


# --- whatever fsspec reaches ---------------------------------------------------------------------


class StoreTarget:
    """A tree in an object store, or in another file system of fsspec."""

    def __init__(self, url: str, options: Mapping[str, object]) -> None:
        from fsspec.core import url_to_fs

        self._name = without_secrets(url)
        settings: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True, **options}
        if url.startswith(("s3://", "s3a://")):
            settings.setdefault("config_kwargs", {"retries": {"max_attempts": 1}, "connect_timeout": 10})
        filesystem, root = url_to_fs(url, **settings)
        self.filesystem: AbstractFileSystem = filesystem
        # s3fs tries five times what botocore has tried five times; the pump waits better than both.
        filesystem.retries = 1
        self._root = str(root).rstrip("/")
        kinds = filesystem.protocol
        self._is_object_store = not _OBJECT_STORES.isdisjoint([kinds] if isinstance(kinds, str) else kinds)

    def list(self, directory: str) -> dict[str, Held]:
        """Return the files below *directory* by their paths relative to it."""
        start = f"{self._root}/{directory}/"
        with self._errors():
            try:
                found = self.filesystem.find(start.rstrip("/"), detail=True)
            except FileNotFoundError:
                self._require_bucket()
                return {}
        names = {self.filesystem._strip_protocol(name): info for name, info in found.items()}
        return {name[len(start) :]: _held(info) for name, info in names.items() if name.startswith(start)}

    def _require_bucket(self) -> None:
        """Raise FileNotFoundError if there is no bucket; a path that is not there is no error."""
        if self._is_object_store:
            self.filesystem.ls(self._root.partition("/")[0])

    def put(self, path: str, content: Content, *, is_final: bool = False) -> Held:  # noqa: ARG002 - no such mark
        """Copy *content* to *path* and read it back."""
        final = f"{self._root}/{path}"
        with self._errors():
            if self._is_object_store:
                self._send(final, content)
                self._check(final, content)
            else:
                run = "/".join(path.split("/")[:2])
                young = f"{self._root}/{run}/{YOUNG}/{os.urandom(8).hex()}"
                for made in (young, final):
                    self.filesystem.makedirs(made.rpartition("/")[0], exist_ok=True)
                self._send(young, content)
                self._check(young, content)
                self.filesystem.mv(young, final)
            return _held(self.filesystem.info(final))

    def _send(self, name: str, content: Content) -> None:
        # Never `open(…, "wb")`: leaving its block by an exception completes the upload of what came so far.
        if content.size_bytes > IN_MEMORY_BYTES and content.is_whole_file:
            self.filesystem.put_file(str(content.path), name)
        else:
            self.filesystem.pipe_file(name, b"".join(content.chunks()))

    def _check(self, name: str, content: Content) -> None:
        if sha256_of(self._chunks(name)) != content.sha256:
            raise ChangedError(f"{content.path} changed while it was copied to {self._name}")

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield what *path* holds."""
        with self._errors():
            yield from self._chunks(f"{self._root}/{path}")

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self.filesystem.open(name, "rb", block_size=8 * CHUNK_BYTES) as file:
            while chunk := file.read(8 * CHUNK_BYTES):
                yield chunk

    def clear_young(self, run: str) -> None:
        """Remove what a killed copy into *run* has left."""
        if self._is_object_store:
            return
        with self._errors():
            young = f"{self._root}/{run}/{YOUNG}"
            if self.filesystem.exists(young):
                self.filesystem.rm(young, recursive=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say what happened: not there, not allowed, or not now."""
        try:
            yield
        except (EvlogError, ImportError):
            raise
        except FileNotFoundError as error:
            raise EvlogError(
                f"{self._name} is not there ({error}). Create the bucket, or name another with --option to=…"
            ) from error
        except Exception as error:
            if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
                raise EvlogError(
                    f"{self._name} may not be used ({error}). Set the credentials of the store in the "
                    "environment (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE), "
                    "with the right to list, read and write there."
                ) from error
            if not _may_pass(error):
                raise
            raise SinkUnavailableError(f"{self._name} cannot be reached now: {error}") from error


def _held(info: Mapping[str, Any]) -> Held:
    marks = (info.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created"))
    return Held(int(info["size"]), next((str(mark) for mark in marks if mark), ""))


def _may_pass(error: Exception) -> bool:
    """Tell whether the same request may go through later."""
    if isinstance(error, OSError):
        return error.errno not in _FOR_EVER
    if any(word in type(error).__name__ for word in ("Invalid", "Profile", "Region", "Validation")):
        return False  # a setting: no request was made
    return any(kind.__module__.partition(".")[0] in _PACKAGES_OF_NETWORKS for kind in type(error).__mro__)
