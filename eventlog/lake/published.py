"""What was published from a root to which lakes: a note for each, beside the cache.

It says what `--prune` may take out, and which lake is meant where none is named. It may be lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from hashlib import sha256
from pathlib import Path

import msgspec

from eventlog.lake.errors import LakeError
from eventlog.lake.local import RunKey
from eventlog.query.catalog import cache_directory


class _Noted(msgspec.Struct):
    url: str
    runs: list[tuple[str, str]]


class Note:
    """The runs that were published from here to one lake. If it is lost, nothing is pruned."""

    def __init__(self, root: Path, url: str) -> None:
        name = sha256(url.rstrip("/").encode()).hexdigest()[:16]
        self._url, self._path = url, _directory(root) / f"{name}.json"

    def runs(self) -> set[RunKey]:
        """Return them."""
        noted = _read(self._path)
        return {(project, run_id) for project, run_id in noted.runs} if noted else set()

    def add(self, runs: Iterable[RunKey]) -> None:
        """Note that *runs* are about to be published."""
        before = self.runs()
        if not set(runs) <= before or not before:
            self._write(before | set(runs))

    def forget(self, runs: Collection[RunKey]) -> None:
        """Note that *runs* are not there any more."""
        self._write(self.runs() - set(runs))

    def _write(self, runs: set[RunKey]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        young = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        young.write_bytes(msgspec.json.encode(_Noted(self._url, sorted(runs))))
        young.replace(self._path)


def lake_of(root: Path) -> str:
    """Return the one lake that was published to from *root*.

    Raises:
        LakeError: there is none, or several.
    """
    noted = [_read(path) for path in sorted(_directory(root).glob("*.json"))]
    urls = [one.url for one in noted if one is not None]
    if len(urls) == 1:
        return urls[0]
    if not urls:
        raise LakeError(
            str(root), "nothing was published from here. `evlog publish URL` first, or say --lake URL"
        )
    raise LakeError(str(root), f"several lakes were published from here: {', '.join(urls)}. Say --lake URL")


def _directory(root: Path) -> Path:
    cache = cache_directory(root)
    return cache.with_name(f"{cache.name}-lakes")


def _read(path: Path) -> _Noted | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=_Noted)
    return None
