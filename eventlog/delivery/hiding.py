"""Hides texts on their way to a destination.

A pattern hides in two ways. By name: a param whose dotted name it matches, and so an entry of a summary, of a
context, of the data of a dataset or an evaluation, of the parts of a sample, and a tag. By text: what it
matches in these, in console, notes, alerts, tables, captions and texts of media, in errors, in paths that lie
outside the run, and in events of unknown types.

Names of runs, metrics, artifacts and models stay, for they are what a thing is found by; files that a sink
copies are copied as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import singledispatchmethod

import msgspec
from msgspec.structs import replace

from eventlog import events as ev
from eventlog.errors import BadShapeError
from eventlog.events import AnyEvent

REDACTED = "[redacted]"


def compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    """Return *patterns* as regular expressions.

    Raises:
        BadShapeError: one is none, or would hide the empty text, which is between any two letters.
    """
    found = []
    for text in patterns:
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise BadShapeError(
                f"--redact {text!r} is not a regular expression: {error}. A dot or a bracket that is "
                "meant as such needs a backslash"
            ) from error
        if pattern.fullmatch(""):
            raise BadShapeError(f"--redact {text!r} matches even an empty text: say what has to be there")
        found.append(pattern)
    return found


class Hider:
    """Hides what some patterns match."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = compiled(patterns)

    @singledispatchmethod
    def hide(self, event: AnyEvent) -> AnyEvent:
        """Return *event* without what is to be hidden; one of a kind that holds no text as it is."""
        return event

    @hide.register
    def _(self, event: ev.Params | ev.Summary | ev.Context) -> AnyEvent:
        return replace(event, data=self._mapping(event.data))

    @hide.register
    def _(self, event: ev.Evaluation) -> AnyEvent:
        return replace(event, data=self._mapping(event.data))

    @hide.register
    def _(self, event: ev.Dataset) -> AnyEvent:
        return replace(event, data=self._mapping(event.data), path=self._optional(event.path))

    @hide.register
    def _(self, event: ev.Sample) -> AnyEvent:
        return replace(
            event,
            input=self._value(event.input, "input"),
            target=self._value(event.target, "target"),
            prediction=self._value(event.prediction, "prediction"),
        )

    @hide.register
    def _(self, event: ev.Tags) -> AnyEvent:
        return replace(event, data=self._tags(event.data))

    @hide.register
    def _(self, event: ev.RunStarted) -> AnyEvent:
        return replace(event, tags=self._tags(event.tags), notes=self._optional(event.notes))

    @hide.register
    def _(self, event: ev.Console | ev.Note) -> AnyEvent:
        return replace(event, text=self._text(event.text))

    @hide.register
    def _(self, event: ev.Alert) -> AnyEvent:
        return replace(event, title=self._text(event.title), text=self._text(event.text))

    @hide.register
    def _(self, event: ev.Table) -> AnyEvent:
        return replace(event, rows=[[self._value(cell, "") for cell in row] for row in event.rows])

    @hide.register
    def _(self, event: ev.Media) -> AnyEvent:
        return replace(event, caption=self._optional(event.caption), text=self._optional(event.text))

    @hide.register
    def _(self, event: ev.Artifact) -> AnyEvent:
        path = event.path if event.stored == "copy" else self._text(event.path)
        return replace(event, path=path, source=self._optional(event.source))

    @hide.register
    def _(self, event: ev.Checkpoint) -> AnyEvent:
        return replace(event, path=self._text(event.path))

    @hide.register
    def _(self, event: ev.RunEnded) -> AnyEvent:
        error = event.error
        if error is None:
            return event
        hidden = replace(error, message=self._text(error.message), traceback=self._text(error.traceback))
        return replace(event, error=hidden)

    @hide.register
    def _(self, event: ev.UnknownEvent) -> AnyEvent:
        """Hide by name and by text everywhere in it: nobody knows which of its fields are which."""
        try:
            fields = msgspec.json.decode(event.raw, type=dict[str, object])
        except msgspec.MsgspecError:
            text = self._text(event.raw.decode(errors="replace"))
            return replace(event, raw=text.encode())
        kept = {name: fields[name] for name in ("seq", "ts", "type") if name in fields}
        # Its crc is that of the line in the log.
        fields.pop("crc", None)
        return replace(event, raw=msgspec.json.encode({**kept, **self._mapping(fields), **kept}))

    def _tags(self, tags: Mapping[str, str | None]) -> dict[str, str | None]:
        return {
            name: None if value is None else REDACTED if self._matches(name) else self._text(value)
            for name, value in tags.items()
        }

    def _mapping(self, data: Mapping[str, object]) -> dict[str, object]:
        return {key: self._value(value, key) for key, value in data.items()}

    def _value(self, value: object, name: str, *, is_hidden: bool = False) -> object:
        is_hidden = is_hidden or self._matches(name)
        if isinstance(value, dict):
            # Keep the keys: somebody wants to see that there was a password.
            above = f"{name}." if name else ""
            return {key: self._value(one, f"{above}{key}", is_hidden=is_hidden) for key, one in value.items()}
        if is_hidden:
            return REDACTED
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, list):
            return [self._value(item, name) for item in value]
        return value

    def _matches(self, name: str) -> bool:
        return bool(name) and any(pattern.search(name) for pattern in self._patterns)

    def _optional(self, text: str | None) -> str | None:
        return None if text is None else self._text(text)

    def _text(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(REDACTED, text)
        return text
