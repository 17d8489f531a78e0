"""What lies below a root, in numbers."""

from __future__ import annotations

import json
from pathlib import Path

from eventlog.analysis import stats
from tests.analysis.support_comparison import make_run
from tests.analysis.test_export import log_one
from tests.cli.conftest import Evlog, clean_environment, evlog

__all__ = ["clean_environment", "evlog"]


def test_stats_counts_what_lies_there(evlog: Evlog, tmp_path: Path) -> None:
    """Runs, events, points and sizes, for people and for programs."""
    log_one(tmp_path, "a")
    log_one(tmp_path, "b")

    found = json.loads(evlog("stats", "--json", "--dir", str(tmp_path)).out)
    shown = evlog("stats", "--dir", str(tmp_path)).out

    (project,) = found["projects"]
    assert (project["project"], project["runs"], project["points"]) == ("p", 2, 14)
    assert project["log_bytes"] >= sum(f.stat().st_size for f in tmp_path.glob("p/*/log/*"))
    assert found["status"] == {"finished": 2}
    assert {"key": "loss", "runs": 2, "points": 6} in found["busiest"]
    assert "busiest metrics" in shown


def test_stats_of_nothing_is_nothing(evlog: Evlog, tmp_path: Path) -> None:
    """An empty root has no projects; one that is not there is an error."""
    assert json.loads(evlog("stats", "--json", "--dir", str(tmp_path)).out)["runs"] == 0
    assert evlog("stats", "--dir", str(tmp_path / "none")).code == 1


def test_stats_passes_over_a_run_that_cannot_be_read(evlog: Evlog, tmp_path: Path) -> None:
    """The others are counted, and it is named."""
    make_run(tmp_path, "good", {"loss": 1.0})
    bad = make_run(tmp_path, "bad", {"loss": 1.0})
    (segment,) = (bad / "log").glob("*.jsonl")
    segment.unlink()
    segment.mkdir()

    done = evlog("stats", "--json", "--dir", str(tmp_path))

    found = json.loads(done.out)
    assert (done.code, found["runs"]) == (0, 1)
    assert [line for line in found["problems"] if "bad" in line] != []
    assert "bad" in done.err


def test_stats_are_shown_in_notebooks_with_all_texts_escaped(tmp_path: Path) -> None:
    """Names of projects are no markup."""
    make_run(tmp_path, "a", {"loss": 1.0}, project="<b>")

    page = stats(tmp_path)._repr_html_()

    assert "&lt;b&gt;" in page
    assert "<b>" not in page
