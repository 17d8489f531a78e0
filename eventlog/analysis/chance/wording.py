"""What a comparison says in plain words, and in a notebook."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

import msgspec

from eventlog.analysis.chance.pairing import Numbers
from eventlog.analysis.statistics.contrast import Contrast, Options
from eventlog.analysis.statistics.outcomes import Interval, Outcome
from eventlog.analysis.statistics.resampling import smallest_p

if TYPE_CHECKING:
    from eventlog.analysis.chance.answer import Significance

FEW = 5
_NAMES = {
    "welch_t": "Welch's t",
    "paired_t": "paired t",
    "permutation": "permutation",
    "mcnemar": "McNemar",
}
_CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg"}


class Wording(msgspec.Struct, frozen=True, kw_only=True):
    """How results are put into words.

    Attributes:
        mode: ``max`` or ``min`` if it is known which is better.
        correction: of p, ``none`` for a single comparison.
    """

    unit: str
    mode: str | None
    correction: str
    options: Options


def sentence(a: str, b: str, found: Contrast, p_corrected: float | None, how: Wording) -> str:
    """Return what was found, as one would tell it: whom, by how much, how sure."""
    in_points = found.table is not None
    gap = found.difference
    tail = f"{_p_phrase(found.test, p_corrected, how)}{_interval_phrase(found.interval, in_points)}"
    if found.a == found.b and gap == 0 and p_corrected == 1:
        return f"{a} and {b} do not differ: {tail}."
    amount = _amount(abs(gap), in_points)
    is_sure = p_corrected is not None and p_corrected < 1 - how.options.level
    if not is_sure:
        return f"No difference between {a} and {b} can be told: {_signed(gap, in_points)}, {tail}."
    mode = how.mode
    if mode is None:
        return f"{a} is {'higher' if gap > 0 else 'lower'} than {b} by {amount}, {tail}."
    is_better = gap > 0 if mode == "max" else gap < 0
    return f"{a} is {'better' if is_better else 'worse'} than {b} by {amount}, {tail}."


def warnings_of(found: Contrast, source: Numbers, p: float | None, how: Wording) -> list[str]:
    """Return what somebody should know before believing it."""
    said = [*source.notes, *_left_out(source)]
    few = min(found.a.n, found.b.n)
    thing = "sample" if how.unit == "samples" else "seed"
    least = smallest_p(found.a.n, found.b.n, paired=found.is_paired, alternative=how.options.alternative)
    if least >= 1 - how.options.level:
        said.append(
            f"too few to tell: {counted(few, thing)}. Whatever the values, an exact permutation test "
            f"cannot go below p={least:.3g}; --test t can, if the values are normal"
        )
    elif few < FEW:
        said.append(
            f"very few: {counted(few, thing)}. An exact permutation test cannot go below p={least:.3g}"
        )
    if how.unit == "seeds" and not found.is_paired:
        said.append("the groups do not have the same seeds, each once: they are compared unpaired")
    if found.difference != 0 and all(one.std == 0 for one in (found.a, found.b)):
        said.append("the values do not spread at all: are the seeds really different?")
    moved = [x != y for x, y in zip(source.a, source.b, strict=True)] if found.is_paired else [True]
    if not all(moved) and found.table is None:
        said.append(f"{moved.count(False)} of {len(moved)} pairs are ties")
    interval, alpha = found.interval, 1 - how.options.level
    if how.correction == "none" and p is not None and interval is not None:
        has_zero = interval.low <= 0 <= interval.high
        if has_zero == (p < alpha) and not (interval.low == interval.high == 0):
            said.append("test and interval do not agree: the case is on the edge")
    said += [one.note for one in found.intervals if one.note and one.method == "percentile"][:1]
    return said


def counted(count: int, thing: str) -> str:
    """Return ``1 seed``, ``2 seeds``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def number(value: float) -> str:
    """Return four significant digits."""
    return f"{value:.4g}"


def p_text(p: float | None) -> str:
    """Return p as journals print it."""
    return "p unknown" if p is None else "p<0.0001" if p < 1e-4 else f"p={p:.2g}"


def _p_phrase(test: Outcome | None, p: float | None, how: Wording) -> str:
    if test is None:
        return "there is no test for so few values"
    if test.p_value is None:
        return f"no p ({_NAMES[test.test]}: {test.note})"
    words = [_NAMES[test.test], *filter(None, [arranged(test)])]
    if how.correction != "none":
        words.append(f"{_CORRECTIONS[how.correction]}-corrected")
    if how.options.alternative != "two-sided":
        words.append(f"one-sided: {how.options.alternative}")
    return f"{p_text(p)} ({', '.join(words)})"


def _interval_phrase(interval: Interval | None, in_points: bool) -> str:
    if interval is None:
        return ""
    scale = 100.0 if in_points else 1.0
    low, high = (_bound(bound * scale, in_points) for bound in (interval.low, interval.high))
    return f", {100 * interval.level:.4g}% CI [{low}, {high}]"


def arranged(test: Outcome) -> str:
    """Return how p was come by: ``exact``, or what was counted."""
    if test.test == "permutation":
        which = "exact, all" if test.is_exact else f"seed {test.seed},"
        return f"{which} {counted(test.counted or 0, 'arrangement')}"
    return "exact" if test.is_exact else ""


def range_text(interval: Interval) -> str:
    """Return the bounds of *interval* in brackets."""
    return f"[{_bound(interval.low, False)}, {_bound(interval.high, False)}]"


def _bound(value: float, in_points: bool) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.1f}" if in_points else number(value)


def _amount(size: float, in_points: bool) -> str:
    return f"{100 * size:.1f} points" if in_points else number(size)


def _signed(gap: float, in_points: bool) -> str:
    return f"{100 * gap:+.1f} points" if in_points else f"{gap:+.4g}"


def _left_out(source: Numbers) -> list[str]:
    left = source.left_out
    said = []
    if left.only_in_a or left.only_in_b:
        alone = counted(left.only_in_a, "sample")
        said.append(f"left out: {alone} that only A has, {left.only_in_b} that only B has")
    if left.other_input:
        other = counted(left.other_input, "sample")
        said.append(f"left out: {other} of one index with another input or target")
    if left.not_finite:
        said.append(f"left out: {counted(left.not_finite, 'value')}, missing, NaN or infinite")
    return said


# --- notebooks ---------------------------------------------------------------------------------------


def html_of(result: Significance) -> str:
    """Return tables and sentences as HTML; all names are escaped."""
    from eventlog.query.answer import html_table

    rows: list[tuple[object, ...]] = []
    for one in result.comparisons:
        found, interval = one.found, one.found.interval
        effect = found.effects[0] if found.effects else None
        rows.append(
            (
                f"{one.a} - {one.b}",
                found.a.n if found.is_paired else f"{found.a.n}, {found.b.n}",
                found.a.mean,
                found.b.mean,
                found.difference,
                "" if interval is None else range_text(interval),
                p_text(one.p_corrected),
                "" if effect is None or effect.value is None else f"{effect.name} {effect.value:.2f}",
            )
        )
    columns = ("groups", "n", "mean of the first", "of the second", "difference", "interval", "p", "effect")
    said = "".join(
        f"<p>{html.escape(one.sentence)}</p>"
        + "".join(f"<p>⚠ {html.escape(note)}</p>" for note in one.warnings)
        for one in result.comparisons
    )
    title = f"{result.benchmark}: {result.metric}" if result.benchmark else result.metric
    return f"<b>{html.escape(title)}</b>{html_table(columns, iter(rows))}{said}"
