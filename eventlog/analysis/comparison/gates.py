"""Rules that say what a change may do to results: ``val_acc >= -0.01``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import msgspec

from eventlog.analysis.naming import UnknownMetricError, pick_metric
from eventlog.analysis.rules import NUMBER, QUOTED, RuleError, holds, unquoted
from eventlog.analysis.shown import number, signed

_OPERATOR = re.compile(r">=|<=|==|=|>|<|~")
_NAME = re.compile(
    rf"\s*(?:(?P<quoted>{QUOTED})|(?P<bare>[^<>=~\"']+?)(?=\s*(?:$|[<>=~]|\.value\s*[<>=~])))", re.DOTALL
)
_NUMBER = re.compile(rf"\s*({NUMBER})\s*(%?)\s*")


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """A rule.

    Attributes:
        metric: as it was written.
        of: ``difference`` (B - A), ``relative`` (of |A|, in percent) or ``value`` (of B).
        operator: ``~`` stands for "no further apart than".
    """

    text: str
    metric: str
    of: str
    operator: str
    number: float


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a rule.

    Attributes:
        metric: whole name, or as it was written if there is no such metric.
        observed: what was compared with the rule's number; None if there is nothing to compare.
        reason: why it is broken.
    """

    rule: str
    metric: str
    holds: bool
    observed: float | None
    reason: str = ""


def parse_gate(text: str) -> Gate:
    """Return the rule that *text* is: ``METRIC[.value] OPERATOR NUMBER[%]``.

    A name that holds one of ``< > = ~``, or that ends with ``.value``, stands in quotes.

    Raises:
        RuleError: it is none.
    """
    name = _NAME.match(text)
    if name is None:
        at = len(text) - len(text.lstrip())
        is_open = text[at : at + 1] in {'"', "'"}
        raise RuleError(
            text, at, "a quote does not end" if is_open else "it begins with the name of a metric"
        )
    metric, at = unquoted(name["quoted"] or name["bare"].strip()), name.end()
    is_value = text.startswith(".value", at)
    at += len(".value") * is_value
    at += len(text[at:]) - len(text[at:].lstrip())
    operator = _OPERATOR.match(text, at)
    if operator is None:
        raise RuleError(text, at, "an operator is missing: one of >= <= > < == ~")
    limit = _NUMBER.match(text, operator.end())
    if limit is None:
        raise RuleError(text, operator.end(), "a number is missing")
    if limit.end() != len(text):
        raise RuleError(text, limit.end(), "nothing may follow the number but %")
    if is_value and limit[2]:
        raise RuleError(text, limit.start(2), "a value has no %: write 0.9 for 90%")
    if is_value and operator[0] == "~":
        raise RuleError(text, operator.start(), "a value is compared with >= <= > < ==")
    return Gate(
        text=text.strip(),
        metric=metric,
        of="value" if is_value else "relative" if limit[2] else "difference",
        operator=operator[0],
        number=float(limit[1]),
    )


def check_gate(gate: Gate, a: Mapping[str, float], b: Mapping[str, float]) -> GateResult:
    """Return whether *gate* holds for the results *b*, as against *a*.

    A metric that is not there, and NaN, break it.

    Raises:
        AmbiguousMetricError: the metric may be several.
    """
    try:
        key = pick_metric(gate.metric, a.keys() | b.keys())
    except UnknownMetricError:
        reason = f"neither has a metric {gate.metric!r}"
        return GateResult(rule=gate.text, metric=gate.metric, holds=False, observed=None, reason=reason)
    observed, reason = _observed(gate, key, a, b)
    is_kept = False
    if observed is not None and not math.isnan(observed):
        is_kept = _is_kept(gate, observed, size=max(abs(b[key]), abs(a.get(key, 0.0))))
        shown = number(observed) if gate.of == "value" else signed(observed)
        reason = "" if is_kept else f"it is {shown}{'%' if gate.of == 'relative' else ''}"
    return GateResult(rule=gate.text, metric=key, holds=is_kept, observed=observed, reason=reason)


def _is_kept(gate: Gate, observed: float, *, size: float) -> bool:
    if gate.of == "relative":
        size = max(100.0, abs(observed))
    if gate.operator == "~":
        return holds(abs(observed), "<=", abs(gate.number), size=size)
    return holds(observed, gate.operator, gate.number, size=size)


def _observed(
    gate: Gate, key: str, a: Mapping[str, float], b: Mapping[str, float]
) -> tuple[float | None, str]:
    """Return what the rule is about, or why it cannot be told."""
    if key not in b:
        return None, f"B has no {key}"
    new = b[key]
    if gate.of == "value":
        return new, "it is NaN in B" if new != new else ""
    if key not in a:
        return None, f"A has no {key}"
    old = a[key]
    if new != new or old != old:
        return math.nan, f"it is NaN in {'B' if new != new else 'A'}"
    difference = subtract(new, old)
    if gate.of == "difference":
        return difference, ""
    if old == 0 and difference != 0:
        return None, "A is 0, so there is no percentage"
    return relative_to(difference, old), "there is no percentage of what is not finite"


def subtract(new: float, old: float) -> float:
    """Return *new* - *old*; equal infinities are 0 apart."""
    return 0.0 if new == old else new - old


def relative_to(difference: float, old: float) -> float:
    """Return *difference* in percent of the size of *old*."""
    return 0.0 if difference == 0 else 100 * difference / abs(old)
