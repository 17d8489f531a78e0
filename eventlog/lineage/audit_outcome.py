"""Checks of what came of a run: metrics, artifacts, tags, notes, and what it is called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from eventlog import events as ev
from eventlog.analysis.facts import RunFacts, results
from eventlog.clock import iso_utc
from eventlog.lineage.audit_lines import AuditRules, Line, failed, passed, warned
from eventlog.lineage.naming import OFFLINE, ONLINE, NamingRules, check_names, words_of
from eventlog.projections import CRASHED
from eventlog.replay import events

_MODELS = frozenset(
    {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".onnx", ".safetensors", ".h5", ".keras", ".ckpt", ".bin"}
    | {".gguf", ".model", ".ubj", ".cbm"}
)
_PLOTS = frozenset({".png", ".svg", ".pdf", ".jpg", ".jpeg", ".html", ".gif", ".webp"})
_PURPOSES = frozenset({"baseline", "sweep", "ablation", "candidate", "production", "debug", "final"})
_PURPOSE_TAGS = frozenset({"purpose", "lifecycle", "kind", "stage", "type", "phase"})
_OWNERS = frozenset({"owner", "author", "user", "team", "contact", "created_by"})
_TICKETS = frozenset({"ticket", "task", "task_id", "issue", "jira", "story", "bug", "ticket_id"})
_TICKET = re.compile(r"[A-Z][A-Z0-9]+-\d+|#\d+", re.ASCII)
_OUTCOME = re.compile(
    r"\b(outcome|result|conclu|decid|decision|found|improv|worse|better|diverg|converg|wins?\b|won\b"
    r"|no effect|because|turned out|reproduces)",
    re.IGNORECASE,
)
_NOT_TRAINED = "not asked for: the run evaluates"
_VAGUE_NAMES = frozenset(
    {"test", "default", "experiment", "exp", "untitled", "foo", "tmp", "run", "new", "my"}
)
_PAIR = re.compile(r"([A-Za-z][\w.]*?)=([^_,;=\s]+(?:_(?![A-Za-z][\w.]*=)[^_,;=\s]+)*)")


class _Seen:
    """What only the events say: plots, and the time of notes. Read once, when first asked for."""

    def __init__(self, facts: RunFacts) -> None:
        self.media: list[str] = []
        self.note_after_results = False
        seen_results = False
        for event in events(facts.path):
            if isinstance(event, ev.Media):
                self.media.append(event.key)
            elif isinstance(event, (ev.Metrics, ev.Evaluation, ev.Summary)):
                seen_results, self.note_after_results = True, False
            elif isinstance(event, ev.Note):
                self.note_after_results = seen_results


def outcome_lines(facts: RunFacts, rules: AuditRules, naming: NamingRules) -> Iterator[Line]:
    """Yield the lines about results, files, tags, notes and names of one run."""
    seen = _Seen(facts)
    yield from _metric_lines(facts, rules, naming)
    yield from _artifact_lines(facts, seen)
    yield from _tag_lines(facts, rules)
    yield from _note_lines(facts, seen)
    yield from _name_lines(facts)
    yield _log_line(facts)


def is_evaluation(facts: RunFacts) -> bool:
    """Tell whether the run only evaluated something: it has results of benchmarks and no metrics."""
    return bool(facts.evaluations) and not facts.view.metrics


# --- metrics ---------------------------------------------------------------------------------------


def metric_names(facts: RunFacts) -> list[str]:
    """Return the names that people gave to numbers: metrics and the summary, not those of benchmarks."""
    by_benchmark = {f"{one.benchmark}/{name}" for one in facts.evaluations for name in one.metrics}
    return sorted(key for key in results(facts) if key not in by_benchmark)


def _metric_lines(facts: RunFacts, rules: AuditRules, naming: NamingRules) -> Iterator[Line]:
    found = results(facts)
    if not found:
        yield failed("metrics", "no metrics", "log_metrics({'train_loss': …}, step=epoch)")
        return
    yield passed("metrics", f"{len(found)} results")
    yield _final_line(facts, found)
    if is_evaluation(facts):
        yield passed("metrics.train_loss", _NOT_TRAINED)
        yield passed("metrics.per_epoch", _NOT_TRAINED)
    else:
        yield _train_line(found)
        yield _curve_line(facts)
    yield _time_line(facts)
    yield from _naming_lines(facts, naming)
    yield _context_line(facts)
    for wanted in rules.metrics:
        if wanted in found:
            yield passed(f"metrics.{wanted}", f"{wanted} = {found[wanted]:.6g}")
        else:
            yield failed(f"metrics.{wanted}", f"no {wanted}", f"log_metrics({{'{wanted}': …}})")


def _final_line(facts: RunFacts, found: dict[str, float]) -> Line:
    benchmarks = [f"{one.benchmark}/{name}" for one in facts.evaluations for name in one.metrics]
    held_out = [
        key for key in found if OFFLINE - {"train", "offline"} & set(words_of(key)) and not _is_loss(key)
    ]
    best = next(iter([*sorted(held_out), *benchmarks]), None)
    if best is not None and best in found:
        return passed("metrics.final", f"{best} = {found[best]:.6g}")
    return warned(
        "metrics.final", "no result on data that it was not trained on", "log_summary({'val_f1_macro': …})"
    )


def _is_loss(key: str) -> bool:
    return bool({"loss", "nll"} & set(words_of(key)))


def _train_line(found: dict[str, float]) -> Line:
    trained = sorted(key for key in found if _is_loss(key))
    if trained:
        return passed("metrics.train_loss", f"{trained[0]} = {found[trained[0]]:.6g}")
    return warned("metrics.train_loss", "no loss", "log_metrics({'train_loss': …}, step=epoch)")


def _curve_line(facts: RunFacts) -> Line:
    curves = [key for key, stats in facts.view.metrics.items() if stats.count > 1]
    if curves:
        return passed("metrics.per_epoch", f"{len(curves)} curves")
    return warned("metrics.per_epoch", "no metric has more than one value", "log_metrics(…, step=epoch)")


def _time_line(facts: RunFacts) -> Line:
    last = max((one.ts for one in facts.evaluations), default=facts.view.last_event_at)
    return passed("metrics.evaluated_at", "-" if last is None else iso_utc(last))


def _naming_lines(facts: RunFacts, naming: NamingRules) -> Iterator[Line]:
    problems = check_names(metric_names(facts), naming)
    if not problems:
        yield passed("metrics.names", "the names follow the rules")
    for problem in problems:
        yield warned(
            "metrics.names",
            f"{problem.name}: {'; '.join(problem.reasons)}",
            f"call it {problem.suggestion}" if problem.suggestion else "say what was measured",
        )


def _context_line(facts: RunFacts) -> Line:
    """Check that results of users and results of data that were kept aside can be told apart."""
    names = metric_names(facts)
    online = [name for name in names if ONLINE & set(words_of(name))]
    bare = [name for name in names if not (ONLINE | OFFLINE) & set(words_of(name))]
    if online and bare:
        return warned(
            "metrics.context",
            f"{online[0]} is from operation; {', '.join(bare[:3])} may be or not",
            "say it in the name: offline_cv_…, shadow_prod_…",
        )
    return passed("metrics.context", "online and offline are told apart" if online else "offline only")


# --- artifacts -------------------------------------------------------------------------------------


def _artifact_lines(facts: RunFacts, seen: _Seen) -> Iterator[Line]:
    artifacts = facts.view.artifacts
    suffixes = {PurePosixPath(one.name).suffix.lower() for one in artifacts}
    if is_evaluation(facts):
        yield passed("artifacts.model", _NOT_TRAINED)
    elif any(one.artifact_type == "model" for one in artifacts) or suffixes & _MODELS or facts.checkpoints:
        yield passed("artifacts.model", "a model is kept")
    else:
        yield warned(
            "artifacts.model", "no model", "log_model(model, name), or log_artifact(path, type='model')"
        )
    yield passed("artifacts.metrics", "they are in the log; `evlog export` writes them as CSV")
    if seen.media or suffixes & _PLOTS:
        yield passed("artifacts.plots", "plots are kept")
    else:
        yield warned("artifacts.plots", "no plot", "log_image('confusion_matrix', figure)")
    has_curves = any(stats.count > 1 for stats in facts.view.metrics.values())
    if facts.checkpoints or not has_curves:
        yield passed("artifacts.checkpoints", f"{len(facts.checkpoints)} checkpoints")
    else:
        yield warned("artifacts.checkpoints", "only the end is kept", "log_checkpoint(path, step)")


# --- tags, notes, names ----------------------------------------------------------------------------


def _tag_lines(facts: RunFacts, rules: AuditRules) -> Iterator[Line]:
    tags = {name.lower(): value for name, value in facts.view.tags.items()}
    words = set(tags) | {str(value).lower() for name, value in tags.items() if name in _PURPOSE_TAGS}
    purpose = sorted(_PURPOSES & {word.partition(":")[0] for word in words})
    if purpose or _PURPOSE_TAGS & tags.keys():
        yield passed("tags.purpose", ", ".join(purpose) or "it is said")
    else:
        how = f"evlog log {facts.label} --tag purpose=baseline"
        yield warned("tags.purpose", "baseline, sweep, ablation, candidate?", how)
    yield _owner_line(facts, tags)
    if _TICKETS & tags.keys() or any(_TICKET.search(f"{k} {v or ''}") for k, v in facts.view.tags.items()):
        yield passed("tags.ticket", "the task is named")
    else:
        yield warned("tags.ticket", "no ticket or task", f"evlog log {facts.label} --tag ticket=ML-12")
    for wanted in rules.tags:
        if wanted in facts.view.tags:
            yield passed(f"tags.{wanted}", str(facts.view.tags[wanted] or "it is set"))
        else:
            yield failed(f"tags.{wanted}", f"no tag {wanted}", f"evlog log {facts.label} --tag {wanted}=…")


def _owner_line(facts: RunFacts, tags: dict[str, str | None]) -> Line:
    owner = next((tags[name] for name in sorted(_OWNERS) if tags.get(name)), None)
    owner = owner or next(
        (str(v) for k, v in facts.view.flat_params.items() if k.lower() in _OWNERS and v), None
    )
    if owner:
        return passed("owner", owner)
    user = facts.view.context.get("git", {}).get("user")
    if user:
        return passed("owner", f"{user} (as git says)")
    return warned("owner", "nobody answers for it", f"evlog log {facts.label} --tag owner=ada")


def _note_lines(facts: RunFacts, seen: _Seen) -> Iterator[Line]:
    notes = [note for note in facts.view.notes if note.strip()]
    if not notes:
        yield warned(
            "note.purpose",
            "no note",
            f"create_tracker(…, notes='why'), or evlog log {facts.label} --note why",
        )
    else:
        yield passed("note.purpose", notes[0].strip().splitlines()[0][:60])
    if seen.note_after_results or any(_OUTCOME.search(note) for note in notes):
        yield passed("note.outcome", notes[-1].strip().splitlines()[0][:60])
    else:
        how = f"evlog log {facts.label} --note '1e-3 diverged after epoch 8'"
        yield warned("note.outcome", "no note on what came of it", how)


def _name_lines(facts: RunFacts) -> Iterator[Line]:
    experiment = facts.view.experiment
    words = words_of(experiment) if experiment else []
    if not experiment:
        yield warned(
            "experiment", "no experiment: nothing to group by", "create_tracker(…, experiment_name=…)"
        )
    elif (
        experiment != "_".join(words)
        or len(words) < 2
        or {re.sub(r"\d+$", "", w) for w in words} <= _VAGUE_NAMES
    ):
        yield warned(
            "experiment", f"{experiment!r} does not say what it is", "purpose and topic: sweep_lr_cnn_v3"
        )
    else:
        yield passed("experiment", experiment)
    yield _run_name_line(facts)


def _run_name_line(facts: RunFacts) -> Line:
    name = facts.view.name
    params = {key.rpartition(".")[2]: value for key, value in facts.view.flat_params.items()}
    pairs = _PAIR.findall(name)
    wrong = [f"{key}={said}" for key, said in pairs if key in params and not _is_same(said, params[key])]
    if wrong:
        return failed("run.name", f"the name says {', '.join(wrong)}, the params do not", "rename it in code")
    if pairs:
        return passed("run.name", name)
    return warned("run.name", f"{name!r} does not say what differs", "start_run('lr=0.001_seed=0')")


def _is_same(said: str, value: object) -> bool:
    if said == str(value):
        return True
    try:
        return float(said) == float(str(value))
    except ValueError:
        return said.lower() == str(value).lower()


def _log_line(facts: RunFacts) -> Line:
    if facts.view.findings:
        return warned("log", f"{facts.view.findings} findings in the log", f"evlog verify {facts.label}")
    if facts.view.dropped:
        return warned("log", f"{sum(facts.view.dropped.values())} events were dropped", "see `evlog show`")
    if facts.view.status == CRASHED:
        return warned("log", "it crashed: the end is not in the log", f"evlog log {facts.label} --end killed")
    return passed("log", "it is whole: all results come from one source")
