"""Answers SQL of strangers: in a child process that can read the cache and nothing else.

Each question gets a child of its own (`eventlog.query.jail` describes its walls), so nothing is left of one
when the next is asked. The next child is started while nobody waits for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from eventlog.errors import QueryError
from eventlog.query.convert import pattern, quoted
from eventlog.query.database import ZONED, Database
from eventlog.query.wire import LENGTH, MAX_FRAME_BYTES, Body, End, Head, Message, Question, Ready, Setup

DEFAULT_MEMORY_BYTES = 1 << 30
DEFAULT_TIMEOUT_S = 30.0
START_S = 60.0
"""A child that is not ready by then never will be."""
MAX_RESULT_BYTES = 1 << 30
"""An answer that is larger is refused."""
MAX_SQL_BYTES = 1 << 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from eventlog.query.jail import run; run()"
_T = TypeVar("_T")


class SandboxError(QueryError):
    """A question was stopped: it took too long or too much, or its process is gone."""


class SandboxRows:
    """Rows of an answer, as the child sends them.

    Times with a zone are datetimes in UTC; numbers, texts, booleans, JSON, and lists and maps of these are as
    always; every other type arrives as text.
    """

    def __init__(self, child: _Child, head: Head) -> None:
        self.columns, self.types = head.columns, head.types
        self._child = child
        self._times = [i for i, kind in enumerate(self.types) if kind == ZONED]

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the rows.

        Raises:
            SandboxError: the child was stopped.
            QueryError: DuckDB failed in the middle.
        """
        with self._child as child:
            while True:
                message = child.receive()
                if isinstance(message, End):
                    _raise_if_failed(message)
                    return
                if not isinstance(message, Body):
                    raise SandboxError("The sandbox answered something that is no answer; it was ended.")
                for row in message.rows:
                    yield self._with_times(row)

    def _with_times(self, row: list[object]) -> tuple[object, ...]:
        if len(row) != len(self.columns):
            raise SandboxError("The sandbox answered something that is no answer; it was ended.")
        for i in self._times:
            cell = row[i]
            if isinstance(cell, int):
                with contextlib.suppress(OverflowError):  # an infinite time; it stays a number
                    row[i] = _EPOCH + timedelta(microseconds=cell)
        return tuple(row)


class Sandbox:
    """The tables of a database, for SQL that nobody has read. Any number of threads may ask at once.

    Attributes:
        walls: what the jail of the last question was made of; `eventlog.query.jail` describes them.
    """

    def __init__(
        self,
        database: Database,
        *,
        memory: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        uses_landlock: bool = True,
    ) -> None:
        """Take over *database*: its cache, and what is in its memory.

        Args:
            memory: bytes for each question.
            timeout_s: a question that takes longer is ended.
            uses_landlock: False loads all tables into the child's memory instead; for systems without it.

        Raises:
            QueryError, OSError: no room in the cache for what is new.
        """
        self._timeout_s = timeout_s
        self.problems = database.problems
        self.walls: list[str] = []
        scratch = Path(tempfile.mkdtemp(prefix=".scratch-sandbox-", dir=database.directory))
        self._spare: list[_Child] = []
        self._finalize = weakref.finalize(self, _clean, scratch, self._spare)
        self._lock = threading.Lock()
        # A name that reads as a pattern is found by listing the directories above it, which Landlock forbids.
        is_plain = pattern(database.directory) == quoted(database.directory)
        self._setup = Setup(
            readable=[str(database.directory)],
            statements=database.export(scratch),
            memory_bytes=memory or DEFAULT_MEMORY_BYTES,
            cpu_s=int(timeout_s * 4 + START_S),
            uses_landlock=uses_landlock and is_plain,
        )
        self._spare.append(_Child(self._setup))

    def execute(self, sql: str, parameters: Mapping[str, object] | None = None) -> SandboxRows:
        """Run *sql*, which must be one SELECT.

        Raises:
            SandboxError: it took too long or too much.
            QueryError: it was refused.
        """
        try:
            question = msgspec.msgpack.encode(Question(sql=sql, parameters=dict(parameters or {})))
        except (TypeError, ValueError, OverflowError) as error:
            raise QueryError(f"A parameter cannot go into a sandbox: {error}.") from None
        if len(question) > MAX_SQL_BYTES:
            raise QueryError(f"The question has {len(question):,} bytes; a sandbox takes {MAX_SQL_BYTES:,}.")
        child = self._take()
        try:
            ready = child.expect(Ready, START_S)
            self.walls = ready.walls
            child.send(question)
            head = child.expect(Head, self._timeout_s)
        except BaseException:
            child.close()
            raise
        finally:
            self._start_next()
        return SandboxRows(child, head)

    def relation(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Return None: no connection of this process has the tables."""

    def _take(self) -> _Child:
        with self._lock:
            if not self._finalize.alive:
                raise QueryError("This connection is closed. Open another with eventlog.connect().")
            if self._spare:
                return self._spare.pop()
        return _Child(self._setup)

    def _start_next(self) -> None:
        with self._lock:
            if not self._spare and self._finalize.alive:
                self._spare.append(_Child(self._setup))

    def close(self) -> None:
        """End the waiting child and remove the scratch files; called twice, the second call does nothing."""
        with self._lock:
            self._finalize()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Child:
    """A process for one question, and the deadline of its answer."""

    def __init__(self, setup: Setup) -> None:
        import json

        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _START, json.dumps([p for p in sys.path if p])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Nothing of our surroundings: keys lie there.
            env={"LANG": "C.UTF-8", "PATH": ""},
            cwd="/",
        )
        self._deadline = time.monotonic() + START_S
        self._left = MAX_RESULT_BYTES
        self._buffer = bytearray()
        self._finalize = weakref.finalize(self, _end, self._process)
        with contextlib.suppress(SandboxError):  # `expect` finds out why it is gone
            self.send(msgspec.msgpack.encode(setup))

    def send(self, data: bytes) -> None:
        """Send a message."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(LENGTH.pack(len(data)) + data)
            self._process.stdin.flush()
        except OSError:
            raise self._gone() from None

    def expect(self, kind: type[_T], timeout_s: float) -> _T:
        """Return the next message, which must be of *kind*; begin a new deadline for it and all others."""
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        message = self.receive()
        if isinstance(message, End):
            _raise_if_failed(message)
        if not isinstance(message, kind):
            raise SandboxError("The sandbox answered something that is no answer; it was ended.")
        return message

    def receive(self) -> Message:
        """Return the next message.

        Raises:
            SandboxError: the time is over, the answer too large, or the process gone.
        """
        (length,) = LENGTH.unpack(self._read(LENGTH.size))
        self._left -= length
        if length > MAX_FRAME_BYTES or self._left < 0:
            self.close()
            raise SandboxError(f"The answer is larger than {MAX_RESULT_BYTES >> 20} MiB. Ask for less.")
        try:
            return _decode(self._read(length))
        except (msgspec.MsgspecError, RecursionError) as error:
            self.close()
            raise SandboxError("The sandbox answered something that is no answer; it was ended.") from error

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while len(self._buffer) < size:
            left = self._deadline - time.monotonic()
            ready = left > 0 and select.select([fd], [], [], left)[0]
            if not ready:
                self.close()
                raise SandboxError(f"The question took longer than {self._timeout_s:g} s and was stopped.")
            data = os.read(fd, 1 << 16)
            if not data:
                raise self._gone()
            self._buffer += data
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _gone(self) -> SandboxError:
        with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed below
            self._process.wait(1.0)
        code = self._process.returncode
        self.close()
        return SandboxError(
            f"The question ended its process (code {code}): it wanted more memory or time than it may have. "
            "Ask for less, or give it more."
        )

    def close(self) -> None:
        """Kill the process."""
        self._finalize()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_decode = _decoder.decode


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):  # a pipe that is broken already
                pipe.close()
    process.wait()


def _clean(scratch: Path, spare: list[_Child]) -> None:
    for child in spare:
        child.close()
    spare.clear()
    shutil.rmtree(scratch, ignore_errors=True)


def _raise_if_failed(message: End) -> None:
    if message.error is not None:
        raise QueryError(message.error)
