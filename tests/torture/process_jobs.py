"""Ways to have many processes or interpreters that are too slow to be forked by the thousand.

Each job is a process of its own (``python -m tests.torture.process_jobs <job> <directory> <seed>``), in which
several others log into one run, each as a rank of its own. A round is one of them.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torture.process_lives import RUN, tracker_in
from tests.torture.process_notes import BEGUN, CALLS, FIRST_CHILD, RETURNED, Notes

ENDS = ["end_run", "return", "os._exit", "SystemExit"]
LIMIT_S = 120.0


def work(root: str, rank: int, end: str) -> None:
    """Log a few calls as *rank*, and end."""
    import os

    notes, tracker = Notes(Path(root) / "notes"), tracker_in(Path(root), random.Random(rank), rank=rank)
    tracker.start_run(RUN)
    for number in range(20 + rank):
        at = (FIRST_CHILD + rank) * CALLS + number
        notes.marks[at] = BEGUN
        tracker.log_metrics({"a": FIRST_CHILD + rank, "x": number + 0.5}, number)
        notes.marks[at] = RETURNED
    if end == "end_run":
        tracker.end_run()
    elif end == "os._exit":
        os._exit(0)
    elif end == "SystemExit":
        raise SystemExit(0)


def processes(method: str, root: str, chance: random.Random, count: int) -> int:
    """Let *count* processes of one start method log at the same time."""
    context: Any = multiprocessing.get_context(method)  # each kind has a class of its own
    if method == "forkserver":
        context.set_forkserver_preload(["tests.torture.process_jobs"])
    started = [
        context.Process(target=work, args=(root, rank, chance.choice(ENDS))) for rank in range(1, count + 1)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(LIMIT_S)
    codes = [one.exitcode for one in started]
    if any(codes):
        raise AssertionError(f"{method}: they ended with {codes}")
    return count


class _Samples:
    """A data set whose workers log."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        work(self.root, index + 1, "end_run")
        return index


def loader(root: str, chance: random.Random, method: str) -> int:
    """Let the workers of a DataLoader log, beside a parent that logs as rank 0."""
    from torch.utils.data import DataLoader

    tracker = tracker_in(Path(root), chance, rank=0)
    tracker.start_run(RUN)
    samples: Any = _Samples(root)  # to mypy a wrong Dataset where torch is installed, and nothing elsewhere
    loaded: Any = DataLoader(samples, num_workers=2, batch_size=1, multiprocessing_context=method)
    seen = sorted(int(batch) for batch in loaded)
    tracker.end_run()
    if seen != [0, 1]:
        raise AssertionError(f"the loader gave {seen}")
    return 2


def interpreters(root: str, count: int) -> int:
    """Let interpreters within one process log, one after the other."""
    import _xxsubinterpreters as inner  # type: ignore[import-not-found]

    for rank in range(1, count + 1):
        one = inner.create()
        path = f"import sys; sys.path[:] = {sys.path!r}; from tests.torture.process_jobs import work; "
        inner.run_string(one, f"{path}work({root!r}, {rank}, 'end_run')")
        inner.destroy(one)
    return count


JOBS: dict[str, Callable[[str, random.Random], int]] = {
    "spawn": lambda root, chance: processes("spawn", root, chance, 4),
    "forkserver": lambda root, chance: processes("forkserver", root, chance, 16),
    "multiprocessing fork": lambda root, chance: processes("fork", root, chance, 16),
    "DataLoader by fork": lambda root, chance: loader(root, chance, "fork"),
    "DataLoader by spawn": lambda root, chance: loader(root, chance, "spawn"),
    "subinterpreters": lambda root, _: interpreters(root, 4),
}
SHARES = {
    "spawn": 30,
    "forkserver": 100,
    "multiprocessing fork": 100,
    "DataLoader by fork": 5,
    "DataLoader by spawn": 2,
    "subinterpreters": 10,
}
"""How often each job is done in the long form."""


def why_not(job: str) -> str | None:
    """Return why *job* cannot be done here, or None."""
    if job.startswith("DataLoader") and importlib.util.find_spec("torch") is None:
        return f"{job}: torch is not installed"
    if job == "subinterpreters" and sys.version_info[:2] != (3, 11):
        return f"{job}: the packages that the log needs do not load in those of Python {sys.version_info[1]}"
    return None


def main() -> None:
    """Do one job, and print how many logged in it."""
    job, root, seed = sys.argv[1:]
    sys.stdout.write(f"{JOBS[job](root, random.Random(seed))}\n")


if __name__ == "__main__":
    main()
