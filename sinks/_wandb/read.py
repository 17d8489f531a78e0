"""What W&B should hold of a run and what it does hold, as points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

from eventlog.sink import Batch, Entry, Point
from eventlog.storage.block import Block
from eventlog.storage.merge import Slice
from eventlog.values import flatten, number_on_disk
from sinks._wandb.api import HISTORY, STATUS, Api
from sinks._wandb.rows import STEP, Fold, Progress
from sinks._wandb.stream import Remote

PAGE = 2000
_OWN = ("_wandb", "_evlog")


def expected_points(entries: Iterable[Entry], home: Path, run_id: str) -> Iterator[Point]:
    """Yield the points of the rows that *entries* make, then those of the params."""
    fold = Fold(Progress(), home, run_id)
    for entry in entries:
        fold.take(_one(entry))
        for row in fold.rows:
            if isinstance(row, str):
                yield from _row_points(json.loads(row))
        fold.rows.clear()
        fold.stats.clear()
        fold.lines.clear()
        fold.uploads.clear()
        fold.artifacts.clear()
    yield from _params(fold.progress.config)


def _one(entry: Entry) -> Batch:
    return Batch([Slice(entry.writer, entry.rank, [entry.event], cast("Block", None), 1)])


def delivered_points(api: Api, remote: Remote) -> Iterator[Point]:
    """Yield the points of the rows that W&B returns, then those of the params.

    Raises:
        SinkUnavailableError: it cannot be read now.
    """
    where = {"project": remote.project, "entity": remote.entity or None}
    found = api.ask(STATUS, {**where, "name": remote.run})
    bucket = cast("dict[str, dict[str, dict[str, object]]]", found).get("model") or {}
    run = bucket.get("bucket")
    if not run:
        return
    rows = int(cast("int", run.get("historyLineCount") or 0))
    for first in range(0, rows, PAGE):
        page = {"minStep": first, "maxStep": first + PAGE, "pageSize": PAGE}
        answer = api.ask(HISTORY, {**where, **page, "run": remote.run})
        project = cast("dict[str, dict[str, dict[str, list[str]]]]", answer)["project"]
        for line in project["run"]["history"]:
            yield from _row_points(json.loads(line))
    config = json.loads(str(run.get("config") or "{}"))
    yield from _params({k: v.get("value") for k, v in config.items() if k not in _OWN})


def _row_points(row: dict[str, object]) -> Iterator[Point]:
    step = row.get(STEP)
    t_us = round(float(cast("float", row.get("_timestamp", 0))) * 1e6)
    for key, value in row.items():
        if key.startswith("_") or key == STEP or not isinstance(value, (int, float, str)):
            continue
        number = number_on_disk(value) if isinstance(value, float) else value
        yield Point(f"metric {key}", cast("int | None", step), number, t_us)


def _params(config: Mapping[str, object]) -> Iterator[Point]:
    for key, value in sorted(flatten(config).items()):
        plain = value if isinstance(value, (int, float, str)) else json.dumps(value, sort_keys=True)
        yield Point(f"param {key}", None, plain)
