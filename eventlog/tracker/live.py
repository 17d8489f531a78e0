"""Keeps a sidecar process beside a run that is logged, which delivers it while it goes on.

The sidecar (`eventlog.sidecar`) reads the log like anybody else. Here it is started, started again if it
dies, and waited for at the end, for a bounded time. What goes wrong there costs a warning, nothing else.

What must never change: nothing here is on the way of a log call, and no wait is without a limit.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import orjson

from eventlog.errors import EvlogError, warn_once
from eventlog.storage.modes import make_directory, opener

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
GRACE_S = 2.0
SHOW_AFTER_S, SHOW_EVERY_S = 1.0, 10.0
LOOK_S = 0.25
DELIVERED, UNDELIVERED, HOPELESS, STOPPED = 0, 3, 4, 5  # as in `eventlog.sidecar`
LOST = -999
_START = (
    "import os, sys; getattr(os, 'setsid', int)(); os.closerange(3, 65536); os.chdir(sys.argv[1]); "
    "sys.path += sys.argv[2:]; del sys.argv[1:]; from eventlog.sidecar import main; sys.exit(main())"
)


class NotDeliveredError(EvlogError):
    """A run is in the log and not yet at all of its destinations (only raised under ``strict``)."""


class Sidecar:
    """The process that delivers one run, from `start` to `finish` or `leave`.

    Args:
        run: the run's directory.
        targets: sink name to the options of its class.
        timeout_s: how long `finish` waits, and how long the sidecar goes on after the run's end.
    """

    def __init__(self, run: Path, targets: Mapping[str, Mapping[str, object]], *, timeout_s: float) -> None:
        self.run = run.absolute()
        self._targets, self._timeout_s = targets, timeout_s
        self._owner = os.getpid()
        self._directory = _working_directory()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_ending = threading.Event()
        self._has_ended = threading.Event()
        self._code: int | None = None
        self._last_word: int | None = None
        self._problem = ""

    def start(self) -> None:
        """Start the process, from a thread that then watches over it."""
        threading.Thread(target=self._watch, name="evlog-sidecar", daemon=True).start()

    def finish(self, *, strict: bool = False) -> None:
        """Wait for the delivery of a run that has ended, at most the timeout; then say what is left.

        If other processes go on with the run, wait only for what is there now: the sidecar goes on as well.

        Raises:
            NotDeliveredError: *strict*, and something is left.
        """
        if os.getpid() != self._owner:
            return  # a forked child: the run and its sidecar are the parent's
        self._is_over.set()
        if self._wait():
            return
        self._is_ending.set()
        if not self._has_ended.is_set():
            self._stop()
        if self._code == DELIVERED:
            return
        message = f"run {self.run.name} is logged, but not yet all of it is delivered"
        message += f": {self._problem.rstrip('.')}. " if self._problem else ". "
        message += "Finish with: " + "; ".join(self.commands())
        if strict:
            raise NotDeliveredError(message)
        warn_once(f"sidecar {self.run}", message)

    def commands(self) -> list[str]:
        """Return the commands that deliver what is left."""
        left = self._targets.keys() - self._complete() or self._targets.keys()
        return [sync_command(self.run, name, self._targets[name]) for name in self._targets if name in left]

    def _complete(self) -> set[str]:
        from eventlog.delivery.status import standings

        try:
            return {one.sink for one in standings(self.run) if one.state == "complete"}
        except Exception:  # whoever delivers the rest will see what is wrong with the files
            return set()

    # --- the watching thread -------------------------------------------------------------------

    def _watch(self) -> None:
        wait = FIRST_WAIT_S
        try:
            while not self._is_ending.is_set():
                began, was_over = time.monotonic(), self._is_over.is_set()
                self._code = self._live()
                if self._code in {DELIVERED, UNDELIVERED, HOPELESS, STOPPED}:
                    return
                self._problem = f"its process ended with code {self._code}, see {self._log_path()}"
                if was_over:
                    return  # it had its try with the whole run
                wait = FIRST_WAIT_S if time.monotonic() - began > LONGEST_WAIT_S else wait
                # The end of the run is a reason to try at once.
                self._is_over.wait(wait)
                wait = min(LONGEST_WAIT_S, wait * 2)
        except Exception as error:  # whatever it is, it must not reach the job
            self._problem = f"the process that delivers cannot be started: {error}"
            warn_once("sidecar", f"{self._problem}. Deliver later with: {'; '.join(self.commands())}")
        finally:
            self._has_ended.set()

    def _live(self) -> int:
        """Run the process once, from its start to its end; return its exit code."""
        order = {
            "run": str(self.run),
            "targets": [{"sink": name, "options": options} for name, options in self._targets.items()],
            "timeout_s": self._timeout_s,
        }
        data = orjson.dumps(order) + b"\n"
        make_directory(self._log_path().parent)
        with open(self._log_path(), "ab", opener=opener) as log, self._lock:
            if self._is_ending.is_set():
                return STOPPED
            process = self._process = self._launch(log)
        assert process.stdin is not None
        assert process.stdout is not None
        listener = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
        listener.start()
        with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code tells
            process.stdin.write(data)
            process.stdin.close()
        code = process.wait()
        # With a limit: a child that was forked while the process started may hold the pipe open.
        listener.join(GRACE_S)
        # What it said counts: its exit code is lost, and reads as 0, if the job waits for all its children.
        said, self._last_word = self._last_word, None
        return LOST if code == DELIVERED and said is None else code if said is None else said

    def _launch(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the process.

        -P: the job's working directory may hold a `wandb/` or a `queue.py` that is not meant. A session of
        its own: Ctrl-C and the end of the terminal are the job's alone. The working directory of the run's
        start: relative paths among the options mean that one, also when it is started again.

        The child does all this itself, and closes what it has inherited: only so does `subprocess` use
        posix_spawn. Otherwise it waits for a pipe to be closed that a child holds open for as long as it
        lives, if the job forks one at this moment.
        """
        directory = self._directory if self._directory.is_dir() else self.run
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _START, str(directory), *_import_path()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            close_fds=False,
        )

    def _listen(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                try:
                    said = orjson.loads(line)
                    if "end" in said:
                        self._last_word = int(said["end"])
                        return
                    self._hear(said["result"], said["sink"], said.get("message", ""), said["dead_letters"])
                except (orjson.JSONDecodeError, KeyError, TypeError):
                    continue  # not ours

    def _hear(self, result: str, sink: str, message: str, dead_letters: int) -> None:
        if result in {"failed", "waiting"}:
            self._problem = f"{sink}: {message}"
            warn_once(
                f"sidecar {sink} {result}",
                f"{sink}: {message.rstrip('.')}. The run is logged and nothing is lost; "
                + ("delivery is tried again." if result == "waiting" else "deliver it later."),
            )
        elif result == "delivered" and dead_letters:
            warn_once(
                f"sidecar {sink} letters",
                f"{sink} refused {dead_letters} events of run {self.run.name}. They are kept: "
                f"evlog sync {shlex.quote(str(self.run))} --status",
            )

    def _log_path(self) -> Path:
        return self.run / ".evlog" / "sidecar.log"

    # --- the end ---------------------------------------------------------------------------------

    def _wait(self) -> bool:
        """Wait for the end of the process, showing what is left if it takes long.

        Returns:
            True if the process shall live on: others still log into the run.
        """
        began = time.monotonic()
        deadline, show_at = began + self._timeout_s, began + SHOW_AFTER_S
        is_terminal = _is_terminal()
        clear = "\r\x1b[2K" if is_terminal else ""
        goes_on = is_shown = False
        while (left := deadline - time.monotonic()) > 0 and not self._has_ended.wait(min(left, LOOK_S)):
            goes_on = self._others_log()
            if goes_on and self._events_left() == 0:
                break
            if time.monotonic() >= show_at:
                show_at += LOOK_S if is_terminal else SHOW_EVERY_S
                line = f"evlog: delivering {self.run.name} to {', '.join(self._targets)}: "
                line += f"{self._events_left()} events left, waiting {left:.0f} s more"
                _show(clear + line + ("" if is_terminal else "\n"))
                is_shown = True
        if is_shown:
            _show(clear)
        return goes_on and not self._has_ended.is_set()

    def _others_log(self) -> bool:
        from eventlog.replay import is_running

        try:
            return is_running(self.run)
        except OSError:
            return False

    def _events_left(self) -> int:
        from eventlog.delivery.status import events_left

        try:
            return events_left(self.run, list(self._targets))
        except Exception:  # it is only shown; the delivery itself says what is wrong
            return -1

    def _stop(self) -> None:
        if not self._lock.acquire(timeout=GRACE_S):
            return  # it is being started, for a long time already
        process = self._process
        self._lock.release()
        if process is None:
            return
        process.terminate()
        if not self._has_ended.wait(GRACE_S):
            process.kill()
            self._has_ended.wait(GRACE_S)


def sync_command(run: Path, sink: str, options: Mapping[str, object]) -> str:
    """Return the command that delivers *run* to *sink*; what looks like a secret is left to the user."""
    words = ["evlog", "sync", str(run), "--to", sink]
    for name, value in options.items():
        shown = "…" if any(part in name.lower() for part in ("key", "token", "secret", "password")) else value
        words += ["--option", f"{name}={shown}"]
    return shlex.join(words)


def _import_path() -> list[str]:
    """Return where this process finds packages, for the end of another one's search path.

    Not the working directory and that of the script: they may hold anything.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    here = _working_directory()
    left_out = {str(here), str((here / main).parent) if main else ""}
    own = str(Path(__file__).resolve().parents[2])
    return [own, *(path for path in sys.path if Path(path).is_absolute() and path not in left_out)]


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except OSError:
        return Path("/")  # deleted meanwhile


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False  # no standard error, or a closed one


def _show(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # no standard error, or a closed one: then nobody waits to read it
