"""The tools of row 10: which mutants are made, and what is said of those that survive."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.torture import mutation_runs, mutation_worker
from tests.torture.coverage import complaints, judge_twice, score
from tests.torture.mutation import TREE, Explanation, Key, Mutant, is_installed, mutants
from tests.torture.mutation_runs import Judged, judge

needs_operators = pytest.mark.skipif(not is_installed(), reason="cosmic-ray is not installed: evlog[torture]")
KEY = Key("a.py", "f", "return 1", "return 2", 1)
MUTANT = Mutant(KEY, 2, "")
EXPLANATION = Explanation(module="a.py", function="f", was="return 1", becomes=["return 2"], why="so it is")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """Return a tree with one small module."""
    lines = ["def f(a: int | None = None) -> int:", "    b: int | str = 1", "    return b if a else a + 1"]
    (tmp_path / "a.py").write_text("\n".join(lines))
    return tmp_path


@needs_operators
def test_mutants_are_other_programs_each_once(module: Path) -> None:
    """A type that nobody looks at while the program runs makes no mutant."""
    made = mutants("a.py", module)

    changed = {mutant.key.becomes for mutant in made}
    assert "return b if a else a - 1" in changed
    assert "return b if not a else a + 1" in changed
    assert not any("int & None" in line or "int - str" in line for line in changed)
    assert len({mutant.source for mutant in made}) == len({mutant.key for mutant in made}) == len(made)


@needs_operators
def test_mutant_is_known_by_its_function_and_line_wherever_it_stands(module: Path) -> None:
    """Lines that are written above it do not change what an explanation is about."""
    before = {mutant.key for mutant in mutants("a.py", module)}
    (module / "a.py").write_text("SEVEN = None\n\n\n" + (module / "a.py").read_text())

    assert {mutant.key for mutant in mutants("a.py", module)} == before


def test_survivor_needs_an_explanation_and_an_explanation_a_survivor() -> None:
    """What nobody explains is a problem, and so is what is explained and does not survive."""
    survivor, killed = Judged(MUTANT, "survived"), Judged(MUTANT, "killed")

    assert list(complaints([MUTANT], [survivor], [EXPLANATION])) == []
    assert list(complaints([MUTANT], [killed], [])) == []
    assert "noticed by no test: line 2 of a.py, f" in next(complaints([MUTANT], [survivor], []))
    assert "explained is noticed by a test" in next(complaints([MUTANT], [killed], [EXPLANATION]))
    other = MUTANT._replace(key=KEY._replace(function="g"))
    assert "no mutant any more" in next(complaints([other], [], [EXPLANATION]))


def test_mutant_that_is_explained_is_noticed_if_it_is_noticed_twice() -> None:
    """Others are judged once: nobody says of them that no test can notice them."""
    other = MUTANT._replace(key=KEY._replace(function="g"))
    rounds: list[list[Mutant]] = []

    def judge(some: list[Mutant]) -> list[Judged]:
        rounds.append(some)
        return [Judged(one, "killed" if len(rounds) == 1 else "survived") for one in some]

    judged = judge_twice([other, MUTANT], [EXPLANATION], judge)

    assert rounds == [[other, MUTANT], [MUTANT]]
    assert judged == [Judged(other, "killed"), Judged(MUTANT, "survived")]


def test_explanation_may_be_of_a_class_of_mutants() -> None:
    """An ellipsis stands for any text; one survivor among those that were tried is enough."""
    rule = Explanation(module="…", function="…", was="return …", becomes=["return …"], why="all are alike")
    other = MUTANT._replace(key=KEY._replace(becomes="return 1 + 1"))

    assert list(complaints([MUTANT, other], [Judged(other, "survived")], [rule])) == []
    assert list(complaints([MUTANT, other], [Judged(other, "killed")], [rule])) == []
    judged = [Judged(MUTANT, "killed"), Judged(other, "killed")]
    assert "noticed by a test" in next(complaints([MUTANT, other], judged, [rule]))


def test_score_is_the_share_of_mutants_that_a_test_notices() -> None:
    """Those that end, and those that never do, of all that were tried; in per cent, rounded down."""
    outcomes: list[mutation_worker.Outcome] = [
        "killed",
        "timed out",
        "survived",
        "no tests",
        "killed",
        "killed",
    ]

    assert score([Judged(MUTANT, one) for one in outcomes]) == 66
    assert score([Judged(MUTANT, "survived")]) == 0


def test_mutant_is_judged_by_its_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that survives, one that a test notices, and one whose test never ends."""
    monkeypatch.setattr(mutation_runs, "_LEAST_S", 2.0)
    module, line = "eventlog/storage/ring.py", "start = position % self.size_bytes"
    source = (TREE / module).read_text()
    sources = [source, source.replace(line, "start = 7"), source.replace(line, "while True: pass")]
    made = [Mutant(KEY._replace(module=module, nth=n), 2, one) for n, one in enumerate(sources)]
    tests = mutation_runs.Tests(
        ["tests/storage/test_ring.py::test_ring_lays_byte_x_at_x_modulo_its_size"], [0.1]
    )

    judged = judge(made, lambda _: tests, workers=1)

    assert [one.outcome for one in judged] == ["survived", "killed", "timed out"]


def test_mutant_that_never_ends_when_it_is_imported_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first test begins, no test's own limit is in force."""
    (tmp_path / "sevens.py").write_text("SEVEN = 7")
    (tmp_path / "test_sevens.py").write_text("import sevens\n\n\ndef test_seven() -> None: pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(mutation_worker, "_START_S", 2.0)
    job = mutation_worker.Job("sevens.py", "SEVEN = 7", ["test_sevens.py::test_seven"], [1000.0])

    assert mutation_worker.outcome_of(job) == "survived"
    endless = msgspec.structs.replace(job, source="while True: pass")
    assert mutation_worker.outcome_of(endless) == "timed out"
