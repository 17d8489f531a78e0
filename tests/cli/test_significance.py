"""``evlog significance`` as people and programs give it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.analysis.support_statistics import log_run, log_seeds, samples
from tests.cli.conftest import Evlog, real_evlog

LOW, HIGH = [0.70, 0.72, 0.71, 0.69, 0.73, 0.71], [0.80, 0.81, 0.83, 0.79, 0.82, 0.80]


@pytest.fixture
def evaluated(root: Path) -> None:
    """Two runs with forty samples each."""
    log_run(root, "exp_001", events=samples([1] * 30 + [0] * 10))
    log_run(root, "exp_002", events=samples([1] * 18 + [0] * 22))


@pytest.fixture
def seeded(root: Path) -> None:
    """Three groups of six seeds."""
    for name, values in (("low", LOW), ("high", HIGH), ("lr=1,x", LOW)):
        log_seeds(root, name, values)


@pytest.mark.usefixtures("evaluated")
def test_significance_answers_the_question_of_seed_004(root: Path) -> None:
    """`significance <exp1> <exp2> --benchmark gsm8k`: a sentence, and the numbers behind it."""
    done = real_evlog("significance", "exp_001", "exp_002", "--benchmark", "gsm8k", "--dir", str(root))

    assert (done.code, done.err) == (0, "")
    assert "exp_001 is better than exp_002 by 30.0 points, p=0.00049 (McNemar, exact), 95% CI" in done.out
    for line in (
        "mcnemar *",
        "paired_t",
        "welch_t",
        "interval bca *",
        "effect cohens_d",
        "only the first 12",
    ):
        assert line in done.out


@pytest.mark.usefixtures("seeded")
def test_significance_takes_groups_of_seeds(evlog: Evlog, root: Path) -> None:
    """Conditions, names between commas, and prefixes mean the same runs."""
    names = [",".join(f"{name}-{i}" for i in range(6)) for name in ("low", "high")]

    by_param = evlog("significance", "aug=low", "aug=high", "--json", "--dir", str(root))
    by_name = evlog("significance", *names, "-m", "val_f1", "--json", "--dir", str(root))

    first, second = (json.loads(done.out)["comparisons"][0] for done in (by_param, by_name))
    assert first["found"] == second["found"]
    assert first["p_corrected"] == pytest.approx(2 / 64)
    assert first["is_significant"] is True
    assert first["found"]["is_paired"] is True


@pytest.mark.usefixtures("seeded")
def test_significance_takes_ids_that_look_like_conditions(evlog: Evlog, root: Path) -> None:
    """A run's id may hold = and commas; then it is that run."""
    done = evlog("significance", "lr=1,x-0", "low-0", "--dir", str(root))

    assert done.code == 1
    assert "several seeds" in done.err  # found both


@pytest.mark.usefixtures("seeded")
def test_significance_compares_several(evlog: Evlog, root: Path) -> None:
    """Each with each, or the others with the first."""
    groups = ("aug=low", "aug=high", "param:aug=lr=1,x")
    args = ("significance", "aug=low", "aug=high", "experiment=aug", "--json", "--dir", str(root))

    each = json.loads(evlog(*args).out)
    first = json.loads(evlog(*args, "--baseline", "--correction", "bh").out)

    assert [(one["a"], one["b"]) for one in each["comparisons"]] == [
        (groups[0], groups[1]),
        (groups[0], "experiment=aug"),
        (groups[1], "experiment=aug"),
    ]
    assert [(one["a"], one["b"]) for one in first["comparisons"]] == [
        (groups[1], groups[0]),
        ("experiment=aug", groups[0]),
    ]
    assert first["correction"] == "bh"


@pytest.mark.usefixtures("evaluated")
def test_significance_has_options_for_whoever_knows(evlog: Evlog, root: Path) -> None:
    """Test, interval, level, side, number of resamples and seed."""
    args = ["exp_001", "exp_002", "--test", "permutation", "--interval", "percentile", "--level", "0.9"]
    args += ["--alternative", "greater", "--resamples", "199", "--seed", "7", "--metric", "latency_ms"]

    done = evlog("significance", *args, "--json", "--dir", str(root))

    (one,) = json.loads(done.out)["comparisons"]
    assert one["found"]["test"]["test"] == "permutation"
    assert one["found"]["interval"] == {
        "low": 0.0,
        "high": "Infinity",
        "level": 0.9,
        "method": "percentile",
        "note": "nothing spreads: the interval is a point",
    }


@pytest.mark.usefixtures("evaluated")
def test_significance_says_what_is_wrong(evlog: Evlog, root: Path) -> None:
    """One line: 1 for what is not there, 2 for a wrong command line."""
    cases = [
        (1, ("exp_001", "nobody")),
        (1, ("exp_001", "aug=nothing")),
        (1, ("exp_001", "exp_002", "--benchmark", "math")),
        (1, ("exp_001", "exp_002", "--metric", "bleu")),
        (1, ("exp_001", "tag:")),
        (1, ("exp_001", ",")),
        (2, ("exp_001",)),
        (2, ("exp_001", "exp_001")),
        (2, ("exp_001", "exp_002", "--level", "95")),
        (2, ("exp_001", "exp_002,lr=1")),
        (2, ("exp_001", "exp_002", "--alternative", "bigger")),
    ]

    for code, args in cases:
        done = evlog("significance", *args, "--dir", str(root))
        assert (args, done.code) == (args, code)
        assert done.out == ""
        assert code == 2 or done.err.count("\n") == 1


def test_significance_needs_a_root(evlog: Evlog, root: Path) -> None:
    """Conditions are looked for below a directory that is not there."""
    done = evlog("significance", "a=1", "b=1", "--dir", str(root))

    assert done.code == 1
    assert "There is no directory" in done.err


def test_significance_makes_names_harmless(evlog: Evlog, root: Path) -> None:
    """What stands in a log moves no cursor."""
    for name in "ab":
        log_run(root, name, events=samples([1, 0, 1, 0, 1], benchmark="\x1b[2Jx"))

    assert "\x1b" not in evlog("significance", "a", "b", "--dir", str(root)).out
