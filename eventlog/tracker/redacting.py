"""Masks credentials in what is logged, before it reaches the log: a log is for ever.

By name: the texts of params, summaries, contexts, tags and the data of data sets and evaluations whose names
look like those of credentials (`eventlog.tracker.secrets`). By text: tokens of known forms, and logins in
addresses, in these and in the console, alerts, errors, captions and paths. Numbers and truth values are never
masked. Names, metrics, samples, tables, and texts and files that are logged as such are the user's own words;
notes lose the logins of addresses only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from eventlog import events as ev
from eventlog.configuration import ConfigurationError, read_table
from eventlog.errors import BadShapeError, warn_once
from eventlog.settings import from_environment
from eventlog.tracker import secrets
from eventlog.tracker.secrets import REDACTED

NAMED = 8
"""So many names stand in the warning."""
# Below these names of a context stand the user's packages, and ours for what they are called.
_NO_NAMES = frozenset({"packages", "sources"})

Redact = bool | str | Sequence[str] | None


class RedactTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``[redact]`` of ``evlog.toml``.

    Attributes:
        enabled: mask what looks like a credential, where neither program nor environment says.
        patterns: regular expressions for what is masked besides, as those of ``evlog sync --redact``.
    """

    enabled: bool = True
    patterns: list[str] = []


def check_patterns(redact: Redact) -> Redact:
    """Return *redact* if what it holds are regular expressions.

    Raises:
        BadShapeError: one of them is none.
    """
    if redact is not None and not isinstance(redact, bool):
        from eventlog.delivery.hiding import compiled

        compiled(_listed(redact))
    return redact


def _listed(redact: Redact) -> list[str]:
    return [redact] if isinstance(redact, str) else [] if isinstance(redact, bool) else list(redact or [])


def redactor_for(run: Path, redact: Redact) -> Redactor | None:
    """Return what masks the events of *run*, or None if nothing is to be masked.

    Args:
        redact: False for nothing, True for what looks like a credential, patterns for what is masked besides;
            None as ``EVLOG_REDACT``, or else ``evlog.toml``, says.
    """
    try:
        table = read_table("redact", RedactTable, root=run.parent.parent)
        check_patterns(table.patterns)
    except (ConfigurationError, BadShapeError) as error:
        warn_once("redact", f"[redact] {error}. Until then credentials are masked as if it were not there.")
        table = RedactTable()
    given, said = _listed(redact), from_environment().redact
    is_on = redact if isinstance(redact, bool) else bool(given) or (table.enabled if said is None else said)
    return Redactor([*table.patterns, *given], str(run)) if is_on else None


class Redactor:
    """Masks the credentials in events, and says once which. Thread-safe.

    Args:
        patterns: what is masked besides: also numbers, by dotted name or by text.
        where: the run, for the warning.
    """

    def __init__(self, patterns: Sequence[str], where: str) -> None:
        self._where = where
        self._also: Callable[[Any], Any] | None = None
        if patterns:
            from eventlog.delivery.hiding import Hider  # few have patterns

            self._also = Hider(patterns).hide

    def mask(self, event: ev.Event) -> ev.Event:
        """Return *event* without credentials; the same object if there are none."""
        way = _WAYS.get(type(event))
        if way is not None:
            found: list[str] = []
            event = way(event, found.append)
            if found:
                self._warn(found)
        if self._also is not None:
            event = cast("ev.Event", self._also(event))
        return event

    def _warn(self, names: Sequence[str]) -> None:
        known = list(dict.fromkeys(names))
        more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
        warn_once(
            f"redact {self._where}",
            f"{self._where}: {', '.join(map(repr, known[:NAMED]))}{more} logged as {REDACTED}: it looks like "
            "a credential, and a log is for ever. If it is none, pass redact=False to the tracker or set "
            "EVLOG_REDACT=0. What else is found in this run is masked without a word.",
        )


# --- values -----------------------------------------------------------------------------------------

Tell = Callable[[str], None]


def _value(value: object, name: str, tell: Tell, *, by_name: bool = True, is_hidden: bool = False) -> object:
    """Return *value*, called *name* with dots, without credentials.

    Args:
        is_hidden: what it lies in has the name of one.
    """
    if isinstance(value, dict):
        by_name = by_name and name.rpartition(".")[2] not in _NO_NAMES
        above = f"{name}." if name else ""
        named = _name_in(value) if by_name else ""
        return {
            key: _value(
                one,
                f"{above}{key}",
                tell,
                by_name=by_name,
                is_hidden=is_hidden
                or (by_name and secrets.is_secret(f"{above}{key}"))
                or (key == "value" and secrets.is_secret(named)),
            )
            for key, one in value.items()
        }
    if isinstance(value, list):
        if any(isinstance(one, str) and one.startswith("-") for one in value) or name.endswith("argv"):
            value = secrets.without_arguments(value, tell)
        if value and all(isinstance(one, list) and len(one) == 2 for one in value):
            return [_pair(cast("list[object]", one), name, tell, is_hidden=is_hidden) for one in value]
        return [_value(one, name, tell, by_name=by_name, is_hidden=is_hidden) for one in value]
    return _text(value, name, tell, is_hidden=is_hidden) if isinstance(value, str) else value


def _name_in(value: Mapping[str, object]) -> str:
    """Return what ``{"name": "HF_TOKEN", "value": "x"}`` is about."""
    return next((name for name in map(value.get, ("name", "key")) if isinstance(name, str)), "")


def _pair(pair: list[object], name: str, tell: Tell, *, is_hidden: bool) -> object:
    """Return one of a list of names with their values, as headers have."""
    first, second = pair
    is_hidden_too = is_hidden or (isinstance(first, str) and secrets.is_secret(first))
    return [
        _value(first, name, tell, is_hidden=is_hidden),
        _value(second, f"{name}.{first}", tell, is_hidden=is_hidden_too),
    ]


def _text(text: str, name: str, tell: Tell, *, is_hidden: bool = False) -> str:
    if is_hidden and not secrets.is_harmless(text):
        tell(name)
        return REDACTED
    return _told(text, secrets.without_named(text), name, tell)


def _told(before: str, after: str, name: str, tell: Tell) -> str:
    if after != before:
        tell(name)
    return after


def _mapping(data: Mapping[str, object], tell: Tell) -> dict[str, object]:
    return cast("dict[str, object]", _value(dict(data), "", tell))


def _tags(tags: Mapping[str, str | None], tell: Tell) -> dict[str, str | None]:
    return {
        secrets.without_tokens(name): None
        if value is None
        else _text(value, name, tell, is_hidden=secrets.is_secret(name))
        for name, value in tags.items()
    }


def _plain(text: str | None, name: str, tell: Tell) -> Any:
    return None if text is None else _told(text, secrets.without_tokens(text), name, tell)


# --- events -----------------------------------------------------------------------------------------


def _data(event: Any, tell: Tell) -> Any:
    return replace(event, data=_mapping(event.data, tell))


def _dataset(event: ev.Dataset, tell: Tell) -> ev.Dataset:
    return replace(event, data=_mapping(event.data, tell), path=_plain(event.path, "path", tell))


def _set_tags(event: ev.Tags, tell: Tell) -> ev.Tags:
    return replace(event, data=_tags(event.data, tell))


def _started(event: ev.RunStarted, tell: Tell) -> ev.RunStarted:
    notes = None if event.notes is None else secrets.without_logins(event.notes)
    return replace(event, tags=_tags(event.tags, tell), notes=notes)


def _note(event: ev.Note, tell: Tell) -> ev.Note:
    return replace(event, text=_told(event.text, secrets.without_logins(event.text), "note", tell))


def _console(event: ev.Console, tell: Tell) -> ev.Console:
    return replace(event, text=_plain(event.text, event.stream, tell))


def _caption(event: ev.Media, tell: Tell) -> ev.Media:
    return replace(event, caption=_plain(event.caption, event.key, tell)) if event.caption else event


def _alert(event: ev.Alert, tell: Tell) -> ev.Alert:
    return replace(event, title=_text(event.title, "alert", tell), text=_text(event.text, "alert", tell))


def _ended(event: ev.RunEnded, tell: Tell) -> ev.RunEnded:
    error = event.error
    if error is None:
        return event
    message, trace = _text(error.message, "error", tell), _plain(error.traceback, "error", tell)
    return replace(event, error=replace(error, message=message, traceback=trace))


def _artifact(event: ev.Artifact, tell: Tell) -> ev.Artifact:
    path = event.path if event.stored == "copy" else _plain(event.path, event.name, tell)
    return replace(event, path=path, source=_plain(event.source, event.name, tell))


def _path(event: Any, tell: Tell) -> Any:
    return replace(event, path=_plain(event.path, "path", tell))


_WAYS: dict[type, Callable[[Any, Tell], Any]] = {
    ev.Params: _data,
    ev.Summary: _data,
    ev.Context: _data,
    ev.Evaluation: _data,
    ev.Dataset: _dataset,
    ev.Tags: _set_tags,
    ev.RunStarted: _started,
    ev.Note: _note,
    ev.Console: _console,
    ev.Media: _caption,
    ev.Alert: _alert,
    ev.RunEnded: _ended,
    ev.Artifact: _artifact,
    ev.Checkpoint: _path,
    ev.Model: _path,
    ev.ModelRegistered: _path,
}
