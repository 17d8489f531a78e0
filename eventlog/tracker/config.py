"""The settings that all backends share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from eventlog.values import key_text, text


class TrackingConfig(msgspec.Struct, kw_only=True):
    """Metadata of the runs that a tracker starts, and what it logs of itself.

    Attributes:
        project: directory of the runs below the root; None takes ``EVLOG_PROJECT`` or ``default``.
        experiment_name: collection of related runs; also the run's id if it has no name.
        tags: labels, as a list or with values.
        notes: free text.
        log_artifacts: copy artifacts into the run; False records them by reference.
        log_code: store the entry script as an artifact, and the repository's uncommitted diff also when
            lineage is not captured.
        auto_log_metrics: let `auto_track` log the numbers that a function returns.
    """

    project: str | None = None
    experiment_name: str | None = None
    tags: Sequence[str] | Mapping[str, object] | None = None
    notes: str | None = None
    log_artifacts: bool = True
    log_code: bool = False
    auto_log_metrics: bool = True


def tag_mapping(tags: Sequence[str] | Mapping[str, object] | str | None) -> dict[str, str | None]:
    """Return *tags* as name and value; a tag from a list has no value."""
    if tags is None:
        return {}
    if isinstance(tags, str):
        return {text(tags): None}
    if isinstance(tags, Mapping):
        return {key_text(k): None if v is None else text(str(v)) for k, v in tags.items()}
    return {key_text(tag): None for tag in tags}
