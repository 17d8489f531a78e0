"""What is known of the origin of a run, in one shape that serves pasted snippets too.

It is the "minimal lineage template" (``git_commit``, ``script``, ``data``, ``env``) and a few fields more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from eventlog import events as ev
from eventlog.analysis.facts import RunFacts, results

PYTHON = re.compile(r"(python|pypy)(\d+(\.\d+)*)?t?(\.exe)?", re.ASCII)
_NOTEBOOK = ("ipykernel_launcher", "ipykernel", "colab_kernel_launcher", "ipython")
SEED_NAMES = ("seed", "random_seed", "random_state", "rng_seed", "global_seed", "manual_seed")


def seed_of(facts: RunFacts) -> object:
    """Return the seed of a run, from its params or from `seed_everything`; None if nobody said it."""
    for key, value in facts.view.flat_params.items():
        if key.rpartition(".")[2].lower() in SEED_NAMES and value is not None:
            return value
    return facts.view.context.get("seeds", {}).get("seed")


def record_of(
    facts: RunFacts, context: Mapping[str, Mapping[str, object]] | None = None
) -> dict[str, object]:
    """Return what is known of the origin of a run, in the shape of the template.

    Args:
        context: what is known by kind; default all that the run says, the last word of each.
    """
    context = facts.view.context if context is None else context
    git, environment = context.get("git", {}), context.get("environment", {})
    command = context.get("command", {})
    record: dict[str, object] = {
        "git_commit": git.get("commit") or "",
        "is_dirty": bool(git.get("is_dirty", git.get("dirty", False))),
        "diff_sha256": git.get("diff_sha256") if git.get("diff_is_complete", True) else None,
        "script": _script(command),
        "command": words_of_command(command)[0],
        "seed": seed_of(facts),
        "env": _environment(environment, command, context.get("hardware", {})),
        "metrics": sorted(results(facts)),
    }
    if git.get("untracked"):
        record["untracked"] = git["untracked"]
    sets = [_dataset(dataset) for dataset in facts.datasets] or _from_params(facts)
    record["data"] = sets[0] if len(sets) == 1 else sets
    return record


def words_of_command(command: Mapping[str, object]) -> tuple[list[str], str]:
    """Return the words that start it again; none, and why, if they are not known or would not do."""
    original, argv = _list(command.get("orig_argv")), _list(command.get("argv"))
    if not original and not argv:
        return [], "no command is recorded"
    if any(Path(word).stem in _NOTEBOOK for word in [*original[:3], *argv[:3]]):
        return [], "it was a notebook or an interactive session: its cells are no command"
    if original or "cwd" in command or "python" not in command:
        words = original or argv  # argv alone: of `evlog run`, the whole command
    elif argv[0] in ("-c", "-m", "-", ""):
        return [], f"only {argv[0] or 'an interactive session'!r} is recorded, not what it ran"
    else:
        words = ["python", *argv]  # of an older version: the script and its arguments
    rest = [word for word in words[1:] if word not in ("-u", "-i", "-q", "-B", "-O")]
    if PYTHON.fullmatch(Path(words[0]).name) and (not rest or rest[0] == "-"):
        return [], "it was an interactive session, or came from standard input"
    return words, ""


def _script(command: Mapping[str, object]) -> str:
    found = command.get("script") or command.get("module")
    if found:
        return str(found)
    argv = command.get("argv")
    words = [str(word) for word in argv] if isinstance(argv, list) else []
    return next((word for word in words if word.endswith((".py", ".sh", ".ipynb", ".R", ".jl"))), "")


def _environment(
    environment: Mapping[str, object], command: Mapping[str, object], hardware: Mapping[str, object]
) -> dict[str, object]:
    known = {
        "python": environment.get("python") or command.get("python") or "",
        "os": environment.get("os") or hardware.get("os") or "",
        "packages": environment.get("packages") or {},
    }
    if hardware:
        known |= {"cuda": hardware.get("cuda") or "none", "gpus": hardware.get("gpus") or []}
    return known


def _dataset(dataset: ev.Dataset) -> dict[str, object]:
    known: dict[str, object] = {
        "name": dataset.name,
        "version": dataset.version or "",
        "sha256": dataset.sha256 or "",
        "split": dataset.split,
    }
    return known | {
        key: dataset.data[key]
        for key in ("splits", "indices", "strategy", "split_seed")
        if key in dataset.data
    }


def _from_params(facts: RunFacts) -> list[dict[str, object]]:
    """Return what params say of the data, of runs without a dataset event."""
    params = {key.lower(): value for key, value in facts.view.flat_params.items()}
    wanted = {
        "name": ("data.name", "dataset.name", "dataset_name", "dataset", "data_name", "benchmark"),
        "version": ("data.version", "dataset.version", "data_version", "dataset_version"),
        "sha256": ("data.sha256", "data.hash", "data_hash", "dataset_hash", "data_sha256"),
        "strategy": ("data.split_strategy", "split_strategy", "split", "data.split"),
        "split_seed": ("data.split_seed", "split_seed"),
    }
    known: dict[str, object] = {}
    for field, names in wanted.items():
        value = next((params[name] for name in names if params.get(name) not in (None, "")), None)
        if value is not None:
            known[field] = value
    return [known] if known else []


def _list(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []
