"""How the stand-in misbehaves: rules that match a kind of request and are used up one by one."""

from __future__ import annotations

import threading
from typing import Literal, NamedTuple

Way = Literal["status", "hang", "hang_after", "cut_before", "cut_inside", "lose_answer", "stale", "torn"]


class Fault(NamedTuple):
    """One misbehaviour.

    Attributes:
        code: HTTP status of ``status``.
        headers: sent along with it.
        release: what ``hang`` waits for before it cuts the connection; nothing was taken. ``hang_after``
            took the data before.
        behind: how many changes ago ``stale`` and ``torn`` live.
    """

    way: Way
    code: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    release: threading.Event | None = None
    behind: int = 0


def status(code: int, *, retry_after_s: int | None = None, **headers: str) -> Fault:
    """Return the fault of an answer with another status; the data are not taken."""
    extra = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fault("status", code, extra + named)


def hang(release: threading.Event, *, is_taken: bool = False) -> Fault:
    """Return the fault of no answer until *release* is set, with the data taken before or never."""
    return Fault("hang_after" if is_taken else "hang", release=release)


def cut(where: Literal["before", "inside"]) -> Fault:
    """Return the fault of a connection that ends before the body was read, or in the middle of the answer.

    Cut *inside*, the data were taken.
    """
    return Fault("cut_before" if where == "before" else "cut_inside")


def lose_answer() -> Fault:
    """Return the fault of a connection that ends after the data were taken, without a byte of the answer."""
    return Fault("lose_answer")


def stale(behind: int) -> Fault:
    """Return the fault of a resume status as it was *behind* changes of the run ago."""
    return Fault("stale", behind=behind)


def torn(behind: int) -> Fault:
    """Return the fault of a resume status with old numbers of lines beside the newest line."""
    return Fault("torn", behind=behind)


class Faults:
    """Rules in the order in which they were added. Safe for use by several threads.

    Attributes:
        used: kind of request and fault, for each that happened.
    """

    def __init__(self) -> None:
        self.used: list[tuple[str, Fault]] = []
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def add(self, kind: str, *faults: Fault, after: int = 0, times: int | None = 1) -> None:
        """Let requests of *kind* meet each of *faults*, *times* each (None: for ever).

        Args:
            kind: ``file_stream``, ``upload``, or the name of a GraphQL operation; ``*`` for all.
            after: so many requests of the kind go well first.
        """
        with self._lock:
            for fault in faults:
                self._rules.append(_Rule(kind, fault, after, times))
                after = 0

    def clear(self) -> None:
        """Behave well from now on."""
        with self._lock:
            self._rules.clear()

    @property
    def waiting(self) -> int:
        """Return how many rules are not used up."""
        return len(self._rules)

    def take(self, kind: str) -> Fault | None:
        """Return the fault that a request of *kind* meets now."""
        with self._lock:
            rule = next((r for r in self._rules if r.kind in ("*", kind)), None)
            if rule is None:
                return None
            if rule.after > 0:
                rule.after -= 1
                return None
            if rule.times is not None:
                rule.times -= 1
                if rule.times <= 0:
                    self._rules.remove(rule)
            self.used.append((kind, rule.fault))
            return rule.fault


class _Rule:
    def __init__(self, kind: str, fault: Fault, after: int, times: int | None) -> None:
        self.kind, self.fault, self.after, self.times = kind, fault, after, times
