"""``evlog query --interactive``: one question after the other, with history and completion."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eventlog.cli import render
from eventlog.cli.formats import Format, write_rows
from eventlog.errors import EvlogError
from eventlog.tables import TABLES

if TYPE_CHECKING:
    from eventlog.query import Database
    from eventlog.query.sandbox import Sandbox

PROMPT, CONTINUED = "evlog> ", "  ...> "
HISTORY_LINES = 1000
_BREAKS = " \t\n(),;'\"=<>|"
"""Characters between words; a metric's name may hold a slash, a dot or a dash."""
_KEYWORDS = re.findall(
    r"\w+",
    """SELECT FROM WHERE GROUP BY ORDER LIMIT JOIN LEFT USING ON AND OR NOT NULL IS IN LIKE AS DISTINCT HAVING
    DESC WITH CASE WHEN THEN ELSE END COUNT AVG MIN MAX SUM FILTER OVER PARTITION QUALIFY DESCRIBE SUMMARIZE
    UNION ALL BETWEEN""",
)
_HELP = """\
A question ends with ';' and may have several lines. Ctrl-C forgets it, Ctrl-D leaves.
  .tables          the tables
  .schema [TABLE]  the columns of a table, or of all
  .format FORM     table, csv, json, jsonl or markdown
  .quit            leave"""


class Shell:
    """Reads questions from standard input and shows the answers."""

    def __init__(self, source: Database | Sandbox, form: Format = Format.TABLE) -> None:
        self._source, self._form = source, form
        self._metrics: list[str] | None = None

    def run(self) -> None:
        """Go on until the input ends or somebody leaves."""
        with _line_editing(self.completions):
            if sys.stdin.isatty():
                render.write("'.help' shows what there is; '.quit' leaves.")
            for text in _questions():
                if text.startswith("."):
                    if not self._command(text):
                        return
                else:
                    self._ask(text)

    def _ask(self, sql: str) -> None:
        try:
            write_rows(self._source.execute(sql), self._form, sys.stdout)
        except EvlogError as error:
            render.say(str(error))
        except (KeyboardInterrupt, RuntimeError) as error:
            # DuckDB turns Ctrl-C into the one or the other.
            if isinstance(error, RuntimeError) and "interrupt" not in str(error).lower():
                raise
            render.say("stopped.")
        sys.stdout.flush()

    def _command(self, text: str) -> bool:
        """Do what a line with a dot says; tell whether to go on."""
        name, *words = text.rstrip(";").split()
        match name:
            case ".quit" | ".exit" | ".q":
                return False
            case ".tables":
                render.write_table(["table", "a row is"], [[t.name, t.row] for t in TABLES])
            case ".schema":
                self._schema(words)
            case ".format" if words and words[0] in _text_formats():
                self._form = Format(words[0])
            case ".help":
                render.write(_HELP)
            case _:
                render.say(f"there is no {text!r}. '.help' shows what there is.")
        sys.stdout.flush()
        return True

    def _schema(self, names: Sequence[str]) -> None:
        tables = [table for table in TABLES if not names or table.name in names]
        if not tables:
            render.say(f"there is no table {' '.join(names)!r}. '.tables' shows them.")
        for table in tables:
            render.write(f"{table.name}: {table.row}")
            render.write_table(
                ["column", "type", "meaning"], [[c.name, c.type, c.meaning] for c in table.columns], indent=2
            )

    # --- completion --------------------------------------------------------------------------------

    def completions(self, word: str, before: str = "") -> list[str]:
        """Return what may come for the beginning *word*, after *before* on its line."""
        if not before.strip() and word.startswith("."):
            return [
                name for name in (".tables", ".schema", ".format", ".help", ".quit") if name.startswith(word)
            ]
        if before.count("'") % 2:  # inside a text: most likely the name of a metric
            return [key for key in self._keys() if key.startswith(word)]
        from eventlog.query.macros import MACROS

        names = (
            {table.name for table in TABLES}
            | {c.name for table in TABLES for c in table.columns}
            | set(MACROS)
        )
        found = sorted(name for name in names if name.startswith(word.lower()))
        keywords = [name for name in _KEYWORDS if name.startswith(word.upper())]
        found += [name.lower() if word.islower() else name for name in keywords]
        return found + [key for key in self._keys() if word and key.startswith(word) and key not in found]

    def _keys(self) -> list[str]:
        if self._metrics is None:
            self._metrics = []
            with contextlib.suppress(EvlogError):  # then there is nothing to complete
                rows = self._source.execute(
                    "SELECT DISTINCT key FROM summaries ORDER BY key LIMIT 10000"
                ).rows()
                self._metrics = [str(row[0]) for row in rows]
        return self._metrics


def _text_formats() -> set[str]:
    return {form.value for form in Format if form not in {Format.PARQUET, Format.ARROW}}


def _questions() -> Iterator[str]:
    """Yield each question without its semicolon, and each line with a dot."""
    lines: list[str] = []
    while True:
        try:
            line = _read_line(CONTINUED if lines else PROMPT)
        except KeyboardInterrupt:
            lines = []
            sys.stdout.write("\n")
            continue
        if line is None:
            if "".join(lines).strip():
                yield "\n".join(lines)
            return
        if not lines and line.strip().startswith("."):
            yield line.strip()
            continue
        if not lines and not line.strip():
            continue
        lines.append(line)
        if _ends(text := "\n".join(lines)):
            lines = []
            yield text.strip().rstrip(";")


_PLAIN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)


def _ends(text: str) -> bool:
    """Tell whether *text* ends with a semicolon that is no part of a text or a comment."""
    rest = _PLAIN.sub("", text).rstrip()
    return rest.endswith(";") and not {"'", '"'} & set(rest)


def _read_line(prompt: str) -> str | None:
    if sys.stdin.isatty():
        try:
            return input(prompt)
        except EOFError:
            sys.stdout.write("\n")
            return None
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def history_path() -> Path:
    """Return the file that keeps the lines that were typed."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "evlog" / "query_history"


@contextlib.contextmanager
def _line_editing(completions: Callable[[str, str], list[str]]) -> Iterator[None]:
    """Give the terminal history and completion while the block runs, where Python has readline."""
    if not sys.stdin.isatty() or sys.platform == "win32":
        yield
        return
    try:
        import readline
    except ImportError:  # a Python that was built without it
        yield
        return
    found: list[str] = []

    def complete(word: str, state: int) -> str | None:
        if state == 0:
            found[:] = completions(word, readline.get_line_buffer()[: readline.get_begidx()])
        return found[state] if state < len(found) else None

    path = history_path()
    with contextlib.suppress(OSError):  # no history yet, or no place for one
        path.parent.mkdir(parents=True, exist_ok=True)
        readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES)
    readline.set_completer(complete)
    readline.set_completer_delims(_BREAKS)
    readline.parse_and_bind("tab: complete")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)
