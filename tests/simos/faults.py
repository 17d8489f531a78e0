"""What may go wrong at a call, and a plan of when it does."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

from tests.simos.disk import error
from tests.simos.system import CHANGING, Call, SimSystem

ERRORS = {code: getattr(errno, code) for code in ("EIO", "ENOSPC", "EDQUOT", "ESTALE", "EROFS")}
FULL = frozenset({"ENOSPC", "EDQUOT"})
NEEDS_ROOM = frozenset({"write", "create", "map", "preallocate", "make_directory"})
HANG_S = 90.0


class Fault(NamedTuple):
    """What goes wrong at changing call *at*.

    Attributes:
        kind: a name of an error; ``lie`` (a sync that fails and forgets), ``lie-seen`` (and shows zeros),
            ``hang``, ``kill``, ``kill-half`` (in the middle of a write).
        times: how many calls in a row an error that is not about room hits; for one about room, how many
            calls that need room until there is some again.
    """

    kind: str
    at: int
    times: int = 1

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}" + (f" x{self.times}" if self.times > 1 else "")


class Injector:
    """Lets a process's calls go wrong as planned. Several faults may be armed.

    Args:
        meanwhile: done while a call hangs or is about to fail; what other threads do at that moment.

    Attributes:
        hits: the calls that went wrong.
        failed_sync_at: the last of them that was a sync or a close, after which the next one lies; 0 if none.
    """

    def __init__(
        self, system: SimSystem, *faults: Fault, meanwhile: Callable[[Call], None] | None = None
    ) -> None:
        self._system, self._faults, self._meanwhile = system, list(faults), meanwhile
        self._full: tuple[int, int] | None = None  # calls that still fail for want of room, and how
        self.hits: list[str] = []
        self.failed_sync_at = 0
        system.at_call = self._at_call

    def add(self, fault: Fault) -> None:
        """Arm another fault."""
        self._faults.append(fault)

    def _at_call(self, call: Call) -> None:
        if call.name not in CHANGING:
            return
        if self._full and call.name in NEEDS_ROOM:
            left, code = self._full
            self._full = (left - 1, code) if left > 1 else None
            raise error(code, call.path)
        for fault in self._faults:
            if self._system.is_dead:
                return
            if fault.at <= call.number < fault.at + (1 if fault.kind in FULL else fault.times):
                self._hit(fault, call)

    def _hit(self, fault: Fault, call: Call) -> None:
        system, kind = self._system, fault.kind
        self.hits.append(f"{kind} {call}")
        if self._meanwhile and not kind.startswith("kill"):
            self._meanwhile(call)
        if call.name in {"sync", "close"} and kind not in {"kill", "kill-half", "hang"}:
            self.failed_sync_at = call.number
        if kind in {"kill", "kill-half"}:
            system.short_write = kind == "kill-half"
            system.die()
        elif kind == "hang":
            system.disk.advance(HANG_S)
        elif kind in FULL and call.name in NEEDS_ROOM:
            self._full = (fault.times, ERRORS[kind])
            system.short_write = call.name == "write"
            raise error(ERRORS[kind], call.path)
        else:
            system.lie = "seen" if kind == "lie-seen" else "hidden"
            raise error(ERRORS.get(kind, errno.EIO), call.path)
