"""Names of results that differ from run to run although nothing else does: times, speeds, loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

_WORDS = re.compile(r"[a-z]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TIME_WORDS = """
    time times timestamp date datetime duration elapsed latency throughput fps speed eta
    seconds sec secs ms us ns minutes hours energy kwh rss
"""
_TIMES = frozenset(_TIME_WORDS.split())
_DONE = frozenset(["started", "finished", "ended", "created", "updated", "logged", "saved"])
"""With ``at`` behind them they are moments; ``precision_at`` is none."""


def is_timing(name: str, patterns: Sequence[str] = ()) -> bool:
    """Tell whether *name* is that of a time, a speed or a load, by its words or by *patterns*.

    ``epoch_time``, ``latencyMs``, ``tokens/s`` are; ``sentiment_accuracy`` is not. Patterns are compared
    without regard to case.
    """
    words = _WORDS.findall(_CAMEL.sub("_", name).lower())
    is_rate = len(words) > 1 and (words[-1] == "s" or words[-2:] == ["per", "second"])
    is_moment = len(words) > 1 and words[-1] == "at" and words[-2] in _DONE
    if is_rate or is_moment or not _TIMES.isdisjoint(words) or words[:1] == ["system"]:
        return True
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)
