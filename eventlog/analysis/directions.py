"""Whether more or less of a metric is better, guessed from the words of its name."""

from __future__ import annotations

import re
from typing import Literal

Mode = Literal["max", "min"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_LESS_WORDS = """
    loss losses error errors err perplexity ppl latency time duration seconds secs ms s runtime walltime mae
    mse rmse mape msle nll bpb bpc wer cer ter fid kl divergence regret brier ece cost energy memory bytes kwh
    distance hallucination hallucinations toxicity violations failures std variance overhead
"""
_FRACTION_WORDS = """
    accuracy acc f precision recall auc auroc auprc compliance agreement success em match coverage specificity
    sensitivity
"""
_MORE_WORDS = """
    roc map ndcg mrr score reward return bleu rouge meteor chrf iou dice kappa mcc psnr ssim likelihood
    throughput fps speedup correct wins win hits r
"""
_LESS, _FRACTIONS = frozenset(_LESS_WORDS.split()), frozenset(_FRACTION_WORDS.split())
_MORE = _FRACTIONS | frozenset(_MORE_WORDS.split())


def guess_mode(key: str) -> Mode | None:
    """Return what is better of the metric *key*, or None if its name does not tell.

    The last word that tells counts (``accuracy_loss`` is a loss); ``neg`` before it turns it round, and what
    happens per second is wanted.
    """
    words = _words(key)
    joined = " ".join(words)
    if re.search(r"\bper (s|sec|second|ms|minute|min|hour)\b", joined):
        return "max"
    if "negative log likelihood" in joined or "neg log likelihood" in joined:
        return "min"
    told = _telling(words)
    if told is None:
        return None
    is_less = (told in _LESS) != ("neg" in words)
    return "min" if is_less else "max"


def is_better(a: float, b: float, mode: Mode) -> bool:
    """Tell whether *a* is better than *b*; nothing is better or worse than NaN."""
    return a > b if mode == "max" else a < b


def is_fraction(key: str, values: list[float]) -> bool:
    """Tell whether *values* are read as percentages: a name such as ``accuracy``, and all within 0 and 1."""
    real = [value for value in values if value == value]
    return _telling(_words(key)) in _FRACTIONS and bool(real) and all(0 <= value <= 1 for value in real)


def _telling(words: list[str]) -> str | None:
    return next((word for word in reversed(words) if word in _LESS or word in _MORE), None)


def _words(key: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(key)]
