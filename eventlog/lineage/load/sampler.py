"""Measures the machine and this process's share of it while a run goes on.

One daemon thread; the packages that it needs are imported there. Of each kind of value, what cannot be read
is left out after one note. The numbers of the process are those of it and of all processes that it started.

| key | meaning |
|---|---|
| ``cpu/percent`` | of the process; 100 is one processor, busy all the time since the last sample |
| ``memory/rss_bytes`` | of the process, what is shared counted for each |
| ``memory/used_bytes``, ``memory/percent`` | of the machine, or of the container if it has a limit |
| ``disk/read_bytes``, ``disk/write_bytes`` | by the process from and to disks, since the first sample |
| ``disk/free_bytes`` | where the run lies |
| ``network/sent_bytes``, ``network/received_bytes`` | by the machine, since the first sample |
| ``gpu/<i>/…`` | see `eventlog.lineage.load.gpus` |
| ``energy_kwh`` | of GPUs and processors, since the first sample |
"""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Mapping

from eventlog import events as ev
from eventlog.errors import EvlogError, warn_once
from eventlog.lineage.running import Options, Recorder, local_rank
from eventlog.storage.system import host_name

INTERVAL_S = 15.0
FIRST_AFTER_S = 2.0
"""Runs that are over sooner pay nothing."""
MIN_INTERVAL_S = 0.1
MEASURED_BY = "EVLOG_MEASURED"
"""Set by ``evlog run`` to host and run that it measures itself, for the processes that it starts."""


def is_first_of_host(environment: Mapping[str, str]) -> bool:
    """Tell whether this process is the one of its host that measures the host."""
    return local_rank(environment) in (None, "0")


def is_wanted(wanted: bool | None, run_id: str, environment: Mapping[str, str]) -> bool:
    """Tell whether this process measures, as far as that is known without reading a file.

    Args:
        wanted: what the program says; None leaves it to ``EVLOG_SYSTEM``, and that to ``evlog.toml``.
    """
    if environment.get(MEASURED_BY) == f"{host_name()}/{run_id}":
        return False  # `evlog run` around this process does it
    said = environment.get("EVLOG_SYSTEM", "").strip().lower()
    return wanted if wanted is not None else said not in ("0", "false", "no", "off")


class Sampler:
    """Logs `system` events of one run from a thread of its own: a part of `eventlog.lineage.running.Running`.

    Of several runs that are active in a process, the outermost one gets them.

    Args:
        first_after_s: seconds until the first sample.
    """

    def __init__(self, run: Recorder, options: Options, *, first_after_s: float = FIRST_AFTER_S) -> None:
        self._run, self._options, self._first_after_s = run, options, first_after_s
        self._is_first = is_first_of_host(os.environ)
        self._notes: list[str] = []
        self._over = threading.Event()
        self._has_ended = threading.Event()

    def begin(self) -> None:
        """Start the thread, unless another run of this process is measured already."""
        global _of_process
        if _of_process is not None:
            self._has_ended.set()
            return
        # Not a `Thread`: its start waits until the thread runs, 5 ms where the processors are busy.
        _thread.start_new_thread(self._work, ())
        _of_process = self

    def end(self, timeout_s: float) -> None:
        """Take a last sample, if there was one, and stop."""
        global _of_process
        if _of_process is self:
            _of_process = None
        self._over.set()
        self._has_ended.wait(timeout_s)

    def forget(self) -> None:
        """Leave it to the parent."""
        global _of_process
        _of_process = None

    def _work(self) -> None:
        try:
            # Nothing is imported or read before: runs that are over by then pay for no more than a thread.
            if not self._over.wait(min(self._first_after_s, self._options.system_interval_s)):
                self._measure()
        except Exception as error:  # whatever the system says: the training must go on
            warn_once("evlog system", f"the machine's load is not measured any more: {error!r}")
        finally:
            self._has_ended.set()

    def _measure(self) -> None:
        from eventlog.lineage.load.readings import Readings

        interval_s = self._interval_s()
        if interval_s is None:
            return
        of_command = self._options.command is not None
        readings = Readings(self._run.path, self._note, of_host=self._is_first, of_command=of_command)
        is_over = False
        while True:
            values = readings.read()
            if values:
                self._run.add(ev.System(data=values))
            if is_over:
                break
            is_over = self._over.wait(interval_s)
        readings.close()

    def _interval_s(self) -> float | None:
        """Return the seconds between samples, or None if ``evlog.toml`` wants none."""
        from eventlog.lineage.load.table import SystemTable, read_system_table

        try:
            table = read_system_table(self._options.root)
        except EvlogError as error:
            warn_once("evlog system", f"{error} The machine's load is measured every {INTERVAL_S:g} s.")
            table = SystemTable()
        if not table.enabled and not self._options.system and not os.environ.get("EVLOG_SYSTEM"):
            return None
        given = self._options.system_interval_s
        return max(MIN_INTERVAL_S, table.interval_s if given == INTERVAL_S else given)

    def _note(self, text: str) -> None:
        """Add to the notes of the run's lineage; all of them each time, for the last event counts."""
        self._notes.append(text)
        self._run.add(ev.Context(kind="lineage", data={"system_notes": list(self._notes)}))


_of_process: Sampler | None = None
