"""Lines of well-known tools whose form is their own: rounds of boosting, arguments, folds of a search."""

from __future__ import annotations

import re
from typing import NamedTuple

from eventlog.importers.text.observed import Value
from eventlog.importers.text.values import NUMBER, number_of, value_of

_ROUND = re.compile(r"\[?(\d{1,15})(?:\]\s+|:\t\s*)(?=\S)(.*)")
_SCORE = re.compile(
    rf"(?P<name>[A-Za-z_][^:\t]{{0,80}}):\s*(?P<value>{NUMBER})(?:\s?\+\s?(?P<std>{NUMBER}))?(?:\s\(\d+\))?",
    re.IGNORECASE,
)
_DURATION = re.compile(r"(?:(\d+)h ?)?(?:(\d+)m ?)?(?:(\d+(?:\.\d+)?)s)?")
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|us|ns)")
_SECONDS = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_BEST = re.compile(r"best iteration(?: is)?:\s*$", re.IGNORECASE)
_DOTTED = re.compile(r"\s*([A-Za-z_][\w.-]{0,99}?) ?\.{3,} ?(\S.*)")
_SET_TO = re.compile(r"\W*(?:global |random )?([A-Za-z][\w ]{2,40}?) set (?:to|as) (\S+)\s*", re.IGNORECASE)
_FOLD = re.compile(r"\s*\[CV[ ]?(?P<fold>\d+)?(?:/\d+)?[^\]]*\] (?P<what>START|END)\b[ .]*(?P<rest>.*)")
_FOLD_SCORE = re.compile(r"(\w+)[=:] ?(?:\(([^()]{1,1000})\)|([-\d.eE+na]+))")
_FOLD_TIME = re.compile(r"total time=\s*([\d.]+)(s|min)")
_TIME_UNITS = {"s": 1.0, "min": 60.0}


class Round(NamedTuple):
    """The scores of one round of boosting."""

    number: int
    scores: dict[str, int | float]


def round_of(line: str) -> Round | None:
    r"""Return what a line of XGBoost, LightGBM or CatBoost says: ``[10]\ttrain-auc:0.9\teval-auc:0.8``.

    The score ``train-auc`` is ``train_auc`` here, LightGBM's ``valid_0's auc`` is ``valid_0/auc``;
    deviations of a cross validation end in ``_std``, times are in seconds.
    """
    found = _ROUND.fullmatch(line.strip())
    if found is None or int(found[1]) >= 1 << 62:
        return None
    scores: dict[str, int | float] = {}
    for cell in re.split(r"\t+|\s{2,}", found[2].strip()):
        if not _take_score(cell.strip(), scores):
            return None
    return Round(int(found[1]), scores) if scores else None


def _take_score(cell: str, scores: dict[str, int | float]) -> bool:
    name, colon, rest = cell.partition(":")
    seconds = _seconds(rest.strip())
    if seconds is not None and colon:
        scores[f"{name}_s"] = seconds
        return True
    found = _SCORE.fullmatch(cell)
    value = number_of(found["value"]) if found else None
    if found is None or value is None or value[1]:
        return False
    name = re.sub(r"[\s-]+", "_", found["name"].strip().replace("'s ", "/"))
    scores[name] = value[0]
    spread = number_of(found["std"]) if found["std"] else None
    if spread is not None:
        scores[f"{name}_std"] = spread[0]
    return True


def _seconds(text: str) -> float | None:
    """Return how long ``1m 20s`` or ``58.1ms`` is."""
    small = _PARTS.fullmatch(text)
    if small:
        return float(f"{float(small[1]) * _SECONDS[small[2]]:.9g}")
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def announces_best(line: str) -> bool:
    """Tell whether the line after this one repeats the best round."""
    return bool(_BEST.search(line))


def argument_of(line: str) -> tuple[str, Value] | None:
    """Return the param that ``seed ............ 1234`` or ``Seed set to 42`` names."""
    found = _DOTTED.fullmatch(line)
    if found:
        return found[1], value_of(found[2])
    found = _SET_TO.fullmatch(line)
    if found and number_of(found[2].rstrip(".")):
        return found[1].lower().replace(" ", "_"), value_of(found[2])
    return None


def fold_of(line: str) -> dict[str, Value] | None:
    """Return what scikit-learn's search says of one fold: its params, scores and time.

    The line that a fold begins with says nothing, which is an empty dict.
    """
    found = _FOLD.fullmatch(line)
    if found is None:
        return None
    if found["what"] == "START":
        return {}
    fold: dict[str, Value] = {} if found["fold"] is None else {"fold": int(found["fold"])}
    params, _, rest = found["rest"].partition(";") if ";" in found["rest"] else ("", "", found["rest"])
    for name, value in re.findall(r"(\w+)=((?:\([^)]*\)|\[[^\]]*\]|[^,])+)", params):
        fold[name] = value_of(value)
    time = _FOLD_TIME.search(rest)
    for name, several, one in _FOLD_SCORE.findall(rest[: time.start()] if time else rest):
        for part in several.split(", ") if several else [f"={one}"]:
            which, _, value = part.partition("=")
            fold["_".join(filter(None, (which, name)))] = value_of(value)
    if time:
        fold["total_time_s"] = float(time[1]) * _TIME_UNITS[time[2]]
    return fold
