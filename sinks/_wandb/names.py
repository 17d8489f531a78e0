"""The names that a run gets at W&B: the same at every start, and different for different runs."""

from __future__ import annotations

import hashlib
import re

from eventlog.sink import RunInfo

_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def run_name(run: RunInfo, *, is_mixed: bool = False) -> str:
    """Return the id of a run, of the form ``[a-z0-9-]{1,64}``.

    An id that has this form is kept; another one is mapped and told apart by a hash.

    Args:
        is_mixed: runs of several of our projects may meet in one at W&B.
    """
    if _RUN_ID.fullmatch(run.run_id) and not run.generation and not is_mixed:
        return run.run_id
    plain = re.sub(r"[^a-z0-9]+", "-", run.run_id.lower()).strip("-")[:48].rstrip("-") or "run"
    whole = "\0".join((run.project, run.run_id, str(run.generation)))
    return f"{plain}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def project_name(project: str) -> str:
    """Return the name of a project: W&B allows 128 characters without ``/ \\ # ? % :``."""
    plain = re.sub(r"[/\\#?%:\s\x00-\x1f]", "-", project)
    if plain == project and len(project) <= 128:
        return project
    return f"{plain[:115]}-{hashlib.sha256(project.encode()).hexdigest()[:12]}"
