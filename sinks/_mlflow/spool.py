"""Texts that grow with a run and are stored in MLflow as whole files, kept beside the log until then.

An artifact store cannot append. So lines are gathered in files below the run's state directory, and the
sink's saved state holds their sizes: what lies beyond the saved size was written by a delivery that was
killed, and is cut off when the sink is opened again. So every line stands there once.

Not safe for concurrent use; the pump opens one sink for a run and destination at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import orjson

from eventlog.storage.layout import STATE_DIRECTORY
from eventlog.storage.modes import make_directory, opener


class Spool:
    """Files of JSON lines for one run and destination.

    Attributes:
        sizes: bytes of each file that count.
        lost: files that are shorter than they were when the state was saved: somebody removed them.
    """

    def __init__(self, run: Path, destination: str, generation: int, sizes: Mapping[str, object]) -> None:
        digest = hashlib.sha256(f"{destination}\n{generation}".encode()).hexdigest()[:16]
        self._directory = run / STATE_DIRECTORY / "mlflow" / digest
        self.sizes = {name: cast("int", size) for name, size in sizes.items()}
        self.lost = {name for name, size in self.sizes.items() if self._size(name) < size}
        self._waiting: dict[str, list[bytes]] = {}
        for path in self._directory.glob("*.jsonl"):
            if path.stem not in self.lost:
                os.truncate(path, self.sizes.get(path.stem, 0))

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.jsonl"

    def _size(self, name: str) -> int:
        path = self._path(name)
        return path.stat().st_size if path.exists() else 0

    def add(self, name: str, value: object) -> None:
        """Take one more line for the file *name*; it counts after `keep`."""
        line = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)
        self._waiting.setdefault(name, []).append(line)

    def keep(self) -> set[str]:
        """Bring what was taken to the disk and return the names of the files that grew.

        Raises:
            OSError: the disk is full, for one.
        """
        waiting, self._waiting = self._waiting, {}
        if waiting:
            make_directory(self._directory)
        for name, lines in waiting.items():
            with open(self._path(name), "ab", opener=opener) as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            self.sizes[name] = self._size(name)
        return set(waiting)

    def lines(self, name: str) -> Iterator[object]:
        """Yield what was taken for the file *name*, in order."""
        if not self.sizes.get(name) or name in self.lost:
            return
        with self._path(name).open("rb") as file:
            for line in file:
                yield orjson.loads(line)
