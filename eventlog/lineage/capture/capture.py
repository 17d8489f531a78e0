"""Logs where a run comes from, as a child process finds it out (`eventlog.lineage.capture.child`).

The child has an interpreter, a process group and a priority of its own, so that neither a hanging `git`
nor the reading of three hundred packages' metadata costs the job more than a thread that waits. It is started
with ``posix_spawn``, which is cheap also in a job that holds 100 GB, and says what it finds line by line:
what is known is logged at once. Of a run that begins within `FRESH_S` of another one only git is asked again:
what the machine and the environment are is taken from there.

What must never change: nothing here is on the way of a log call, `Capture.end` waits for a bounded time, and
no process and no zombie stays behind.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import orjson

from eventlog import events as ev
from eventlog.lineage.capture.snapshot import Finding, Snapshot
from eventlog.lineage.origin import Origin, origin_of_command, origin_of_process
from eventlog.lineage.running import Options, Recorder, local_rank
from eventlog.storage.modes import make_directory
from eventlog.values import text

KINDS = frozenset({"git", "environment", "hardware", "scheduler"})
FRESH_S = 5.0
LEAST_WAIT_S = 0.25
LOCK_S = 1.0

_latest: Snapshot | None = None


class Capture:
    """The lineage of one run: a part of `eventlog.lineage.running.Running`."""

    def __init__(self, recorder: Recorder, options: Options) -> None:
        self._recorder, self._options = recorder, options
        self._known = {kind: dict(data) for kind, data in options.known.items()}
        self._kinds = wanted_kinds(options, os.environ)
        # What belongs to the whole run comes from rank 0; of other hosts there is one entry each.
        self._suffix = f"/{text(os.uname().nodename)}" if options.rank else ""
        self._notes: list[str] = []
        self._lock = threading.Lock()
        self._is_over = False
        self._sources: list[tuple[Snapshot, frozenset[str]]] = []
        self._is_done = threading.Event()
        self._began = time.monotonic()

    def begin(self) -> None:
        """Start the thread that starts the rest."""
        if not self._kinds:
            return
        command = self._options.command
        origin = origin_of_process() if command is None else origin_of_command(command)
        self._sources = _sources(_as_json(self._order(origin)), self._kinds)
        # Not a `Thread`: its start waits until the thread runs, 5 ms where the processors are busy.
        _thread.start_new_thread(self._run, ())

    def _order(self, origin: Origin) -> dict[str, object]:
        return {
            "script": origin.script,
            "cwd": origin.cwd,
            "interpreter": origin.interpreter,
            "executable": sys.executable,
            "prefixes": _prefixes(origin),
            "path": list(sys.path),
            "root": os.path.abspath(self._options.root),  # noqa: PTH100 - of a directory that may be gone
            "is_wanted": bool(self._options.lineage),
            "is_diff_wanted": self._options.diff,
        }

    def end(self, timeout_s: float) -> None:
        """Wait for what is not known yet: until *timeout_s* after the start, or a moment if that is over."""
        if not self._sources:
            return
        try:
            for snapshot, _ in self._sources:
                snapshot.hurry()
            left = self._began + timeout_s - time.monotonic()
            self._is_done.wait(max(min(LEAST_WAIT_S, timeout_s), left))
            self._close()
        finally:
            for snapshot, _ in self._sources:
                snapshot.leave()

    def _close(self) -> None:
        """Log nothing any more, but that something is missing."""
        if self._lock.acquire(timeout=LOCK_S):
            try:
                if not self._is_over:
                    self._is_over = True
                    self._notes.append("the run ended before all of its lineage was known")
                    self._log_notes()
            finally:
                self._lock.release()

    def forget(self) -> None:
        """Leave the child and what it says to the parent."""
        global _latest
        _latest = None
        for snapshot, _ in self._sources:
            snapshot.forget()
        self._sources = []

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._log_findings()
        finally:
            self._is_done.set()

    def _log_findings(self) -> None:
        sources = self._sources
        for snapshot, _ in sources:
            snapshot.wait_before_start()
            snapshot.start()
        found = (one for snapshot, kinds in sources for one in snapshot.findings() if one.of in {"", *kinds})
        for finding in found:
            with self._lock:
                if self._is_over:
                    return
                try:
                    self._take(finding)
                except Exception as error:  # a full disk, a strict tracker: this thread has nobody to tell
                    self._notes.append(f"{finding.kind}: not logged: {error}")
        with self._lock:
            if not self._is_over:
                self._is_over = True
                if not all(snapshot.is_off for snapshot, _ in sources):
                    with contextlib.suppress(Exception):  # the last thing; a note on it would go the same way
                        self._log_notes()

    def _take(self, finding: Finding) -> None:
        if finding.kind == "note":
            self._notes.append(str(finding.data["text"]))
        elif finding.kind == "artifact":
            self._log_file(finding)
        else:
            self._log_context(finding)

    def _log_context(self, finding: Finding) -> None:
        kind, data = finding.kind + self._suffix, dict(finding.data)
        known = self._known.setdefault(kind, {})
        if not finding.is_part:
            # Readers put later facts over earlier ones, key by key: what is no longer so has to be said.
            data |= dict.fromkeys(known.keys() - data.keys())
        if any(known.get(key, ...) != value for key, value in data.items()):
            known.update(data)
            self._recorder.add(ev.Context(kind=kind, data=data))

    def _log_file(self, finding: Finding) -> None:
        name = str(finding.data["name"])
        if self._has_already(finding):
            return
        source = finding.data.get("source")
        if isinstance(source, str):
            self._recorder.artifact(Path(source), name, "code", copy=True)
            return
        directory = self._recorder.path / "artifacts"
        make_directory(directory)
        young = directory / f".young-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            young.write_bytes(finding.content)
            self._recorder.artifact(young, name, "code", copy=True)
        finally:
            young.unlink(missing_ok=True)

    def _has_already(self, finding: Finding) -> bool:
        """Tell whether an earlier process logged the same content, for a run that goes on."""
        known = self._known.get(finding.of, {})
        hashes = cast("Mapping[str, object]", known.get("locks_sha256") or {})
        return finding.data["sha256"] in {known.get("diff_sha256"), *hashes.values()}

    def _log_notes(self) -> None:
        if self._notes or not self._suffix:
            data: dict[str, object] = {
                "notes": [text(note) for note in self._notes],
                "took_ms": round(1000 * (time.monotonic() - self._began)),
            }
            if self._known.get("lineage", {}).get("notes") != data["notes"]:
                self._recorder.add(ev.Context(kind=f"lineage{self._suffix}", data=data))


def wanted_kinds(options: Options, environment: Mapping[str, str]) -> frozenset[str]:
    """Return what this process captures: all if it is rank 0, its host if it is the first rank there."""
    if options.lineage is False:
        return frozenset({"git"}) if options.diff and not options.rank else frozenset()
    if options.rank == 0:
        return KINDS - options.skip
    return frozenset({"hardware"}) if local_rank(environment) == "0" else frozenset()


def _prefixes(origin: Origin) -> list[str]:
    """Return where the Python that runs is installed, and what pip has made for it."""
    if origin.interpreter is None:
        return [sys.prefix, sys.base_prefix]
    return [str(Path(origin.interpreter).parents[1])] if origin.interpreter else []


def _as_json(order: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(order, default=str)
    except TypeError:  # a path that is no UTF-8
        import json

        return json.dumps(order, default=str).encode()


def _sources(order: bytes, kinds: frozenset[str]) -> list[tuple[Snapshot, frozenset[str]]]:
    """Return what says where a run comes from: a child of its own, and what another one said just now."""
    global _latest
    environment, rest = dict(os.environ), kinds - {"git"}
    old = _latest
    is_same = old is not None and (old.order, old.environment) == (order, environment) and rest <= old.kinds
    if old is not None and rest and is_same and old.join(FRESH_S):
        sources, kinds = [(old, rest)], kinds - rest
    else:
        sources = []
    if kinds:
        new = Snapshot(order, environment, kinds)
        new.join(FRESH_S)
        _latest = _latest if sources else new
        sources.append((new, kinds))
    return sources
