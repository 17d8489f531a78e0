"""The load of NVIDIA's GPUs, as NVML tells it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from eventlog.devices import visible_devices
from eventlog.lineage.load.energy import Meter
from eventlog.lineage.nvidia import open_nvml

Note = Callable[[str], object]
CHIP = 0
"""NVML_TEMPERATURE_GPU: the only place that every device measures."""


class Gpus:
    """The GPUs that this process, or the ranks of this host, may use. For one thread.

    What a device cannot tell is left out from then on, after one note.

    Args:
        note: called with what could not be read, and why.
    """

    def __init__(self, note: Note) -> None:
        self._note = note
        self._handles: dict[int, Any] = {}
        self._meters: dict[int, Meter] = {}
        self._failed: set[tuple[int, str]] = set()
        self._nvml: Any = open_nvml(note)
        if self._nvml is None:
            return
        for index in visible_devices(os.environ, int(self._nvml.nvmlDeviceGetCount())):
            try:
                self._handles[index] = self._nvml.nvmlDeviceGetHandleByIndex(index)
                self._meters[index] = Meter()
            except Exception as error:  # a device that has fallen off the bus
                note(f"GPU {index} is not measured: {error}")

    def read(self, now_s: float) -> dict[str, float]:
        """Return load, memory, power and temperature of each."""
        nvml, found = self._nvml, {}
        for index, handle in self._handles.items():
            meter = self._meters[index]
            readings: dict[str, Callable[[], float]] = {
                "percent": partial(_load, nvml, handle),
                "memory_used_bytes": partial(_memory, nvml, handle),
                "power_w": partial(_power, nvml, handle),
                "temperature_c": partial(nvml.nvmlDeviceGetTemperature, handle, CHIP),
            }
            for name, reading in readings.items():
                value = self._try(index, name, reading)
                if value is not None:
                    found[f"gpu/{index}/{name}"] = value
            self._meter(index, handle, meter, found.get(f"gpu/{index}/power_w"), now_s)
        return found

    def _meter(self, index: int, handle: Any, meter: Meter, watts: float | None, now_s: float) -> None:
        """Read the counter of energy; older devices have none, then their power has to do."""
        if (index, "energy") not in self._failed:
            try:
                meter.read_counter(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
                return
            except Exception:
                self._failed.add((index, "energy"))
        if watts is not None:
            meter.read_power(watts, now_s)

    def _try(self, index: int, name: str, reading: Callable[[], float]) -> float | None:
        if (index, name) in self._failed:
            return None
        try:
            return reading()
        except Exception as error:  # many a device does not know its power, or parts of one its load
            self._failed.add((index, name))
            self._note(f"gpu/{index}/{name} is not known: {error}")
            return None

    @property
    def joules(self) -> float | None:
        """Return what they took since the first reading, or None if none says so."""
        known = [meter.joules for meter in self._meters.values() if meter.joules is not None]
        return sum(known) if known else None

    def close(self) -> None:
        """Let NVML go."""
        if self._nvml is not None:
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()


def _load(nvml: Any, handle: Any) -> float:
    return float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)


def _memory(nvml: Any, handle: Any) -> int:
    return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)


def _power(nvml: Any, handle: Any) -> float:
    return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000
