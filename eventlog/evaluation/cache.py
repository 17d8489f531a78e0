"""Answers that were paid for once: a SQLite file, by the hash of model, parameters and prompt.

Several processes may use one file at once. It may be deleted at any time; when it cannot be used, that costs
a warning and the answers are asked for again. The file has to lie on a local disk, as SQLite's write-ahead
log does not work over a network.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import orjson

from eventlog.errors import warn_once
from eventlog.evaluation.model import Answer, Model, Prompt
from eventlog.storage.layout import STATE_DIRECTORY
from eventlog.values import to_json

NAME = "answers.sqlite"
_MANY = 500
"""Keys in one question: below the number of parameters that every SQLite takes."""


def cache_path(root: Path) -> Path:
    """Return where answers for the runs below *root* are kept, unless another place is named."""
    return root / STATE_DIRECTORY / NAME


class AnswerCache:
    """Answers by key. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The evaluation may go on in a thread of its own, which is then the only one.
            connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer BLOB)")
            self._connection = connection
        except (sqlite3.Error, OSError) as error:
            self._complain(error)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """Return the answers that are there."""
        found: dict[bytes, Answer] = {}
        if self._connection is None:
            return found
        try:
            for start in range(0, len(keys), _MANY):
                some = keys[start : start + _MANY]
                marks = ",".join("?" * len(some))
                rows = self._connection.execute(
                    f"SELECT key, answer FROM answers WHERE key IN ({marks})",
                    some,
                )
                found |= {key: msgspec.json.decode(answer, type=Answer) for key, answer in rows}
        except (sqlite3.Error, msgspec.MsgspecError) as error:
            self._complain(error)
        return found

    def put(self, answers: Mapping[bytes, Answer]) -> None:
        """Keep *answers*; of a key that is there already the first answer stays."""
        if self._connection is None or not answers:
            return
        rows = [(key, msgspec.json.encode(answer)) for key, answer in answers.items()]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._complain(error)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _complain(self, error: Exception) -> None:
        self.close()
        warn_once(
            f"answers {self.path}",
            f"the cache of answers {self.path} cannot be used ({error}). The evaluation goes on without it; "
            "delete the file to begin a new one.",
        )


def key_of(model: Model, prompt: Prompt) -> bytes:
    """Return what an answer is found by: a hash of the model's name, its parameters and the prompt."""
    whole = [model.name, to_json(dict(model.parameters)), to_json(prompt)]
    return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).digest()
