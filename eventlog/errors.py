"""Every error and warning of evlog, in one tree.

A message says what happened, where, and what to do next. The data are in attributes, and every
argument goes to ``super().__init__``, so that an error survives pickling between processes.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path


def printable(text: str) -> str:
    r"""Return *text* with all that moves cursors, colours or directions written as ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class EvlogError(Exception):
    """Root of all errors that evlog raises on purpose."""


class EvlogWarning(UserWarning):
    """Something of evlog failed and training went on without it."""


class InvalidNameError(EvlogError, ValueError):
    """A run id, project or artifact name that cannot be a file name everywhere."""

    def __init__(self, kind: str, name: str, reason: str) -> None:
        super().__init__(kind, name, reason)
        self.kind, self.name, self.reason = kind, name, reason

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} cannot be used: {self.reason}. Choose another name."


class BadValueError(EvlogError, TypeError):
    """A value that was logged under *key* cannot be kept."""

    def __init__(self, key: str, type_name: str, reason: str) -> None:
        super().__init__(key, type_name, reason)
        self.key, self.type_name, self.reason = key, type_name, reason

    def __str__(self) -> str:
        return f"{self.key!r} was not logged: {self.reason} (its type is {self.type_name})."


class TrackerStateError(EvlogError, RuntimeError):
    """A tracker was asked for something that does not fit what it is doing now."""


class DurabilityError(EvlogError, OSError):
    """The log could not be written, so that calls were lost or are not yet on disk."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class CorruptSegmentError(EvlogError):
    """A segment holds bytes that no writer of ours wrote."""

    def __init__(self, path: Path, offset: int, reason: str = "") -> None:
        super().__init__(path, offset, reason)
        self.path, self.offset, self.reason = path, offset, reason

    def __str__(self) -> str:
        what = f" ({self.reason})" if self.reason else ""
        return (
            f"{self.path} is damaged at byte {self.offset}{what}. Run `evlog verify` to see what can be read."
        )


class UnsupportedFormatError(EvlogError):
    """A segment of a format that is newer than this software."""

    def __init__(self, path: Path, found: int, supported: int) -> None:
        super().__init__(path, found, supported)
        self.path, self.found, self.supported = path, found, supported

    def __str__(self) -> str:
        return (
            f"{self.path} has log format {self.found}, this evlog reads up to {self.supported}. "
            "Install a newer evlog: `pip install -U evlog`."
        )


class CheckpointError(EvlogError):
    """The file that says how far a delivery came cannot be read, or does not fit the destination."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}. To deliver everything anew: evlog sync … --restart"


class BadShapeError(EvlogError, ValueError):
    """Options that say what goes to a destination contradict each other or the run."""


class ShapeChangedError(EvlogError):
    """A run was delivered with other filters than those that were given now."""

    def __init__(self, run: str, sink: str, before: str, now: str) -> None:
        super().__init__(run, sink, before, now)
        self.run, self.sink, self.before, self.now = run, sink, before, now

    def __str__(self) -> str:
        return (
            f"{self.run} went to {self.sink} with {self.before}, and now {self.now} is wanted: both together "
            "would be neither. Give the same options as then, or --restart to deliver everything anew."
        )


class LeaseHeldError(EvlogError):
    """Another process delivers this run to this destination now."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(path, holder)
        self.path, self.holder = path, holder

    def __str__(self) -> str:
        return f"{self.holder} is delivering this run there now ({self.path}). It goes on by itself."


class LeaseLostError(EvlogError):
    """This process slept so long that another one has taken over a delivery."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"another process has taken over this delivery ({self.path}). Nothing is to be done."


class RunNotFoundError(EvlogError, LookupError):
    """No run has this path, id or prefix."""

    def __init__(self, run: str, root: Path) -> None:
        super().__init__(run, root)
        self.run, self.root = run, root

    def __str__(self) -> str:
        return (
            f"No run {self.run!r} under {self.root}. `evlog list` shows the runs; --dir names another root."
        )


class AmbiguousRunError(EvlogError, LookupError):
    """A prefix fits several runs."""

    def __init__(self, run: str, matches: list[str]) -> None:
        super().__init__(run, matches)
        self.run, self.matches = run, matches

    def __str__(self) -> str:
        shown = ", ".join(self.matches[:5]) + (", …" if len(self.matches) > 5 else "")
        return f"{self.run!r} fits {len(self.matches)} runs: {shown}. Give more of the id, or PROJECT/RUN."


class UnknownSinkError(EvlogError, LookupError):
    """No installed package offers a sink of this name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(name, known)
        self.name, self.known = name, known

    def __str__(self) -> str:
        return (
            f"No sink is called {self.name!r}. Installed: {', '.join(self.known) or 'none'} (`evlog sinks`)."
        )


class MissingPackageError(EvlogError, ImportError):
    """A sink needs a package that is not installed."""

    def __init__(self, sink: str, reason: str, command: str = "") -> None:
        super().__init__(sink, reason, command)
        self.sink, self.reason, self.command = sink, reason, command

    def __str__(self) -> str:
        how = f" Install it: {self.command}" if self.command else ""
        return f"The sink {self.sink!r} cannot be loaded: {self.reason}.{how}"


class BadSinkOptionError(EvlogError, TypeError):
    """A sink was given an option that it does not have, or a value that it cannot use."""

    def __init__(self, sink: str, reason: str, known: Sequence[str] = ()) -> None:
        super().__init__(sink, reason, known)
        self.sink, self.reason, self.known = sink, reason, list(known)

    def __str__(self) -> str:
        has = f" Its options: {', '.join(self.known)}." if self.known else ""
        return f"{self.sink}: {self.reason}.{has}"


class SinkUnavailableError(EvlogError):
    """The destination cannot be reached now; the same batch may go through later."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message, self.retry_after_s = message, retry_after_s

    def __str__(self) -> str:
        return self.message


class SinkRejectedError(EvlogError):
    """The destination will never take some events.

    Attributes:
        events: writer and seq of each; empty if the sink cannot tell which of the batch they are.
    """

    def __init__(self, message: str, events: Sequence[tuple[str, int]] = ()) -> None:
        super().__init__(message, events)
        self.message, self.events = message, list(events)

    def __str__(self) -> str:
        return self.message


class QueryError(EvlogError):
    """SQL that DuckDB refused."""


_reported: set[str] = set()
_reported_lock = threading.Lock()


def warn_once(key: str, message: str) -> None:
    """Show *message* on the first call with *key* in this process; later calls are silent.

    Never raises, also when warnings were turned into errors: this is how a training process hears
    of evlog's own failures, and those must not stop it.
    """
    with _reported_lock:
        if key in _reported:
            return
        _reported.add(key)
    message = "\n".join(map(printable, message.split("\n")))  # names of others stand in it
    try:
        # Explicit: the line of ours that noticed would tell nobody anything.
        warnings.warn_explicit(message, EvlogWarning, "evlog", 1)
    except EvlogWarning:
        print(f"evlog: {message}", file=sys.stderr)  # noqa: T201 - the only voice left under -W error


def forget_reports() -> None:
    """Let every warning be shown once more (for tests)."""
    with _reported_lock:
        _reported.clear()
