"""The two CSV files: what stands in them, and that all runs are there once."""

from __future__ import annotations

import csv
import math
import random
import signal
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.delivery.proof import prove
from eventlog.delivery.pump import deliver_run
from eventlog.errors import SinkUnavailableError
from eventlog.events import Event
from eventlog.testing import make_run
from sinks._csv.cells import MAX_CELL, cell, encode
from sinks.csv import LEADERBOARD_FILE, RESULTS_FILE, CSVSink
from tests.crash.deliveries import Destination, deliver_and_die
from tests.tracker.support import start_job
from tests.waiting import wait_until

JOB = """
    from pathlib import Path
    from eventlog.delivery.pump import deliver_run
    from sinks.csv import CSVSink

    while True:
        for run in sorted(Path("logs/p").iterdir()):
            deliver_run(run, CSVSink(to="out"), "csv")
"""


def samples(count: int, *, dataset: str = "qa", score: float = 0.5) -> list[Event]:
    return [
        ev.Sample(benchmark=dataset, index=i, input=f"q{i}", prediction="a", metrics={"score": score})
        for i in range(count)
    ]


def deliver(run: Path, to: Path, **options: str) -> None:
    deliver_run(run, CSVSink(to=to, **options), "csv", timeout_s=0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(to: Path) -> tuple[bytes, bytes]:
    return (to / RESULTS_FILE).read_bytes(), (to / LEADERBOARD_FILE).read_bytes()


# --- what stands in them -----------------------------------------------------------------------------


def test_samples_are_rows_in_the_order_of_their_index(tmp_path: Path) -> None:
    """A run's samples lie together, whoever logged which first."""
    events = samples(12)
    random.Random(0).shuffle(events)
    deliver(make_run(tmp_path / "logs" / "p" / "a", events, ranks=2), tmp_path)

    found = rows(tmp_path / RESULTS_FILE)

    assert [row["index"] for row in found] == [str(i) for i in range(12)]
    assert {(row["project"], row["run_id"], row["dataset"], row["score"]) for row in found} == {
        ("p", "a", "qa", "0.5")
    }


def test_leaderboard_has_a_row_for_each_run_best_first(tmp_path: Path) -> None:
    """Runs are ordered by score; those without one, and with NaN, come last."""
    scores = {"low": 0.1, "high": 0.9, "mid": 0.5}
    for name, score in scores.items():
        deliver(make_run(tmp_path / "logs" / "p" / name, samples(3, score=score)), tmp_path)
    nan: list[Event] = [ev.Sample(benchmark="qa", index=0, metrics={"score": "NaN"})]
    deliver(make_run(tmp_path / "logs" / "p" / "diverged", nan), tmp_path)
    deliver(
        make_run(tmp_path / "logs" / "p" / "training", [ev.Metrics(step=1, data={"loss": 2.0})]), tmp_path
    )

    found = rows(tmp_path / LEADERBOARD_FILE)

    assert [row["run_id"] for row in found] == ["high", "mid", "low", "diverged", "training"]
    assert [row["score"] for row in found] == ["0.9", "0.5", "0.1", "NaN", ""]
    assert found[0]["score_std"] == "0.0"
    assert found[4]["metrics"] == '{"loss": 2.0}'


def test_score_std_is_that_of_a_sample(tmp_path: Path) -> None:
    """The spread divides by n - 1."""
    events: list[Event] = [
        ev.Sample(benchmark="qa", index=i, metrics={"score": v}) for i, v in enumerate([1, 2, 3, 4])
    ]
    deliver(make_run(tmp_path / "logs" / "p" / "a", events), tmp_path)

    (row,) = rows(tmp_path / LEADERBOARD_FILE)

    assert float(row["score"]) == 2.5
    assert math.isclose(float(row["score_std"]), math.sqrt(5 / 3))


def test_evaluation_without_samples_is_a_row(tmp_path: Path) -> None:
    """What only tells the result of a benchmark counts with its score."""
    event = ev.Evaluation(benchmark="gsm8k", metrics={"accuracy": 0.7, "n": 10}, data={"split": "test"})
    deliver(make_run(tmp_path / "logs" / "p" / "a", [event]), tmp_path, score_key="accuracy")

    (row,) = rows(tmp_path / RESULTS_FILE)

    assert (row["dataset"], row["index"], row["score"]) == ("gsm8k", "", "0.7")
    assert row["result"] == '{"split": "test"}'


# --- cells ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (-1.5, "-1.5"),
        ("plain", "plain"),
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ({"a": [1, "ü"]}, '{"a": [1, "ü"]}'),
        (["=1"], '["=1"]'),
    ],
)
def test_cell_is_harmless_and_readable(value: object, text: str) -> None:
    """No text is a formula to a spreadsheet; numbers stay numbers, what is nested is JSON."""
    assert cell(value) == text


def test_cell_is_cut_where_spreadsheets_would_cut_it() -> None:
    """A long text ends with an ellipsis; Python's own reader takes it too."""
    assert cell("x" * 200_000) == "x" * (MAX_CELL - 1) + "…"


@pytest.mark.parametrize(
    "text", ["a,b", 'say "hi"', "two\nlines", "cr\ronly", "crlf\r\n", "", " ", "\x00", "漢字🎉"]
)
def test_encoded_row_is_read_back(text: str, tmp_path: Path) -> None:
    """Python's reader sees the cells that were written."""
    path = tmp_path / "x.csv"
    path.write_bytes(encode([[text, "end"]]))

    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [[text, "end"]]


# --- once, whatever happens --------------------------------------------------------------------------------


def test_files_made_anew_are_the_same_bytes(tmp_path: Path) -> None:
    """From the logs alone, in another order, the files are the same."""
    runs = [make_run(tmp_path / "logs" / "p" / f"r{n}", samples(5, score=n / 10)) for n in range(4)]
    for run in runs:
        deliver(run, tmp_path / "one")
    for run in [*reversed(runs), *runs]:
        deliver(run, tmp_path / "other")

    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_run_that_is_gone_goes_from_the_files_beside_it(tmp_path: Path) -> None:
    """Beside the runs the files hold the runs that are there."""
    root = tmp_path / "logs"
    kept, gone = (make_run(root / "p" / name, samples(1)) for name in ("kept", "gone"))
    for run in (kept, gone):
        deliver_run(run, CSVSink(), "csv")
    gone.rename(tmp_path / "elsewhere")
    deliver_run(kept, CSVSink(), "csv")

    assert [row["run_id"] for row in rows(root / LEADERBOARD_FILE)] == ["kept"]


def test_damaged_part_costs_its_run_only(tmp_path: Path) -> None:
    """What cannot be read is left out, and comes back with the next delivery."""
    runs = [make_run(tmp_path / "logs" / "p" / name, samples(1)) for name in ("a", "b")]
    for run in runs:
        deliver(run, tmp_path)
    (tmp_path / ".csv-parts" / "p" / "a.part").write_bytes(b"\x00rubbish")
    deliver(runs[1], tmp_path)
    without = [row["run_id"] for row in rows(tmp_path / LEADERBOARD_FILE)]
    deliver(runs[0], tmp_path)

    assert without == ["b"]
    assert sorted(row["run_id"] for row in rows(tmp_path / LEADERBOARD_FILE)) == ["a", "b"]


def test_runs_that_end_at_once_are_all_there(tmp_path: Path) -> None:
    """Whoever puts the files together last has seen the parts of all."""
    runs = [make_run(tmp_path / "logs" / "p" / f"r{n}", samples(3)) for n in range(8)]
    threads = [threading.Thread(target=deliver, args=(run, tmp_path)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(rows(tmp_path / LEADERBOARD_FILE)) == 8
    assert len(rows(tmp_path / RESULTS_FILE)) == 24


def test_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    """The error names the place."""
    (tmp_path / "file").write_text("x")

    with pytest.raises(SinkUnavailableError, match="file"):
        deliver(make_run(tmp_path / "logs" / "p" / "a", samples(1)), tmp_path / "file" / "out")


def test_delivery_killed_at_any_step_is_whole_afterwards(tmp_path: Path) -> None:
    """Before and after each call of the sink and the system: the next delivery makes it good."""
    run = make_run(tmp_path / "logs" / "p" / "a", samples(30))
    to, step, is_killed = tmp_path / "out", 0, True
    while is_killed:
        step += 1
        is_killed = deliver_and_die(run, Destination("csv", {"to": str(to)}, batch_events=10), step)
    deliver(run, to)

    assert step > 8
    assert prove(run, CSVSink(to=to), "csv").result == "proven"


def _changes(to: Path, seen: set[int]) -> int:
    """Return how many files of this name there were since the first look."""
    try:
        seen.add((to / LEADERBOARD_FILE).stat().st_ino)
        seen.add((to / RESULTS_FILE).stat().st_mtime_ns)
    except FileNotFoundError:
        pass
    return len(seen)


def _is_whole(to: Path, per_run: int) -> bool:
    """Tell whether what lies there now has whole runs only."""
    if not (to / RESULTS_FILE).exists():
        return True
    counts: dict[str, int] = {}
    for row in rows(to / RESULTS_FILE):
        counts[row["run_id"]] = counts.get(row["run_id"], 0) + 1
    return set(counts.values()) <= {per_run}


def test_files_are_whole_after_kills_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL while they are written leaves the old files or the new, and in the end each row once."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    runs: Sequence[Path] = [make_run(tmp_path / "logs" / "p" / f"r{n}", samples(400)) for n in range(4)]
    to, fresh = tmp_path / "out", random.Random(1)
    for _ in range(6):
        seen: set[int] = set()
        wanted = fresh.randrange(2, 12)
        job = start_job(JOB, tmp_path)
        wait_until(partial(lambda seen, wanted: _changes(to, seen) >= wanted, seen, wanted), "files change")
        job.send_signal(signal.SIGKILL)
        job.communicate()

        assert _is_whole(to, 400)
    for run in runs:
        deliver(run, to)

    assert not list(to.rglob("*young*"))
    assert len(rows(to / RESULTS_FILE)) == 1600
    assert len(rows(to / LEADERBOARD_FILE)) == 4
