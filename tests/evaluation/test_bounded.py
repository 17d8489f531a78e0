"""A long text of anything is scored in time that grows with its length, not with its square."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZE = 400_000
# What a pattern that tries again at every place would take hours for.
PIECES = ["1,", "$", " ", "\nQ", "answer is ", "\\boxed{", "A) ", "option ", "**", '{"a":']
# In a child, which can be killed: a test that hangs says nothing.
CODE = """
import sys
from eventlog.evaluation.benchmarks.choice import MultipleChoice
from eventlog.evaluation.benchmarks.competition_math import CompetitionMath
from eventlog.evaluation.benchmarks.gsm8k import GSM8K
from eventlog.evaluation.benchmarks.squad import SQuADv2
from eventlog.evaluation.judge_reading import reason_in, score_in, winner_in

item = {"question": "?", "choices": ["Paris", "New York"], "answers": ["Paris"]}
tasks = [
    (GSM8K(), {**item, "answer": "<<1+1=2>> #### 2"}),
    (CompetitionMath(algebra=False), {**item, "answer": "2"}),
    (MultipleChoice(), {**item, "answer": "A"}),
    (SQuADv2(), item),
]
for piece in sys.argv[2:]:
    text = piece * (int(sys.argv[1]) // len(piece)) + "!"
    for benchmark, row in tasks:
        benchmark.score(row, text)
    score_in(text, 1, 10), winner_in(text), reason_in(text)
    print("done", flush=True)
"""


@pytest.mark.parametrize("first", range(0, len(PIECES), 5))
def test_a_long_output_of_a_repeated_piece_is_scored(first: int) -> None:
    """Outputs that repeat one piece a hundred thousand times and more cost seconds at most."""
    pieces = PIECES[first : first + 5]

    done = subprocess.run(
        [sys.executable, "-c", CODE, str(SIZE), *pieces],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout.count("done") == len(pieces), done.stderr
