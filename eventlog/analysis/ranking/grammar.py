"""The grammar of decisions: ``highest mean val_f1 with std<=0.5, tie-break accuracy``."""

from __future__ import annotations

import msgspec

from eventlog.analysis.directions import Mode
from eventlog.analysis.rules import RuleError, Token, tokens, unquoted

_VERBS = frozenset({"select", "pick", "choose", "take", "the"})
_DIRECTIONS: dict[str, Mode] = {
    "highest": "max",
    "largest": "max",
    "maximum": "max",
    "lowest": "min",
    "smallest": "min",
    "minimum": "min",
}
_STATISTICS = {
    "mean": "mean",
    "average": "mean",
    "median": "median",
    "std": "std",
    "min": "min",
    "worst": "worst",
    "max": "max",
}
_COUNTS = {"n": "n", "runs": "n", "seeds": "seeds"}
_TIE_BREAKS = frozenset({"tie-break", "tiebreak", "tie-breaker", "tie-breaks"})
_JOINTS = frozenset({"with", "and", "where"})


class Criterion(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a metric; *mode* is None where its name shall tell."""

    mode: Mode | None
    statistic: str
    metric: str


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate must fulfil.

    Attributes:
        statistic: ``n``, ``seeds``, or a statistic of *metric* over the candidate's runs.
        metric: None for that of the main criterion.
        is_percent: *number* is in percent of the size of the mean.
    """

    text: str
    statistic: str
    metric: str | None
    operator: str
    number: float
    is_percent: bool


class DecisionRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, read.

    Attributes:
        within: candidates that are no further from the best are as good as it; in percent of the best's size
            if *within_is_percent*.
    """

    text: str
    main: Criterion
    conditions: list[Condition]
    within: float
    within_is_percent: bool
    tie_breaks: list[Criterion]


def parse_rule(text: str) -> DecisionRule:
    """Return the rule that *text* is; `docs/how-to/decide.md` has the grammar.

    Raises:
        RuleError: it is none.
    """
    return _Parser(text).rule()


class _Parser:
    """Reads the tokens of one rule from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._at = text, tokens(text), 0

    def rule(self) -> DecisionRule:
        while self._keyword() in _VERBS:
            self._at += 1
        if self._keyword() not in _DIRECTIONS:
            raise self._error("it begins with highest or lowest")
        main = self._criterion()
        conditions: list[Condition] = []
        within, is_percent = 0.0, False
        tie_breaks: list[Criterion] = []
        while self._skip_joints():
            if self._keyword() == "within":
                self._at += 1
                within, is_percent = self._number()
            elif self._is_tie_break():
                tie_breaks.append(self._criterion())
                while self._skip_then():
                    tie_breaks.append(self._criterion())
            else:
                conditions.append(self._condition())
        return DecisionRule(
            text=" ".join(self._text.split()),
            main=main,
            conditions=conditions,
            within=within,
            within_is_percent=is_percent,
            tie_breaks=tie_breaks,
        )

    # --- parts ---------------------------------------------------------------------------------------

    def _criterion(self) -> Criterion:
        mode = _DIRECTIONS.get(self._keyword())
        self._at += mode is not None
        statistic = self._statistic() or "mean"
        return Criterion(mode=mode, statistic=statistic, metric=self._metric())

    def _condition(self) -> Condition:
        begin = self._at
        statistic: str | None
        metric: str | None = None
        if self._keyword() in _COUNTS and self._kind(1) == "operator":
            statistic = _COUNTS[self._keyword()]
            self._at += 1
        else:
            statistic = self._statistic()
            if statistic is None or self._kind() != "operator":
                metric = self._metric()
        if self._kind() != "operator":
            raise self._error("a condition needs one of >= <= > < == and a number, such as std<=0.5 or n>=3")
        operator = self._next().text
        number, is_percent = self._number()
        if is_percent and statistic != "std":
            raise RuleError(self._text, self._tokens[self._at - 1].at, "only std and within take %")
        return Condition(
            text=self._text[self._tokens[begin].at : self._end()],
            statistic=statistic or "mean",
            metric=metric,
            operator=operator,
            number=number,
            is_percent=is_percent,
        )

    def _statistic(self) -> str | None:
        """Take a statistic, unless it is the name of a metric (nothing that could be one follows)."""
        word = self._keyword()
        is_metric = self._kind(1) not in {"word", "quoted", "operator"} or self._keyword(1) in _JOINTS | {
            "within"
        }
        if word not in _STATISTICS or is_metric:
            return None
        self._at += 1
        if self._keyword() == "of" and self._kind(1) in {"word", "quoted"}:
            self._at += 1
        return _STATISTICS[word]

    def _metric(self) -> str:
        if self._kind() not in {"word", "quoted", "number"}:
            raise self._error("the name of a metric is missing; put an odd one in quotes")
        return unquoted(self._next().text)

    def _number(self) -> tuple[float, bool]:
        if self._kind() != "number":
            raise self._error("a number is missing")
        number = float(self._next().text)
        is_percent = self._kind() == "percent"
        self._at += is_percent
        return number, is_percent

    def _is_tie_break(self) -> bool:
        """Take the words for a tie-break, if they come."""
        if self._keyword() in _TIE_BREAKS:
            self._at += 1
        elif self._keyword() in {"tie", "ties", "break"} and self._keyword(1) in {
            "break",
            "breaks",
            "ties",
            "broken",
        }:
            self._at += 2
        else:
            return False
        if self._kind() == "separator":
            self._at += 1
        if self._keyword() in {"by", "on"} and self._kind(1) in {"word", "quoted"}:
            self._at += 1
        return True

    def _skip_joints(self) -> bool:
        """Take what stands between two parts; tell whether another part comes."""
        begin = self._at
        while self._kind() == "separator" or self._keyword() in _JOINTS:
            self._at += 1
        if self._at == len(self._tokens):
            if self._at > begin:
                raise self._error("something is missing")
            return False
        if self._at == begin and self._keyword() != "within" and not self._begins_tie_break():
            raise self._error("after this comes with, a comma, within or tie-break")
        return True

    def _begins_tie_break(self) -> bool:
        begin = self._at
        is_one = self._is_tie_break()
        self._at = begin
        return is_one

    def _skip_then(self) -> bool:
        begin = self._at
        while self._kind() == "separator" or self._keyword() == "and":
            self._at += 1
        if self._keyword() == "then":
            self._at += 1
            if self._keyword() in {"by", "on"} and self._kind(1) in {"word", "quoted"}:
                self._at += 1
            return True
        self._at = begin
        return False

    # --- tokens --------------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> Token | None:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else None

    def _kind(self, ahead: int = 0) -> str:
        token = self._peek(ahead)
        return token.kind if token else ""

    def _keyword(self, ahead: int = 0) -> str:
        token = self._peek(ahead)
        return token.keyword if token else ""

    def _next(self) -> Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _end(self) -> int:
        last = self._tokens[self._at - 1]
        return last.at + len(last.text)

    def _error(self, reason: str) -> RuleError:
        token = self._peek()
        return RuleError(self._text, token.at if token else len(self._text), reason)
