"""``evlog report`` as people and programs give it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.analysis.support_comparison import make_run, make_seeds
from tests.cli.conftest import Evlog, real_evlog


@pytest.fixture
def seeded(root: Path) -> None:
    """Two augmentations with three seeds each."""
    make_seeds(root, "val_acc", {"flip": [0.70, 0.72, 0.71], "cutout": [0.80, 0.81, 0.83]})


@pytest.mark.usefixtures("seeded")
def test_report_prints_markdown(root: Path) -> None:
    """Without a file the report goes where it can be piped on, and nothing else with it."""
    done = real_evlog("report", "--experiment", "compare", "--dir", str(root))

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("# compare\n")
    for heading in ("## Leaderboard", "## What differs", "## Audit", "## All runs"):
        assert f"\n{heading}\n" in done.out
    assert "**aug=cutout has the largest val\\_acc: 0.813 ± 0.015 (3 runs)**".replace("\\_", "_") in done.out


@pytest.mark.usefixtures("seeded")
def test_report_writes_what_the_files_name_says(evlog: Evlog, root: Path, tmp_path: Path) -> None:
    """A page for .html, Markdown for .md; one that is there is replaced."""
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    page.write_text("old")

    for file in (page, text):
        assert evlog("report", "--output", str(file), "--dir", str(root)).out == ""

    assert page.read_text().startswith("<!DOCTYPE html>")
    assert text.read_text().startswith("# compare\n")
    assert {file.name for file in tmp_path.iterdir()} == {"r.html", "r.md", "experiments"}


@pytest.mark.usefixtures("seeded")
def test_report_names_several_metrics_and_groups(evlog: Evlog, root: Path) -> None:
    """The first metric ranks, in the direction that was asked for; conditions choose runs."""
    make_run(root, "other", {"val_acc": 0.1, "speed": 2.0}, params={"aug": "none"})

    done = evlog(
        "report", "aug=flip", "other", "-m", "val_acc", "-m", "speed", "--mode", "min", "-g", "aug", "--json",
        "--dir", str(root),
    )  # fmt: skip

    standings = json.loads(done.out)["standings"]
    assert standings["metrics"] == ["val_acc", "speed"]
    assert [one["label"] for one in standings["places"]] == ["aug=none", "aug=flip"]


@pytest.mark.usefixtures("seeded")
def test_report_tells_what_an_audit_finds(evlog: Evlog, root: Path) -> None:
    """Each check once with the number of runs; it can be left out."""
    done = evlog("report", "--json", "--dir", str(root))
    without = evlog("report", "--no-audit", "--dir", str(root))

    audit = json.loads(done.out)["audit"]
    assert audit["runs"] == 6
    assert len({line["check"] for line in audit["lines"]}) == len(audit["lines"]) > 0
    assert "## Audit" not in without.out


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--output", "r.pdf"], 2, "is neither .html nor .md"),
        (["--output", "none/r.html"], 1, "there is no directory for 'none/r.html'"),
        (["flip-0", "--experiment", "x"], 2, "both say which runs are meant"),
        (["nosuch"], 1, "nosuch"),
        (["--experiment", "nosuch"], 1, "No run below"),
        (["--metric", "nosuch"], 1, "None of these runs has a metric 'nosuch'"),
        (["--group-by", "nosuch"], 1, "None of these runs has a param 'nosuch'"),
        (["--where", "nosuch = 1"], 1, "nosuch"),
    ],
)
def test_report_says_what_is_wrong(evlog: Evlog, root: Path, words: list[str], code: int, says: str) -> None:
    """A wrong command line is 2, what is not there 1; both in a line, and no file is made."""
    done = evlog("report", *words, "--dir", str(root))

    assert done.code == code
    assert says in " ".join(done.err.split())
    assert done.out == ""


def test_report_of_no_root_makes_none(evlog: Evlog, root: Path) -> None:
    """A directory that is not there is not made by looking."""
    done = evlog("report", "--dir", str(root))

    assert (done.code, root.exists()) == (1, False)
