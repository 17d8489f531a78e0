"""What lineage, system metrics and console capture cost a job: ``python -m benchmarks.lineage [--quick]``.

Every figure comes from processes of their own, the variants in turn, so that a busy machine is busy for all
of them. Figures are medians; a loop is compared with the one without anything of the same round. Its length
follows other processes on the machine; what its own process and its children computed besides does not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import report

Figures = dict[str, float]
VARIANTS: dict[str, dict[str, object]] = {
    "nothing": {"lineage": False, "system": False},
    "lineage": {"lineage": True, "system": False},
    "all": {"lineage": True, "system": True, "console": True},
    "often": {"lineage": True, "system": True, "system_interval_s": 1.0, "console": True},
}
TITLES = {
    "nothing": "nothing",
    "lineage": "lineage",
    "all": "lineage, system metrics every 15 s, console",
    "often": "the same with system metrics every second",
}
START = """
import json, resource, sys, time
from eventlog import create_tracker
options = json.loads(sys.argv[2])
tracker = create_tracker("local", output_dir=sys.argv[1], **options)
wall, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
tracker.start_run()
tracker.log_metrics({"loss": 0.5}, step=0)
figures = {"first_call_ms": time.perf_counter() - wall, "thread_ms": time.thread_time() - thread}
time.sleep(1.0)
figures["process_ms"] = time.process_time() - process
ending = time.perf_counter()
tracker.end_run()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
figures["child_ms"] = used.ru_utime + used.ru_stime
print(json.dumps({name: 1000 * value for name, value in figures.items()}))
"""
LOOP = """
import json, resource, sys, time
import numpy as np
from eventlog import create_tracker
options, steps, products = json.loads(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
left, right = rng.random((256, 256)), rng.random((256, 256))
tracker = create_tracker("local", output_dir=sys.argv[1], **options)
begin, thread, process = time.perf_counter(), time.thread_time(), time.process_time()
tracker.start_run()
for step in range(steps):
    for _ in range(products):
        left @ right
    tracker.log_metrics({"loss": 0.5, "accuracy": 0.5}, step)
    if step % 100 == 0:
        print(f"step {step} of {steps}", file=sys.stderr)
total = time.perf_counter() - begin
thread, process = time.thread_time() - thread, time.process_time() - process
tracker.end_run()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
children = used.ru_utime + used.ru_stime
figures = {"loop": total, "thread": thread, "beside": process - thread, "children": children}
print(json.dumps({name: 1000 * value for name, value in figures.items()}))
"""
CALIBRATE = """
import time
import numpy as np
rng = np.random.default_rng(0)
left, right = rng.random((256, 256)), rng.random((256, 256))
times = []
for _ in range(50):
    begin = time.perf_counter()
    left @ right
    times.append(time.perf_counter() - begin)
print(max(1, round(0.005 / sorted(times)[25])))
"""
EMPTY = """
import json, sys
from eventlog import create_tracker
with create_tracker("local", output_dir=sys.argv[1], **json.loads(sys.argv[2])) as tracker:
    tracker.log_metrics({"loss": 0.5}, step=0)
"""


class Bench:
    """Runs scripts below *directory*, all with kept bytecode and one thread for the mathematics."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._number = directory, 0
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EVLOG_")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._environment = {**kept, **one, "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}

    def run(self, script: str, variant: str, *words: str) -> str:
        """Return what *script* prints, run from the directory that we are in."""
        self._number += 1
        words = (str(self._directory / str(self._number)), json.dumps(VARIANTS[variant]), *words)
        command = [sys.executable, "-c", script, *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return done.stdout

    def figures(self, script: str, variant: str, *words: str) -> Figures:
        """Return what *script* prints as figures."""
        return {name: float(value) for name, value in json.loads(self.run(script, variant, *words)).items()}


def measure(bench: Bench, rounds: int, steps: int, variants: Sequence[str]) -> dict[str, list[Figures]]:
    """Return the figures of each variant, one entry a round; without *steps* those of starts alone."""
    found: dict[str, list[Figures]] = {name: [] for name in variants}
    products = bench.run(CALIBRATE, "nothing").strip()
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
        for variant in variants:
            if steps:
                figures = bench.figures(LOOP, variant, str(steps if number else 50), products)
            else:
                figures = bench.figures(START, variant)
                begin = time.perf_counter()
                bench.run(EMPTY, variant)
                figures["empty_ms"] = 1000 * (time.perf_counter() - begin)
            if number:  # the first round compiles and warms up
                found[variant].append(figures)
    return found


def table_of_starts(found: dict[str, list[Figures]]) -> str:
    """Return medians as a Markdown table."""
    columns = {
        "first_call_ms": ("start until the first call returned, ms", 1),
        "thread_ms": ("CPU of that thread, ms", 1),
        "process_ms": ("CPU of the job in the first second, ms", 1),
        "child_ms": ("CPU of its children, ms", 0),
        "empty_ms": ("an empty run in all, ms", 0),
    }
    rows = []
    for variant, rounds in found.items():
        middle = report.medians(rounds)
        rows.append(
            [TITLES[variant], *(report.number(middle[name], digits) for name, (_, digits) in columns.items())]
        )
    return report.table(["", *(title for title, _ in columns.values())], rows)


def table_of_loops(found: dict[str, list[Figures]]) -> str:
    """Return each variant's share of the loop without anything, the median of the rounds, in percent."""
    columns: dict[str, Callable[[Figures], float]] = {
        "its length, %": lambda one: one["loop"],
        "CPU of the calling thread, %": lambda one: one["thread"],
        "CPU of the job's other threads, %": lambda one: one["beside"],
        "CPU of its children, %": lambda one: one["children"],
        "all that was computed beside the loop, %": lambda one: one["beside"] + one["children"],
    }
    rows = []
    for variant, rounds in found.items():
        cells = []
        for measured in columns.values():
            pairs = zip(rounds, found["nothing"], strict=True)
            shares = [100 * (measured(one) - measured(base)) / base["loop"] for one, base in pairs]
            cells.append(f"{statistics.median(shares):+.2f}")
        rows.append([TITLES[variant], *cells])
    return report.table(["a loop of 5 ms steps, as against nothing", *columns], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lineage", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one round of a short loop")
    parser.add_argument("--rounds", type=int, default=5, help="of loops; of starts three times as many")
    parser.add_argument("--steps", type=int, default=9000, help="of a loop, 5 ms each")
    options = parser.parse_args()
    rounds, steps = (1, 50) if options.quick else (options.rounds, options.steps)
    about = report.environment()
    with tempfile.TemporaryDirectory(prefix="evlog-bench-") as name:
        bench = Bench(Path(name))
        starts = measure(bench, 1 if options.quick else 3 * rounds, 0, ["nothing", "lineage", "all"])
        loops = measure(bench, rounds, steps, ["nothing", "all", "often"])
    print(f"{report.describe(about)}\n\n{table_of_starts(starts)}\n\n{table_of_loops(loops)}")


if __name__ == "__main__":
    main()
