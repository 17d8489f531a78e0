"""Says what a run consists of: this process, or a command that is run for it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.values import text

UNKNOWN = ""
_PYTHON = re.compile(r"(python|pypy)[0-9.]*t?")
_WITH_VALUE = frozenset({"-W", "-X", "--check-hash-based-pycs"})


class Origin(NamedTuple):
    """What is run.

    Attributes:
        script: absolute path of the file that is run, if any.
        module: name after ``python -m``, if any.
        interpreter: None for the one of this process, `UNKNOWN`, or the path of another Python.
    """

    argv: list[str]
    cwd: str
    script: str | None
    module: str | None
    executable: str | None
    interpreter: str | None

    def context(self) -> dict[str, object]:
        """Return the data of the ``command`` context."""
        data: dict[str, object] = {
            "argv": [text(word) for word in self.argv],
            "cwd": text(self.cwd),
            "script": None if self.script is None else text(self.script),
            "module": self.module,
            "executable": None if self.executable is None else text(self.executable),
        }
        if self.interpreter is None or (
            self.interpreter and is_same_python(self.interpreter, sys.executable)
        ):
            data["python"] = sys.version.split()[0]
        if self.interpreter is None:
            data["orig_argv"] = [text(word) for word in sys.orig_argv]
        return data


def origin_of_process() -> Origin:
    """Return what this process runs."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    spec = getattr(main, "__spec__", None)
    cwd = working_directory()
    script = os.path.join(cwd, file) if isinstance(file, str) else None  # noqa: PTH118 - of any text
    module = getattr(spec, "name", None)
    return Origin(
        argv=list(sys.argv),
        cwd=cwd,
        script=script if script and os.path.isfile(script) else None,  # noqa: PTH113
        module=module.removesuffix(".__main__") if isinstance(module, str) else None,
        executable=sys.executable or None,
        interpreter=None,
    )


def origin_of_command(command: Sequence[str]) -> Origin:
    """Return what a command runs, as far as its words and the first line of its file say."""
    import shutil  # not above: it brings in five compressors, 2 ms of each start

    cwd = working_directory()
    found = shutil.which(command[0])
    executable = os.path.join(cwd, found) if found else None  # noqa: PTH118
    script = module = None
    interpreter: str | None = UNKNOWN
    if executable and _is_python(executable):
        interpreter = executable
        script, module = _python_target(command[1:])
    elif executable and (words := _first_line(executable)):
        # A script that names its interpreter: `./train.py`, or what pip makes of an entry point.
        script = executable
        if os.path.basename(words[0]) == "env":  # noqa: PTH119
            words = [word for word in words[1:] if not word.startswith("-")][:1]
        python = shutil.which(words[0]) if words else None
        interpreter = python if python and _is_python(python) else UNKNOWN
    if script is not None:
        script = os.path.join(cwd, script)  # noqa: PTH118
    return Origin(list(command), cwd, script, module, executable, interpreter)


def is_same_python(one: str, other: str) -> bool:
    """Tell whether two paths of interpreters lie in one environment (a virtual one is its directory)."""
    return os.path.dirname(os.path.abspath(one)) == os.path.dirname(os.path.abspath(other)) and (  # noqa: PTH100, PTH120
        os.path.realpath(one) == os.path.realpath(other)
    )


def working_directory() -> str:
    """Return the working directory; the root if it was deleted."""
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:
        return os.sep


def _is_python(path: str) -> bool:
    return _PYTHON.fullmatch(os.path.basename(path)) is not None  # noqa: PTH119


def _python_target(words: Sequence[str]) -> tuple[str | None, str | None]:
    """Return script and module of ``python`` with these words."""
    rest = iter(words)
    for word in rest:
        if word == "-m":
            return None, next(rest, None)
        if word.startswith("-m") and len(word) > 2:
            return None, word[2:]
        if word.startswith("-c") or word == "-":
            return None, None
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith("-"):
            return word, None
    return None, None


def _first_line(path: str) -> list[str]:
    """Return the words after ``#!`` in the first line of a file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            line = file.readline(1024)
    except OSError:
        return []
    return os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
