"""The reference page of the command line, made from the command line itself.

``python -m eventlog.cli.reference > docs/reference/cli.md`` writes it anew; a test compares.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from eventlog.cli.app import app

_HEAD = """\
# Command line

This page is generated: `python -m eventlog.cli.reference > docs/reference/cli.md`.

`RUN` is a run's directory, its id, `PROJECT/ID`, or the beginning of an id that no other run has.
`--dir ROOT` names the directory of all projects; without it that is `EVLOG_DIR`, or `./experiments`.

| exit code | means |
|---|---|
| 0 | done |
| 1 | something is wrong, or was not found |
| 2 | the command line is wrong |
| 130 | stopped by Ctrl-C |
| 141 | nobody reads the output any more |

`evlog run` ends with the exit code of its command. Messages and progress bars go to standard error, bars only
if that is a terminal. Output that is no terminal gets plain columns; `NO_COLOR` switches colours off.
Control characters in what was logged are shown as escapes.
"""


def reference_page() -> str:
    """Return the page, as Markdown."""
    parts = [_HEAD]
    for name, command in all_commands().items():
        parts += [f"## evlog {name}", "", f"```\n{_usage(name, command)}\n```", "", _prose(command.help), ""]
        parts += _table("argument", [p for p in command.params if p.param_type_name == "argument"])
        parts += _table("option", [p for p in command.params if p.param_type_name == "option"])
        parts += ["```bash", *_example_lines(command), "```", ""]
    return "\n".join(parts)


def all_commands() -> dict[str, Any]:  # Any: click's own classes, or typer's copies of them
    """Return each command by what is typed for it; of a group, those in it."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        found |= {f"{name} {one}": part for one, part in inner.items()} if inner else {name: command}
    return found


def _usage(name: str, command: Any) -> str:
    words = [p.metavar for p in command.params if p.param_type_name == "argument"]
    return " ".join(["evlog", name, "[OPTIONS]", *words])


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _table(title: str, params: list[Any]) -> list[str]:
    if not params:
        return []
    rows = [f"| {title} | meaning |", "|---|---|"]
    for param in params:
        value = param.metavar or ""
        spelled = (
            value if title == "argument" else f"{', '.join([*param.opts, *param.secondary_opts])} {value}"
        )
        spelled = spelled.strip().replace("|", "\\|")
        rows.append(f"| `{spelled}` | {_meaning(param)} |")
    return [*rows, ""]


def _meaning(param: Any) -> str:
    text = str(param.help or "")
    notes = ["required"] if param.required and param.param_type_name == "option" else []
    if param.envvar:
        notes.append(f"environment: `{param.envvar}`")
    default = param.default
    if isinstance(default, (str, int)) and not isinstance(default, bool):
        notes.append(f"default: `{getattr(default, 'value', default)}`")
    return f"{text} ({'; '.join(notes)})" if notes else text


def _example_lines(command: Any) -> list[str]:
    return [line.strip() for line in str(command.epilog).splitlines()[2:]]


if __name__ == "__main__":
    sys.stdout.write(reference_page())
