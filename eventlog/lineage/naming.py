"""Rules for the names of metrics: lower case, the split first, the average said (``val_f1_macro``).

What is checked, and what is proposed instead, is told in ``docs/how-to/audit.md``; the table ``[naming]`` of
``evlog.toml`` changes it (`NamingRules`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec

from eventlog.errors import EvlogError

SYNONYMS = {
    "validation": "val",
    "valid": "val",
    "training": "train",
    "testing": "test",
    "acc": "accuracy",
    "prec": "precision",
    "rec": "recall",
    "ppl": "perplexity",
    "fscore": "f1",
    "f1score": "f1",
    "lr": "learning_rate",
}
"""Words that mean the same, as they are told apart from the names that people give."""

_CONTEXTS = frozenset({"train", "val", "test", "dev", "eval", "holdout", "cv", "oof", "heldout"})
ONLINE = frozenset({"online", "prod", "production", "shadow", "live", "canary"})
OFFLINE = frozenset({"offline", *_CONTEXTS})

_AVERAGED = frozenset({"f1", "precision", "recall", "fbeta", "jaccard"})
_AVERAGES = ("macro", "micro", "weighted")
_AREAS = frozenset({"auc"})
_SCORES = _AVERAGED | _AREAS | {
    "loss", "accuracy", "acc", "error", "err", "rmse", "mae", "mse", "mape", "r2", "perplexity",
    "bleu", "rouge", "map", "ndcg", "mrr", "iou", "dice", "logloss", "nll", "kappa", "mcc", "auroc",
    "auprc", "roc", "pr", "brier", "ece",
}  # fmt: skip
_MEASURES = {"time": "s", "duration": "s", "latency": "ms", "memory": "bytes", "throughput": "per_s"}
_VAGUE = frozenset({"metric", "score", "value", "result", "best", "final", "out", "output", "x", "y"})
_ONE_WORD = re.compile(r"(?:f|r|l|p|hits|pass|recall|precision|ndcg|map|bleu|rouge|top|acc)@?\d+", re.ASCII)
_RANK = re.compile(r"rank\d+/")


class BadRuleError(EvlogError, ValueError):
    """A rule for names that cannot be used."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason = rule, reason

    def __str__(self) -> str:
        return f"[naming] {self.rule} cannot be used: {self.reason}. Mend it in evlog.toml."


class NamingRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How metrics are to be called: the table ``[naming]`` of ``evlog.toml``.

    Attributes:
        pattern: a regular expression that whole names must match as well.
        splits: words that say which data a score is of; it begins with one of them.
        separators: what may stand between words.
        averages: what must follow f1, precision and recall.
        allow: names, as patterns (``reward*``), that are good whatever the rules say.
        ignore: rules that are not applied.
    """

    pattern: str | None = None
    splits: list[str] = msgspec.field(default_factory=lambda: ["train", "val", "test"])
    separators: list[str] = msgspec.field(default_factory=lambda: ["_", "/"])
    averages: list[str] = msgspec.field(default_factory=lambda: list(_AVERAGES))
    allow: list[str] = msgspec.field(default_factory=list)
    ignore: list[str] = msgspec.field(default_factory=list)


class NameProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one name.

    Attributes:
        rules: ids of the rules that it breaks: ``case``, ``characters``, ``number``, ``split``, ``average``,
            ``curve``, ``unit``, ``vague``, ``pattern``.
        reasons: one sentence part for each of them.
        suggestion: a name that would be good; None if only a person can tell.
    """

    name: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    suggestion: str | None

    def __str__(self) -> str:
        better = f" -> {self.suggestion}?" if self.suggestion else ""
        return f"{self.name}{better} ({'; '.join(self.reasons)})"

    def to_dict(self) -> dict[str, object]:
        """Return it in terms of JSON."""
        return msgspec.structs.asdict(self)


def check_names(names: Iterable[str], rules: NamingRules | None = None) -> list[NameProblem]:
    """Return what is wrong with *names*, each once, in their order.

    Raises:
        BadRuleError: the pattern is no regular expression.
    """
    rules = rules or NamingRules()
    try:
        pattern = re.compile(rules.pattern) if rules.pattern is not None else None
    except re.error as error:
        raise BadRuleError("pattern", str(error)) from error
    found = (_Check(name, rules).problem(pattern) for name in dict.fromkeys(names))
    return [problem for problem in found if problem is not None]


def words_of(name: str) -> list[str]:
    """Return the words of a name, lower case: ``ValAcc``, ``val-acc`` and ``val/acc`` have the same."""
    # AUCtest: capitals that run into a word which we know.
    spaced = re.sub(r"(?<=[A-Z])(?=(?:train|val|test|valid|dev|eval)(?![a-z]))", " ", name)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", " ", spaced)
    spaced = re.sub(r"(?<=[A-Z]\d)(?=[a-z]{3})", " ", spaced)
    return [word for word in re.split(r"[^\w@]+|_", spaced.lower()) if word]


def same_metric(name: str) -> str:
    """Return what all spellings of one metric have in common: words in one order, synonyms as one."""
    words = [part for word in words_of(name) for part in SYNONYMS.get(word, word).split("_")]
    while "f1" in words and "score" in words:
        words.remove("score")
    contexts = sorted(word for word in words if word in _CONTEXTS)
    return "_".join([*contexts, *(word for word in words if word not in _CONTEXTS)])


class _Check:
    """One name against the rules."""

    def __init__(self, name: str, rules: NamingRules) -> None:
        self.name, self.rules = name, rules
        self.words = words_of(_RANK.sub("", name, count=1))
        self.found: dict[str, str] = {}

    def problem(self, pattern: re.Pattern[str] | None) -> NameProblem | None:
        """Return what is wrong, or None."""
        if any(fnmatchcase(self.name, allowed) for allowed in self.rules.allow):
            return None
        self._look()
        if pattern is not None and not pattern.fullmatch(self.name):
            self.found["pattern"] = f"it does not match {pattern.pattern}"
        found = {rule: reason for rule, reason in self.found.items() if rule not in self.rules.ignore}
        if not found:
            return None
        better: str | None = self._suggestion(found)
        if better == self.name or not better or (pattern is not None and not pattern.fullmatch(better)):
            better = None
        return NameProblem(
            name=self.name, rules=tuple(found), reasons=tuple(found.values()), suggestion=better
        )

    def _look(self) -> None:
        if self.name != self.name.lower():
            self.found["case"] = "it has capitals"
        bare = _RANK.sub("", self.name, count=1).lower()
        for separator in self.rules.separators:
            bare = bare.replace(separator, "")
        strange = sorted(set(re.findall(r"[^\w@]|_", bare)))
        if strange or not self.words:
            shown = " ".join("space" if c.isspace() else c for c in strange) or "nothing"
            self.found["characters"] = f"it has {shown} between or in words"
        self._look_at_words()

    def _look_at_words(self) -> None:
        rules, words = self.rules, self.words
        if any(_numbered(word) for word in words):
            self.found["number"] = "a number does not say which one it is"
        if self._scores():
            self._look_at_split()
        for i, word in enumerate(words):
            if word in _AVERAGED and [w for w in words[i + 1 :] if w != "score"] == []:
                self.found["average"] = f"{word} of which average: {', '.join(rules.averages)}?"
            if word in _AREAS and not {"roc", "pr"} & set(words):
                self.found["curve"] = f"{word} of which curve: roc or pr?"
        if words and words[-1] in _MEASURES:
            self.found["unit"] = "the unit is missing"
        if len(words) == 1 and words[0] in _VAGUE:
            self.found["vague"] = "it says nothing about what was measured"

    def _look_at_split(self) -> None:
        contexts = [i for i, word in enumerate(self.words) if self._is_context(word)]
        if not contexts and not self._has_task():
            self.found["split"] = f"of which data: {', '.join(self.rules.splits)}?"
        elif contexts and contexts[0] > 0 and not self._has_task():
            self.found["split"] = f"{self.words[contexts[0]]} belongs to the front"

    def _is_context(self, word: str) -> bool:
        return word in _CONTEXTS or word in ONLINE or word == "offline" or word in self.rules.splits

    def _has_task(self) -> bool:
        """Tell whether the name is ``task/metric``: the task says which data."""
        return "/" in _RANK.sub("", self.name, count=1).strip("/")

    def _scores(self) -> bool:
        stripped = [re.sub(r"\d+$", "", word) for word in self.words]
        return any(
            word in _SCORES or plain in _SCORES for word, plain in zip(self.words, stripped, strict=True)
        )

    def _suggestion(self, found: dict[str, str]) -> str:
        rank = _RANK.match(self.name)
        words = [re.sub(r"\d+$", "", w) if "number" in found and _numbered(w) else w for w in self.words]
        words = [SYNONYMS.get(word, word) if self._is_rewritten(found) else word for word in words]
        if "split" in found:
            at_front = [word for word in words if self._is_context(word)][:1]
            words = [*(at_front or [self._default_split()]), *(w for w in words if w not in at_front)]
        if "average" in found:
            words = [*(word for word in words if word != "score"), (self.rules.averages or ["macro"])[0]]
        if "curve" in found:
            words.insert(words.index("auc") + 1, "roc")
        if "unit" in found:
            words.append(_MEASURES[words[-1]])
        if "vague" in found:
            return ""
        return (rank[0] if rank else "") + self._joined(words)

    def _is_rewritten(self, found: dict[str, str]) -> bool:
        return bool({"case", "characters", "split"} & found.keys())

    def _default_split(self) -> str:
        return "val" if "val" in self.rules.splits or not self.rules.splits else self.rules.splits[0]

    def _joined(self, words: Sequence[str]) -> str:
        has_slash = self._has_task() and "/" in self.rules.separators
        plain = "_" if "_" in self.rules.separators or not self.rules.separators else self.rules.separators[0]
        if not has_slash or len(words) < 2:
            return plain.join(words)
        first = len(words_of(_RANK.sub("", self.name, count=1).split("/")[0])) or 1
        return plain.join(words[:first]) + "/" + plain.join(words[first:])


def _numbered(word: str) -> bool:
    """Tell whether a number only tells one metric from another (``loss2``), unlike in ``f1`` or ``top5``."""
    plain = re.sub(r"\d+$", "", word)
    return plain != word and plain in _SCORES and word not in _SCORES and not _ONE_WORD.fullmatch(word)
