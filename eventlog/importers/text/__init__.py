"""Makes runs of text logs: ``key=value``, steps and epochs, JSON, tables, saved files.

from eventlog.importers.text import read_text
understanding = read_text(Path("train.log").read_text())
understanding.params, understanding.keys, understanding.left_out
"""

from __future__ import annotations

from eventlog.importers.text.meaning import Point, Understanding, read_text, understand
from eventlog.importers.text.reading import Reader

__all__ = ["Point", "Reader", "Understanding", "read_text", "understand"]
