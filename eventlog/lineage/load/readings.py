"""All that is measured of a machine and of this process's share of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from eventlog.lineage.load.energy import JOULES_PER_KWH, Processors
from eventlog.lineage.load.gpus import Gpus

Values = dict[str, int | float | str]


class Readings:
    """Reads everything once each time; what needs a reading before counts from the first. For one thread.

    Args:
        of_host: measure the machine, its GPUs and its energy too: for one rank of each host.
        of_command: this process only waits for the one that is to be measured.
    """

    def __init__(
        self, run: Path, note: Callable[[str], object], *, of_host: bool = True, of_command: bool = False
    ) -> None:
        self._run, self._note = run, note
        self._gpus: Gpus | None = None
        self._processors = Processors() if of_host else None
        self._probes: list[tuple[str, Callable[[], Values]]] = self._of_processes(
            of_host=of_host, of_command=of_command
        )
        if of_host:
            self._gpus = Gpus(note)
            self._probes += [
                ("disk/free_bytes", self._free),
                ("gpu", self._gpu),
                ("energy_kwh", self._energy),
            ]

    def _of_processes(self, *, of_host: bool, of_command: bool) -> list[tuple[str, Callable[[], Values]]]:
        try:
            from eventlog.lineage.load import processes
        except ImportError:
            self._note("processes and memory are not measured: pip install 'evlog[system]'")
            return []
        tree = processes.ProcessTree(with_children=of_host, with_self=not of_command)
        if not of_host:
            return [("process", tree.read)]
        return [
            ("process", tree.read),
            ("disk", tree.read_disk),
            ("memory", processes.memory),
            ("network", processes.Network().read),
        ]

    def read(self) -> Values:
        """Return all that can be read."""
        values: Values = {}
        for name, probe in list(self._probes):
            try:
                values |= probe()
            except Exception as error:  # it costs its own values and nothing else
                self._probes = [one for one in self._probes if one[0] != name]
                self._note(f"{name} is not measured: {error or type(error).__name__}")
        return values

    def _free(self) -> Values:
        return {"disk/free_bytes": shutil.disk_usage(self._run).free}

    def _gpu(self) -> Values:
        return dict(self._gpus.read(time.monotonic())) if self._gpus is not None else {}

    def _energy(self) -> Values:
        """Return the energy so far, of all devices that tell theirs."""
        assert self._processors is not None
        self._processors.read()
        known = [device.joules for device in (self._processors, self._gpus) if device is not None]
        joules = [one for one in known if one is not None]
        return {"energy_kwh": sum(joules) / JOULES_PER_KWH} if joules else {}

    def close(self) -> None:
        """Let go of the devices."""
        if self._gpus is not None:
            self._gpus.close()
