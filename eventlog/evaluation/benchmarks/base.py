"""`BaseBenchmark` under the name that it had in the framework that ours replaces.

The conventions allow no module of this name; here it keeps imports of existing benchmarks valid.
"""

from __future__ import annotations

from eventlog.evaluation.benchmark import BaseBenchmark

__all__ = ["BaseBenchmark"]
