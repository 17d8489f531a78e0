"""A run in canonical form: what it computed, and nothing of when, where and by whom.

There are no times, ids, hosts, paths or names of runs: identical results give identical bytes, and a diff of
two of them is a diff of results.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from eventlog import events as ev
from eventlog.analysis.exports.lines import Written, json_lines
from eventlog.analysis.exports.points import Series, points
from eventlog.analysis.facts import RunFacts, load, results
from eventlog.analysis.runs import directory_of
from eventlog.analysis.timings import is_timing
from eventlog.values import flatten, number_on_disk

CANONICAL_FORMAT = 1

Kept = Callable[[Iterable[str]], list[str]]


def canonical(
    run: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    ignore: Sequence[str] = (),
    with_artifacts: bool = False,
) -> dict[str, object]:
    """Return what *run* computed, without anything that differs between two runs of the same.

    Args:
        run: its id, PROJECT/ID, the beginning of an id, or its directory.
        root: directory of all projects; default ``EVLOG_DIR`` or ``./experiments``.
        ignore: patterns of params, results and metrics that are left out, beside times and speeds.
        with_artifacts: the hashes of artifacts too; many formats put times into their files.

    Raises:
        RunNotFoundError, AmbiguousRunError: *run* fits none, or several.
        OSError: the log cannot be read.
    """
    path = directory_of(run, root)
    return _canonical(path, ignore, with_artifacts, lambda series: list(series.by_step()))


def canonical_to_write(
    run: Path, *, ignore: Sequence[str] = (), with_artifacts: bool = False
) -> dict[str, object]:
    """Return what `canonical` does, for `json_lines`: each point is made when it is written."""
    return _canonical(run, ignore, with_artifacts, lambda series: Written(series.by_step))


def canonical_bytes(shown: Mapping[str, object]) -> bytes:
    """Return what `canonical` gave as JSON, with a line for each value, point and sample."""
    return b"".join(json_lines(shown))


def _canonical(
    run: Path, ignore: Sequence[str], with_artifacts: bool, shown: Callable[[Series], object]
) -> dict[str, object]:
    facts = load(run, with_samples=True)

    def kept(names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if not is_timing(name, ignore))

    params = {
        key: value
        for key, value in facts.view.flat_params.items()
        if not any(fnmatchcase(key.lower(), pattern.lower()) for pattern in ignore)
    }
    found, summary, series = results(facts), flatten(facts.view.summary), points(run)
    return {
        "format": CANONICAL_FORMAT,
        "params": params,
        "results": {name: number_on_disk(found[name]) for name in kept(found)},
        "summary": {name: summary[name] for name in kept(summary)},
        "metrics": {name: shown(series[name]) for name in kept(series)},
        "evaluations": _evaluations(facts, kept),
        "samples": {
            name: [_sample(sample, kept) for _, sample in sorted(samples.items())]
            for name, samples in facts.samples.items()
        },
        "datasets": [_dataset(one) for one in facts.datasets],
    } | ({"artifacts": {one.name: one.sha256 for one in facts.view.artifacts}} if with_artifacts else {})


def _evaluations(facts: RunFacts, kept: Kept) -> list[dict[str, object]]:
    last = {(one.benchmark, one.step): one for one in facts.evaluations}
    ordered = sorted(last.values(), key=lambda one: (one.benchmark, -1 if one.step is None else one.step))
    return [
        {
            "benchmark": one.benchmark,
            "step": one.step,
            "metrics": {name: one.metrics[name] for name in kept(one.metrics)},
        }
        for one in ordered
    ]


def _sample(sample: ev.Sample, kept: Kept) -> dict[str, object]:
    return {
        "index": sample.index,
        "input": sample.input,
        "target": sample.target,
        "prediction": sample.prediction,
        "metrics": {name: sample.metrics[name] for name in kept(sample.metrics)},
    }


def _dataset(one: ev.Dataset) -> dict[str, object]:
    return {
        "name": one.name,
        "version": one.version,
        "split": one.split,
        "sha256": one.sha256,
        "rows": one.rows,
    }
