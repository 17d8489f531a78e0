"""What is measured while a run goes on."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog import EvlogWarning, Tracker
from eventlog.devices import visible_devices
from eventlog.events import Context, System
from eventlog.lineage.load import sampler
from eventlog.lineage.load.readings import Readings
from eventlog.lineage.load.sampler import MEASURED_BY, Sampler, is_first_of_host, is_wanted
from eventlog.replay import open_run, view
from eventlog.storage.system import host_name
from tests.lineage.support import with_nvml
from tests.tracker.support import logged, only_run, run_job
from tests.waiting import wait_until

OF_PROCESS = {"cpu/percent", "memory/rss_bytes"}
OF_HOST = {
    *("memory/used_bytes", "memory/percent", "disk/read_bytes", "disk/write_bytes", "disk/free_bytes"),
    *("network/sent_bytes", "network/received_bytes"),
}
FAKE_NVML = """
    import os

    class NVMLError(Exception):
        pass

    class _Load:
        gpu = 87

    class _Memory:
        used, total = 5 << 30, 80 << 30

    def nvmlInit(): ...
    def nvmlShutdown(): ...
    def nvmlDeviceGetCount(): return 2
    def nvmlDeviceGetHandleByIndex(index): return index
    def nvmlDeviceGetName(handle): return "NVIDIA A100-SXM4-80GB"
    def nvmlSystemGetDriverVersion(): return "550.1"
    def nvmlSystemGetCudaDriverVersion(): return 12040
    def nvmlDeviceGetUtilizationRates(handle): return _Load
    def nvmlDeviceGetMemoryInfo(handle): return _Memory
    def nvmlDeviceGetTemperature(handle, where): return 61
    def nvmlDeviceGetPowerUsage(handle):
        if handle == 1 and os.environ.get("BROKEN"):
            raise NVMLError("Not Supported")
        return 250_000
    _energy = [0, 0]
    def nvmlDeviceGetTotalEnergyConsumption(handle):
        if os.environ.get("OLD"):
            raise NVMLError("Not Supported")
        _energy[handle] += 3_600_000
        return _energy[handle]
"""
JOB = """
    import time
    from eventlog import create_tracker
    from eventlog.events import System
    from eventlog.replay import events
    tracker = create_tracker("local", output_dir="runs", lineage=False, system_interval_s=0.1)

    def wait(count):
        until = time.monotonic() + 20
        while sum(type(e) is System for e in events(tracker.run_dir)) < count and time.monotonic() < until:
            time.sleep(0.02)

    with tracker.start_run("r"):
        wait(3)
"""


def samples(run: Path) -> list[dict[str, Any]]:
    return [event.data for event in logged(run, System)]


def test_a_run_has_the_load_of_its_process_and_machine(tmp_path: Path) -> None:
    """All that can be measured here is logged again and again, under the documented keys."""
    code, _, err = run_job(JOB, tmp_path)

    found = samples(only_run(tmp_path / "runs"))
    assert (code, err) == (0, "")
    assert len(found) >= 4, "a last one is taken at the end"
    assert set(found[-1]) >= OF_PROCESS | OF_HOST
    assert found[-1]["memory/rss_bytes"] > 10 << 20
    assert 0 < found[-1]["memory/percent"] <= 100
    assert all(0 <= sample["cpu/percent"] < 100 * 64 for sample in found[1:])


def test_a_short_run_is_not_measured(tmp_path: Path) -> None:
    """A run that is over in less than two seconds loads nothing for it and logs nothing of it."""
    code, out, _ = run_job(
        """
        import sys
        from eventlog import create_tracker
        tracker = create_tracker("local", output_dir="runs", lineage=False)
        with tracker.start_run("r"):
            tracker.log_metrics({"loss": 1.0}, 0)
        names = "psutil", "eventlog.lineage.nvidia", "eventlog.lineage.load.readings"
        print([name for name in names if name in sys.modules])
        """,
        tmp_path,
    )

    assert (code, out) == (0, "[]\n")
    assert samples(only_run(tmp_path / "runs")) == []


@pytest.mark.parametrize(
    ("argument", "environment", "wanted"),
    [
        (None, "", True),
        (None, "0", False),
        (None, "off", False),
        (None, "1", True),
        (False, "1", False),
        (True, "0", True),
    ],
)
def test_the_program_says_first_whether_to_measure_then_the_environment(
    argument: bool | None, environment: str, wanted: bool
) -> None:
    """`system=` wins over EVLOG_SYSTEM."""
    assert is_wanted(argument, "r", {"EVLOG_SYSTEM": environment}) is wanted


@pytest.mark.parametrize("table", ["enabled = false", "interval_s = 3600.0", "interval_s = 'often'"])
def test_evlog_toml_says_whether_and_how_often(tmp_path: Path, table: str) -> None:
    """A file that says neither rightly costs one warning, and the run is measured as without it."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "evlog.toml").write_text(f"[system]\n{table}\n")
    code, _, err = run_job(
        """
        import time
        from eventlog import create_tracker
        from eventlog.events import System
        from eventlog.lineage.load import sampler
        from eventlog.replay import events
        sampler.Sampler.__init__.__kwdefaults__["first_after_s"] = 0.05
        tracker = create_tracker("local", output_dir="runs", lineage=False)
        with tracker.start_run("r"):
            has_ended, until = sampler._of_process._has_ended, time.monotonic() + 20
            while not has_ended.is_set() and time.monotonic() < until:
                if any(type(e) is System for e in events(tracker.run_dir)):
                    break
                time.sleep(0.02)
        """,
        tmp_path,
    )

    found = samples(only_run(tmp_path / "runs"))
    assert code == 0
    assert len(found) == (0 if "enabled" in table else 2), "the first and the last"
    assert ("[system]" in err) == ("often" in table)


def test_gpus_and_their_energy_are_measured(tmp_path: Path) -> None:
    """Each GPU has load, memory, power and temperature; the energy of all is added up."""
    run_job(JOB, tmp_path, **with_nvml(tmp_path, FAKE_NVML))

    found = samples(only_run(tmp_path / "runs"))
    assert {key: found[0][key] for key in found[0] if key.startswith("gpu/1/")} == {
        "gpu/1/percent": 87,
        "gpu/1/memory_used_bytes": 5 << 30,
        "gpu/1/power_w": 250,
        "gpu/1/temperature_c": 61,
    }
    steps = [b["energy_kwh"] - a["energy_kwh"] for a, b in itertools.pairwise(found[1:])]
    assert steps == pytest.approx([0.002] * len(steps)), "two counters, 3,600 J each time"


def test_an_old_gpus_energy_is_that_of_its_power(tmp_path: Path) -> None:
    """Without a counter the power is integrated over time."""
    run_job(JOB, tmp_path, OLD="1", **with_nvml(tmp_path, FAKE_NVML))

    events = logged(only_run(tmp_path / "runs"), System)
    seconds = (events[-1].ts - events[0].ts) / 1e6
    energy = events[-1].data["energy_kwh"]
    assert isinstance(energy, float)
    assert energy == pytest.approx(2 * 250 * seconds / 3.6e6, rel=0.2)


def test_what_a_gpu_does_not_know_costs_one_note(tmp_path: Path) -> None:
    """The rest of it, and the other GPU, are measured."""
    code, _, err = run_job(JOB, tmp_path, BROKEN="1", **with_nvml(tmp_path, FAKE_NVML))

    run = only_run(tmp_path / "runs")
    notes = [event.data for event in logged(run, Context) if event.kind == "lineage"]
    assert (code, err) == (0, "")
    assert notes == [{"system_notes": ["gpu/1/power_w is not known: Not Supported"]}]
    assert all("gpu/1/power_w" not in one and "gpu/1/percent" in one for one in samples(run))
    assert "gpu/0/power_w" in samples(run)[-1]


def test_only_visible_gpus_are_measured(tmp_path: Path) -> None:
    """A job that was given one GPU of a host does not see the others'."""
    run_job(JOB, tmp_path, CUDA_VISIBLE_DEVICES="1", **with_nvml(tmp_path, FAKE_NVML))

    keys = samples(only_run(tmp_path / "runs"))[-1]
    assert "gpu/1/percent" in keys
    assert not [key for key in keys if key.startswith("gpu/0/")]


@pytest.mark.parametrize(
    ("variables", "numbers"),
    [
        ({}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, []),
        ({"CUDA_VISIBLE_DEVICES": "2, 0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": "1,9,0"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8932f937,GPU-d1f3"}, [0, 1]),
        ({"CUDA_VISIBLE_DEVICES": "1", "LOCAL_WORLD_SIZE": "2"}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "1", "SLURM_NTASKS_PER_NODE": "1(x4)"}, [1]),
    ],
)
def test_visible_devices_are_those_that_cuda_shows(variables: dict[str, str], numbers: list[int]) -> None:
    """The variable counts unless several tasks of the job share the host."""
    assert visible_devices(variables, 3) == numbers


def test_one_rank_of_a_host_measures_the_host(tmp_path: Path) -> None:
    """The others log their own processor time and memory only."""
    run_job(JOB, tmp_path, RANK="1", LOCAL_RANK="1", **with_nvml(tmp_path, FAKE_NVML))

    keys: set[str] = set().union(*samples(only_run(tmp_path / "runs")))
    assert keys == OF_PROCESS
    assert is_first_of_host({"LOCAL_RANK": "0", "RANK": "8"})
    assert is_first_of_host({})
    assert not is_first_of_host({"SLURM_LOCALID": "3"})


def test_processes_that_the_run_starts_count(tmp_path: Path) -> None:
    """A child's processor time and memory are the run's."""
    _, out, _ = run_job(
        """
        import subprocess, sys, time
        from pathlib import Path
        from eventlog.lineage.load.readings import Readings

        readings = Readings(Path("."), print)
        alone = readings.read()["memory/rss_bytes"]
        code = "x = bytearray(200 << 20)\\nprint('there', flush=True)\\nwhile True: pass"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        child.stdout.readline()
        began = readings.read()
        until = time.monotonic() + 20
        busy = 0
        while busy < 30 and time.monotonic() < until:
            time.sleep(0.1)
            busy = readings.read()["cpu/percent"]
        child.kill()
        print(began["memory/rss_bytes"] - alone > 190 << 20, busy >= 30)
        """,
        tmp_path,
    )

    assert out == "True True\n"


def test_nested_runs_are_measured_once(tmp_path: Path) -> None:
    """The outermost run has the samples."""
    run_job(
        JOB.replace(
            "wait(3)", 'tracker.start_run("inner", nested=True); time.sleep(0.3); tracker.end_run(); wait(3)'
        ),
        tmp_path,
    )

    assert len(samples(tmp_path / "runs" / "default" / "r")) >= 3
    assert samples(tmp_path / "runs" / "default" / "inner") == []


def test_a_forked_child_has_no_sampler(tmp_path: Path) -> None:
    """It ends its own life without waiting for a thread that it does not have."""
    code, _, _ = run_job(
        JOB
        + """
        import os
        if not (pid := os.fork()):
            tracker.log_metrics({"child": 1}, 0)
            time.sleep(0.3)
            tracker.end_run()
            os._exit(0)
        os.waitpid(pid, 0)
        wait(5)
        """,
        tmp_path,
    )

    run = only_run(tmp_path / "runs")
    assert code == 0
    assert len(view(run).writers) == 2
    assert len(measuring(run)) == 1


def test_under_evlog_run_the_command_is_measured_once(tmp_path: Path) -> None:
    """`evlog run` measures what it started, without itself; a tracker inside it does not measure again."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "evlog.toml").write_text("[system]\ninterval_s = 0.1\n")
    (tmp_path / "job.py").write_text(textwrap.dedent(JOB) + "    wait(4)\nprint('done')\n")
    words = [sys.executable, "-m", "eventlog", "run", "--dir", "runs", sys.executable, "job.py"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=60, capture_output=True)

    run = only_run(tmp_path / "runs")
    assert len(measuring(run)) == 1
    assert len(view(run).writers) == 2
    assert max(sample.get("memory/rss_bytes", 0) for sample in samples(run)) > 10 << 20


def measuring(run: Path) -> set[str]:
    """Return the writers that have logged what they measured."""
    slices = open_run(run).slices()
    return {row.writer for row in slices if any(isinstance(event, System) for event in row.events)}


def test_only_the_host_and_run_that_are_measured_already_are_left_out() -> None:
    """A command that goes on to other hosts, or starts other runs, is measured there."""
    assert not is_wanted(True, "r", {MEASURED_BY: f"{host_name()}/r"})
    assert is_wanted(None, "other", {MEASURED_BY: f"{host_name()}/r"})
    assert is_wanted(None, "r", {MEASURED_BY: "another-host/r"})


def test_a_probe_that_fails_is_left_out_after_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others go on."""
    import psutil

    def fails(**_: object) -> None:
        raise psutil.AccessDenied(1)

    notes: list[str] = []
    monkeypatch.setattr(psutil, "net_io_counters", fails)
    readings = Readings(tmp_path, notes.append)
    first, second = readings.read(), readings.read()

    assert len(notes) == 1
    assert notes[0].startswith("network is not measured")
    assert "network/sent_bytes" not in first
    assert OF_HOST - {"network/sent_bytes", "network/received_bytes"} <= set(second)


def test_without_psutil_a_note_says_what_to_install(tmp_path: Path) -> None:
    """The disk's room needs no package."""
    (tmp_path / "psutil.py").write_text("raise ImportError('not here')\n")
    run_job(JOB, tmp_path, PYTHONPATH=str(tmp_path))

    run = only_run(tmp_path / "runs")
    notes = [event.data for event in logged(run, Context) if event.kind == "lineage"]
    assert notes == [{"system_notes": ["processes and memory are not measured: pip install 'evlog[system]'"]}]
    assert set().union(*samples(run)) <= {"disk/free_bytes", "energy_kwh"}


def test_a_run_that_could_not_be_measured_leaves_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more threads at one moment is no reason for never measuring again."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    tracker = Tracker((), output_dir=tmp_path, lineage=False, system=True, system_interval_s=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(sampler, "_thread", SimpleNamespace(start_new_thread=refuse))
        with pytest.warns(EvlogWarning, match="no sampler"):
            tracker.start_run("a")
    tracker.end_run()

    with tracker.start_run("b"):
        wait_until(lambda: bool(samples(tmp_path / "default" / "b")), "the second run is measured")


def test_a_sampler_never_raises_into_the_training(tmp_path: Path) -> None:
    """Two ends, an end without a beginning, and a child's `forget` do nothing."""
    from eventlog.lineage.running import Options

    class Nothing:
        path, run_id, project = tmp_path, "r", "p"

    part = Sampler(Nothing(), Options(root=tmp_path))  # type: ignore[arg-type]
    part.end(0.1)
    part.begin()
    part.end(1.0)
    part.end(1.0)
    part.forget()
