"""What a team wants captured: the table ``[lineage]`` of ``evlog.toml``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from eventlog.configuration import read_table


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table.

    Attributes:
        enabled: capture lineage at all.
        variables: patterns of environment variables that are logged besides the usual ones; one that begins
            with ``!`` takes some away.
        diff: store the uncommitted changes.
    """

    enabled: bool = True
    variables: list[str] = []
    diff: bool = True


def read_wanted(root: Path) -> Wanted:
    """Return what the file wants; it may lie in *root* or the working directory.

    Raises:
        ConfigurationError: it cannot be read.
    """
    return read_table("lineage", Wanted, root=root)
