"""Where runs come from, side by side: code, environment, hardware, data."""

from __future__ import annotations

from collections.abc import Mapping

from eventlog import events as ev
from eventlog.analysis.facts import RunFacts

KINDS = ("code", "environment", "packages", "hardware", "data")
"""What may be recorded of a run, or not."""

_HASH_SHOWN = 12


def origins(facts: RunFacts) -> dict[str, dict[str, object]]:
    """Return by kind and name what is recorded; what is not recorded at all has no kind."""
    context = facts.view.context
    command, git = context.get("command", {}), context.get("git", {})
    environment = context.get("environment", {})
    packages = environment.get("packages")
    found: dict[str, dict[str, object]] = {
        "code": _code(git, command),
        "environment": {
            "python": environment.get("python", command.get("python")),
            "os": environment.get("os"),
            "host": environment.get("host", command.get("host")),
        },
        "packages": (
            {f"package {name}": version for name, version in packages.items()}
            if isinstance(packages, dict)
            else {}
        ),
        "hardware": _hardware(context.get("hardware", {})),
        "data": {name: value for dataset in facts.datasets for name, value in _data(dataset).items()},
    }
    said = {
        kind: {name: value for name, value in values.items() if value is not None}
        for kind, values in found.items()
    }
    return {kind: values for kind, values in said.items() if values}


def _code(git: Mapping[str, object], command: Mapping[str, object]) -> dict[str, object]:
    diff = git.get("diff_sha256")
    return {
        "commit": _cut(git.get("commit")),
        "branch": git.get("branch"),
        "dirty": git.get("is_dirty", git.get("dirty")),
        "diff": _cut(diff),
        "script": command.get("script") or command.get("module"),
    }


def _hardware(hardware: Mapping[str, object]) -> dict[str, object]:
    memory = hardware.get("memory_bytes")
    gpus = hardware.get("gpus")
    return {
        "cpu": hardware.get("cpu"),
        "cpu count": hardware.get("cpu_count"),
        "memory": f"{memory / (1 << 30):.1f} GiB" if isinstance(memory, (int, float)) else None,
        "gpus": _gpus(gpus) if isinstance(gpus, list) else None,
        "cuda": hardware.get("cuda"),
    }


def _gpus(gpus: list[object]) -> str:
    names = [str(gpu.get("name", "?")) if isinstance(gpu, dict) else str(gpu) for gpu in gpus]
    return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)) or "none"


def _data(dataset: ev.Dataset) -> dict[str, object]:
    name = f"data {dataset.name}" + (f"/{dataset.split}" if dataset.split else "")
    return {
        f"{name} version": dataset.version,
        f"{name} sha256": _cut(dataset.sha256),
        f"{name} rows": dataset.rows,
        f"{name} path": dataset.path if dataset.sha256 is None else None,
    }


def _cut(value: object) -> object:
    return value[:_HASH_SHOWN] if isinstance(value, str) else value
