"""What the environment says: where runs lie, which project, which rank, whether at all.

| variable | meaning |
|---|---|
| ``EVLOG_DIR`` | root of all runs, default ``./experiments`` |
| ``EVLOG_PROJECT`` | project, default ``default`` |
| ``EVLOG_RUN_ID`` | take part in this run instead of starting one (set by ``evlog run``) |
| ``EVLOG_LINEAGE`` | ``0`` or ``off``: capture no lineage; ``1`` or ``on``: also against ``evlog.toml`` |
| ``EVLOG_LINEAGE_PYTHON`` | the Python of which ``evlog run`` lists the packages, or empty (set by it) |
| ``EVLOG_PRIVATE`` | ``1`` or ``on``: nobody else may read new runs; ``0`` or ``off``: not private |
| ``EVLOG_REDACT`` | ``0`` or ``off``: log credentials as they are; ``1`` or ``on``: mask them |
| ``EVLOG_DISABLED`` | ``1``, ``true``, ``yes`` or ``on``: log nothing, write nothing |
| ``RANK``, ``SLURM_PROCID``, ``OMPI_COMM_WORLD_RANK`` | rank of this process, the first that is set |
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

DEFAULT_ROOT = "./experiments"
DEFAULT_PROJECT = "default"
RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The environment, parsed once.

    Attributes:
        lineage: whether lineage is captured, if the environment says so.
        lineage_python: the Python that a surrounding ``evlog run`` knows; None if none is around us that
            captures lineage.
        private: whether new runs are closed to others, if the environment says so.
        redact: whether credentials are masked, if the environment says so.
    """

    root: Path
    project: str
    run_id: str | None
    is_disabled: bool
    rank: int
    lineage: bool | None = None
    lineage_python: str | None = None
    private: bool | None = None
    redact: bool | None = None


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in *environment* (default: this process's). A rank that is no number is 0."""
    env = os.environ if environment is None else environment
    return Settings(
        root=Path(env.get("EVLOG_DIR") or DEFAULT_ROOT),
        project=env.get("EVLOG_PROJECT") or DEFAULT_PROJECT,
        run_id=env.get("EVLOG_RUN_ID") or None,
        is_disabled=env.get("EVLOG_DISABLED", "").strip().lower() in _YES,
        rank=_rank(env),
        lineage=_choice(env.get("EVLOG_LINEAGE", "")),
        lineage_python=env.get("EVLOG_LINEAGE_PYTHON"),
        private=_choice(env.get("EVLOG_PRIVATE", "")),
        redact=_choice(env.get("EVLOG_REDACT", "")),
    )


def _choice(word: str) -> bool | None:
    word = word.strip().lower()
    return True if word in _YES else False if word in _NO else None


def _rank(env: Mapping[str, str]) -> int:
    for name in RANK_VARIABLES:
        value = env.get(name, "").strip()
        if value:
            return int(value) if value.isdecimal() else 0
    return 0
