"""Runs as documents, as rows, and in canonical form."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import duckdb
import pytest

from eventlog import events as ev
from eventlog.analysis import canonical, canonical_bytes, document
from eventlog.analysis.timings import is_timing
from eventlog.tracker import Tracker, TrackingConfig
from tests.cli.conftest import Evlog, clean_environment, evlog
from tests.logs import START_TS, LogMaker, put

__all__ = ["clean_environment", "evlog"]


def log_one(root: Path, run_id: str, *, accuracy: float = 0.9, seconds: float = 1.0) -> Path:
    tracker = Tracker(("local",), TrackingConfig(project="p", tags=["kept"]), output_dir=root)
    with tracker.start_run(run_id):
        tracker.log_params({"lr": 0.1, "net": {"depth": 3}, "name": "x"})
        for step in range(3):
            tracker.log_metrics({"loss": 1 / (step + 1), "epoch_time": seconds}, step=step)
        tracker.log_metrics({"diverged": math.nan})
        tracker.log_event(
            ev.Evaluation(benchmark="gsm8k", metrics={"accuracy": accuracy, "latency_ms": seconds})
        )
        tracker.log_event(
            ev.Sample(benchmark="gsm8k", index=0, input="1+1", target=2, prediction=2, latency_ms=seconds)
        )
    return root / "p" / run_id


def test_document_holds_what_the_log_says(tmp_path: Path) -> None:
    """Params, results, points with their times, evaluations and samples."""
    found = document(log_one(tmp_path, "a"))

    assert found["params"] == {"lr": 0.1, "net": {"depth": 3}, "name": "x"}
    assert found["results"] == {
        "diverged": "NaN",
        "epoch_time": 1.0,
        "gsm8k/accuracy": 0.9,
        "gsm8k/latency_ms": 1.0,
        "loss": 1 / 3,
    }
    metrics = found["metrics"]
    assert isinstance(metrics, dict)
    assert [point[0] for point in metrics["loss"]] == [0, 1, 2]
    assert found["status"] == "finished"


def test_canonical_form_of_the_same_results_is_the_same_bytes(tmp_path: Path) -> None:
    """Another id, other times, other speeds: not a byte differs. Another result: one does."""
    one = canonical_bytes(canonical(log_one(tmp_path, "a")))
    two = canonical_bytes(canonical(log_one(tmp_path, "b", seconds=2.5)))
    other = canonical_bytes(canonical(log_one(tmp_path, "c", accuracy=0.91)))

    assert one == two
    assert one != other
    assert json.loads(one)["results"] == {"diverged": "NaN", "gsm8k/accuracy": 0.9, "loss": 1 / 3}


def test_canonical_form_leaves_out_what_is_to_be_ignored(tmp_path: Path) -> None:
    """Params that name places, results that differ, and moments within the summary."""
    forms = []
    for run_id in ("a", "b"):
        tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path)
        with tracker.start_run(run_id):
            tracker.log_params({"out": {"dir": f"/tmp/{run_id}"}, "lr": 0.1})
            tracker.log_summary({"final": {"loss": 0.5, "finished_at": hash(run_id)}, "noise": run_id})
        forms.append(canonical(run_id, root=tmp_path, ignore=["out.*", "NOISE"]))

    assert forms[0] == forms[1]
    assert forms[0]["params"] == {"lr": 0.1}
    assert forms[0]["summary"] == {"final.loss": 0.5}


def test_canonical_form_does_not_depend_on_which_process_was_faster(tmp_path: Path) -> None:
    """Writers follow each other by name, ranks are apart."""
    writers = [f"{name}-01KAHCZG000000000000000A0{end}" for name, end in (("r0", 0), ("r0", 1), ("r1", 0))]
    forms = []
    for run_id, delays in (("a", (0, 1, 2)), ("b", (2, 1, 0))):
        for value, (writer, delay) in enumerate(zip(writers, delays, strict=True)):
            maker = LogMaker(writer, start_ts=START_TS + delay * 1_000_000)
            events: list[ev.Event] = [ev.RunStarted(name=run_id), ev.Metrics(step=1, data={"loss": value})]
            put(tmp_path / "p" / run_id, 1, b"".join(maker.segment(events)), writer=writer)
        forms.append(json.loads(canonical_bytes(canonical(run_id, root=tmp_path)))["metrics"])

    assert forms == [{"loss": [[1, 0], [1, 1]], "rank1/loss": [[1, 2]]}] * 2


def test_canonical_form_has_a_line_for_each_point_and_sample(tmp_path: Path) -> None:
    """A diff shows which one changed."""
    lines = canonical_bytes(canonical(log_one(tmp_path, "a"))).decode().splitlines()

    assert "      [1,0.5]," in lines
    assert sum('"prediction":2' in line for line in lines) == 1


def test_canonical_form_does_not_depend_on_the_order_of_steps(tmp_path: Path) -> None:
    """Threads may log their steps in any order."""
    forms = []
    for run_id, steps in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        tracker = Tracker(("local",), TrackingConfig(project="p"), output_dir=tmp_path)
        with tracker.start_run(run_id):
            for step in steps:
                tracker.log_metrics({"loss": float(step)}, step=step)
            tracker.log_summary({"loss": 0.0})
        forms.append(canonical_bytes(canonical(tmp_path / "p" / run_id)))

    assert forms[0] == forms[1]


@pytest.mark.parametrize(
    "name", ["epoch_time", "latencyMs", "tokens/s", "took_s", "train/samples_per_sec", "fps", "finished_at"]
)
def test_times_and_speeds_are_known_by_their_words(name: str) -> None:
    """They differ although nothing else does."""
    assert is_timing(name)


@pytest.mark.parametrize(
    "name", ["sentiment_accuracy", "val_loss", "timestep_error", "s", "cost", "precision_at"]
)
def test_other_names_are_no_times(name: str) -> None:
    """A word that only contains one is none."""
    assert not is_timing(name)


def test_export_writes_json_to_a_file(evlog: Evlog, tmp_path: Path) -> None:
    """One run is an object, several are a list."""
    log_one(tmp_path, "a")
    log_one(tmp_path, "b")

    one = evlog("export", "a", "--output", str(tmp_path / "one.json"), "--dir", str(tmp_path))
    two = evlog("export", "--dir", str(tmp_path))

    assert (one.code, one.out) == (0, "")
    assert json.loads((tmp_path / "one.json").read_text())["run_id"] == "a"
    assert [run["run_id"] for run in json.loads(two.out)] == ["a", "b"]


def test_export_writes_what_the_document_says(evlog: Evlog, tmp_path: Path) -> None:
    """What is written bit by bit reads back as the whole: odd names, no points, many points."""
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path)
    with tracker.start_run("größe"):
        tracker.log_params({"text": '=1+"a"\n<b>', "list": [1, {"x": None}], "big": 1 << 80, "none": {}})
        for step in range(10_001):
            tracker.log_metrics({"loss": step / 7, "日本": math.inf}, step)
    log_one(tmp_path, "other")

    one = evlog("export", "größe", "--dir", str(tmp_path)).out
    both = evlog("export", "größe", "other", "--dir", str(tmp_path)).out

    whole = [document("größe", root=tmp_path), document("other", root=tmp_path)]
    assert json.loads(one) == whole[0]
    assert json.loads(both) == whole


def test_export_of_no_runs_is_an_empty_list(evlog: Evlog, tmp_path: Path) -> None:
    """Programs read that, too."""
    assert json.loads(evlog("export", "--dir", str(tmp_path)).out) == []


def test_export_writes_a_row_for_each_run(evlog: Evlog, tmp_path: Path) -> None:
    """Params and results are columns, in CSV and in Parquet."""
    log_one(tmp_path, "a")
    log_one(tmp_path, "b", accuracy=0.5)

    done = evlog("export", "--format", "csv", "--dir", str(tmp_path))
    evlog("export", "--output", str(tmp_path / "all.parquet"), "--dir", str(tmp_path))

    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["result.gsm8k/accuracy"] for row in rows] == ["0.9", "0.5"]
    assert [row["param.net.depth"] for row in rows] == ["3", "3"]
    columns = """run_id, "param.lr", "result.loss", isnan("result.diverged")"""
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT {columns} FROM '{tmp_path}/all.parquet'").fetchall()
    assert found == [("a", 0.1, 1 / 3, True), ("b", 0.1, 1 / 3, True)]


def test_export_writes_the_rows_of_a_table(evlog: Evlog, tmp_path: Path) -> None:
    """Only those of the runs that were named."""
    log_one(tmp_path, "a")
    log_one(tmp_path, "b")

    done = evlog(
        "export", "a", "--table", "metrics", "--output", str(tmp_path / "m.csv"), "--dir", str(tmp_path)
    )

    rows = list(csv.DictReader((tmp_path / "m.csv").open()))
    assert done.code == 0
    assert {row["run_id"] for row in rows} == {"a"}
    assert len(rows) == 7


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--format", "parquet"], 2, "--output"),
        (["a", "--canonical", "--format", "csv"], 2, "JSON"),
        (["--canonical"], 2, "needs RUN"),
        (["a", "--ignore", "x"], 2, "--canonical"),
        (["a", "--output", "no/where.json"], 1, "no directory"),
        (["a", "--output", "."], 1, "is a directory"),
        (["a", "--output", "all.xlsx"], 2, ".csv or .parquet"),
        (["none"], 1, "none"),
    ],
)
def test_export_says_what_is_wrong(
    evlog: Evlog, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    """A clear line, no file."""
    log_one(tmp_path, "a")

    done = evlog("export", *words, "--dir", str(tmp_path))

    assert done.code == code
    assert said in done.err
    assert "Traceback" not in done.err
