"""Keeps a sidecar process beside a run that is logged, which delivers it while it goes on.

The sidecar (`eventlog.sidecar`) reads the log like anybody else. Here it is started, started again if it
dies, and waited for at the end, for a bounded time. What goes wrong there costs a warning, nothing else.

What must never change: nothing here is on the way of a log call, and no wait is without a limit.
"""

from __future__ import annotations

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

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
GRACE_S = 2.0
SHOW_AFTER_S = 1.0
DELIVERED, UNDELIVERED, HOPELESS, STOPPED = 0, 3, 4, 5  # as in `eventlog.sidecar`
_START = "import sys; sys.path.append(sys.argv.pop(1)); from eventlog.sidecar import main; sys.exit(main())"


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
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_ending = threading.Event()
        self._has_ended = threading.Event()
        self._code: int | None = None
        self._problem = ""

    def start(self) -> None:
        """Start the process, from a thread that then watches over it."""
        threading.Thread(target=self._watch, name="evlog-sidecar", daemon=True).start()

    def finish(self, *, strict: bool = False) -> None:
        """Wait for the delivery of a run that has ended, at most the timeout; then say what is left.

        Raises:
            NotDeliveredError: *strict*, and something is left.
        """
        if os.getpid() != self._owner:
            return  # a forked child: the run and its sidecar are the parent's
        self._wait()
        self._is_ending.set()
        if not self._has_ended.is_set():
            self._stop()
        if self._code == DELIVERED:
            return
        message = f"run {self.run.name} is logged, but not yet all of it is delivered"
        message += f": {self._problem}. " if self._problem else ". "
        message += "Finish with: " + "; ".join(self.commands())
        if strict:
            raise NotDeliveredError(message)
        warn_once(f"sidecar {self.run}", message)

    def commands(self) -> list[str]:
        """Return the commands that deliver what is left."""
        return [sync_command(self.run, name, options) for name, options in self._targets.items()]

    # --- the watching thread -------------------------------------------------------------------

    def _watch(self) -> None:
        wait = FIRST_WAIT_S
        try:
            while not self._is_ending.is_set():
                began = time.monotonic()
                self._code = self._live()
                if self._code in {DELIVERED, UNDELIVERED, HOPELESS, STOPPED}:
                    return
                self._problem = f"its process ended with code {self._code}, see {self._log_path()}"
                wait = FIRST_WAIT_S if time.monotonic() - began > LONGEST_WAIT_S else wait
                self._is_ending.wait(wait)
                wait = min(LONGEST_WAIT_S, wait * 2)
        except OSError as error:
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
        package_root = str(Path(__file__).resolve().parents[2])
        self._log_path().parent.mkdir(parents=True, exist_ok=True)
        with self._log_path().open("ab") as log, self._lock:
            if self._is_ending.is_set():
                return STOPPED
            # -P: the job's working directory may hold a `wandb/` or a `queue.py` that is not meant.
            # A session of its own: Ctrl-C and the end of the terminal are the job's alone.
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, package_root],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
            self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(orjson.dumps(order))
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died at once; its exit code tells
        self._listen(process.stdout)
        return process.wait()

    def _listen(self, lines: IO[bytes]) -> None:
        for line in lines:
            try:
                said = orjson.loads(line)
                result, sink, message = said["result"], said["sink"], said.get("message", "")
            except (orjson.JSONDecodeError, KeyError, TypeError):
                continue  # a sink that prints; it is in nobody's way
            if result in {"failed", "waiting"}:
                self._problem = message
                warn_once(
                    f"sidecar {sink} {result}",
                    f"{sink}: {message}. The run is logged and nothing is lost; "
                    + ("delivery is tried again." if result == "waiting" else "deliver it later."),
                )

    def _log_path(self) -> Path:
        return self.run / ".evlog" / "sidecar.log"

    # --- the end ---------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for the end of the process, showing what is left if it takes long."""
        deadline = time.monotonic() + self._timeout_s
        if self._has_ended.wait(min(SHOW_AFTER_S, self._timeout_s)):
            return
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        names = ", ".join(self._targets)
        while (left := deadline - time.monotonic()) > 0:
            line = f"evlog: delivering {self.run.name} to {names}: {self._events_left()} events left, "
            line += f"waiting {left:.0f} s more"
            _show(("\r\x1b[2K" if is_terminal else "") + line + ("" if is_terminal else "\n"))
            if self._has_ended.wait(min(left, 0.5 if is_terminal else 10.0)):
                break
        if is_terminal:
            _show("\r\x1b[2K")

    def _events_left(self) -> int:
        from eventlog.delivery.status import events_left

        return events_left(self.run, list(self._targets))

    def _stop(self) -> None:
        with self._lock:
            process = self._process
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


def _show(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # no standard error, or a closed one: then nobody waits to read it
