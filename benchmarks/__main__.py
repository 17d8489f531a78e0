"""Runs all measurements in rounds, interleaved, and prints medians: ``python -m benchmarks [--quick]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import replay, report, startup
from benchmarks.peers import PEERS
from benchmarks.report import Rounds
from benchmarks.worker import PeerFailedError, run

PARTS = ("calls", "busy", "loop", "throughput", "startup", "replay")


class Plan:
    """How much is measured."""

    def __init__(self, *, quick: bool) -> None:
        self.scale = 0.02 if quick else 1.0
        self.rounds = 1 if quick else 5
        self.startup_rounds = 3 if quick else 15
        self.replay_lines = 20_000 if quick else 1_000_000


def say(words: str) -> None:
    """Tell how far it is, where it does not disturb the tables."""
    print(words, file=sys.stderr, flush=True)


def in_rounds(measurement: str, peers: Sequence[str], plan: Plan, skipped: dict[str, str]) -> Rounds:
    """Measure all *peers* in each round; one that fails is left out of the others, with its reason."""
    results: Rounds = {name: [] for name in peers}
    for number in range(plan.rounds):
        for name in peers:
            if f"{measurement}, {name}" in skipped:
                continue
            say(f"{measurement}, round {number + 1} of {plan.rounds}: {name}")
            try:
                results[name].append(run(measurement, name, plan.scale))
            except PeerFailedError as error:
                skipped[f"{measurement}, {name}"] = str(error)
                say(f"  skipped: {error}")
    return {name: found for name, found in results.items() if found}


def measure(plan: Plan, only: Sequence[str]) -> dict[str, object]:
    """Measure *only* these parts; return rounds, and the reasons of what was left out, by name."""
    skipped: dict[str, str] = {}
    everybody = list(PEERS)
    peers = {
        "calls": everybody,
        "busy": ["nothing", "evlog", "naive"],
        "loop": everybody,
        "throughput": ["evlog", "evlog_local", "naive"],
    }
    results: dict[str, object] = {}
    for part in only:
        if part in peers:
            results[part] = in_rounds(part, peers[part], plan, skipped)
            continue
        say(part)
        with tempfile.TemporaryDirectory(prefix="evlog-bench-") as name:
            directory = Path(name)
            if part == "startup":
                results["startup"] = startup.measure_startup(directory, plan.startup_rounds)
                results["memory"] = [startup.measure_memory(directory)]
            else:
                long = replay.write_log(directory, plan.replay_lines)
                results["replay"] = replay.measure_replay(long, plan.rounds)
    results["skipped"] = skipped
    return results


def print_tables(results: dict[str, object], about: dict[str, object]) -> None:
    """Print what was measured as Markdown."""
    sections = [report.describe(about)]
    latency = {"p50_us": ("p50, µs", 2), "p99_us": ("p99, µs", 2)}
    for key, title, figures in (
        ("calls", "One call with three scalars", {**latency, "bytes_per_call": ("bytes a call", 0)}),
        ("busy", "The same beside a busy Python thread", latency),
        (
            "loop",
            "In a loop of 5 ms steps",
            {"overhead_percent": ("% of the loop", 3), "call_us": ("mean, µs", 1)},
        ),
        (
            "throughput",
            "Until closed and on the disk, 500,000 calls",
            {"calls_per_s": ("calls/s", 0), "close_s": ("of it closing, s", 2)},
        ),
    ):
        rounds = results.get(key)
        if not isinstance(rounds, dict):
            continue
        sections.append(f"### {title}\n\n{report.by_peer(rounds, figures, next(iter(figures)))}")
    if "startup" in results:
        sections.append(f"### Start-up and memory\n\n{_startup_table(results)}")
    if "replay" in results:
        sections.append(f"### Replay\n\n{_replay_table(results)}")
    skipped = results["skipped"]
    assert isinstance(skipped, dict)
    sections += [f"Skipped: {name}: {reason}" for name, reason in skipped.items()]
    print("\n\n".join(sections))


def _startup_table(results: dict[str, object]) -> str:
    times, memory = results["startup"], results["memory"]
    assert isinstance(times, list)
    assert isinstance(memory, list)
    lines = {
        "pass_ms": ("`python -c pass`, ms", 1),
        "import_ms": ("`import eventlog`, ms", 1),
        "empty_run_ms": ("import, one call, end of the run, ms", 1),
        "empty_run_extra_ms": ("the same, less `pass`, ms", 1),
        "pass_mb": ("peak memory of `pass`, MB", 1),
        "empty_run_mb": ("peak memory of the run, MB", 1),
    }
    return report.one_each({**report.medians(times), **report.medians(memory)}, lines)


def _replay_table(results: dict[str, object]) -> str:
    rounds = results["replay"]
    assert isinstance(rounds, list)
    lines = {
        "evlog_events_per_s": ("evlog's reader (verified, typed), events/s", 0),
        "msgspec_crc_events_per_s": ("msgspec and crc alone, events/s", 0),
        "duckdb_events_per_s": ("DuckDB's read_json (all cores, nothing verified), events/s", 0),
    }
    return report.one_each(report.medians(rounds), lines)


def main() -> None:
    """Measure, print, store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure evlog and its peers.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few calls, one round")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of: {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="store all rounds there")
    options = parser.parse_args()
    about = report.environment()
    results = measure(Plan(quick=options.quick), options.only)
    print_tables(results, about)
    if options.json:
        options.json.write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
