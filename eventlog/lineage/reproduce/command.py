"""The command of a run, as it was given and as it is given again in another place."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from eventlog.lineage.reproduce.environment import moved
from eventlog.lineage.reproduce.recorded import Recorded

_PYTHON = re.compile(r"(python|pypy)(\d+(\.\d+)*)?t?(\.exe)?", re.ASCII)
_NOTEBOOK = ("ipykernel_launcher", "ipykernel", "colab_kernel_launcher", "ipython")
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


class CommandPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is run.

    Attributes:
        argv: as it was given.
        is_python: the first word is the interpreter, which the environment replaces.
        cwd: where it ran; None if that is not known.
        variables: recorded ones that are set again.
    """

    argv: list[str]
    is_python: bool
    cwd: str | None
    variables: dict[str, str]


def plan_command(recorded: Recorded) -> tuple[CommandPlan | None, str]:
    """Return the command of a run, or None and why it cannot be given again."""
    argv, reason = _words(recorded.command)
    if not argv:
        return None, reason
    is_python = _PYTHON.fullmatch(Path(argv[0]).name) is not None
    plan = CommandPlan(
        argv=argv,
        is_python=is_python,
        cwd=recorded.cwd,
        variables=_variables(recorded.context("environment").get("variables")),
    )
    return plan, ""


def _words(command: Mapping[str, object]) -> tuple[list[str], str]:
    original, argv = _list(command.get("orig_argv")), _list(command.get("argv"))
    if not original and not argv:
        return [], "no command is recorded"
    if any(Path(word).stem in _NOTEBOOK for word in [*original, *argv]):
        return [], "it was a notebook or an interactive session: its cells are no command"
    if original:
        words = original
    elif "cwd" in command or "python" not in command:
        return argv, ""  # of `evlog run`: the whole command
    elif argv[0] in ("-c", "-m", "-", ""):
        return [], f"only {argv[0] or 'an interactive session'!r} is recorded, not what it ran"
    else:
        words = ["python", *argv]  # of an older version: the script and its arguments
    rest = [word for word in words[1:] if word not in ("-u", "-i", "-q", "-B", "-O")]
    if not rest or rest[0] == "-":
        return [], "it was an interactive session, or came from standard input"
    return words, ""


def argv_for(plan: CommandPlan, interpreter: str, move: Mapping[str, str]) -> list[str]:
    """Return the words to start, with *interpreter* for Python and paths of the old code as new ones."""
    words = [_moved_word(word, move) for word in plan.argv]
    return [interpreter, *words[1:]] if plan.is_python else words


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
        and "\0" not in name + value
        and "=" not in name
    }


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _list(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list) else []
