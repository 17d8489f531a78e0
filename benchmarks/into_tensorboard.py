"""Points into TensorBoard's event files: ``python -m benchmarks.into_tensorboard [rounds]``.

The same job for each: 50,000 calls of three scalars. The sink takes them from a finished log, reading,
checking and delivering included; the others get them from memory. tensorboardX is no dependency: install
it to see it measured. Rounds are interleaved, and each writer runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.replay import write_log
from benchmarks.report import describe, environment, medians, number, table

CALLS, KEYS = 50_000, ("loss", "accuracy", "lr")
TITLES = {
    "evlog": "evlog, from the log to the file",
    "evlog_sink": "evlog, the sink alone, from memory",
    "tensorboardX": "tensorboardX, add_scalar from memory",
    "tensorboard": "TensorBoard's EventFileWriter from memory",
}
Figures = dict[str, float]


def measure(rounds: int) -> dict[str, object]:
    """Return the rounds' figures by writer, and the reasons of those that could not be measured."""
    results: dict[str, list[Figures]] = {name: [] for name in TITLES}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="evlog-bench-") as name:
        run = write_log(Path(name) / "log", CALLS)
        for turn in range(rounds):
            for writer in TITLES:
                if writer in skipped:
                    continue
                target = Path(name) / f"{writer}-{turn}"
                command = [sys.executable, "-m", "benchmarks.into_tensorboard", writer, str(run), str(target)]
                child = subprocess.run(command, capture_output=True, text=True, check=False)
                if child.returncode:
                    skipped[writer] = (child.stderr.strip().splitlines() or ["failed"])[-1]
                    continue
                results[writer].append(json.loads(child.stdout))
    return {"rounds": {name: found for name, found in results.items() if found}, "skipped": skipped}


def from_log(run: Path, target: Path) -> float:
    """Deliver the run as ``evlog sync`` does; return seconds."""
    from eventlog.delivery.pump import deliver_run
    from sinks.tensorboard import TensorBoardSink

    begin = time.perf_counter()
    deliver_run(run, TensorBoardSink(log_dir=target), "tensorboard", restart=True)
    return time.perf_counter() - begin


def from_memory(run: Path, target: Path) -> float:
    """Give the sink the events that were read before; return seconds."""
    from eventlog.sink import Batch, RunInfo, RunStatus
    from eventlog.storage.merge import RunReader
    from sinks.tensorboard import TensorBoardSink

    slices = list(RunReader(run).slices())
    sink = TensorBoardSink(log_dir=target)
    begin = time.perf_counter()
    sink.open(RunInfo(project="bench", run_id="long", path=run))
    for part in slices:
        sink.write(Batch([part]))
    sink.state()
    sink.close(RunStatus(status="finished"))
    return time.perf_counter() - begin


def tensorboardx(run: Path, target: Path) -> float:  # noqa: ARG001 - the shape of a writer
    """Write with tensorboardX; return seconds."""
    from tensorboardX import SummaryWriter

    begin = time.perf_counter()
    writer = SummaryWriter(str(target))
    for step in range(CALLS):
        for index, key in enumerate(KEYS):
            writer.add_scalar(key, step * 0.5 + index, step)
    writer.close()
    return time.perf_counter() - begin


def tensorboard(run: Path, target: Path) -> float:  # noqa: ARG001 - the shape of a writer
    """Write with TensorBoard's own writer, one event a call; return seconds."""
    from benchmarks.peers import open_tensorboard

    begin = time.perf_counter()
    session = open_tensorboard(target)
    for step in range(CALLS):
        session.log({key: step * 0.5 + index for index, key in enumerate(KEYS)}, step)
    session.close()
    return time.perf_counter() - begin


WRITERS: dict[str, Callable[[Path, Path], float]] = {
    "evlog": from_log,
    "evlog_sink": from_memory,
    "tensorboardX": tensorboardx,
    "tensorboard": tensorboard,
}


def show(results: dict[str, object]) -> None:
    """Print medians as a Markdown table."""
    rounds, skipped = results["rounds"], results["skipped"]
    assert isinstance(rounds, dict)
    assert isinstance(skipped, dict)
    found = {name: medians(figures) for name, figures in rounds.items()}
    peer = found.get("tensorboardX", {}).get("points_per_s")
    rows = [
        [
            TITLES[name],
            number(values["points_per_s"], 0),
            number(values["size_bytes"] / 1e6),
            f"{values['points_per_s'] / peer:.1f}" if peer else "-",
        ]
        for name, values in found.items()
    ]
    print(describe(environment()), end="\n\n")
    print(table(["", "points/s", "MB", "to tensorboardX"], rows))
    for name, reason in skipped.items():
        print(f"\nleft out: {TITLES[name]}: {reason}")


def main(arguments: list[str]) -> None:
    """Measure; with a writer's name, a run and a directory, be the process that is measured."""
    if len(arguments) == 3:
        name, run, target = arguments
        seconds = WRITERS[name](Path(run), Path(target))
        size = sum(path.stat().st_size for path in Path(target).rglob("*tfevents*"))
        print(json.dumps({"points_per_s": CALLS * len(KEYS) / seconds, "size_bytes": size}))
        return
    show(measure(int(arguments[0]) if arguments else 5))


if __name__ == "__main__":
    main(sys.argv[1:])
