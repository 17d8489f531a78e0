"""The energy that devices took since a first look, from counters where there are any, else from their power.

Source: Linux, ``Documentation/power/powercap/powercap.rst``: ``energy_uj`` counts microjoules up to
``max_energy_range_uj`` and begins anew. NVML: ``nvmlDeviceGetTotalEnergyConsumption`` counts millijoules.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
JOULES_PER_KWH = 3.6e6


class Meter:
    """Adds up the energy of one device. Both ways of reading may be used in turn.

    Attributes:
        joules: since the first reading; None as long as nothing was read twice.
    """

    def __init__(self) -> None:
        self.joules: float | None = None
        self._counter: float | None = None
        self._power: tuple[float, float] | None = None

    def read_counter(self, joules: float, limit: float | None = None) -> None:
        """Take the state of a counter, which begins anew after *limit* joules."""
        if self._counter is not None:
            grown = joules - self._counter
            if grown < 0:
                grown = grown + limit if limit is not None and grown + limit >= 0 else 0.0
            self.joules = (self.joules or 0.0) + grown
        self._counter = joules

    def read_power(self, watts: float, now_s: float) -> None:
        """Take the power at a time; between two readings it counts as changing evenly."""
        if self._power is not None:
            before, at_s = self._power
            self.joules = (self.joules or 0.0) + (before + watts) / 2 * max(0.0, now_s - at_s)
        self._power = (watts, now_s)


class Processors:
    """The energy of this machine's processors and their memory, where the system lets us read it."""

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._zones = [(zone, _limit(zone), Meter()) for zone in _zones(powercap)]

    def read(self) -> None:
        """Look at the counters once more."""
        for zone, limit, meter in self._zones:
            # Most systems let only root read it: then there is no such figure.
            with contextlib.suppress(OSError, ValueError):
                meter.read_counter(int((zone / "energy_uj").read_text()) / 1e6, limit)

    @property
    def joules(self) -> float | None:
        """Return what they took since the first look, or None if it cannot be read."""
        known = [meter.joules for _, _, meter in self._zones if meter.joules is not None]
        return sum(known) if known else None


def _zones(powercap: Path) -> list[Path]:
    """Return the zones that do not contain each other: packages, and the memory beside them."""
    found = []
    with contextlib.suppress(OSError):
        for zone in sorted(powercap.glob("intel-rapl:*")):
            with contextlib.suppress(OSError):
                name = (zone / "name").read_text().strip()
                if name == "dram" or name.startswith("package"):
                    found.append(zone)
    return found


def _limit(zone: Path) -> float | None:
    try:
        return int((zone / "max_energy_range_uj").read_text()) / 1e6
    except (OSError, ValueError):
        return None
