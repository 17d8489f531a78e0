"""A run as one document, in full or in canonical form.

The canonical form has what a run computed and nothing of when, where and by whom: no times, ids, hosts,
paths or names of runs. Keys are sorted, numbers are written in the shortest form that reads back the same,
and each point and each sample has a line: identical results give identical bytes, and a diff of two of them
is a diff of results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import orjson

from eventlog import events as ev
from eventlog.analysis.facts import RunFacts, load, results
from eventlog.analysis.timings import is_timing
from eventlog.clock import iso_utc
from eventlog.projections import RunView
from eventlog.replay import open_run
from eventlog.values import number_on_disk

CANONICAL_FORMAT = 1

Series = dict[str, list[list[object]]]
Kept = Callable[[Iterable[str]], list[str]]


def document(run: Path) -> dict[str, object]:
    """Return everything that the log of *run* says, as JSON has it.

    ``metrics`` are lists of ``[step, time, value]``; non-finite numbers are texts, as in the log.

    Raises:
        OSError: the log cannot be read.
    """
    facts = load(run, with_samples=True)
    view = facts.view
    return {
        **_head(view),
        "params": view.params,
        "results": {key: number_on_disk(value) for key, value in sorted(results(facts).items())},
        "summary": view.summary,
        "metrics": _timed(run),
        "evaluations": [_plain(one) for one in facts.evaluations],
        "samples": {
            name: [_plain(s) for _, s in sorted(found.items())] for name, found in facts.samples.items()
        },
        "datasets": [_plain(one) for one in facts.datasets],
        "checkpoints": [_plain(one) for one in facts.checkpoints],
        "artifacts": [_plain(one) for one in view.artifacts],
        "context": view.context,
        "error": None if view.error is None else msgspec.to_builtins(view.error),
        "dropped": view.dropped,
    }


def canonical(run: Path, *, ignore: Sequence[str] = (), with_artifacts: bool = False) -> dict[str, object]:
    """Return what *run* computed, without anything that differs between two runs of the same.

    Args:
        ignore: patterns of results and metrics that are left out, beside times and speeds.
        with_artifacts: the hashes of artifacts too; many formats put times into their files.

    Raises:
        OSError: the log cannot be read.
    """
    facts = load(run, with_samples=True)

    def kept(names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if not is_timing(name, ignore))

    found = results(facts)
    series = _by_step(run)
    shown: dict[str, object] = {
        "format": CANONICAL_FORMAT,
        "params": facts.view.params,
        "results": {name: number_on_disk(found[name]) for name in kept(found)},
        "summary": {name: facts.view.summary[name] for name in kept(facts.view.summary)},
        "metrics": {name: series[name] for name in kept(series)},
        "evaluations": _canonical_evaluations(facts, kept),
        "samples": {
            name: [_canonical_sample(sample, kept) for _, sample in sorted(samples.items())]
            for name, samples in facts.samples.items()
        },
        "datasets": [_canonical_dataset(one) for one in facts.datasets],
    }
    if with_artifacts:
        shown["artifacts"] = {artifact.name: artifact.sha256 for artifact in facts.view.artifacts}
    return shown


_SORTED = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS


def to_bytes(value: object) -> bytes:
    """Return *value* as JSON, keys sorted, indented: the same bytes for the same value."""
    return orjson.dumps(value, option=_SORTED | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE, default=str)


def canonical_bytes(shown: Mapping[str, object]) -> bytes:
    """Return what `canonical` gave as JSON, with a line for each value, point and sample."""
    return _lines(shown, 0) + b"\n"


def _lines(value: object, depth: int) -> bytes:
    """Return *value*, objects and lists over several lines as long as they hold others."""
    outer, inner = b"  " * depth, b"  " * (depth + 1)
    if isinstance(value, Mapping) and value and depth < _DEEPEST:
        items = [
            inner + orjson.dumps(key) + b": " + _lines(item, depth + 1) for key, item in sorted(value.items())
        ]
        return b"{\n" + b",\n".join(items) + b"\n" + outer + b"}"
    if isinstance(value, list) and value and depth < _DEEPEST:
        return b"[\n" + b",\n".join(inner + _line(item) for item in value) + b"\n" + outer + b"]"
    return _line(value)


_DEEPEST = 3


def _line(value: object) -> bytes:
    return orjson.dumps(value, option=_SORTED, default=str)


def _head(view: RunView) -> dict[str, object]:
    return {
        "project": view.project,
        "run_id": view.run_id,
        "name": view.name,
        "experiment": view.experiment,
        "status": view.status,
        "started_at": None if view.started_at is None else iso_utc(view.started_at),
        "ended_at": None if view.ended_at is None else iso_utc(view.ended_at),
        "duration_s": view.duration_s,
        "parent_run_id": view.parent_run_id,
        "tags": view.tags,
        "notes": view.notes,
    }


def _plain(event: ev.Event) -> dict[str, object]:
    found = msgspec.to_builtins(event)
    assert isinstance(found, dict)
    return {key: value for key, value in found.items() if key not in {"seq", "ts", "type", "payload"}} | {
        "logged_at": iso_utc(event.ts)
    }


def _points(run: Path) -> Iterable[tuple[str, ev.Metrics, int | float | str]]:
    """Yield name, event and value of each point, writer by writer: in the order of the calls."""
    reader = open_run(run)
    for writer in reader.known_writers():
        one = reader.writer(writer)
        prefix = f"rank{one.rank}/" if one.rank else ""
        for block in one.blocks():
            for event in block.events():
                if isinstance(event, ev.Metrics):
                    for key, value in event.data.items():
                        yield f"{prefix}{key}", event, value


def _timed(run: Path) -> Series:
    series: Series = {}
    for key, event, value in _points(run):
        series.setdefault(key, []).append([event.step, iso_utc(event.ts), value])
    return series


def _by_step(run: Path) -> Series:
    series: Series = {}
    for key, event, value in _points(run):
        series.setdefault(key, []).append([event.step, value])
    for points in series.values():
        # Stable: points of one step, or without any, stay in the order of the calls.
        points.sort(key=lambda point: (point[0] is not None, point[0] or 0))
    return series


def _canonical_evaluations(facts: RunFacts, kept: Kept) -> list[dict[str, object]]:
    last = {(one.benchmark, one.step): one for one in facts.evaluations}
    return [
        {
            "benchmark": benchmark,
            "step": step,
            "metrics": {name: one.metrics[name] for name in kept(one.metrics)},
        }
        for (benchmark, step), one in sorted(last.items(), key=lambda item: (item[0][0], item[0][1] or -1))
    ]


def _canonical_sample(sample: ev.Sample, kept: Kept) -> dict[str, object]:
    return {
        "index": sample.index,
        "input": sample.input,
        "target": sample.target,
        "prediction": sample.prediction,
        "metrics": {name: sample.metrics[name] for name in kept(sample.metrics)},
    }


def _canonical_dataset(one: ev.Dataset) -> dict[str, object]:
    return {
        "name": one.name,
        "version": one.version,
        "split": one.split,
        "sha256": one.sha256,
        "rows": one.rows,
    }
