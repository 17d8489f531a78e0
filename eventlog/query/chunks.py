"""Converts chunks on a thread of its own, so that the next one is verified meanwhile."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from eventlog.query import convert
from eventlog.query.catalog import DataFile
from eventlog.query.gather import Gathering

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Converter:
    """Converts one chunk after the other. Not safe for several threads.

    Args:
        take: called with the files of each chunk, by table.
    """

    def __init__(
        self, connection: DuckDBPyConnection, directory: Path, take: Callable[[dict[str, DataFile]], None]
    ) -> None:
        self._connection = connection.cursor()
        self._directory, self._take = directory, take
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Converter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._join(is_quiet=kind is not None)
        finally:
            self._connection.close()

    def put(self, chunk: Gathering) -> None:
        """Begin with *chunk* when the one before is done.

        Raises:
            Exception: what went wrong with the one before.
        """
        chunk.close()
        self._join()
        self._thread = threading.Thread(target=self._convert, args=(chunk,), name="evlog-convert")
        self._thread.start()

    def _join(self, *, is_quiet: bool = False) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None and not is_quiet:
            raise error

    def _convert(self, chunk: Gathering) -> None:
        try:
            tables = convert.load(self._connection, chunk, "chunk", is_for_files=True)
            self._take(convert.write(self._connection, self._directory, "chunk", tables))
            convert.drop(self._connection, "chunk", tables)
            shutil.rmtree(chunk.directory, ignore_errors=True)
        except BaseException as error:  # it is raised again where somebody waits
            self._error = error
