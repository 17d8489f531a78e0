"""Multiple choice: the answer is a letter, A to J, or the text of an option.

Items have ``question``, ``choices`` (or ``options``: a list, or ``{"text": […], "label": […]}``) and the
right one as ``answer``, ``answerKey`` or ``target``: a letter, a label, a place counted from 0, or the
option's text.

Results: ``accuracy``, ``format_accuracy`` (one option, and only one, was named), and ``accuracy/<subject>``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from eventlog.evaluation.benchmark import BadItemError, Item, Prompt, Score, first_of
from eventlog.evaluation.benchmarks.latex import last_boxed
from eventlog.evaluation.data import DataBenchmark, HubSource
from eventlog.evaluation.metrics import normalized
from eventlog.evaluation.text import after_thinking, own_turn, plain

LETTERS = "ABCDEFGHIJ"
_DIGITS = frozenset("0123456789")
INSTRUCTION = "Choose one option. Answer with its letter."
_OPEN, _CLOSE = r"[\s(\[*\"'`_]{0,8}+", r"[)\]*\"'`_]{0,4}+"
# A small letter counts only in brackets or before one: "a" is an article.
_LETTER = r"(?P<letter>[A-J](?![\w'])|(?<=[(\[])[a-j](?=[)\]]))"
_STATED = re.compile(
    r"\b(?i:answer|choice|option)(?>(?:\s++(?i:is|was|would\s++be|choice|option|letter)){0,4})"
    rf"\s*+[:=\-]?+{_OPEN}(?>(?:(?i:option|choice)\s++[(\[]?+)?){_LETTER}{_CLOSE}"
)
_ANOTHER = re.compile(
    r"\s*+(?:(?>(?:,\s*+)?)(?:or|and|&|/)|,)\s*+(?:option\s+)?[(\[]?+[A-J][)\]]?+(?=\s*+(?:$|[.,;)]|or\b|and\b|are\b))",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"[\s(\[*\"'`_]*+([A-Ja-j])[\s)\]*\"'`_.:]*+$")
_LINE = re.compile(r"(?m)^[ \t(\[*]{0,8}+([A-J])[)\].:*]{1,4}+(?=\s|$)")
_BRACKETED = re.compile(r"[(\[]([A-J])[)\]]")


class MultipleChoice(DataBenchmark):
    """Questions with lettered options; see the module for the form of the items.

    Args:
        name: of the benchmark.
        data, hub, seed: see `DataBenchmark`.
        instruction: stands before each question; empty for none.
        source: place on the hub.
    """

    def __init__(
        self,
        name: str = "multiple_choice",
        *,
        data: str | Path | None = None,
        hub: bool = True,
        seed: int | None = None,
        instruction: str = INSTRUCTION,
        source: HubSource | None = None,
    ) -> None:
        super().__init__(name, source, data=data, hub=hub, seed=seed)
        self.instruction = instruction

    def prompt(self, item: Item) -> Prompt:
        """Return the instruction, the question and the options, a line each."""
        question = super().prompt(item)
        if isinstance(question, list):
            return question
        options = [f"{letter}. {text}" for letter, text in zip(LETTERS, self.options(item), strict=False)]
        head = f"{self.instruction}\n\n" if self.instruction else ""
        return "\n".join([f"{head}Question: {question}", *options, "Answer:"])

    def options(self, item: Item) -> list[str]:
        """Return the texts of the options.

        Raises:
            BadItemError: there are none, or more than ten.
        """
        found = first_of(item, ("choices", "options"), self.name)
        texts = found.get("text") if isinstance(found, Mapping) else found
        if not isinstance(texts, (list, tuple)) or not 1 <= len(texts) <= len(LETTERS):
            raise BadItemError(self.name, f"an item's choices are not a list of 1 to {len(LETTERS)} texts")
        return [str(text) for text in texts]

    def target(self, item: Item) -> str:
        """Return the letter of the right option.

        Raises:
            BadItemError: the right one is not among the options.
        """
        gold = first_of(item, ("answer", "answerKey", "target", "label"), self.name)
        options = self.options(item)
        place = _place(gold, options, _labels(item))
        if place is None:
            raise BadItemError(
                self.name, f"the answer {str(gold)[:40]!r} is none of the {len(options)} options"
            )
        return LETTERS[place]

    def extract_answer(self, text: str) -> str | None:
        """Return the letter that *text* names, or None if it names none or several."""
        return named_letter(text)

    def check_answer(self, predicted: object, gold: object) -> bool:
        """Tell whether both are the same letter."""
        return predicted is not None and str(predicted).strip().upper() == str(gold).strip().upper()

    def score(self, item: Item, output: str) -> Score:
        """Return ``correct`` and ``format``; an option's text counts as its letter."""
        options, gold = self.options(item), self.target(item)
        predicted = chosen_option(output, options)
        metrics = {
            "correct": float(self.check_answer(predicted, gold)),
            "format": float(predicted is not None),
        }
        return Score(prediction=predicted, metrics=metrics | _by_subject(item, metrics["correct"]))

    def score_likelihoods(self, item: Item, log_likelihoods: Sequence[float]) -> Score:
        """Return ``correct`` of the likeliest option, ``correct_per_byte`` of the likeliest for its length.

        For models that give likelihoods, one for each option's text after the prompt, in nats.

        Raises:
            BadItemError: there is not one for each option.
        """
        options, gold = self.options(item), self.target(item)
        if len(log_likelihoods) != len(options):
            raise BadItemError(self.name, f"{len(log_likelihoods)} likelihoods for {len(options)} options")
        places = range(len(options))
        best = max(places, key=lambda i: log_likelihoods[i])
        densest = max(places, key=lambda i: log_likelihoods[i] / max(len(options[i].encode()), 1))
        metrics = {
            "correct": float(LETTERS[best] == gold),
            "correct_per_byte": float(LETTERS[densest] == gold),
        }
        return Score(prediction=LETTERS[best], metrics=metrics | _by_subject(item, metrics["correct"]))


class MMLU(MultipleChoice):
    """Questions of 57 subjects.

    Args:
        data, hub, seed: see `DataBenchmark`.
        subject: one of the 57, such as ``anatomy``; all if not given.
        instruction: stands before each question; empty for none.

    Source: Hendrycks et al. (2021), "Measuring Massive Multitask Language Understanding".
    """

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        hub: bool = True,
        seed: int | None = None,
        subject: str = "all",
        instruction: str = INSTRUCTION,
    ) -> None:
        source = HubSource("cais/mmlu", subject)
        super().__init__("mmlu", data=data, hub=hub, seed=seed, instruction=instruction, source=source)


def named_letter(text: str, count: int = len(LETTERS)) -> str | None:
    """Return the one letter, of the first *count*, that a model's text names as its answer; else None."""
    spoken = plain(own_turn(after_thinking(text))).strip()
    boxed = last_boxed(spoken)
    inner = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s*+\{([^{}]{0,40})\}", r"\1", boxed) if boxed else None
    for part in (inner, spoken):
        whole = _WHOLE.match(part) if part else None
        if whole:
            return _in_range(whole[1].upper(), count)
    stated = list(_STATED.finditer(spoken))
    if stated:
        last = stated[-1]
        return (
            None
            if _ANOTHER.match(spoken[last.end() : last.end() + 60])
            else _in_range(last["letter"].upper(), count)
        )
    for pattern in (_LINE, _BRACKETED):
        found = set(pattern.findall(spoken))
        if found:
            return _in_range(found.pop(), count) if len(found) == 1 else None
    return None


def chosen_option(text: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that a model's text names by letter or by its own text; else None."""
    spoken = plain(own_turn(after_thinking(text)))
    said = normalized(spoken)
    texts = [normalized(plain(option)) for option in options]
    if len(said) > 1 and texts.count(said) == 1:
        return LETTERS[texts.index(said)]
    letter = named_letter(text, len(options))
    return letter or _mentioned(said, texts)


def _mentioned(said: str, texts: Sequence[str]) -> str | None:
    """Return the letter of the only option whose text occurs, not counting within a longer one's."""
    padded = f" {said} "
    places = [i for i, text in sorted(enumerate(texts), key=lambda pair: -len(pair[1])) if text]
    found = []
    for place in places:
        if f" {texts[place]} " in padded:
            found.append(place)
            padded = padded.replace(f" {texts[place]} ", " | ")
    return LETTERS[found[0]] if len(found) == 1 and texts.count(texts[found[0]]) == 1 else None


def _in_range(letter: str, count: int) -> str | None:
    return letter if letter in LETTERS[:count] else None


def _labels(item: Item) -> list[str]:
    choices = item.get("choices")
    labels = choices.get("label") if isinstance(choices, Mapping) else None
    return [str(label) for label in labels] if isinstance(labels, (list, tuple)) else []


def _place(gold: object, options: Sequence[str], labels: Sequence[str]) -> int | None:
    """Return the place of the right option, counted from 0."""
    text = str(gold).strip()
    if text in labels:
        return labels.index(text)
    if text in options:
        return options.index(text)
    if text in _DIGITS:
        return int(text) if int(text) < len(options) else None
    letter = text.strip("().").upper()
    return LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS[: len(options)] else None


def _by_subject(item: Item, correct: float) -> dict[str, float]:
    subject = re.sub(
        r"[^a-z0-9]+", "_", str(item.get("subject") or item.get("category") or "").lower()
    ).strip("_")
    return {f"correct/{subject}": correct} if subject else {}
