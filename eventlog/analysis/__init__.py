"""Comparison and statistics: plain functions over what logs say, which return frozen structs.

The functions are loaded when they are first asked for. No module here has the name of one of them, or to
import the module would put it in the function's place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventlog.analysis.comparison.comparing import compare
    from eventlog.analysis.ranking.decision import decide
    from eventlog.analysis.comparison.difference import diff
    from eventlog.analysis.ranking.board import leaderboard

__all__ = ["compare", "decide", "diff", "leaderboard"]

_HOMES = {
    "compare": "comparison",
    "decide": "decision",
    "diff": "difference",
    "leaderboard": "ranking",
}
"""The module of each function."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
