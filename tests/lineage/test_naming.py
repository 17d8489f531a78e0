"""The rules for names of metrics."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from eventlog.lineage.audit_lines import AuditRules
from eventlog.lineage.naming import BadRuleError, NamingRules, check_names, same_metric
from eventlog.lineage.reproduce import Tolerance
from tests.docs.test_pages import ROOT, python_blocks, run_example


@pytest.mark.parametrize(
    "name",
    [
        "val_f1_macro",
        "test_auc_roc",
        "train_loss",
        "train_loss_last",
        "val/accuracy",
        "train/loss",
        "gsm8k/accuracy",
        "learning_rate",
        "reward",
        "val_precision_at_10",
        "val_top5_accuracy",
        "train_time_s",
        "latency_p99_ms",
        "rank1/train_loss",
        "offline_cv_accuracy",
        "shadow_prod_accuracy",
        "val_größe",
    ],
)
def test_good_names_are_left_alone(name: str) -> None:
    """What follows the rules, or is no score, is no problem."""
    assert check_names([name]) == []


@pytest.mark.parametrize(
    ("name", "rules", "better"),
    [
        ("F1", {"case", "split", "average"}, "val_f1_macro"),
        ("AUCtest", {"case", "split", "curve"}, "test_auc_roc"),
        ("Acc", {"case", "split"}, "val_accuracy"),
        ("ValAcc", {"case"}, "val_accuracy"),
        ("valF1", {"case", "average"}, "val_f1_macro"),
        ("loss2", {"number", "split"}, "val_loss"),
        ("loss", {"split"}, "val_loss"),
        ("acc_val", {"split"}, "val_accuracy"),
        ("val acc", {"characters"}, "val_accuracy"),
        ("val-accuracy", {"characters"}, "val_accuracy"),
        ("val_precision", {"average"}, "val_precision_macro"),
        ("val/F1", {"case", "average"}, "val/f1_macro"),
        ("val_f1_score", {"average"}, "val_f1_macro"),
        ("val_auc", {"curve"}, "val_auc_roc"),
        ("train_time", {"unit"}, "train_time_s"),
        ("rank1/loss", {"split"}, "rank1/val_loss"),
        ("score", {"vague"}, None),
        ("", {"characters"}, None),
        ("!!", {"characters"}, None),
    ],
)
def test_a_bad_name_gets_a_concrete_suggestion(name: str, rules: set[str], better: str | None) -> None:
    """Each rule that is broken is named, and a suggestion breaks none."""
    (problem,) = check_names([name])

    assert (set(problem.rules), problem.suggestion) == (rules, better)
    assert len(problem.reasons) == len(problem.rules)
    assert better is None or check_names([better]) == []


def test_rules_can_be_changed() -> None:
    """A team's own splits, separators, exceptions and pattern count."""
    assert check_names(["dev_loss"], NamingRules(splits=["train", "dev"])) == []
    assert check_names(["F1", "Reward"], NamingRules(allow=["F1", "Rew*"])) == []
    assert check_names(["F1"], NamingRules(ignore=["case", "split", "average"])) == []
    (slash,) = check_names(["val/loss"], NamingRules(separators=["_"]))
    assert slash.suggestion == "val_loss"
    (averaged,) = check_names(["val_f1"], NamingRules(averages=["micro"]))
    assert averaged.suggestion == "val_f1_micro"
    (shaped,) = check_names(["val_loss"], NamingRules(pattern=r"m_\w+"))
    assert (shaped.rules, shaped.suggestion) == (("pattern",), None)


def test_a_pattern_that_is_none_is_refused() -> None:
    """The message says where to mend it."""
    with pytest.raises(BadRuleError, match=r"evlog\.toml"):
        check_names(["x"], NamingRules(pattern="("))


@pytest.mark.parametrize(
    "names",
    [
        ["val_acc", "val/accuracy", "ValAcc", "accuracy_val", "validation-accuracy"],
        ["val_f1", "val_f1_score", "valF1Score"],
    ],
)
def test_spellings_of_one_metric_are_the_same(names: list[str]) -> None:
    """Order, case, separators and synonyms do not make another metric."""
    assert len({same_metric(name) for name in names}) == 1


def test_other_metrics_are_not_the_same() -> None:
    """Split and average do make another one."""
    names = ["val_f1_macro", "val_f1_micro", "test_f1_macro", "val_loss", "train_loss", "val_top5_accuracy"]

    assert len({same_metric(name) for name in names}) == len(names)


def test_the_example_of_the_page_prints_what_it_says(tmp_path: Path) -> None:
    """The how-to shows the real output."""
    page = ROOT / "docs" / "how-to" / "audit.md"
    shown = re.search(r"<!-- output -->\n```\n(.*?)```", page.read_text(), re.DOTALL)
    assert shown is not None

    assert run_example(python_blocks(page)[0], tmp_path) == shown[1]


@pytest.mark.parametrize(
    ("page", "table", "shape"),
    [
        ("audit", "audit", AuditRules),
        ("audit", "naming", NamingRules),
        ("reproduce", "reproduce", Tolerance),
    ],
)
def test_configuration_of_the_pages_is_taken(page: str, table: str, shape: type) -> None:
    """What can be copied from a page can be used."""
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)

    assert set(tomllib.loads(block)[table]) == {field.name for field in msgspec.structs.fields(shape)}
    msgspec.convert(tomllib.loads(block)[table], shape)
