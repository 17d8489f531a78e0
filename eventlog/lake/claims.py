"""Who publishes to a lake now: until then nobody removes the files that it has written and not committed.

A claim is a file ``_evlog/publishing/<owner>.json`` that its holder renews. A holder on this machine is gone
when its process is; one elsewhere when its claim was not renewed for an hour by the store's own clock, and no
holder commits without having renewed it within ten minutes.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from eventlog.ids import new_ulid
from eventlog.lake.errors import LakeError, lake_errors
from eventlog.lake.place import Place
from eventlog.storage.system import host_name
from eventlog.storage.writer import process_start

DIRECTORY = "_evlog/publishing"
RENEW_S = 60.0
FRESH_S = 600.0
GONE = timedelta(hours=1)


class _Holder(msgspec.Struct, frozen=True):
    host: str
    machine: str
    pid: int
    pid_started: str


class Claim:
    """The right to have files in the lake that no commit names yet.

    Attributes:
        owner: what the names of those files begin with.
    """

    def __init__(self, place: Place) -> None:
        self.owner = new_ulid()
        self._place = place
        self._name = f"{DIRECTORY}/{self.owner}.json"
        self._done = threading.Event()
        self._renewed = 0.0
        self._thread = threading.Thread(target=self._keep, name="evlog-claim", daemon=True)

    def __enter__(self) -> Self:
        self.renew()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        # What is left of it is found by its age, or because this process is gone.
        with contextlib.suppress(LakeError), lake_errors(self._place.url):
            self._place.delete([self._name])

    def renew(self) -> None:
        """Show that this process is still at it."""
        began = time.monotonic()
        pid = os.getpid()
        holder = _Holder(host_name(), _machine(), pid, process_start(pid) or "")
        self._place.write(self._name, msgspec.json.encode(holder))
        self._renewed = began

    def check(self) -> None:
        """Make sure, before a commit, that nobody can have taken this process for gone.

        Raises:
            LakeError: it slept so long that somebody may have.
        """
        if time.monotonic() - self._renewed > FRESH_S:
            raise LakeError(self._place.url, "this process slept for minutes; publish again")

    def gone(self, owners: set[str]) -> set[str]:
        """Return those of *owners* who do not publish any more."""
        self.renew()
        claims = {entry.name.rpartition("/")[2][:26]: entry for entry in self._place.list(DIRECTORY)}
        now = claims[self.owner].time if self.owner in claims else None
        found = set(owners)
        for owner, entry in claims.items():
            if owner == self.owner:
                continue
            try:
                holder = msgspec.json.decode(self._place.read(entry.name), type=_Holder)
            except (FileNotFoundError, msgspec.MsgspecError):
                holder = None
            is_old = now is not None and now - entry.time > GONE
            if _is_dead(holder) or (is_old and not _is_here(holder)):
                self._place.delete([entry.name])
            else:
                found.discard(owner)
        return found

    def _keep(self) -> None:
        while not self._done.wait(RENEW_S):
            # A store that cannot be reached now: if that lasts, `check` stops the commit.
            with contextlib.suppress(LakeError), lake_errors(self._place.url):
                self.renew()


def _is_here(holder: _Holder | None) -> bool:
    return holder is not None and (holder.host, holder.machine) == (host_name(), _machine())


def _is_dead(holder: _Holder | None) -> bool:
    if holder is None or not _is_here(holder) or not holder.machine:
        return False
    return process_start(holder.pid) != holder.pid_started


def _machine() -> str:
    """Return what tells this boot and this space of process ids from all others; empty if nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
