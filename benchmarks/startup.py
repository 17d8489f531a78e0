"""What it costs to have a run at all: import, first call, close; and the memory of such a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

Figures = dict[str, float]

NOTHING = "pass"
IMPORT = "import eventlog"
EMPTY_RUN = """
import sys
from eventlog import create_tracker
with create_tracker("local", output_dir=sys.argv[1]) as tracker:
    tracker.log_metrics({"loss": 0.5}, step=0)
"""
PEAK = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def measure_startup(directory: Path, rounds: int) -> list[Figures]:
    """Return, for each round, the wall time of three processes in turn."""
    environment = _with_bytecode(directory / "bytecode")
    scripts = {"pass_ms": NOTHING, "import_ms": IMPORT, "empty_run_ms": EMPTY_RUN}
    for script in scripts.values():
        _run(script, directory / "warm-up", environment)
    results = []
    for number in range(rounds):
        figures = {}
        for name, script in scripts.items():
            begin = time.perf_counter()
            _run(script, directory / f"{name}-{number}", environment)
            figures[name] = 1000 * (time.perf_counter() - begin)
        figures["empty_run_extra_ms"] = figures["empty_run_ms"] - figures["pass_ms"]
        results.append(figures)
    return results


def measure_memory(directory: Path) -> Figures:
    """Return the peak resident set of a process with an empty run, and of one with nothing."""
    environment = _with_bytecode(directory / "bytecode")
    return {
        "pass_mb": float(_run(NOTHING + PEAK, directory, environment)) * 1024 / 1e6,
        "empty_run_mb": float(_run(EMPTY_RUN + PEAK, directory / "memory", environment)) * 1024 / 1e6,
    }


def _with_bytecode(cache: Path) -> dict[str, str]:
    """Return an environment in which bytecode is kept, as it is for an installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": str(cache)}


def _run(script: str, directory: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", script, str(directory)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
