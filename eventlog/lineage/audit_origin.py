"""Checks of where a run comes from: params, seed, data, code, environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from eventlog.analysis.facts import RunFacts
from eventlog.lineage.audit_lines import AuditRules, Line, failed, passed, warned
from eventlog.lineage.missing import Gap, missing_in_record
from eventlog.lineage.record import record_of, seed_of

_PARAMS = {
    "model_type": [
        "model_type",
        "model",
        "model_name",
        "architecture",
        "arch",
        "estimator",
        "algorithm",
        "backbone",
    ],
    "learning_rate": ["learning_rate", "lr", "eta", "step_size", "base_lr", "init_lr"],
    "batch_size": ["batch_size", "bs", "batch", "train_batch_size", "per_device_train_batch_size"],
    "epochs": [
        "epochs",
        "num_epochs",
        "n_epochs",
        "max_epochs",
        "num_train_epochs",
        "steps",
        "num_steps",
        "max_steps",
        "total_steps",
        "iterations",
        "n_iter",
        "max_iter",
        "n_estimators",
        "num_boost_round",
    ],
}
_OF_TRAINING = ("learning_rate", "batch_size", "epochs")

_SECRET_NAME = re.compile(
    r"(?:^|[_.\-])(?:password|passwd|pwd|secret|api_?key|access_?key|private_?key|credentials?|auth_?token"
    r"|access_?token|token)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}"
    r"|\bsk-[\w-]{16,}|xox[abprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s:@]+@"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\."
)
_LISTINGS = frozenset(
    {"requirements.txt", "environment.yml", "environment.yaml", "uv.lock", "poetry.lock", "conda-lock.yml"}
)
_HARMLESS = frozenset({"", "none", "null", "true", "false", "***", "<redacted>", "redacted", "[redacted]"})


def origin_lines(facts: RunFacts, rules: AuditRules) -> Iterator[Line]:
    """Yield the lines about inputs, data, code and environment of one run."""
    record = record_of(facts)
    gaps = missing_in_record(record)
    yield from _param_lines(facts, rules)
    yield from _seed_lines(facts)
    yield from _data_lines(facts, record, gaps)
    yield from _code_lines(facts, gaps)
    yield from _environment_lines(facts, gaps)


def _param_lines(facts: RunFacts, rules: AuditRules) -> Iterator[Line]:
    params = facts.view.flat_params
    way = f"evlog log {facts.label} --params"
    if params:
        yield passed("params", f"{len(params)} params")
    else:
        yield failed("params", "no params", "log_params({…}): all knobs that you control")
    is_training = any(stats.first_step != stats.last_step for stats in facts.view.metrics.values())
    for wanted, names in _PARAMS.items():
        check = f"params.{wanted}"
        found = _param(params, names)
        if found is not None:
            yield passed(check, f"{found} = {params[found]}")
        elif wanted in _OF_TRAINING and not is_training:
            yield passed(check, "not asked for: nothing is trained in steps")
        elif wanted not in rules.params:
            yield warned(check, f"no {wanted} among the params", f"{way} {wanted}=…")
    for wanted in rules.params:
        if _param(params, [wanted, *_PARAMS.get(wanted, [])]) is None:
            yield failed(f"params.{wanted}", f"no {wanted} among the params", f"{way} {wanted}=…")
        elif wanted not in _PARAMS:
            yield passed(f"params.{wanted}", f"{wanted} is there")
    yield _secret_line(facts)


def _param(params: Mapping[str, object], names: Iterable[str]) -> str | None:
    wanted = set(names)
    return next((key for key in params if key.rpartition(".")[2].lower() in wanted or key in wanted), None)


def _secret_line(facts: RunFacts) -> Line:
    """Say which values look like credentials, by name only."""
    command = facts.view.context.get("command", {})
    words = command.get("orig_argv") or command.get("argv") or []
    places = [("param", key, value) for key, value in facts.view.flat_params.items()]
    places += [("tag", key, value) for key, value in facts.view.tags.items()]
    places += [
        ("argument", f"number {i}", word) for i, word in enumerate(words if isinstance(words, list) else [])
    ]
    found = [f"{kind} {key}" for kind, key, value in places if _is_secret(kind, key, value)]
    if not found:
        return passed("params.secrets", "nothing looks like a credential")
    return warned(
        "params.secrets",
        f"looks like a credential: {', '.join(found[:5])}",
        "withdraw it: a log is never rewritten; pass secrets by the environment",
    )


def _is_secret(kind: str, key: str, value: object) -> bool:
    text = "" if value is None else str(value)
    if text.lower() in _HARMLESS or isinstance(value, (bool, int, float)):
        return False
    is_named = kind != "argument" and _SECRET_NAME.search(key) is not None
    return (is_named and not text.startswith(("$", "env:", "{"))) or _SECRET_VALUE.search(text) is not None


def _seed_lines(facts: RunFacts) -> Iterator[Line]:
    seed = seed_of(facts)
    if seed is None:
        yield failed("seed", "no seed", f"seed_everything(seed), or evlog log {facts.label} --params seed=…")
    else:
        yield passed("seed", f"seed {seed}")


# --- data ----------------------------------------------------------------------------------------


def _data_lines(facts: RunFacts, record: Mapping[str, object], gaps: list[Gap]) -> Iterator[Line]:
    data = record["data"]
    sets = data if isinstance(data, list) else [data]
    about = [gap for gap in gaps if gap.field.startswith("data")]
    if not sets or not any(isinstance(one, dict) and one.get("name") for one in sets):
        yield failed(
            "data.name", "no data set", f"log_dataset(name, version, path=…), or evlog log {facts.label} "
            "--params data.name=… data.version=…",
        )  # fmt: skip
        return
    names = ", ".join(dict.fromkeys(str(one.get("name")) for one in sets if isinstance(one, dict)))
    yield passed("data.name", names)
    for check, text in (
        ("data.version", "each has a version or a hash"),
        ("data.sha256", "each has a hash"),
        ("data.split", "how they were split is known"),
    ):
        wrong = [gap for gap in about if gap.field.endswith(f".{check.partition('.')[2]}")]
        yield from _data_line(check, text, wrong, len(sets))
    has_indices = any(isinstance(one, dict) and one.get("indices") for one in sets)
    if has_indices:
        yield passed("data.indices", "the exact indices are kept")
    else:
        yield warned("data.indices", "the indices of the split are not kept", "log_dataset(…, indices=…)")


def _data_line(check: str, text: str, wrong: list[Gap], count: int) -> Iterator[Line]:
    if not wrong:
        yield passed(check, text)
        return
    more = f" (and {len(wrong) - 1} more of {count})" if len(wrong) > 1 else ""
    make = failed if check == "data.version" else warned
    yield make(check, wrong[0].reason + more, f"log_dataset(…): {wrong[0].mend}")


# --- code and environment --------------------------------------------------------------------------


def _code_lines(facts: RunFacts, gaps: list[Gap]) -> Iterator[Line]:
    git = facts.view.context.get("git", {})
    by_field = {gap.field: gap for gap in gaps}
    commit = git.get("commit")
    if commit:
        yield passed("code.commit", str(commit))
    else:
        yield failed("code.commit", "the commit is not known", "run it inside of a git repository")
    if not commit:
        pass
    elif "diff" in by_field:
        yield failed("code.diff", by_field["diff"].reason, "commit first, or leave diffs on")
    elif git.get("diff_is_complete") is False:
        yield warned("code.diff", "the uncommitted changes were too large and are cut", "commit first")
    else:
        is_dirty = git.get("is_dirty", git.get("dirty"))
        yield passed("code.diff", "the uncommitted changes are kept" if is_dirty else "nothing uncommitted")
    if "untracked" in by_field:
        gap = by_field["untracked"]
        make = failed if gap.kind == "missing" else warned
        yield make("code.untracked", gap.reason, gap.mend)
    no_script = by_field.get("script") or by_field.get("command")
    if no_script is None:
        command = facts.view.context.get("command", {})
        yield passed(
            "code.script", str(command.get("script") or command.get("module") or "the command is kept")
        )
    else:
        yield failed("code.script", no_script.reason, f"evlog run -- {no_script.mend}")


def _environment_lines(facts: RunFacts, gaps: list[Gap]) -> Iterator[Line]:
    by_field = {gap.field: gap for gap in gaps}
    context = facts.view.context
    environment, hardware = context.get("environment", {}), context.get("hardware", {})
    python = environment.get("python") or context.get("command", {}).get("python")
    gap = by_field.get("env.python")
    if gap is None:
        yield passed("environment.python", str(python))
    else:
        yield failed("environment.python", gap.reason, "leave the capture of lineage on")
    packages = environment.get("packages")
    listing = next(
        (one.name for one in facts.view.artifacts if PurePosixPath(one.name).name in _LISTINGS), None
    )
    if isinstance(packages, dict) and packages:
        yield passed("environment.packages", f"{len(packages)} packages with versions")
    elif listing is not None:
        yield passed("environment.packages", listing)
    else:
        yield failed(
            "environment.packages",
            "the packages are not known",
            "log_artifact('requirements.txt'), or lineage on",
        )
    machine = hardware.get("cpu") or environment.get("os") or hardware.get("os")
    if machine:
        yield passed("environment.machine", str(machine))
    else:
        yield warned(
            "environment.machine", "OS, CPU and GPU are not known", "leave the capture of lineage on"
        )
