"""What a team wants measured: the table ``[system]`` of ``evlog.toml``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventlog.configuration import read_table


class SystemTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table.

    Attributes:
        enabled: measure at all, where neither program nor environment says.
        interval_s: seconds between samples.
    """

    enabled: bool = True
    interval_s: float = 15.0


def read_system_table(root: Path) -> SystemTable:
    """Return what the file wants; it may lie in *root* or the working directory.

    Raises:
        ConfigurationError: it cannot be read.
    """
    return read_table("system", SystemTable, root=root)
