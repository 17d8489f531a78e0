"""Measures of one answer against another: exact match and F1 of words, with the normalization of SQuAD.

Source: Rajpurkar et al. (2016), "SQuAD: 100,000+ Questions for Machine Comprehension of Text", section 6.1,
and (2018), "Know What You Don't Know", for questions without an answer. Values are in 0 … 1, not percent.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Return *text* in lower case, without ASCII punctuation and English articles, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> float:
    """Return 1 if both are the same once normalized, else 0."""
    return float(normalized(prediction) == normalized(gold))


def token_f1(prediction: str, gold: str) -> float:
    """Return the harmonic mean of precision and recall over words; with no words on a side, 1 if on both."""
    predicted, wanted = normalized(prediction).split(), normalized(gold).split()
    if not predicted or not wanted:
        return float(predicted == wanted)
    shared = (Counter(predicted) & Counter(wanted)).total()
    return 2 * shared / (len(predicted) + len(wanted))


def best_over(measure: Callable[[str, str], float], prediction: str, golds: Sequence[str]) -> float:
    """Return the best value over several right answers; none means that the right answer is to give none."""
    return max(measure(prediction, gold) for gold in (golds or [""]))
