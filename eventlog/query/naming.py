"""Finds the run that somebody means, among those of a query."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eventlog.errors import AmbiguousRunError, RunNotFoundError


def pick_run(runs: Sequence[tuple[str, str]], name: str, root: Path) -> tuple[str, str]:
    """Return project and id of the run *name*: an id, PROJECT/ID, or the beginning of one.

    Raises:
        RunNotFoundError: it fits none.
        AmbiguousRunError: it fits several.
    """
    exact = [run for run in runs if name in {run[1], "/".join(run)}]
    fits = exact or [
        run for run in runs if name and ("/".join(run) if "/" in name else run[1]).startswith(name)
    ]
    if not fits:
        raise RunNotFoundError(name, root)
    if len(fits) > 1:
        raise AmbiguousRunError(name, ["/".join(run) for run in fits])
    return fits[0]
