"""Decisions by a rule, and how they are written down."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog import Tracker, TrackingConfig
from eventlog.analysis import decide
from eventlog.analysis.naming import AmbiguousMetricError, UnknownMetricError
from eventlog.analysis.ranking.decision import Decision
from eventlog.analysis.ranking.grammar import parse_rule
from eventlog.analysis.rules import RuleError
from eventlog.analysis.runs import NoRunsError
from eventlog.replay import view
from tests.analysis.support_comparison import make_run, make_seeds
from tests.cli.conftest import Evlog, clean_environment, evlog

__all__ = ["clean_environment", "evlog"]  # fixtures

F1: dict[object, list[float]] = {
    "flip": [0.80, 0.82, 0.81],
    "color_jitter": [0.83, 0.80, 0.80],
    "cutout": [0.90, 0.10, 0.95],
}
RULE = "select highest mean val_f1 with std <= 0.3; tie-break by accuracy"


@pytest.fixture
def mini_challenge(tmp_path: Path) -> Path:
    """Return a root with the runs of seed 003's mini challenge: two tie, one is unstable."""
    accuracy = {"flip": 0.90, "color_jitter": 0.91, "cutout": 0.99}
    for aug, values in F1.items():
        for seed, value in enumerate(values):
            make_run(
                tmp_path,
                f"{aug}-{seed}",
                {"val_f1": value, "val_accuracy": accuracy[str(aug)], "train_time": 10.0 + seed},
                experiment="aug_compare_v1",
                params={"model": "resnet18", "aug": aug, "seed": seed},
            )
    return tmp_path


def outcome(decision: Decision) -> dict[str, list[str]]:
    """Return why each candidate is out."""
    return {one.label: one.excluded for one in decision.candidates}


# --- who wins ----------------------------------------------------------------------------------------


def test_decide_follows_the_rule_of_the_mini_challenge(mini_challenge: Path) -> None:
    """The unstable one is out, two share the best mean, and accuracy breaks the tie."""
    decision = decide(RULE, mini_challenge, experiment="aug_compare_v1")

    assert decision.winner == "aug=color_jitter"
    assert decision.group_by == ["aug"]
    assert decision.reasons == [
        "aug=cutout is out: std <= 0.3, and it is 0.47697",
        "aug=color_jitter and aug=flip share the highest mean val_f1: 0.81",
        "The highest mean val_accuracy, 0.91, breaks the tie for aug=color_jitter",
    ]


@pytest.mark.parametrize(
    ("rule", "winner"),
    [
        ("highest mean val_f1", None),
        ("highest val_f1, tie-break lowest std val_f1", "aug=flip"),
        ("highest median val_f1", "aug=cutout"),
        ("highest max val_f1", "aug=cutout"),
        ("highest worst val_f1, tie-break lowest val_accuracy", "aug=flip"),
        ("lowest mean val_f1", "aug=cutout"),
        ("lowest std of val_f1", "aug=flip"),
        ("highest val_f1 with std <= 2%", "aug=flip"),
        ("highest val_accuracy", "aug=cutout"),
        ("highest val_accuracy with mean val_f1 >= 0.8", "aug=color_jitter"),
        ("highest val_accuracy with min >= 0.9 and std val_f1 < 0.3, n>=3, seeds>=3", "aug=color_jitter"),
        ("highest val_accuracy with n >= 4", None),
        ("highest val_accuracy within 0.01", "aug=cutout"),
        ("highest val_accuracy with std val_f1 <= 0.3 within 0.01, tie-break lowest std val_f1", "aug=flip"),
        (
            "highest val_accuracy with std val_f1 <= 0.3 within 0.5%, tie-break lowest std val_f1",
            "aug=color_jitter",
        ),
        ("highest val_f1 with std <= 0.3, tie-break lowest train_time, then accuracy", "aug=color_jitter"),
        ("highest val_f1 with std <= 0.3, tie-break train_time, tie-break lowest accuracy", "aug=flip"),
        ('highest "val_f1" with std<=0.3; ties broken by "accuracy"', "aug=color_jitter"),
        ("HIGHEST mean f1 WITH std<=.3 TIE-BREAK: accuracy", "aug=color_jitter"),
    ],
)
def test_decide_reads_rules_of_many_forms(mini_challenge: Path, rule: str, winner: str | None) -> None:
    """Statistics, conditions, margins and tie-breaks do what they say."""
    assert decide(rule, mini_challenge).winner == winner


def test_decide_breaks_ties_by_what_the_name_says(mini_challenge: Path) -> None:
    """A tie-break on a time without a word for it takes the shorter."""
    for aug in ("flip", "color_jitter"):
        make_run(mini_challenge, f"{aug}-3", {"val_f1": 0.81, "train_time": 1.0 if aug == "flip" else 99.0},
                 params={"aug": aug, "seed": 3, "model": "resnet18"})  # fmt: skip

    assert decide("highest val_f1 with std<=0.3, tie-break train_time", mini_challenge).winner == "aug=flip"


def test_decide_excludes_what_cannot_be_judged(tmp_path: Path) -> None:
    """One run has no deviation, and NaN is no candidate; both are said."""
    make_seeds(tmp_path, "f1", {"one": [0.99], "two": [0.5, 0.6]})
    make_run(tmp_path, "nan", {"f1": "NaN"}, params={"aug": "nan", "seed": 0})

    decision = decide("highest f1 with std<=0.5", tmp_path)

    assert decision.winner == "aug=two"
    assert outcome(decision) == {
        "aug=two": [],
        "aug=one": ["std<=0.5, and that needs two runs"],
        "aug=nan": ["mean f1 is NaN", "std<=0.5, and that needs two runs"],
    }


def test_decide_takes_no_infinity_for_the_best(tmp_path: Path) -> None:
    """A run that diverged wins nothing, whichever way is up."""
    make_run(tmp_path, "finite", {"score": 0.5}, params={"lr": 0.1})
    make_run(tmp_path, "diverged", {"score": "Infinity"}, params={"lr": 10.0})
    make_run(tmp_path, "sunk", {"score": "-Infinity"}, params={"lr": 20.0})

    highest, lowest = (decide(f"{side} score", tmp_path) for side in ("highest", "lowest"))

    assert (highest.winner, lowest.winner) == ("lr=0.1", "lr=0.1")
    assert "lr=10.0 is out: mean score is infinite" in highest.reasons


def test_decide_counts_what_it_leaves_out(tmp_path: Path) -> None:
    """Runs that are not finished, and those without the metric, are not asked."""
    make_seeds(tmp_path, "f1", {"a": [0.5], "b": [0.6]})
    make_run(tmp_path, "crashed", {"f1": 0.99}, params={"aug": "c"}, status=None)
    make_run(tmp_path, "failed", {"f1": 0.99}, params={"aug": "c"}, status="failed")
    make_run(tmp_path, "without", {"x": 1.0}, params={"aug": "d"})

    decision = decide("highest f1", tmp_path)

    assert decision.winner == "aug=b"
    assert decision.left_out == [
        "1 crashed run left out",
        "1 failed run left out",
        "1 run without f1 left out",
    ]
    assert decide("highest f1", tmp_path, status=["crashed", "finished"]).winner == "aug=c"


def test_decide_compares_by_the_params_that_are_named(tmp_path: Path) -> None:
    """Params beside those that are named are averaged over."""
    for i, (lr, batch, f1) in enumerate([(0.1, 1, 0.9), (0.1, 2, 0.1), (0.2, 1, 0.6), (0.2, 2, 0.6)]):
        make_run(tmp_path, f"r{i}", {"f1": f1}, params={"opt": {"lr": lr}, "batch": batch})

    assert decide("highest f1", tmp_path).winner == "batch=1, opt.lr=0.1"
    assert decide("highest f1", tmp_path, group_by=["lr"]).winner == "opt.lr=0.2"


def test_decide_keeps_candidates_apart_that_look_the_same(tmp_path: Path) -> None:
    """The number 1 and the text "1" are two candidates."""
    make_run(tmp_path, "a", {"f1": 0.5}, params={"x": 1})
    make_run(tmp_path, "b", {"f1": 0.6}, params={"x": "1"})

    decision = decide("highest f1", tmp_path)

    assert decision.winner == "x=1 (#2)"
    assert decision.winning is not None
    assert [run.label for run in decision.winning.runs] == ["demo/b"]


def test_decide_of_one_candidate_names_it(tmp_path: Path) -> None:
    """Where no param varies all runs are one candidate; without params too."""
    make_run(tmp_path, "a", {"f1": 0.5})

    assert decide("highest f1", tmp_path).winner == "demo/a"
    make_run(tmp_path, "b", {"f1": 0.6})
    assert decide("highest f1", tmp_path).winner == "all runs"


def test_decide_of_nothing_is_an_error(tmp_path: Path) -> None:
    """No runs, no such metric and several such metrics are said."""
    with pytest.raises(NoRunsError):
        decide("highest f1", tmp_path)
    make_run(tmp_path, "a", {"train/f1": 0.5, "val/f1": 0.5})
    with pytest.raises(UnknownMetricError):
        decide("highest acc", tmp_path)
    with pytest.raises(AmbiguousMetricError, match="train/f1, val/f1"):
        decide("highest f1", tmp_path)


# --- the grammar -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "character", "reason"),
    [
        ("", 1, "begins with highest or lowest"),
        ("best f1", 1, "begins with highest or lowest"),
        ("highest", 8, "the name of a metric is missing"),
        ("highest f1 std<=1", 12, "after this comes with"),
        ("highest f1 with", 16, "something is missing"),
        ("highest f1 with std", 20, "a condition needs one of"),
        ("highest f1 with std<=", 22, "a number is missing"),
        ("highest f1 with std<=x", 22, "a number is missing"),
        ("highest f1, tie-break", 22, "the name of a metric is missing"),
        ("highest f1, within much", 20, "a number is missing"),
        ("highest f1 with n>=3%", 21, "only std and within take %"),
        ('highest "f1', 9, "a quote does not end"),
        ("highest f1, tie-break a, or b", 29, "a condition needs one of"),
    ],
)
def test_decide_rule_that_cannot_be_read_says_where(rule: str, character: int, reason: str) -> None:
    """What is wrong is shown with its place."""
    with pytest.raises(RuleError, match=reason) as caught:
        parse_rule(rule)

    assert caught.value.at + 1 == character


@given(st.text(min_size=1, max_size=10))
def test_decide_rule_takes_any_name_in_quotes(name: str) -> None:
    """What is quoted is a name, also if it is a word of the grammar."""
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

    rule = parse_rule(f"highest {quoted} with std {quoted}<=1, tie-break {quoted} then lowest {quoted}")

    assert rule.main.metric == rule.conditions[0].metric == rule.tie_breaks[0].metric == name
    assert [one.mode for one in rule.tie_breaks] == [None, "min"]


@given(st.lists(st.sampled_from(
    ["highest", "mean", "f1", "with", ",", "std", "<=", "0.5", "%", "tie-break", "then", "within", '"', "and"]
), max_size=10))  # fmt: skip
def test_decide_rule_of_rubbish_is_a_rule_or_an_error(words: list[str]) -> None:
    """No text does anything else than be read or be refused."""
    with contextlib.suppress(RuleError):
        assert parse_rule(" ".join(words)).main.metric


# --- what is written down ----------------------------------------------------------------------------


def test_decide_command_writes_the_decision_into_the_winners_runs(evlog: Evlog, mini_challenge: Path) -> None:
    """All runs of the winner get tag and note, stay finished and keep their times; others get nothing."""
    before = view(mini_challenge / "demo" / "color_jitter-1")

    found = evlog("decide", RULE, "--experiment", "aug_compare_v1", "--dir", str(mini_challenge))

    assert found.code == 0
    assert "Winner: aug=color_jitter" in found.out
    for seed in range(3):
        said = view(mini_challenge / "demo" / f"color_jitter-{seed}")
        assert said.tags["decision"] == RULE
        assert said.notes == [
            f"Decision: aug=color_jitter by the rule {RULE!r}. "
            "aug=cutout is out: std <= 0.3, and it is 0.47697. "
            "aug=color_jitter and aug=flip share the highest mean val_f1: 0.81. "
            "The highest mean val_accuracy, 0.91, breaks the tie for aug=color_jitter."
        ]
    after = view(mini_challenge / "demo" / "color_jitter-1")
    assert (after.status, after.ended_at, after.duration_s) == (
        "finished",
        before.ended_at,
        before.duration_s,
    )
    assert "decision" not in view(mini_challenge / "demo" / "flip-0").tags


def test_decide_command_adds_nothing_the_second_time(evlog: Evlog, mini_challenge: Path) -> None:
    """The same decision is written down once; a rehearsal never."""
    ask = ("decide", RULE, "--dir", str(mini_challenge))

    def sizes() -> dict[Path, int]:
        return {path: path.stat().st_size for path in mini_challenge.glob("demo/*/log/*")}

    before = sizes()
    assert "Nothing was written down" in evlog(*ask, "--dry-run").out
    assert sizes() == before
    assert json.loads(evlog(*ask, "--json").out)["recorded"] == [f"demo/color_jitter-{i}" for i in range(3)]
    decided = sizes()
    assert "It was written down before." in evlog(*ask).out
    assert sizes() == decided


def test_decide_command_takes_the_tag_from_a_former_winner(evlog: Evlog, mini_challenge: Path) -> None:
    """New runs may change who wins; then one tag moves, and both notes stay."""
    ask = ("decide", RULE, "--dir", str(mini_challenge))
    evlog(*ask)
    make_run(mini_challenge, "flip-3", {"val_f1": 0.85, "val_accuracy": 0.9},
             params={"model": "resnet18", "aug": "flip", "seed": 3})  # fmt: skip

    found = evlog(*ask)

    assert "Winner: aug=flip" in found.out
    former = view(mini_challenge / "demo" / "color_jitter-0")
    assert "decision" not in former.tags
    assert former.notes[-1].endswith("; now aug=flip.")
    assert view(mini_challenge / "demo" / "flip-3").tags["decision"] == RULE


def test_decide_command_without_a_winner_fails(evlog: Evlog, mini_challenge: Path) -> None:
    """Nobody wins, nothing is written, and scripts see it."""
    found = evlog("decide", "highest val_f1 with n>=4", "--dir", str(mini_challenge))

    assert found.code == 1
    assert "Winner: none" in found.out
    assert view(mini_challenge / "demo" / "flip-0").notes == []


@pytest.mark.parametrize("status", ["crashed", "failed", "killed"])
def test_decide_command_leaves_the_status_of_a_run(evlog: Evlog, tmp_path: Path, status: str) -> None:
    """Whoever writes a decision down does not end the run anew."""
    make_run(tmp_path, "a", {"f1": 1.0}, status=None if status == "crashed" else status)

    evlog("decide", "highest f1", "--status", status, "--dir", str(tmp_path))

    said = view(tmp_path / "demo" / "a")
    assert (said.status, said.tags) == (status, {"decision": "highest f1"})


def test_decide_command_joins_a_run_that_goes_on(evlog: Evlog, tmp_path: Path) -> None:
    """A running run gets its note from beside, goes on, and ends by itself."""
    tracker = Tracker((), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run(run_id="live")
    tracker.log_metrics({"f1": 0.5}, 0)
    tracker.flush()
    path = tmp_path / "demo" / "live"

    assert evlog("decide", "highest f1", "--status", "running", "--dir", str(tmp_path)).code == 0

    assert (view(path).status, view(path).tags["decision"]) == ("running", "highest f1")
    tracker.log_metrics({"f1": 0.6}, 1)
    tracker.end_run()
    assert (view(path).status, view(path).metrics["f1"].count) == ("finished", 2)


def test_decide_command_brings_the_runs_files_up_to_date(evlog: Evlog, tmp_path: Path) -> None:
    """Where a run's files were made, they have the decision too."""
    tracker = Tracker(("local",), TrackingConfig(project="demo"), output_dir=tmp_path)
    tracker.start_run(run_id="a")
    tracker.log_metrics({"f1": 0.5}, 0)
    tracker.end_run()

    evlog("decide", "highest f1", "--dir", str(tmp_path))

    metadata = json.loads((tmp_path / "demo" / "a" / "metadata.json").read_text())
    assert metadata["tags"]["decision"] == "highest f1"


def test_decide_command_refuses_a_rule_that_cannot_be_read(evlog: Evlog, mini_challenge: Path) -> None:
    """A wrong rule is a wrong command line; a metric that is not there is not."""
    ask = ("--dir", str(mini_challenge))

    wrong = evlog("decide", "best f1", *ask)
    assert (wrong.code, "character 1" in wrong.err) == (2, True)
    assert evlog("decide", "highest nope", *ask).code == 1
    assert evlog("decide", "highest val_f1", "--dir", str(mini_challenge / "none")).code == 1


def test_decide_is_shown_in_notebooks_with_all_texts_escaped(tmp_path: Path) -> None:
    """Names from logs are no markup."""
    for run, value in (("a", "<script>"), ("b", "|")):
        make_run(tmp_path, run, {"f1": len(value)}, params={"x": value})

    decision = decide("highest f1", tmp_path)

    assert "<script>" not in decision._repr_html_()
    assert "&lt;script&gt;" in decision.to_markdown()
