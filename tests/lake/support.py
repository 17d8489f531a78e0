"""Roots with runs in them, and lakes as somebody without this project's code reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import msgspec

from eventlog.events import (
    Artifact,
    Checkpoint,
    Console,
    Dataset,
    Evaluation,
    Event,
    Metrics,
    Params,
    RunEnded,
    RunStarted,
    Sample,
    SegmentOpened,
    System,
    Tags,
)
from eventlog.ids import new_ulid
from eventlog.storage.layout import SegmentName
from tests.logs import LogMaker


class RunMaker(LogMaker):
    """Writes the log of one writer of a run, a segment at a time."""

    def __init__(self, root: Path, run_id: str, *, project: str = "demo", rank: int = 0) -> None:
        super().__init__(f"r{rank}-{new_ulid()}")
        self.run_id, self.project = run_id, project
        self.log = root / project / run_id / "log"
        self.log.mkdir(parents=True, exist_ok=True)

    def put(self, events: Sequence[Event], *, is_sealed: bool = True) -> None:
        """Write the next segment."""
        lines = self.segment(events, is_sealed=is_sealed)
        SegmentName(self.writer, self._segment).path(self.log).write_bytes(b"".join(lines))

    def _header(self, format: int) -> SegmentOpened:
        return msgspec.structs.replace(super()._header(format), run_id=self.run_id, project=self.project)


def steps(count: int, *, start: int = 0, key: str = "loss") -> list[Event]:
    """Return metrics of two keys at consecutive steps."""
    return [Metrics(step=s, data={key: 1.0 / (s + 1), "acc": s / 1000}) for s in range(start, start + count)]


def finished(count: int = 20, *, lr: float = 0.1) -> list[Event]:
    """Return all events of a run that ended."""
    return [
        RunStarted(name="n", tags={"owner": "ada", "gpu": None}),
        Params(data={"lr": lr, "optimizer": {"name": "adam"}}),
        *steps(count),
        RunEnded(status="finished"),
    ]


def make_runs(root: Path, count: int, *, project: str = "demo", first: int = 0, points: int = 20) -> None:
    """Make runs that ended."""
    for number in range(first, first + count):
        RunMaker(root, f"run-{number:03}", project=project).put(finished(points, lr=number / 10))


def plain_rows(lake: Path, sql: str) -> list[tuple[object, ...]]:
    """Ask Parquet files as they lie, without Delta; ``{metrics}`` is the table of metrics, and so on."""

    class Tables(dict[str, str]):
        def __missing__(self, table: str) -> str:
            return f"read_parquet('{lake}/{table}/project=*/*.parquet', hive_partitioning = true)"

    return duckdb.connect().execute(sql.format_map(Tables())).fetchall()


def delta_files(lake: Path, table: str) -> list[str]:
    """Return the files that count."""
    from deltalake import DeltaTable

    return sorted(DeltaTable(str(lake / table)).file_uris())


def delta_rows(lake: Path, table: str, sql: str) -> list[tuple[object, ...]]:
    """Ask one table as Delta's reader sees it, as ``t``."""
    from deltalake import DeltaTable

    t = DeltaTable(str(lake / table)).to_pyarrow_dataset()
    connection = duckdb.connect()
    connection.register("t", t)
    return connection.execute(sql).fetchall()


def every_kind() -> list[Event]:
    """Return an event of each kind that has a table, with values that files tend to lose."""
    return [
        RunStarted(name="ünïcode \U0001f40d", experiment="x", tags={"a b": None, "ключ": "'quoted'"}),
        Params(data={"lr": 1e-05, "flag": True, "none": None, "deep": {"er": [1, "2"]}}),
        Metrics(step=None, data={"loss": "NaN", "up": "Infinity", "down": "-Infinity"}),
        Metrics(step=-3, data={"loss": -0.0, "big": 1.7976931348623157e308, "tiny": 5e-324}),
        Evaluation(benchmark="mmlu", step=1, metrics={"acc": 0.5, "ppl": "Infinity"}, data={"n": 3}),
        Sample(benchmark="mmlu", index=0, input={"q": "?"}, target="A", prediction=["B"], latency_ms=1.5),
        Artifact(
            name="m.bin",
            path="artifacts/m.bin",
            artifact_type="model",
            size_bytes=3,
            sha256="ab",
            stored="copy",
        ),
        Checkpoint(path="/ckpt/1", step=1, metrics={"loss": 0.25}, size_bytes=10),
        Dataset(name="digits", version="1", split="train", rows=100, data={"k": "v"}),
        System(data={"cpu_percent": 12.5, "ram_bytes": 1 << 40}),
        Console(stream="stderr", text="line one\nline \x1b[1mtwo\x1b[0m"),
        Tags(data={"late": "1"}, removed=["a b"]),
        RunEnded(status="failed", exit_code=3),
    ]
