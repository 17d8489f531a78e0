"""The process that finds out where a job comes from, and tells the job on its standard output.

Each probe has a thread of its own, so that one that hangs, on a network file system or in a driver, takes
nothing from the others: what it had to say is missing, and a note says so.

What must never change: the process ends when nobody reads any more, and after `LIMIT_S` at the latest,
together with all that it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

LIMIT_S = 30.0


class ProbeError(Exception):
    """Something could not be found out; the message says what and why."""


class Order(NamedTuple):
    """What is asked.

    Attributes:
        script: absolute path of the file that the job runs, or None.
        cwd: the job's working directory.
        interpreter: None if the packages are those that the job sees, at *path*; empty if nobody knows which
            Python runs; else the path of another Python, which is asked itself.
        prefixes: ``sys.prefix`` and ``sys.base_prefix`` of the job.
        path: the job's ``sys.path``.
        root: directory of all projects.
        is_wanted: the job says so, whatever ``evlog.toml`` says.
        is_diff_wanted: the job wants the uncommitted changes, whatever ``evlog.toml`` says.
    """

    script: str | None
    cwd: str
    interpreter: str | None
    executable: str
    prefixes: list[str]
    path: list[str]
    root: str
    is_wanted: bool
    is_diff_wanted: bool
    variables: Sequence[str] = ()
    has_diff: bool = True

    def code_directory(self) -> str | None:
        """Return where the script lies, if it is code of the job's: not `pytest`, nor another entry point."""
        if not self.script:
            return None
        script = Path(self.script).resolve()
        for prefix in map(Path, self.prefixes):
            below = (
                script.parts[len(prefix.resolve().parts) :] if script.is_relative_to(prefix.resolve()) else ()
            )
            if below[:1] == ("local",):  # what Debian's Python installs
                below = below[1:]
            if len(below) > 1 and below[0] in {"bin", "lib", "lib64", "Scripts", "Lib"}:
                return None
        return str(Path(self.script).parent)


class Say(Protocol):
    """Tells the job something."""

    def context(self, kind: str, data: dict[str, object], *, is_part: bool = False) -> None:
        """Say what is known of *kind*; *is_part* if more of it follows."""

    def artifact(
        self, name: str, sha256: str, *, source: str | None = None, content: bytes | None = None
    ) -> None:
        """Give a file: the path of one, or its content."""

    def note(self, why: str) -> None:
        """Say what could not be found out."""


class Teller:
    """Says what one probe finds.

    Args:
        kind: of the context that the probe is for.
        write: takes whole messages; thread-safe.
    """

    def __init__(self, kind: str, write: Callable[[bytes], None]) -> None:
        self._kind, self._write = kind, write

    def context(self, kind: str, data: dict[str, object], *, is_part: bool = False) -> None:
        """Say what is known of *kind*; *is_part* if more of it follows."""
        self._say({"kind": kind, "data": data, "is_part": is_part})

    def artifact(
        self, name: str, sha256: str, *, source: str | None = None, content: bytes | None = None
    ) -> None:
        """Give a file: the path of one, or its content."""
        data = {"name": name, "sha256": sha256, "source": source}
        size = {} if content is None else {"size": len(content)}
        self._say({"kind": "artifact", "data": data, **size}, content or b"")

    def note(self, why: str) -> None:
        """Say what could not be found out."""
        self._say({"kind": "note", "data": {"text": f"{self._kind or 'evlog.toml'}: {why}"}})

    def _say(self, message: dict[str, object], content: bytes = b"") -> None:
        line = json.dumps({**message, "of": self._kind}, ensure_ascii=True, default=str)
        self._write(_without_lone_surrogates(line).encode() + b"\n" + content)


def _without_lone_surrogates(line: str) -> str:
    r"""Return JSON in which bytes of a name that are no UTF-8 stand as ``\\udc80``, as elsewhere in a log."""
    if "\\ud" not in line:
        return line
    value = json.loads(line)
    return json.dumps(_printable(value), ensure_ascii=False)


def _printable(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {str(_printable(key)): _printable(one) for key, one in value.items()}
    return [_printable(one) for one in value] if isinstance(value, list) else value


def main(words: str, niceness: int, kinds: Sequence[str]) -> None:
    """Find out all *kinds* of context and end the process.

    Args:
        words: the order, as JSON.
        niceness: how much this process leaves to others, the job among them.
    """
    out = os.dup(1)
    os.dup2(2, 1)  # what a package prints while it is imported is not part of what we say
    with contextlib.suppress(OSError):
        os.nice(niceness)
    asked = Order(**json.loads(words))
    with contextlib.suppress(OSError):
        os.chdir(asked.cwd)
    sys.path += [path for path in asked.path if Path(path).is_absolute() and not _is_beside(path, asked)]
    lock = threading.Lock()

    def write(data: bytes) -> None:
        view = memoryview(data)
        with lock:
            while view:
                view = view[os.write(out, view) :]

    try:
        order, wanted, complaint = _configured(asked, kinds)
        if not wanted:
            write(b'{"off":true}\n')
        if complaint:
            Teller("", write).note(complaint)
        for kind in _run(order, wanted, write, out):
            Teller(kind, write).note(f"no answer within {LIMIT_S:.0f} s")
        write(b'{"end":true}\n')
    finally:
        _end()


def _is_beside(path: str, asked: Order) -> bool:
    """Tell whether *path* holds the job's own modules, which may have the names of others."""
    return path in {asked.cwd, str(Path(asked.script or "").parent)}


def _configured(asked: Order, kinds: Sequence[str]) -> tuple[Order, Sequence[str], str]:
    """Return the order and the kinds as ``evlog.toml`` wants them, and what is wrong with that file."""
    from eventlog.configuration import find_configuration

    if find_configuration(Path(asked.root)) is None:
        return asked, kinds, ""
    from eventlog.lineage.capture.wanted import Wanted, read_wanted

    complaint = ""
    try:
        wanted = read_wanted(Path(asked.root))
    except ValueError as error:
        wanted, complaint = Wanted(), str(error)
    if not wanted.enabled and not asked.is_wanted:
        kinds = [kind for kind in kinds if kind == "git" and asked.is_diff_wanted]
    has_diff = wanted.diff or asked.is_diff_wanted
    return asked._replace(variables=wanted.variables, has_diff=has_diff), kinds, complaint


def _run(asked: Order, kinds: Sequence[str], write: Callable[[bytes], None], out: int) -> list[str]:
    """Run the probes; return the kinds of those that did not come to an end."""
    done_reading, done_writing = os.pipe()
    ended: list[str] = []

    def run(kind: str) -> None:
        tell = Teller(kind, write)
        try:
            probe = import_module(f"eventlog.lineage.capture.probes.{kind}").probe
            probe(asked, tell)
        except BrokenPipeError:
            pass  # the main thread sees it too
        except ProbeError as error:
            tell.note(str(error))
        except Exception as error:  # whatever a driver or a file system comes up with
            tell.note(f"{type(error).__name__}: {error}")
        ended.append(kind)
        os.write(done_writing, b"x")

    for kind in kinds:
        threading.Thread(target=run, args=(kind,), daemon=True).start()
    deadline = time.monotonic() + LIMIT_S
    poll = select.poll()
    poll.register(out, 0)  # errors only: nobody reads any more
    poll.register(done_reading, select.POLLIN)
    while len(ended) < len(kinds) and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(1000 * left):
            if fd == out:
                raise BrokenPipeError
            os.read(done_reading, 64)
    return [kind for kind in kinds if kind not in ended]


def _end() -> None:
    """End this process, with all that it started: what hangs would go on otherwise."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)
