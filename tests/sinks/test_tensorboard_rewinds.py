"""Steps that come back: both of TensorBoard's readers show the same series, and it is the right one."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eventlog.events import Event, Metrics, RunStarted
from tests.logs import START_TS, WRITER_A, WRITER_B
from tests.sinks.tb_support import Series, Server, deliver, kept, make_run, scalars, serving
from tests.waiting import wait_until

Call = tuple[int | None, dict[str, float]]


def at(step: int | None, **values: float) -> Call:
    """Return a call that logs *values*."""
    return step, values


SCENARIOS: dict[str, list[Call]] = {
    "forward": [at(step, a=step / 7, b=-step) for step in range(300)],
    "all-go-back": [at(s, a=s, b=2 * s) for s in range(50)] + [at(s, a=s + 0.5, b=-s) for s in range(20, 70)],
    "one-goes-back": [at(s, a=s, b=s) for s in range(50)]
    + [at(s, b=s + 0.5) for s in range(10, 30)]
    + [at(s, a=s) for s in range(50, 60)],
    "back-behind-a-lower-tag": [at(s, a=s) for s in range(5)]
    + [at(0, b=1.0)]
    + [at(s, a=s + 0.5) for s in (2, 3)],
    "own-axis": [
        point
        for epoch in range(5)
        for point in [*(at(epoch * 20 + s, loss=s) for s in range(20)), at(epoch, val=epoch)]
    ],
    "own-axis-goes-back": [at(s, loss=s) for s in range(100)]
    + [at(epoch, val=epoch) for epoch in range(6)]
    + [at(epoch, val=-epoch) for epoch in range(3, 8)]
    + [at(s, loss=s) for s in range(100, 110)],
    "equal-steps": [at(s // 3, a=s, b=s) for s in range(30)],
    "always-the-same-step": [at(7, a=s) for s in range(20)],
    "no-steps": [at(None, a=s, b=s) for s in range(40)] + [at(None, b=s) for s in range(5)],
    "some-without-steps": [at(s, a=s) for s in range(10)] + [at(None, a=50 + s) for s in range(5)],
    "descending": [at(s, a=s) for s in reversed(range(20))],
    "negative": [at(s, a=s) for s in range(-5, 5)] + [at(s, a=s + 0.5) for s in range(-2, 3)],
    "far": [at(s, a=1.0) for s in (-(2**63), -1, 0, 127, 128, 2**31, 2**53, 2**63 - 2, 2**63 - 1)],
    "not-finite": [at(0, a=1.0), at(1, a=math.inf), at(2, a=-math.inf), at(3, a=1e300)],
}
BATCHES = {"whole": 1000, "small": 7, "single": 1}


def events_of(calls: list[Call]) -> list[Event]:
    return [
        RunStarted(name="run"),
        *(
            Metrics(step=step, data={k: v if math.isfinite(v) else _on_disk(v) for k, v in data.items()})
            for step, data in calls
        ),
    ]


def _on_disk(value: float) -> str:
    return "Infinity" if value > 0 else "-Infinity"


def wanted(calls: list[Call]) -> dict[str, Series]:
    """Return what each tag should show."""
    points: dict[str, list[tuple[int, float]]] = {}
    for step, data in calls:
        for tag, value in data.items():
            series = points.setdefault(tag, [])
            number = step if step is not None else series[-1][0] + 1 if series else 0
            series.append((number, value if abs(value) < 1e39 else math.copysign(math.inf, value)))
    return {tag: kept(series) for tag, series in points.items()}


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with every scenario, delivered in batches of each size."""
    root = tmp_path_factory.mktemp("rewinds")
    for name, calls in SCENARIOS.items():
        for batches, size in BATCHES.items():
            run = make_run(root / "logs", events_of(calls), name=f"{batches}/{name}")
            deliver(run, root / "board", batch_events=size)
    _two_ranks(root)
    return root / "board"


def _two_ranks(root: Path) -> None:
    """Deliver a run of two ranks whose calls alternate; each goes back once."""
    for writer, offset in ((WRITER_A, 0), (WRITER_B, 500)):
        steps, begin = [*range(30), *range(10, 40)], START_TS + offset
        run = make_run(
            root / "logs",
            [RunStarted(name="run", ts=begin)]
            + [Metrics(step=s, data={"a": i}, ts=begin + 1000 * i) for i, s in enumerate(steps, 1)],
            name="ranks/both",
            writer=writer,
        )
    deliver(run, root / "board")


@pytest.fixture(scope="module")
def server(log_dir: Path) -> Iterator[Server]:
    """Return a TensorBoard whose data server reads."""
    with serving(log_dir) as server:
        wait_until(lambda: len(server.runs()) == len(SCENARIOS) * len(BATCHES) + 1, "all runs are read")
        yield server


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_python_reader_shows_the_series(log_dir: Path, name: str, batches: str) -> None:
    """The reader in Python shows of each tag what was logged last at each step, in ascending steps."""
    for tag, series in wanted(SCENARIOS[name]).items():
        assert scalars(log_dir / batches / name, tag) == series


@pytest.mark.parametrize("name", SCENARIOS)
def test_data_server_shows_the_series(server: Server, name: str) -> None:
    """The data server shows the same."""
    for batches in BATCHES:
        for tag, series in wanted(SCENARIOS[name]).items():
            read = functools.partial(server.series, f"{batches}/{name}", tag)
            wait_until(functools.partial(_has, read, len(series)), f"{tag} of {batches}/{name}")
            assert read() == series


def _has(read: Callable[[], Series], count: int) -> bool:
    return len(read()) == count


def test_ranks_do_not_disturb_each_other(log_dir: Path, server: Server) -> None:
    """Two ranks whose calls alternate have a series each, and both go back for themselves."""
    series = kept(zip([*range(30), *range(10, 40)], range(1, 61), strict=True))

    for tag in ("a", "rank1/a"):
        assert scalars(log_dir / "ranks/both", tag) == series
        assert server.series("ranks/both", tag) == series
