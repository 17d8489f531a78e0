"""What stands around the content of a line: its time, its logger, its step, its epoch."""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

MAX_STEP = (1 << 63) - 1

_TIME = re.compile(
    r"""\s*[\[(]?(?:
        (?P<iso>\d{4}[-/]\d{2}[-/]\d{2}[T ]\d{2}:\d{2}:\d{2})(?:[.,](?P<part>\d{1,9}))?
        [ ]?(?P<zone>Z|[+-]\d{2}:?\d{2})?
      | (?P<us>\d{2}/\d{2}/\d{4}\ \d{2}:\d{2}:\d{2})
      | (?P<clock>(?:[A-Z][a-z]{2}\ {1,2}\d{1,2}\ )?\d{2}:\d{2}:\d{2}(?:[.,]\d+)?)
    )[\])]?\s*(?:[:|-]|>>)?\s*""",
    re.VERBOSE,
)
_LEVEL = re.compile(
    r"[\[(]?(?:TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL|[IWE]\d{4})[\])]?(?=[\s:|-])"
    r"(?:[:\s|-]+(?!(?:train|valid|val|test|eval|dev)\b)[\w.]+(?:[:.]\d+)?(?=\s*[-|:\]]\s))?[\s:|\]-]+"
)
_BEFORE = re.compile(
    r"\[\d\d/\d\d \d\d:\d\d:\d\d [\w.]+\]:\s+(?:copypaste: )?|\[[A-Z]+\|[\w.]+:\d+\]\s(?=\d{4}-)"
)
_BEHIND = re.compile(r"(?:\[[\w./]+\.py:\d+:\w+\]\s*)?(?:\[Rank \d+\]\s*)?")
_LOGGER = re.compile(r"[\w.]+(?:[:.]\d+)?\s+[-|]\s+")
_EPOCH = re.compile(
    r"\bepoch\b\s*[:=#]?\s*[\[(]?\s*(\d+)(\.\d+)?(?:\s*(?:/|of)\s*(\d+))?[\])]?", re.IGNORECASE
)
_STEP = re.compile(
    r"\b(?!batch\s*=\s*\d+(?![\d\s]*/))"  # a size
    r"(global[ _]?step|num[ _]updates|steps?|iter(?:ation)?s?|batch|update)\b\s*[:=#]?\s*[\[(]?\s*(\d+)"
    r"(?:\s*(?:/|of)\s*(\d+))?(?![\d.]*\w)[\])]?",
    re.IGNORECASE,
)
_BAR = re.compile(r"(?:^|[\s|:])(\d+)/(\d+)\s*(?=[\[━|])")
_WITHIN = re.compile(r"\[\s*(\d+)/(\d+)(?:\s*\(\s*\d+%\))?\]")
_CUT = " \x1f "
"""Stands for what was cut out of a line; \\s matches it, and no log has it."""

_PROGRESS = re.compile(r"\[[=>.\-#\s]*\]|━+|\d+%\|[^|]*\|")


class Stamp(NamedTuple):
    """The time of a line (µs since the epoch, None: none or one without a date), and what follows it."""

    t_us: int | None
    rest: str


class Marker(NamedTuple):
    """Where in the training a line stands; *rest* is the line without what said so."""

    epoch: float | None
    step: int | None
    steps_in_epoch: int | None
    rest: str
    is_total: bool

    @property
    def is_there(self) -> bool:
        """Tell whether the line says where it stands."""
        return self.epoch is not None or self.step is not None


def stamp_of(line: str) -> Stamp:
    """Cut time and logger off the beginning of *line*. A time without a zone is local time."""
    if before := _BEFORE.match(line):
        line = line[before.end() :]
    found = _TIME.match(line)
    if found is None:
        return Stamp(None, _without_logger(line))
    rest = line[found.end() :]
    level = _LEVEL.match(rest)
    if level is None and (named := _LOGGER.match(rest)):
        rest = rest[named.end() :]
    return Stamp(_time_us(found), _without_logger(rest))


def _without_logger(line: str) -> str:
    if found := _LEVEL.match(line):
        line = line[found.end() :]
    behind = _BEHIND.match(line)
    return line[behind.end() :] if behind else line


def _time_us(found: re.Match[str]) -> int | None:
    try:
        if found["iso"]:
            zone = (found["zone"] or "").replace("Z", "+00:00")
            text = found["iso"].replace("/", "-").replace(" ", "T") + zone
            part = (found["part"] or "0")[:6].ljust(6, "0")
            return int(datetime.fromisoformat(text).timestamp()) * 1_000_000 + int(part)
        if found["us"]:
            return int(datetime.strptime(found["us"], "%m/%d/%Y %H:%M:%S").timestamp()) * 1_000_000
    except (ValueError, OverflowError, OSError):
        return None  # 2025-13-45 is no date
    return None


def marker_of(line: str) -> Marker:
    """Return the epoch and the step that *line* names, and the line without them."""
    epoch = steps_in_epoch = step = None
    is_total = False
    found = _EPOCH.search(line)
    if found:
        epoch = float(found[1] + (found[2] or ""))
        line = _cut(line, found)
    found = _STEP.search(line)
    if found and int(found[2]) <= MAX_STEP:
        step = int(found[2])
        steps_in_epoch = int(found[3]) if found[3] else None
        is_total = found[1].lower().startswith(("global", "num"))
        line = _cut(line, found)
    elif bar := _BAR.search(line) or (_WITHIN.search(line) if epoch is not None else None):
        step, steps_in_epoch = int(bar[1][:18]), int(bar[2][:18])
        line = _PROGRESS.sub(" ", _cut(line, bar))
    return Marker(epoch, step, steps_in_epoch, line, is_total)


def _cut(line: str, found: re.Match[str]) -> str:
    return f"{line[: found.start()]}{_CUT}{line[found.end() :]}"
