"""Where a lake lies: a directory, or an object store that `deltalake` and `obstore` know.

Files appear whole: in a directory by rename, in an object store because it shows nothing before all is there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

from eventlog.errors import EvlogError
from eventlog.lake.errors import INSTALL, LakeError, LakePackageError, lake_errors, reason_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_S3 = ("s3", "s3a")
_OF_CLIENT = frozenset(
    [
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "proxy_url",
        "randomize_addresses",
        "timeout",
        "user_agent",
    ]
)
_OF_DELTA = ("conditional_put", "copy_if_not_exists", "s3_", "force_", "dynamo")
PATIENCE = {"max_retries": "4", "retry_timeout": "60s", "connect_timeout": "10s", "timeout": "120s"}
"""How long an object store is tried before the command says that it cannot be reached."""


class BadLakeOptionError(EvlogError, ValueError):
    """An option of the lake's store that cannot be used."""


class Entry(NamedTuple):
    """A file of the lake. *name* is its path below the lake, *time* the store's."""

    name: str
    size_bytes: int
    time: datetime


class Place:
    """The files of one lake.

    Args:
        url: a directory, or a URL such as ``s3://bucket/lake``.
        options: of the store, as `deltalake` names them; AWS_* of the environment count too.

    Attributes:
        directory: where it lies, if that is on a file system.
        options: for `deltalake`.
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.directory = _directory(url)
        self.options = dict(options or {})
        if self.directory is None:
            self.options = _complete(url, self.options)
            self._remote = _store(url, self.options)
        elif self.options:
            raise BadLakeOptionError(f"{url} is a directory and takes no options: {', '.join(self.options)}")

    def uri(self, table: str) -> str:
        """Return where `deltalake` finds a table."""
        if self.directory is not None:
            return str(self.directory / table)
        return f"{self.url.rstrip('/')}/{table}"

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            OSError: it cannot be made.
        """
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)

    def read(self, name: str) -> bytes:
        """Return a file.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.directory is not None:
            return (self.directory / name).read_bytes()
        return bytes(self._remote.get(name).bytes())

    def write(self, name: str, data: bytes) -> None:
        """Make or replace a small file."""
        if self.directory is None:
            self._remote.put(name, data)
            return
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        young = path.with_name(f".{path.name}.tmp")
        young.write_bytes(data)
        young.replace(path)

    def scratch_for(self, name: str, scratch: Path) -> Path:
        """Return where to write what `keep` is to make the file *name*: beside it, or in *scratch*."""
        if self.directory is None:
            return scratch / name.rpartition("/")[2]
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.with_name(f".{path.name}.tmp")  # a dot: engines that read directories pass it over

    def keep(self, young: Path, name: str) -> None:
        """Make what lies at *young* the file *name*, for good."""
        if self.directory is None:
            self._remote.put(name, young)
            young.unlink()
            return
        path = self.directory / name
        with young.open("rb") as file:
            os.fsync(file.fileno())
        young.replace(path)
        _sync_directory(path.parent)

    def local(self, name: str, scratch: Path) -> Path:
        """Return a path to a file on this machine, fetched to *scratch* if need be.

        Raises:
            FileNotFoundError: there is none.
        """
        if self.directory is not None:
            path = self.directory / name
            path.stat()
            return path
        path = scratch / f"fetched-{os.urandom(8).hex()}.parquet"
        with path.open("wb") as file:
            for chunk in self._remote.get(name).stream():
                file.write(chunk)
        return path

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield all files below *prefix*, young ones included."""
        if self.directory is None:
            for found in self._remote.list(prefix):
                yield from (Entry(one["path"], one["size"], one["last_modified"]) for one in found)
            return
        for parent, _, names in os.walk(self.directory / prefix):
            for name in names:
                path = Path(parent, name)
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                yield Entry(
                    path.relative_to(self.directory).as_posix(),
                    status.st_size,
                    datetime.fromtimestamp(status.st_mtime, UTC),
                )

    def delete(self, names: Sequence[str]) -> None:
        """Remove files; those that are not there are no error."""
        for name in names:
            try:
                if self.directory is not None:
                    (self.directory / name).unlink()
                else:
                    self._remote.delete(name)
            except FileNotFoundError:
                continue


def _directory(url: str) -> Path | None:
    if url.startswith("file://"):
        return Path(unquote(urlsplit(url).path))
    if _SCHEME.match(url):
        return None
    return Path(url).expanduser().resolve()


def _complete(url: str, options: dict[str, str]) -> dict[str, str]:
    """Add what is not said: patience, and for S3 what makes commits safe."""
    named = {_plain(key): value for key, value in options.items()}
    options |= {key: value for key, value in PATIENCE.items() if key not in named}
    if urlsplit(url).scheme in _S3:
        endpoint = (
            named.get("endpoint_url") or named.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "")
        )
        if endpoint.startswith("http://") and "allow_http" not in named:
            options["AWS_ALLOW_HTTP"] = "true"
        if not any("conditional_put" in key or "locking" in key for key in named):
            # A commit is a file that must not exist yet: the store itself refuses the second.
            options["conditional_put"] = "etag"
    return options


def _plain(key: str) -> str:
    return key.lower().removeprefix("aws_")


def _store(url: str, options: Mapping[str, str]) -> ObjectStore:
    """Return `obstore`'s view of what `deltalake` is given *options* for."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise LakePackageError("obstore", INSTALL) from error
    is_s3 = urlsplit(url).scheme in _S3
    config: dict[str, Any] = {}
    client: dict[str, Any] = {}
    retry: dict[str, Any] = {}
    for key, value in options.items():
        plain = _plain(key)
        if plain in _OF_CLIENT:
            client[plain] = value
        elif plain == "max_retries":
            retry[plain] = int(value)
        elif plain == "retry_timeout":
            retry[plain] = timedelta(seconds=float(value.removesuffix("s")))
        elif not plain.startswith(_OF_DELTA):
            config[f"aws_{plain}" if is_s3 else key.lower()] = value
    more: dict[str, Any] = {}
    if is_s3 and not any("access_key_id" in key or "skip_signature" in key for key in config):
        more = _profile()
    with lake_errors(url):
        try:
            make = cast("Callable[..., ObjectStore]", from_url)
            return make(url, config=config, client_options=client, retry_config=retry, **more)
        except Exception as error:
            raise LakeError(url, reason_of(error)) from error
        except BaseException as error:  # a panic of the library under it, which is no Exception
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            raise BadLakeOptionError(f"{url}: an option is not known: {', '.join(config)}") from error


def _profile() -> dict[str, Any]:
    """Return a way to the credentials of AWS_PROFILE and the like, if they are not in the environment."""
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    try:
        from boto3 import Session
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return {}
    session = Session()
    return {"credential_provider": Boto3CredentialProvider(session)} if session.get_credentials() else {}


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
