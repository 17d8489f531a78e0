"""Names of results that differ from run to run although nothing else does: times, speeds, loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

_WORDS = re.compile(r"[a-z]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TIMES = frozenset(
    [
        *(
            "time",
            "times",
            "timestamp",
            "duration",
            "elapsed",
            "latency",
            "throughput",
            "fps",
            "speed",
            "eta",
        ),
        *("seconds", "sec", "secs", "ms", "us", "ns", "minutes", "hours", "energy", "kwh", "rss"),
    ]
)


def is_timing(name: str, patterns: Sequence[str] = ()) -> bool:
    """Tell whether *name* is that of a time, a speed or a load, by its words or by *patterns*.

    ``epoch_time``, ``latencyMs``, ``tokens/s`` are; ``sentiment_accuracy`` is not. Patterns are compared
    without regard to case.
    """
    words = _WORDS.findall(_CAMEL.sub("_", name).lower())
    is_rate = len(words) > 1 and (words[-1] == "s" or words[-2:] == ["per", "second"])
    if is_rate or not _TIMES.isdisjoint(words) or words[:1] == ["system"]:
        return True
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)
