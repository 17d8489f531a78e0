"""The command of a run, as it was given and as it is given again in another place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from eventlog.lineage.record import PYTHON, words_of_command
from eventlog.lineage.reproduce.environment import moved
from eventlog.lineage.reproduce.recorded import Recorded

_OF_ONE_START = (
    *(
        "EVLOG_*",
        "*RANK",
        "RANK",
        "*WORLD_SIZE",
        "MASTER_*",
        "TORCHELASTIC_*",
        "SLURM_*",
        "OMPI_*",
        "PMI_*",
        "PMIX_*",
    ),
    *("LSB_*", "PBS_*", "JOB_COMPLETION_INDEX", "KUBERNETES_*", "HOSTNAME", "HOME", "USER", "PWD", "TMPDIR"),
    *("PATH", "VIRTUAL_ENV", "CONDA_*", "UV_*", "PYTHONHOME", "PYTHONEXECUTABLE"),
)
"""Variables that belong to one start on one machine: giving them again would mislead the new one."""

_DEVICES = ("*_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "LD_PRELOAD")
"""Variables that are given again only where nobody has said what holds on this machine."""


_MASKED = "[redacted]"
"""Stands in a log for a credential."""


class CommandPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is run.

    Attributes:
        argv: as it was given.
        is_python: the first word is the interpreter, which the environment replaces.
        cwd: where it ran; None if that is not known.
        prefix: of the environment that it ran in, whose programs the words may name.
        variables: recorded ones that are set again.
    """

    argv: list[str]
    is_python: bool
    cwd: str | None
    prefix: str | None = None
    variables: dict[str, str]


def plan_command(recorded: Recorded) -> tuple[CommandPlan | None, str]:
    """Return the command of a run, or None and why it cannot be given again."""
    argv, reason = words_of_command(recorded.command)
    if not argv:
        return None, reason
    environment = recorded.context("environment")
    masked = _masked(argv, environment.get("variables"))
    if masked:
        return None, masked
    prefix = environment.get("prefix")
    plan = CommandPlan(
        argv=argv,
        is_python=PYTHON.fullmatch(Path(argv[0]).name) is not None,
        cwd=recorded.cwd,
        prefix=str(prefix) if prefix else None,
        variables=_variables(environment.get("variables")),
    )
    return plan, ""


def _masked(argv: list[str], variables: object) -> str:
    """Return what has to be known before the command can be given again, if a credential of it was masked."""
    for number, word in enumerate(argv):
        if _MASKED in word:
            above = (
                argv[number - 1] if word == _MASKED and number and argv[number - 1].startswith("-") else ""
            )
            return (
                f"the log has {f'{above} {word}'.strip()!r} where a credential stood; let the program read "
                "that from the environment or a file, which is not logged"
            )
    known = variables if isinstance(variables, dict) else {}
    for name, value in known.items():
        if _MASKED in str(value) and name not in os.environ and not _fits(str(name), _OF_ONE_START):
            return f"the log has {_MASKED!r} for the variable {name}: set it here, and ask again"
    return ""


def argv_for(plan: CommandPlan, interpreter: str, move: Mapping[str, str]) -> list[str]:
    """Return the words to start, with *interpreter* for Python, and paths of the old code as new ones."""
    words = [_program(word, plan.prefix, interpreter) or _moved_word(word, move) for word in plan.argv]
    return [interpreter, *words[1:]] if plan.is_python else words


def _program(word: str, prefix: str | None, interpreter: str) -> str | None:
    """Return the program that now stands for one of the old environment (``…/bin/torchrun``), or None.

    An environment often lies among the code, which has another place now.
    """
    old, new = Path(word), Path(interpreter).parent
    if prefix is None or old.parent != Path(prefix, new.name):
        return None
    return str(new / old.name) if (new / old.name).exists() else word


def _moved_word(word: str, move: Mapping[str, str]) -> str:
    if word.startswith("-") and "=" in word:
        option, _, value = word.partition("=")
        return f"{option}={moved(value, move)}"
    return moved(word, move)


def variables_of(plan: CommandPlan, move: Mapping[str, str]) -> dict[str, str]:
    """Return the recorded variables, with paths of the old code as new ones, also in lists of paths."""
    return {
        name: ":".join(moved(part, move) for part in value.split(":"))
        for name, value in plan.variables.items()
    }


def _variables(given: object) -> dict[str, str]:
    if not isinstance(given, dict):
        return {}
    found = {str(name): str(value) for name, value in sorted(given.items()) if value is not None}
    return {
        name: value
        for name, value in found.items()
        if not _fits(name, _OF_ONE_START)
        and not (_fits(name, _DEVICES) and name in os.environ)
        and not value.endswith("…")  # it was too long to be kept
        and _MASKED not in value  # the one of now counts
        and "\0" not in name + value
        and "=" not in name
    }


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
