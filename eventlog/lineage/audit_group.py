"""Checks over the runs of one experiment: whether they can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from eventlog.analysis.facts import RunFacts, results
from eventlog.lineage.audit_lines import AuditRules, Line, failed, passed, warned
from eventlog.lineage.audit_outcome import metric_names
from eventlog.lineage.naming import NamingRules, check_names, same_metric, words_of
from eventlog.lineage.record import record_of, seed_of


def group_lines(runs: Sequence[RunFacts], rules: AuditRules, naming: NamingRules) -> Iterator[Line]:
    """Yield the lines about several runs of one experiment."""
    yield from _spelling_lines(runs, naming)
    yield from _param_lines(runs)
    yield _coverage_line(runs)
    yield _data_line(runs)
    yield _seed_line(runs, rules)


def _spelling_lines(runs: Sequence[RunFacts], naming: NamingRules) -> Iterator[Line]:
    spellings: dict[str, dict[str, int]] = {}
    for run in runs:
        for name in metric_names(run):
            names = spellings.setdefault(same_metric(name), {})
            names[name] = names.get(name, 0) + 1
    mixed = [names for names in spellings.values() if len(names) > 1]
    if not mixed:
        yield passed("consistency.metrics", "each metric has one name")
    for names in mixed:
        usual = max(names, key=lambda name: (not check_names([name], naming), names[name], name))
        others = ", ".join(f"{name} ({names[name]})" for name in sorted(names) if name != usual)
        yield failed(
            "consistency.metrics",
            f"one metric has several names: {usual} ({names[usual]}), {others}",
            f"call it {usual} everywhere",
        )


def _param_lines(runs: Sequence[RunFacts]) -> Iterator[Line]:
    spellings: dict[str, set[str]] = {}
    for run in runs:
        for key in run.view.flat_params:
            spellings.setdefault(same_metric(key), set()).add(key)
    mixed = [sorted(names) for names in spellings.values() if len(names) > 1]
    if not mixed:
        yield passed("consistency.params", "each param has one name")
    for names in mixed:
        yield warned("consistency.params", f"one param has several names: {', '.join(names)}", "choose one")


def _coverage_line(runs: Sequence[RunFacts]) -> Line:
    """Check that what most runs have is in all of them, so that they can be ranked."""
    counts: dict[str, int] = {}
    for run in runs:
        for key in results(run):
            counts[key] = counts.get(key, 0) + 1
    some = [
        f"{key} ({n} of {len(runs)})" for key, n in sorted(counts.items()) if len(runs) / 2 <= n < len(runs)
    ]
    if not some:
        return passed("consistency.coverage", "what is measured in most runs is measured in all")
    return warned(
        "consistency.coverage", f"not in all runs: {', '.join(some[:5])}", "run those again, or log it"
    )


def _data_line(runs: Sequence[RunFacts]) -> Line:
    versions: dict[str, set[str]] = {}
    for run in runs:
        data = record_of(run)["data"]
        for one in data if isinstance(data, list) else [data]:
            if isinstance(one, dict) and one.get("name"):
                label = f"{one['name']} {one.get('split') or ''}".strip()
                versions.setdefault(label, set()).add(str(one.get("sha256") or one.get("version") or "?"))
    mixed = [label for label, found in versions.items() if len(found) > 1]
    if not mixed:
        return passed("consistency.data", "the data are the same")
    return warned(
        "consistency.data",
        f"{', '.join(mixed[:3])}: {len(versions[mixed[0]])} versions in one experiment",
        "compare only runs on the same data",
    )


def _seed_line(runs: Sequence[RunFacts], rules: AuditRules) -> Line:
    """Check that settings with several seeds have a result in common, of which mean and std are told."""
    groups: dict[str, list[RunFacts]] = {}
    for run in runs:
        params = {key: value for key, value in run.view.flat_params.items() if "seed" not in words_of(key)}
        groups.setdefault(repr(sorted(params.items())), []).append(run)
    seeds = [{str(seed_of(run)) for run in group if seed_of(run) is not None} for group in groups.values()]
    short = sum(len(found) < rules.min_seeds for found in seeds)
    if short:
        return warned(
            "metrics.std",
            f"{short} of {len(groups)} settings have fewer than {rules.min_seeds} seeds",
            "run them with more seeds",
        )
    largest = max(groups.values(), key=len)
    if max(map(len, seeds)) < 2:
        return passed("metrics.std", "one seed for each setting: no standard deviation")
    common = set.intersection(*(set(results(run)) for run in largest))
    main = sorted(common, key=lambda key: (bool({"loss", "time"} & set(words_of(key))), key))
    if not main:
        return warned("metrics.std", "runs with other seeds have no result in common", "log the same metrics")
    values = [results(run)[main[0]] for run in largest]
    return passed(
        "metrics.std", f"{main[0]} {fmean(values):.4g} ± {stdev(values):.4g} over {len(values)} runs"
    )
