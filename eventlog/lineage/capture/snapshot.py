"""One child process that finds out where a job comes from, and what it has said so far.

It says lines of JSON on a pipe; a line with ``size`` is followed by so many bytes. It ends by itself when
nobody reads any more, and after `eventlog.lineage.capture.child.LIMIT_S` at the latest.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

LIMIT_S = 35.0
START_AFTER_S = 0.02
"""Meanwhile the job starts its run and logs for the first time; work done now would take its time."""
NICENESS = 5
"""More, and on a machine that is busy with training the end of a short run would come first."""
MAX_MESSAGE_BYTES = 32 << 20
MAX_KEPT_BYTES = 1 << 20
# Not `import eventlog`, which brings the tracker: what the child needs of the package takes a quarter.
_START = (
    "import os, sys, types; os.closerange(3, 65536); p = types.ModuleType('eventlog'); "
    "p.__path__ = [sys.argv[1]]; sys.modules['eventlog'] = p; "
    "from eventlog.lineage.capture.child import main; main(sys.argv[2], int(sys.argv[3]), sys.argv[4:])"
)


class Finding(NamedTuple):
    """Something that the child said.

    Attributes:
        kind: that of a context, ``note`` or ``artifact``.
        of: the kind of context that it belongs to; empty if to none.
        is_part: more of this kind follows.
        content: of an artifact that has no file of its own.
    """

    kind: str
    of: str
    data: dict[str, object]
    is_part: bool = False
    content: bytes = b""


class Snapshot:
    """What one child says, for all runs that have joined. Thread-safe.

    Attributes:
        order: what it is told, as JSON.
        environment: in which it is to find out.
        kinds: the kinds of context that it is told to find.
        is_off: it said that nothing is wanted.
    """

    def __init__(self, order: bytes, environment: dict[str, str], kinds: frozenset[str]) -> None:
        self.order, self.environment, self.kinds = order, environment, kinds
        self.is_off = False
        self._began = time.monotonic()
        self._findings: list[Finding] = []
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._readers = 0
        self._is_started = self._is_over = False
        self._pid = 0
        self._fd = -1

    def join(self, fresh_s: float) -> bool:
        """Take part in what the child says, unless it was started more than *fresh_s* ago or is given up."""
        with self._changed:
            if time.monotonic() - self._began > fresh_s or (self._is_started and not self._is_kept):
                return False
            self._readers += 1
            return True

    def start(self) -> None:
        """Start the child, on a thread of its own; the second call does nothing."""
        with self._changed:
            is_first, self._is_started = not self._is_started, True
        if is_first:
            try:
                _thread.start_new_thread(self._live, ())
            except RuntimeError:  # the process is ending: Python starts no more threads, ours may go on
                self._live()

    def wait_before_start(self) -> None:
        """Wait until the job has begun its run, or somebody is in a hurry."""
        self._hurry.wait(START_AFTER_S)

    def hurry(self) -> None:
        """Start at once: somebody waits."""
        self._hurry.set()

    def leave(self) -> None:
        """Need nothing more of it; the last one to leave ends the child."""
        with self._changed:
            self._readers -= 1
            if self._readers == 0:
                self._kill()
                if not self._is_kept:
                    self._findings = []

    def forget(self) -> None:
        """Be nobody's, in a forked child. Takes no lock."""
        fd, self._fd, self._pid = self._fd, -1, 0
        if fd >= 0:
            os.close(fd)  # the parent's death is to break the pipe

    @property
    def _is_kept(self) -> bool:
        size = sum(len(finding.content) for finding in self._findings)
        return size <= MAX_KEPT_BYTES and (self._is_over or self._readers > 0)

    def findings(self) -> Iterator[Finding]:
        """Yield what was said and what comes, until the child ends."""
        at = 0
        while True:
            with self._changed:
                while not self._is_over and len(self._findings) <= at:
                    self._changed.wait()
                new = self._findings[at:]
                if not new:
                    return
            at += len(new)
            yield from new

    # --- the thread that listens -----------------------------------------------------------------

    def _live(self) -> None:
        try:
            if not self._listen(self._start()):
                self._add(_note("the process that looks for it ended too early"))
        except Exception as error:  # no posix_spawn, no more processes, no memory
            self._add(_note(f"{type(error).__name__}: {error}"))
        finally:
            self._reap()
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def _start(self) -> int:
        """Start the child; return where to read what it says.

        -I -S: no start-up files, no `.pth` files, and no modules of the working directory; where packages
        are is in the order. A group of its own: Ctrl-C is not for it, and it ends with all that it started.

        Raises:
            RuntimeError: this program has Python inside, and is no Python that could be started.
        """
        from eventlog.lineage.capture import spawning  # here: this is not the thread that trains

        package = str(Path(__file__).parents[2])
        # What PYTHONDONTWRITEBYTECODE and PYTHONPYCACHEPREFIX say, which -I would not hear.
        bytecode = ["-B"] if sys.dont_write_bytecode else []
        bytecode += ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []
        if getattr(sys, "frozen", False) or not _is_interpreter(sys.executable):
            raise RuntimeError("this program cannot be started as a Python interpreter")
        # Where the standard library is may stand in PYTHONHOME, which -I would not hear either.
        isolated = ["-P", "-s"] if "PYTHONHOME" in self.environment else ["-I"]
        words = [sys.executable, *isolated, "-S", *bytecode, "-c", _START, package, self.order.decode()]
        reading, writing = os.pipe()
        try:
            with self._changed:
                self._fd = reading
                if not self._readers:
                    return reading  # the run is over already
            # While the job waits it needs neither the lock nor all of the processors.
            is_waited_for = self._hurry.is_set()
            spawn = spawning.spawn_with_lock if is_waited_for else spawning.spawn
            niceness = "0" if is_waited_for else str(NICENESS)
            # Git first: it is a program that is waited for, while the others work.
            kinds = sorted(self.kinds, key=lambda kind: (kind != "git", kind))
            pid = spawn([*words, niceness, *kinds], self.environment, writing)
            with self._changed:
                self._pid = pid
                if not self._readers:
                    self._kill()  # the last one left meanwhile
        finally:
            os.close(writing)
        return reading

    def _listen(self, fd: int) -> bool:
        """Take what is said; return whether it came to an end."""
        stream = _Stream(fd, self._began + LIMIT_S)
        while line := stream.line():
            said = orjson.loads(line)
            if "end" in said:
                return True
            if "off" in said:
                self.is_off = True
                continue
            content = stream.take(said["size"]) if "size" in said else b""
            self._add(Finding(said["kind"], said["of"], said["data"], said.get("is_part", False), content))
        return self._readers == 0

    def _add(self, finding: Finding) -> None:
        with self._changed:
            self._findings.append(finding)
            self._changed.notify_all()

    def _kill(self) -> None:
        if self._pid:
            with contextlib.suppress(OSError):
                os.killpg(self._pid, signal.SIGKILL)

    def _reap(self) -> None:
        with self._changed:
            self._kill()
            pid, self._pid = self._pid, 0
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if pid:
            with contextlib.suppress(ChildProcessError):  # a job that waits for all its children was faster
                os.waitpid(pid, 0)


def _is_interpreter(path: str | None) -> bool:
    return Path(path or "").name.lower().startswith(("python", "pypy", "graalpy"))


def _note(why: str) -> Finding:
    return Finding("note", "", {"text": f"lineage: {why}"})


class _Stream:
    """Lines and bytes from a pipe, until a time. Not a file object: a forked child would close it again."""

    def __init__(self, fd: int, deadline: float) -> None:
        self._fd, self._deadline = fd, deadline
        self._rest = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def line(self) -> bytes:
        """Return the next line, or nothing at the end."""
        while (at := self._rest.find(b"\n")) < 0:
            if not self._more():
                return b""
        return self.take(at + 1)

    def take(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            EOFError: there are not so many.
        """
        while len(self._rest) < size:
            if not self._more():
                raise EOFError("it broke off in the middle of what it said")
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        return taken

    def _more(self) -> bool:
        left = self._deadline - time.monotonic()
        if left <= 0 or len(self._rest) > MAX_MESSAGE_BYTES or not self._poll.poll(1000 * left):
            return False
        data = os.read(self._fd, 1 << 16)
        self._rest += data
        return bool(data)
