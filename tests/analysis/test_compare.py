"""Runs side by side: what differs, who wins, and the layout of seed 004."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.analysis import compare
from eventlog.analysis.comparison.comparing import TooFewRunsError
from eventlog.errors import AmbiguousRunError, RunNotFoundError
from eventlog.events import Dataset
from tests.analysis.support_comparison import make_run
from tests.cli.conftest import Evlog, clean_environment, evlog, real_evlog

__all__ = ["clean_environment", "evlog"]  # fixtures

SEED_004 = """\
================================================================================
Comparing 2 Experiments
================================================================================

Configuration Differences:
Parameter                      exp_001          exp_002
------------------------------ ---------------- ----------------
learning_rate                  5e-5             1e-4
lora_rank                      8                16

Performance Comparison (gsm8k):
Metric                    exp_001          exp_002
------------------------- ---------------- ----------------
Accuracy                       73.1%            75.8% ⭐
Partial Accuracy               80.9%            83.2% ⭐
Format Accuracy                94.7%            96.1% ⭐

Winner: exp_002
Improvement: +2.7% vs exp_001
================================================================================
"""


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    """Return a root with the two runs of seed 004."""
    for run, lr, rank, results in (
        ("exp_001", 5e-5, 8, (0.731, 0.809, 0.947)),
        ("exp_002", 1e-4, 16, (0.758, 0.832, 0.961)),
    ):
        names = ("accuracy", "partial_accuracy", "format_accuracy")
        metrics = dict(zip(names, results, strict=True))
        make_run(
            tmp_path, run, params={"learning_rate": lr, "lora_rank": rank}, benchmarks={"gsm8k": metrics}
        )
    return tmp_path


def test_compare_command_prints_what_seed_004_shows(evlog: Evlog, two_runs: Path) -> None:
    """The example of the document comes out, character by character."""
    found = evlog("compare", "exp_001", "exp_002", "--dir", str(two_runs))

    assert (found.code, found.out) == (0, SEED_004)


def test_compare_command_marks_with_ascii_where_there_is_no_star(two_runs: Path) -> None:
    """A terminal that knows no star gets an asterisk."""
    ask = ("compare", "exp_001", "exp_002", "--dir", str(two_runs))

    plain = real_evlog(*ask, env={"PYTHONIOENCODING": "ascii"})

    assert plain.code == 0, plain.err
    assert plain.out == SEED_004.replace("⭐", "*")
    assert real_evlog(*ask, "--ascii").out == plain.out


def test_compare_counts_params_that_are_equal(evlog: Evlog, tmp_path: Path) -> None:
    """Equal params are counted, and shown with --all; nested ones have dotted names."""
    for run, lr in (("a", 0.1), ("b", 0.2)):
        make_run(tmp_path, run, {"score": lr}, params={"opt": {"lr": lr, "name": "adam"}, "epochs": 3})
    ask = ("compare", "a", "b", "--dir", str(tmp_path))

    comparison = compare("a", "b", root=tmp_path)

    assert comparison.equal_params == 2
    assert [(row.key, row.values) for row in comparison.params if row.differs] == [
        ("opt.lr", {"a": 0.1, "b": 0.2})
    ]
    assert "2 parameters are equal" in evlog(*ask).out
    assert re.search(r"^epochs +3 +3$", evlog(*ask, "--all").out, re.MULTILINE)


def test_compare_tells_a_missing_param_from_one_without_value(tmp_path: Path) -> None:
    """A param of one run only is a difference."""
    make_run(tmp_path, "a", {"score": 1.0}, params={"x": None})
    make_run(tmp_path, "b", {"score": 1.0})

    (row,) = compare("a", "b", root=tmp_path).params

    assert (row.differs, row.values) == (True, {"a": None})


def test_compare_shows_where_runs_come_from(evlog: Evlog, tmp_path: Path) -> None:
    """Commit, dirt, packages, Python, hardware and data that differ are listed, the rest is not."""
    for run, changed in (("a", False), ("b", True)):
        packages = {"numpy": "2.0", "torch": "2.5"} if changed else {"numpy": "1.26", "scipy": "1.14"}
        context: dict[str, dict[str, object]] = {
            "git": {"commit": "f" * 40 if changed else "0" * 40, "branch": "main", "is_dirty": changed},
            "environment": {"python": "3.12.1" if changed else "3.11.9", "os": "Linux", "packages": packages},
            "hardware": {
                "cpu": "x",
                "gpus": [{"name": "A100"}] * (2 if changed else 1),
                "memory_bytes": 1 << 35,
            },
        }
        data = Dataset(name="digits", version="v2" if changed else "v1", split="train", sha256="ab" * 32)
        make_run(tmp_path, run, {"score": 1.0}, context=context, dataset=data)

    comparison = compare("a", "b", root=tmp_path)

    assert {
        row.key: tuple(row.values.get(run) for run in "ab") for row in comparison.lineage if row.differs
    } == {
        "commit": ("0" * 12, "f" * 12),
        "dirty": (False, True),
        "python": ("3.11.9", "3.12.1"),
        "package numpy": ("1.26", "2.0"),
        "package scipy": ("1.14", None),
        "package torch": (None, "2.5"),
        "gpus": ("1 x A100", "2 x A100"),
        "data digits/train version": ("v1", "v2"),
    }
    out = evlog("compare", "a", "b", "--dir", str(tmp_path)).out
    assert "\nLineage Differences:\n" in out
    assert re.search(r"^package scipy +1\.14 +-$", out, re.MULTILINE)
    assert "branch" not in out


def test_compare_does_not_take_what_was_not_recorded_for_a_difference(evlog: Evlog, tmp_path: Path) -> None:
    """An older run without a list of packages has not lost them all."""
    make_run(
        tmp_path, "a", {"score": 1.0}, context={"environment": {"python": "3.11", "packages": {"numpy": "2"}}}
    )
    make_run(tmp_path, "b", {"score": 2.0}, context={"command": {"argv": ["x"], "python": "3.11"}})

    comparison = compare("a", "b", root=tmp_path)

    assert [row.key for row in comparison.lineage if row.differs] == []
    assert comparison.unrecorded == {
        "a": ["code", "hardware", "data"], "b": ["code", "packages", "hardware", "data"]
    }  # fmt: skip
    out = evlog("compare", "a", "b", "--dir", str(tmp_path)).out
    assert "Lineage is equal as far as it was recorded" in out
    assert "Not recorded of b: code, packages, hardware, data" in out


def test_compare_marks_what_is_better_by_each_name(tmp_path: Path) -> None:
    """Small losses and large scores are marked; what has no better, is equal or NaN is not."""
    results: dict[str, tuple[float | str, float | str]] = {
        "loss": (0.1, 0.2), "accuracy": (0.1, 0.2), "epoch": (1, 2), "f1": (0.5, 0.5), "bleu": ("NaN", 1.0)
    }  # fmt: skip
    make_run(tmp_path, "a", {key: pair[0] for key, pair in results.items()})
    make_run(tmp_path, "b", {key: pair[1] for key, pair in results.items()})

    comparison = compare("a", "b", root=tmp_path)

    assert {row.key: row.best for row in comparison.metrics} == {
        "accuracy": ["b"], "loss": ["a"], "epoch": [], "f1": [], "bleu": ["b"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "winner", "verdict"),
    [
        ((1.0, 1.0), None, "score is the same in a, b"),
        ((0.1 + 0.2, 0.3), None, "score is the same in a, b"),
        (("NaN", "NaN"), None, "score is NaN"),
        (("NaN", 1.0), "b", "it has the largest score"),
        (("-Infinity", "Infinity"), "b", "it has the largest score"),
        ((None, 1.0), None, "only b has score"),
        ((2.0, 1.0), "a", "it has the largest score"),
    ],
)
def test_compare_names_a_winner_only_if_there_is_one(
    tmp_path: Path, values: tuple[float | str | None, ...], winner: str | None, verdict: str
) -> None:
    """Ties, NaN and missing results have no winner, and it is said why."""
    for run, value in zip("ab", values, strict=True):
        make_run(tmp_path, run, {} if value is None else {"score": value})

    comparison = compare("a", "b", root=tmp_path, metric="score")

    assert (comparison.winner, comparison.verdict) == (winner, verdict)
    assert winner is not None or comparison.improvements == []


def test_compare_says_the_winners_distance_from_each(evlog: Evlog, tmp_path: Path) -> None:
    """A loss improves downwards; the nearest comes first; a mode may be given."""
    for run, value in {"a": 2.0, "b": 1.0, "c": 1.5, "d": 0.0}.items():
        make_run(tmp_path, run, {"loss": value})
    ask = ("compare", "a", "b", "c", "d", "--dir", str(tmp_path))

    assert evlog(*ask).out.splitlines()[-5:-1] == [
        "Winner: d",
        "Improvement: -1 (-100.0%) vs b",
        "Improvement: -1.5 (-100.0%) vs c",
        "Improvement: -2 (-100.0%) vs a",
    ]
    up = evlog(*ask, "--metric", "loss", "--mode", "max").out
    assert "Winner: a\nImprovement: +0.5 (+33.3%) vs c\n" in up
    assert "Improvement: +2 vs d\n" in up


def test_compare_without_a_metric_that_counts_has_no_winner(evlog: Evlog, tmp_path: Path) -> None:
    """Which of several results counts is not invented."""
    for run in "ab":
        make_run(tmp_path, run, {"x": 1.0, "y": 2.0})

    out = evlog("compare", "a", "b", "--dir", str(tmp_path)).out

    assert "Winner: none (no metric is the one that counts: name it with --metric)" in out


def test_compare_shows_enough_digits_to_tell_values_apart(evlog: Evlog, tmp_path: Path) -> None:
    """A star beside two equal numbers would be a riddle."""
    make_run(tmp_path, "a", {"accuracy": 0.73121})
    make_run(tmp_path, "b", {"accuracy": 0.73124})

    out = evlog("compare", "a", "b", "--dir", str(tmp_path)).out

    assert "73.121%" in out
    assert "73.124% ⭐" in out
    assert "Improvement: +0.003% vs a" in out


def test_compare_takes_runs_by_directory_id_and_beginning(tmp_path: Path) -> None:
    """All names of a run mean it; two names of one run are one run."""
    path = make_run(tmp_path, "first", {"x": 1.0}, project="p")
    make_run(tmp_path, "first", {"x": 2.0}, project="q")
    make_run(tmp_path, "second", {"x": 3.0})

    comparison = compare(path, "q/first", "sec", root=tmp_path)

    assert comparison.labels == ["p/first", "q/first", "second"]
    with pytest.raises(AmbiguousRunError):
        compare("first", "second", root=tmp_path)
    with pytest.raises(RunNotFoundError):
        compare("third", "second", root=tmp_path)
    with pytest.raises(TooFewRunsError, match="only demo/second is named"):
        compare("second", "demo/second", root=tmp_path)


def test_compare_command_needs_two_runs(evlog: Evlog, two_runs: Path) -> None:
    """One run, named once or twice, is a wrong command line."""
    ask = ("--dir", str(two_runs))

    assert evlog("compare", "exp_001", *ask).code == 2
    assert evlog("compare", "exp_001", "exp_001", *ask).code == 2
    assert evlog("compare", "exp_001", "nope", *ask).code == 1


def test_compare_command_with_a_benchmark_shows_only_it(evlog: Evlog, tmp_path: Path) -> None:
    """Results of others are left out; a benchmark that nobody ran is an error."""
    for i, run in enumerate("ab"):
        make_run(tmp_path, run, {"loss": 1.0}, benchmarks={"gsm8k": {"accuracy": i}, "math": {"accuracy": i}})
    ask = ("compare", "a", "b", "--dir", str(tmp_path))

    out = evlog(*ask, "--benchmark", "math").out

    assert "(math)" in out
    assert "gsm8k" not in out
    assert "loss" not in out
    assert evlog(*ask, "--benchmark", "nope").code == 1


def test_compare_copes_with_odd_runs(evlog: Evlog, tmp_path: Path) -> None:
    """Runs without anything, with line ends and wide letters in names, crashed ones: all are shown."""
    make_run(tmp_path, "empty")
    make_run(
        tmp_path, "odd", {"a b, c\n": 1.0}, params={"prompt\n": "zeile\n\x1b[31m", "漢字": "値"}, status=None
    )
    long = "x" * 300
    make_run(tmp_path, "long", params={"prompt\n": long + "1" + long})

    found = evlog("compare", "empty", "odd", "long", "--dir", str(tmp_path))

    assert found.code == 0
    assert "\x1b" not in found.out
    assert r"prompt\n" in found.out
    assert max(map(len, found.out.splitlines())) < 200


def test_compare_cuts_long_texts_where_they_begin_to_differ(evlog: Evlog, tmp_path: Path) -> None:
    """What is the same in two long texts is what may be left out."""
    for run in "ab":
        make_run(tmp_path, run, {"score": 1.0}, params={"prompt": "same " * 50 + f"but {run}"})

    out = evlog("compare", "a", "b", "--dir", str(tmp_path)).out

    assert "but a" in out
    assert "but b" in out


def test_compare_command_on_a_narrow_terminal_writes_blocks(
    evlog: Evlog, two_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Columns that would wrap become a block for each run."""
    from eventlog.cli.compare import compare as command

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "50")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)

    command(["exp_001", "exp_002"], root=two_runs)

    block = screen.getvalue().split("--- exp_002\n")[1].splitlines()
    assert block[:2] == ["Configuration Differences:", "  learning_rate    1e-4"]
    assert "  Accuracy         75.8% ⭐" in block


def test_compare_command_writes_json_and_markdown(evlog: Evlog, two_runs: Path) -> None:
    """Programs get values, pull requests get tables."""
    ask = ("compare", "exp_001", "exp_002", "--dir", str(two_runs))

    found = json.loads(evlog(*ask, "--json").out)
    markdown = evlog(*ask, "--markdown").out

    assert (found["winner"], found["metric"]) == ("exp_002", "gsm8k/accuracy")
    assert found["improvements"][0]["difference"] == pytest.approx(0.027)
    assert "| Accuracy | 73.1% | 75.8% ⭐ |" in markdown


def test_compare_is_shown_in_notebooks_with_all_texts_escaped(tmp_path: Path) -> None:
    """Names from logs are no markup, in HTML or in Markdown."""
    for run, value in (("a", "<script>"), ("b", "*|`@team`\n# x")):
        make_run(tmp_path, run, {"score": 1.0}, params={"x": value})

    comparison = compare("a", "b", root=tmp_path)

    assert "<script>" not in comparison._repr_html_()
    assert r"| x | &lt;script&gt; | \*\|\`&#64;team\` \# x |" in comparison.to_markdown()


def test_compare_page_shows_examples_that_run(
    two_runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The Python example of the how-to prints the winner."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "compare.md"
    code = page.read_text().split("```python\n")[1].split("```")[0]
    cwd = tmp_path_factory.mktemp("cwd")
    two_runs.rename(cwd / "experiments")

    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)

    assert done.stdout == "exp_002 gsm8k/accuracy\n1 demo/exp_002 0.758\n2 demo/exp_001 0.731\n", done.stderr
