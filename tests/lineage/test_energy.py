"""Energy and memory, from files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventlog.lineage.load.energy import Meter, Processors
from eventlog.lineage.load.processes import container_memory


def zone(powercap: Path, number: str, name: str, microjoules: int) -> Path:
    path = powercap / f"intel-rapl:{number}"
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")
    (path / "max_energy_range_uj").write_text("1000000000\n")
    return path


def test_processors_add_up_zones_that_do_not_contain_each_other(tmp_path: Path) -> None:
    """Packages and the memory beside them count; cores and the whole platform would count twice."""
    names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    for number, name in names.items():
        zone(tmp_path, number, name, 1_000_000)
    processors = Processors(tmp_path)
    processors.read()
    before = processors.joules
    for number, name in names.items():
        zone(tmp_path, number, name, 3_000_000)
    processors.read()

    assert (before, processors.joules) == (None, 6.0)


def test_a_counter_that_begins_anew_goes_on(tmp_path: Path) -> None:
    """At its limit a counter starts from 0."""
    zone(tmp_path, "0", "package-0", 999_000_000)
    processors = Processors(tmp_path)
    processors.read()
    zone(tmp_path, "0", "package-0", 2_000_000)
    processors.read()

    assert processors.joules == pytest.approx(3.0)


def test_processors_that_only_root_may_read_have_no_energy(tmp_path: Path) -> None:
    """That is usual, and no error."""
    (zone(tmp_path, "0", "package-0", 1) / "energy_uj").unlink()
    processors = Processors(tmp_path)
    processors.read()
    processors.read()

    assert processors.joules is None


def test_power_is_integrated_evenly_between_readings() -> None:
    """100 W, then 200 W ten seconds later, are 1,500 J."""
    meter = Meter()
    meter.read_power(100, 0.0)
    before = meter.joules
    meter.read_power(200, 10.0)

    assert (before, meter.joules) == (None, 1500.0)


def test_a_containers_memory_is_that_of_its_limit(tmp_path: Path) -> None:
    """What the system would give back of files is not in use."""
    group = tmp_path / "pod"
    group.mkdir()
    (group / "memory.max").write_text("1000000\n")
    (group / "memory.current").write_text("700000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 200000\n")

    assert container_memory(10**9, tmp_path, "0::/pod\n") == (500_000, 1_000_000)
    assert container_memory(10**5, tmp_path, "0::/pod\n") is None, "no limit below the machine's"
    (group / "memory.max").write_text("max\n")
    assert container_memory(10**9, tmp_path, "0::/pod\n") is None


def test_a_containers_memory_is_found_in_the_older_tree(tmp_path: Path) -> None:
    """In a container the group's path is that of the host; then the top counts."""
    top = tmp_path / "memory"
    top.mkdir()
    (top / "memory.limit_in_bytes").write_text("1000\n")
    (top / "memory.usage_in_bytes").write_text("600\n")
    (top / "memory.stat").write_text("total_inactive_file 100\n")

    assert container_memory(10**9, tmp_path, "9:cpu:/x\n8:memory:/docker/abc\n") == (500, 1000)
