"""What a team writes down once for all its runs: the file ``evlog.toml``.

It is looked for in this order: ``EVLOG_CONFIG``, ``<root>/evlog.toml``, ``./evlog.toml``. Each room reads a
table of its own (``[prices]``, ``[audit]``, ``[system]``, …) and says itself what may stand there. A job that
logs goes on without the file when it cannot be read; commands say what is wrong with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from eventlog.errors import EvlogError

if TYPE_CHECKING:
    import msgspec

NAME = "evlog.toml"

S = TypeVar("S", bound="msgspec.Struct")


class ConfigurationError(EvlogError, ValueError):
    """The file ``evlog.toml`` is not what it should be."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}. Mend the file, or name another with EVLOG_CONFIG."


def find_configuration(root: Path | None = None) -> Path | None:
    """Return the file that counts for the runs below *root*, or None."""
    named = os.environ.get("EVLOG_CONFIG")
    if named:
        return Path(named)
    candidates = [Path(NAME)] if root is None else [root / NAME, Path(NAME)]
    return next((path for path in candidates if path.is_file()), None)


def read_table(name: str, shape: type[S], *, root: Path | None = None) -> S:
    """Return the table *name* of the file, or *shape* with its defaults if there is none.

    Args:
        shape: a struct whose fields all have defaults.

    Raises:
        ConfigurationError: the file cannot be read, or a value has another type than *shape* says.
    """
    path = find_configuration(root)
    if path is None:
        return shape()
    # Here: a job's probes look whether there is a file without loading what reads one.
    import tomllib

    import msgspec

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(tables.get(name, {}), shape)
    except (OSError, ValueError, RecursionError) as error:
        where = f"[{name}] " if isinstance(error, msgspec.ValidationError) else ""
        raise ConfigurationError(path, f"{where}{error}") from error
