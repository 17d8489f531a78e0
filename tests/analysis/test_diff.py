"""B as against A: gates, their grammar, files and groups."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.analysis import diff
from eventlog.analysis.comparison.difference import BaselineError, NoSuchGroupError
from eventlog.analysis.comparison.gates import check_gate, parse_gate
from eventlog.analysis.naming import AmbiguousMetricError
from eventlog.analysis.rules import RuleError
from eventlog.errors import RunNotFoundError
from tests.analysis.support_comparison import make_run, make_seeds
from tests.cli.conftest import Evlog, clean_environment, evlog

__all__ = ["clean_environment", "evlog"]  # fixtures

A = {"acc": 0.92, "loss": 2.0, "zero": 0.0, "gone": 1.0, "nan": math.nan, "inf": math.inf}
B = {"acc": 0.91, "loss": 2.1, "zero": 0.5, "new": 1.0, "nan": 1.0, "inf": math.inf}


# --- rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "is_kept"),
    [
        ("acc>=-0.01", True),  # 0.91 - 0.92 is a little less than -0.01 in binary
        ("acc>-0.01", False),
        ("acc >= -0.009", False),
        ("acc<=0", True),
        ("acc == -0.01", True),
        ("acc = 0", False),
        ("loss <= 5%", True),
        ("loss<4.9%", False),
        ("loss ~ 0.1", True),
        ("loss ~ 0.05", False),
        ("loss~5%", True),
        ("acc~0", False),
        ("acc.value>=0.9", True),
        ("acc.value > .91", False),
        ("new.value==1", True),
        ("new >= 0", False),
        ("gone.value >= 0", False),
        ("gone <= 0", False),
        ("nan >= -100", False),
        ("nan.value >= 0", True),
        ("nope>=0", False),
        ("zero <= 0.5", True),
        ("zero <= 50%", False),
        ("inf ~ 0", True),
        ("inf.value > 1e300", True),
        ("'acc'>=-0.01", True),
        ("acc >= -1e-2", True),
    ],
)
def test_gate_holds_or_is_broken(rule: str, is_kept: bool) -> None:
    """A rule speaks of B - A, of percent of A, or of B; what is missing or NaN breaks it."""
    found = check_gate(parse_gate(rule), A, B)

    assert found.holds is is_kept
    assert bool(found.reason) is not is_kept


@pytest.mark.parametrize(
    ("rule", "character", "reason"),
    [
        ("", 1, "the name of a metric"),
        (">=1", 1, "the name of a metric"),
        ("acc", 4, "an operator is missing"),
        ("acc >=", 7, "a number is missing"),
        ("acc >= x", 7, "a number is missing"),
        ("acc >= nan", 7, "a number is missing"),
        ("acc >= 1 2", 10, "nothing may follow"),
        ("acc >= 1 and loss <= 2", 10, "nothing may follow"),
        ('"acc >= 1', 1, "a quote does not end"),
        ("acc.value >= 90%", 16, "a value has no %"),
        ("acc.value ~ 1", 11, "a value is compared"),
        ('"acc" x >= 1', 7, "an operator is missing"),
        ("acc >== 1", 7, "a number is missing"),
    ],
)
def test_gate_that_cannot_be_read_says_where(rule: str, character: int, reason: str) -> None:
    """What is wrong is shown with its place."""
    with pytest.raises(RuleError, match=reason) as caught:
        parse_gate(rule)

    assert caught.value.at + 1 == character


@given(st.text(min_size=1, max_size=12), st.sampled_from([">=", "<=", ">", "<", "==", "~"]))
def test_gate_in_quotes_takes_any_name(name: str, operator: str) -> None:
    """Whatever a metric is called, a rule can name it."""
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

    gate = parse_gate(f"{quoted} {operator} 0.5")

    assert (gate.metric, gate.operator, gate.number, gate.of) == (name, operator, 0.5, "difference")


@given(st.text(max_size=20))
def test_gate_of_rubbish_is_a_rule_or_an_error(text: str) -> None:
    """No text does anything else than be read or be refused."""
    with contextlib.suppress(RuleError):
        assert math.isfinite(parse_gate(text).number)


def test_gate_takes_names_with_spaces_and_commas() -> None:
    """Quotes are needed only where an operator would be seen."""
    assert parse_gate("F1 (macro), mean >= 0").metric == "F1 (macro), mean"
    assert parse_gate("'a.value' >= 0").of == "difference"
    assert parse_gate("'a'.value >= 0").of == "value"
    assert parse_gate("a.values >= 0").metric == "a.values"


def test_gate_of_an_ambiguous_end_is_an_error() -> None:
    """A gate never guesses which metric it watches."""
    with pytest.raises(AmbiguousMetricError):
        check_gate(parse_gate("loss<=0"), {"train/loss": 1.0}, {"val/loss": 1.0})


# --- sides -------------------------------------------------------------------------------------------


def test_diff_tells_what_changed(tmp_path: Path) -> None:
    """Each result has its difference and what that means."""
    make_run(
        tmp_path,
        "a",
        {"acc": 0.5, "loss": 1.0, "x": 1.0, "gone": 1.0, "n": "NaN"},
        params={"lr": 0.1, "e": 1},
    )
    make_run(
        tmp_path, "b", {"acc": 0.6, "loss": 1.5, "x": 2.0, "new": 1.0, "n": 1.0}, params={"lr": 0.2, "e": 1}
    )

    found = diff("a", "b", root=tmp_path)

    assert {row.key: row.verdict for row in found.metrics} == {
        "acc": "better", "loss": "worse", "x": "changed", "gone": "missing", "new": "missing", "n": "nan"
    }  # fmt: skip
    assert [(row.key, row.a, row.b) for row in found.params] == [("lr", "0.1", "0.2")]
    assert (found.passed, found.verdict) == (True, "")


def test_diff_of_groups_compares_means(tmp_path: Path) -> None:
    """A group stands with the mean of its runs and the params that they share."""
    make_seeds(tmp_path, "f1", {"flip": [0.8, 0.9]})
    make_run(tmp_path, "b", {"f1": 0.9}, params={"aug": "flip", "seed": 0}, tags={"best": None, "who": "ada"})

    found = diff("experiment=compare", "tag:who=ada", gates=["f1 ~ 0.05"], root=tmp_path)

    assert found.passed
    assert (found.a.runs, found.b.runs) == (2, 1)
    assert found.metrics[0].a == pytest.approx(0.85)
    assert [row.key for row in found.params] == ["seed"]
    assert diff("name=flip-0", "tag:best", root=tmp_path).metrics[0].difference == pytest.approx(0.1)
    with pytest.raises(NoSuchGroupError):
        diff("experiment=it's", "b", root=tmp_path)


def test_diff_reads_a_baseline_from_a_file(tmp_path: Path) -> None:
    """A file that was committed stands for the run that it was made from."""
    make_run(tmp_path, "b", {"acc": 0.9}, params={"opt": {"lr": 1}})
    base = tmp_path / "base.json"
    base.write_text('{"results": {"acc": 0.8, "x": "NaN"}, "params": {"opt": {"lr": 1}}}')

    found = diff(base, "b", gates=["acc >= 0.1"], root=tmp_path)

    assert found.passed
    assert found.params == []
    assert diff("b", str(base), root=tmp_path).metrics[0].difference == pytest.approx(-0.1)


def test_diff_of_a_file_with_several_runs_compares_means(tmp_path: Path) -> None:
    """A baseline may hold the runs of several seeds, as an export of several runs does."""
    base = tmp_path / "base.json"
    base.write_text('[{"results": {"acc": 0.8}}, {"results": {"acc": 0.9}}]')

    found = diff(base, base, root=tmp_path)

    assert found.a.results["acc"] == pytest.approx(0.85)
    assert found.a.runs == 2


def test_diff_takes_what_export_writes(evlog: Evlog, tmp_path: Path) -> None:
    """A canonical export of a run has its results."""
    make_run(tmp_path, "a", {"acc": 0.5, "n": "NaN"}, params={"opt": {"lr": 0.1}})
    base = tmp_path / "base.json"
    assert evlog("export", "a", "--canonical", "--output", str(base), "--dir", str(tmp_path)).code == 0

    found = diff(base, "a", root=tmp_path, gates=["acc == 0"])

    assert (found.passed, found.params, [row.key for row in found.metrics]) == (True, [], ["acc", "n"])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"results": []}',
        '{"results": {"a": true}}',
        '{"results": {"a": "x"}}',
        "[" * 10**5,
        "\0",
    ],
)
def test_diff_refuses_a_file_that_is_no_baseline(tmp_path: Path, content: str) -> None:
    """Rubbish is named, with the way to a good file."""
    base = tmp_path / "base.json"
    base.write_text(content)

    with pytest.raises(BaselineError, match="evlog export RUN --canonical"):
        diff(base, base, root=tmp_path)


def test_diff_of_what_is_not_there_says_so(tmp_path: Path) -> None:
    """A missing file and a missing run are told apart."""
    with pytest.raises(BaselineError, match="no such file"):
        diff("base.json", "b", root=tmp_path)
    with pytest.raises(RunNotFoundError):
        diff("a", "b", root=tmp_path)


def test_diff_warns_of_runs_that_are_not_finished(tmp_path: Path, evlog: Evlog) -> None:
    """Results of a crashed run may be half of them."""
    make_run(tmp_path, "a", {"acc": 1.0})
    make_run(tmp_path, "b", {"acc": 1.0}, status=None)

    assert diff("a", "b", root=tmp_path).warnings == ["demo/b is crashed: its results may be partial"]
    assert "demo/b is crashed" in evlog("diff", "a", "b", "--dir", str(tmp_path)).err


# --- as CI uses it -----------------------------------------------------------------------------------


def test_gate_of_a_value_says_it_without_a_sign() -> None:
    """It is no difference."""
    found = check_gate(parse_gate("acc.value>=0.9"), {}, {"acc": 0.52})

    assert found.reason == "it is 0.52"


def test_diff_shows_nan_once_and_without_a_sign(tmp_path: Path) -> None:
    """The difference from NaN is NaN, and no percentage."""
    make_run(tmp_path, "a", {"loss": 0.5})
    make_run(tmp_path, "b", {"loss": "NaN"})

    found = diff("a", "b", root=tmp_path)

    assert found.metric_rows() == [["loss", "0.5", "nan", "nan", "", "nan"]]


def test_diff_command_is_a_gate(evlog: Evlog, tmp_path: Path) -> None:
    """Exit code 0 if all rules hold, 1 if one is broken, 2 if one cannot be read."""
    make_run(tmp_path, "a", {"val_acc": 0.92})
    make_run(tmp_path, "b", {"val_acc": 0.91})
    ask = ("diff", "a", "b", "--dir", str(tmp_path))

    assert evlog(*ask).code == 0
    assert evlog(*ask, "--gate", "val_acc>=-0.01").code == 0
    broken = evlog(*ask, "--gate", "val_acc>=-0.01", "--gate", "val_acc >= 0")
    assert broken.code == 1
    assert broken.out.splitlines()[-4:] == [
        "val_acc>=-0.01  holds",
        "val_acc >= 0    BROKEN  it is -0.01",
        "",
        "1 of 2 gates is broken",
    ]
    wrong = evlog(*ask, "--gate", "val_acc")
    assert (wrong.code, "an operator is missing" in wrong.err) == (2, True)


def test_diff_command_writes_markdown_for_pull_requests(evlog: Evlog, tmp_path: Path) -> None:
    """The comment says what is broken, also in a file; names from logs are no markup."""
    make_run(tmp_path, "a", {"val|acc": 0.92}, params={"x": "<b>"})
    make_run(tmp_path, "b", {"val|acc": 0.91})
    output = tmp_path / "diff.md"

    found = evlog(
        "diff",
        "a",
        "b",
        "--dir",
        str(tmp_path),
        "--gate",
        "val|acc>=0",
        "--markdown",
        "--output",
        str(output),
    )

    assert found.code == 1
    assert output.read_text() == found.out
    assert "❌ **The gate is broken**" in found.out
    assert "| val\\|acc&gt;=0 | ❌ | broken: it is -0.01 |" in found.out
    assert "| val\\|acc | 0.92 | 0.91 | -0.01 | -1.09% | worse |" in found.out
    assert "| x | &lt;b&gt; | - |" in found.out


def test_diff_command_writes_json(evlog: Evlog, tmp_path: Path) -> None:
    """Programs get numbers and what became of each gate."""
    make_run(tmp_path, "a", {"acc": 0.5})
    make_run(tmp_path, "b", {"acc": 1.0})
    output = tmp_path / "diff.json"

    found = evlog(
        "diff", "a", "b", "--dir", str(tmp_path), "-g", "acc>=1%", "--json", "--output", str(output)
    )

    said = json.loads(found.out)
    assert said["gates"] == [
        {"rule": "acc>=1%", "metric": "acc", "holds": True, "observed": 100.0, "reason": ""}
    ]
    assert json.loads(output.read_text()) == said
    assert evlog("diff", "a", "b", "--dir", str(tmp_path), "-o", str(tmp_path / "no" / "x")).code == 1
