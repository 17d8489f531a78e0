"""The lines of an audit and the rules of a team: the table ``[audit]`` of ``evlog.toml``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

Level = Literal["pass", "warn", "fail"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        check: its id, such as ``data.version``.
        mend: what to do about it; empty for what is good.
    """

    check: str
    level: Level
    text: str
    mend: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON."""
        return msgspec.structs.asdict(self)


class AuditRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a team asks of its runs: the table ``[audit]`` of ``evlog.toml``.

    A check is named by its id, or with its group (``tags`` for ``tags.owner`` and the others).

    Attributes:
        require: checks whose warnings count as failures.
        ignore: checks that are not made.
        severity: what a check is that does not pass; it goes before *require*.
        tags: tags that every run must have.
        params: params that every run must have.
        metrics: results that every run must have.
        min_seeds: how many seeds an experiment needs for each setting.
    """

    require: list[str] = msgspec.field(default_factory=list)
    ignore: list[str] = msgspec.field(default_factory=list)
    severity: dict[str, Literal["warn", "fail"]] = msgspec.field(default_factory=dict)
    tags: list[str] = msgspec.field(default_factory=list)
    params: list[str] = msgspec.field(default_factory=list)
    metrics: list[str] = msgspec.field(default_factory=list)
    min_seeds: int = 1

    def judge(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Yield *lines* with the levels that these rules give them, without what is ignored."""
        for line in lines:
            if _named(line.check, self.ignore) is not None:
                continue
            level = line.level
            if level != "pass":
                named = _named(line.check, self.severity)
                if named is not None:
                    level = self.severity[named]
                elif _named(line.check, self.require) is not None:
                    level = "fail"
            yield line if level == line.level else msgspec.structs.replace(line, level=level)


def _named(check: str, names: Iterable[str]) -> str | None:
    """Return the name that means *check*: the longest, if several do."""
    fitting = [name for name in names if check == name or check.startswith(f"{name}.")]
    return max(fitting, key=len, default=None)


def passed(check: str, text: str) -> Line:
    """Return a line of what is good."""
    return Line(check=check, level="pass", text=text)


def warned(check: str, text: str, mend: str) -> Line:
    """Return a line of what is worth a look."""
    return Line(check=check, level="warn", text=text, mend=mend)


def failed(check: str, text: str, mend: str) -> Line:
    """Return a line of what makes a run useless to others."""
    return Line(check=check, level="fail", text=text, mend=mend)


def worst(lines: Iterable[Line]) -> Level:
    """Return the worst level among *lines*."""
    levels = {line.level for line in lines}
    return "fail" if "fail" in levels else "warn" if "warn" in levels else "pass"
