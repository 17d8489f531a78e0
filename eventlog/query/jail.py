"""The child process in which SQL of strangers runs. It answers one question and ends.

The walls, from outside to inside, put up before DuckDB starts its threads (they inherit them):

- a network name space without a network, where the system lets us make one;
- Landlock (Linux 5.13): of all files only the cache can be opened, and only for reading; no program can be
  started, no TCP connection made, nothing outside signalled;
- limits of the process: memory, processor time, no file may grow, no core dump;
- DuckDB's own settings: no external access except to the cache, no extensions, locked; and the question
  must be one SELECT, run in a read-only transaction.

Where there is no Landlock, DuckDB's settings cannot keep a SELECT from writing into the cache (with DuckDB 2
it may contain a COPY). There the tables are loaded into memory first, and no directory is allowed at all.

Whoever started this process also ends it, by SIGKILL, when its time is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from eventlog.query.wire import LENGTH, MAX_FRAME_BYTES, Body, End, Head, Message, Question, Ready, Setup

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ROWS_AT_ONCE = 512
ROOM_BYTES = 1 << 30
"""Address space beside DuckDB's memory: code, stacks and the interpreter."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""How many kinds of access to files each version of Landlock can forbid."""
_TCP_RIGHTS, _SCOPES = 0b11, 0b11
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


# --- walls of the operating system ------------------------------------


def wall_in(setup: Setup) -> list[str]:
    """Take all rights away from this process that a question does not need; return what did that.

    Must be called before there is a second thread: each would keep its rights.
    """
    walls: list[str] = []
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
        if _without_network(libc):
            walls.append("network")
        if setup.uses_landlock and _threads() == 1 and _landlock(libc, setup.readable):
            walls.append("landlock")
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _limit(setup)
    return [*walls, "limits"]


def _without_network(libc: ctypes.CDLL) -> bool:
    # Root makes the one at once; everybody else needs a name space of users around it.
    return any(libc.unshare(flags) == 0 for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET))


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - only their number is wanted


def _landlock(libc: ctypes.CDLL, readable: list[str]) -> bool:
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    rules = _RulesetAttr(
        (1 << _FILE_RIGHTS.get(version, 16)) - 1,
        _TCP_RIGHTS if version >= 4 else 0,
        _SCOPES if version >= 6 else 0,
    )
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    for name in readable:
        fd = os.open(name, getattr(os, "O_PATH", 0) | getattr(os, "O_CLOEXEC", 0))
        path = _PathAttr(_READ_FILE | _READ_DIR, fd)
        added = libc.syscall(_LANDLOCK_ADD, ruleset, 1, ctypes.byref(path), ctypes.c_uint32(0))
        os.close(fd)
        if added != 0:
            return False
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = libc.syscall(_LANDLOCK_RESTRICT, ruleset, ctypes.c_uint32(0))
    os.close(ruleset)
    return bool(done == 0)


def _limit(setup: Setup) -> None:
    if sys.platform == "win32":
        raise RuntimeError("there are no limits of processes here that could hold a question back")
    import resource

    wanted = {
        resource.RLIMIT_AS: setup.memory_bytes + ROOM_BYTES,
        resource.RLIMIT_CPU: setup.cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for what, limit in wanted.items():
        with contextlib.suppress(ValueError, OSError):  # the limit is lower here, or there is none
            resource.setrlimit(what, (limit, limit))


# --- the database ------------------------------------


def open_database(setup: Setup) -> DuckDBPyConnection:
    """Return an empty database that has no thread yet."""
    import duckdb

    # The first version opens a database when it is imported, and with it a thread that no wall would hold.
    duckdb.default_connection().close()
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "memory_limit": f"{setup.memory_bytes // 1024}KiB",
        "temp_directory": "",
        "python_enable_replacements": "false",
        "threads": "1",
    }
    if not duckdb.__version__.startswith("1."):
        config["async_threads"] = "0"
    return duckdb.connect(":memory:", config=config)


def make_tables(connection: DuckDBPyConnection, setup: Setup, *, is_walled: bool) -> None:
    """Make the tables, and close every way out of the database."""
    connection.execute(f"SET threads = {min(4, os.cpu_count() or 1)}")
    connection.execute("SET TimeZone = 'UTC'")
    for statement in setup.statements:
        # Without Landlock, what reads files becomes a table in memory.
        reads = not is_walled and "read_parquet(" in statement
        connection.execute(statement.replace(" VIEW ", " TABLE ", 1) if reads else statement)
    if is_walled:
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in setup.readable)
        connection.execute(f"SET allowed_directories = [{names}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def refusal(connection: DuckDBPyConnection, sql: str) -> str | None:
    """Return why *sql* is not run at all, None if it is one SELECT."""
    import duckdb

    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        return f"A sandbox answers one statement, and these are {len(statements)}."
    if statements[0].type != duckdb.StatementType.SELECT:
        kind = str(statements[0].type).rpartition(".")[2].rstrip(">").partition(":")[0]
        return f"A sandbox answers SELECT only, and this is {kind}."
    return None


# --- the conversation ------------------------------------


def main(inlet: BinaryIO, outlet: BinaryIO) -> None:
    """Make the jail as told, answer one question, and end."""
    import duckdb

    for name in ("datetime", "decimal", "resource", "uuid"):
        with contextlib.suppress(ImportError):  # a system that has no such module has no such limits either
            importlib.import_module(name)  # nothing can be imported once the walls stand
    setup = msgspec.msgpack.decode(_receive(inlet), type=Setup)
    connection = open_database(setup)
    walls = wall_in(setup)
    make_tables(connection, setup, is_walled="landlock" in walls)
    _send(outlet, Ready(walls=walls))
    question = msgspec.msgpack.decode(_receive(inlet), type=Question)
    error = None
    try:
        error = refusal(connection, question.sql)
        if error is None:
            _answer(connection, question, outlet)
    except MemoryError:
        error = "Out of memory."
    except (duckdb.Error, ValueError, TypeError, OverflowError, RecursionError) as raised:
        error = str(raised)[:10_000]
    _send(outlet, End(error=error))


def _answer(connection: DuckDBPyConnection, question: Question, outlet: BinaryIO) -> None:
    sql = question.sql.strip().rstrip(";")
    connection.execute("BEGIN TRANSACTION READ ONLY")
    try:
        described = connection.execute(f"DESCRIBE {sql}\n", question.parameters).fetchall()
    except _errors():
        # The same in the words that fit the question.
        connection.execute("ROLLBACK")
        connection.execute("BEGIN TRANSACTION READ ONLY")
        connection.execute(sql, question.parameters)
        raise
    types = [str(row[1]) for row in described]
    cells = ", ".join(_cell(i, kind) for i, kind in enumerate(types))
    names = ", ".join(f"c{i}" for i in range(len(types)))
    connection.execute(f"SELECT {cells} FROM (\n{sql}\n) AS evlog_result({names})", question.parameters)
    _send(outlet, Head(columns=[str(row[0]) for row in described], types=types))
    while rows := connection.fetchmany(ROWS_AT_ONCE):
        _send(outlet, Body(rows=[list(row) for row in rows]))


def _errors() -> type[Exception]:
    import duckdb

    return duckdb.Error


_PLAIN = re.compile(r"(U?(TINY|SMALL|BIG)INT|U?INTEGER|DOUBLE|FLOAT|BOOLEAN|VARCHAR|BLOB|JSON)(\[\d*\])*")
_MAP = re.compile(r"MAP\(VARCHAR, (VARCHAR|DOUBLE|BIGINT|INTEGER|BOOLEAN)\)")


def _cell(i: int, kind: str) -> str:
    """Return a column as something that msgpack has: times as microseconds, what is odd as text."""
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us(c{i})"
    return f"c{i}" if _PLAIN.fullmatch(kind) or _MAP.fullmatch(kind) else f"c{i}::VARCHAR"


def _send(outlet: BinaryIO, message: Message) -> None:
    data = msgspec.msgpack.encode(message)
    if len(data) > MAX_FRAME_BYTES:
        if isinstance(message, Body) and len(message.rows) > 1:
            for row in message.rows:
                _send(outlet, Body(rows=[row]))
            return
        raise ValueError(f"A row of {len(data) >> 20} MiB is too large. Select less of it.")
    outlet.write(LENGTH.pack(len(data)))
    outlet.write(data)
    outlet.flush()


def _receive(inlet: BinaryIO) -> bytes:
    head = inlet.read(LENGTH.size)
    if len(head) < LENGTH.size:
        os._exit(0)  # nobody has a question any more
    return inlet.read(LENGTH.unpack(head)[0])


def run() -> None:
    """Take standard input and output as the only way in and out."""
    inlet = os.fdopen(os.dup(0), "rb")
    outlet = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    try:
        main(inlet, outlet)
    except BrokenPipeError:
        pass  # whoever asked does not want to know any more
    except Exception as error:  # the parent shows it
        with contextlib.suppress(OSError):
            _send(outlet, End(error=f"{type(error).__name__}: {error}"[:10_000]))
    outlet.flush()
    os._exit(0)
