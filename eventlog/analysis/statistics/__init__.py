"""Statistics of two groups of numbers, without runs: tests, intervals, effect sizes, corrections.

`docs/reference/statistics.md` says which one answers which question. `eventlog.analysis.significance` puts
them to runs.
"""

from eventlog.analysis.statistics.corrections import benjamini_hochberg, corrected, holm
from eventlog.analysis.statistics.effects import cohens_d, hedges_g, paired_d_z
from eventlog.analysis.statistics.outcomes import Alternative, Effect, Interval, Outcome
from eventlog.analysis.statistics.proportions import mcnemar, mcnemar_counts
from eventlog.analysis.statistics.resampling import (
    arrangements,
    bootstrap_interval,
    permutation_test,
    smallest_p,
)
from eventlog.analysis.statistics.ttests import difference_interval, mean_interval, paired_t, welch_t
from eventlog.analysis.statistics.vectors import StatisticsError, TooFewValuesError

__all__ = [
    "Alternative",
    "Effect",
    "Interval",
    "Outcome",
    "StatisticsError",
    "TooFewValuesError",
    "arrangements",
    "benjamini_hochberg",
    "bootstrap_interval",
    "cohens_d",
    "corrected",
    "difference_interval",
    "hedges_g",
    "holm",
    "mcnemar",
    "mcnemar_counts",
    "mean_interval",
    "paired_d_z",
    "paired_t",
    "permutation_test",
    "smallest_p",
    "welch_t",
]
