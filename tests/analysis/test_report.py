"""What a report says of runs."""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from eventlog import events as ev
from eventlog.analysis.reporting import Limits, report, to_html, to_markdown
from eventlog.analysis.runs import NoRunsError
from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.errors import RunNotFoundError
from eventlog.events import Evaluation, Event, Metrics, Params, RunEnded, RunStarted
from tests.analysis.support_comparison import make_run, make_seeds
from tests.logs import WRITER_A, LogMaker, put

LOW, HIGH = [0.70, 0.72, 0.71], [0.80, 0.81, 0.83]


def log(root: Path, run_id: str, events: list[Event], *, status: str | None = "finished") -> Path:
    """Write a run of *events* and return its directory."""
    end = [RunEnded(status=status)] if status == "finished" else []
    path = root / "demo" / run_id
    put(path, 1, b"".join(LogMaker().segment([RunStarted(name=run_id), *events, *end], is_sealed=True)))
    return path


def curve(values: Sequence[float | str], key: str = "val/acc") -> list[Event]:
    """Return a point for each value."""
    return [Metrics(step=i, data={key: value}) for i, value in enumerate(values)]


def sample(index: int, asked: object, target: object, prediction: object, correct: int) -> Event:
    """Return one item of the benchmark m."""
    scored: dict[str, int | float | str] = {"correct": correct}
    return ev.Sample(
        benchmark="m", index=index, input=asked, target=target, prediction=prediction, metrics=scored
    )


def png(width: int = 2, height: int = 2) -> bytes:
    """Return a black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress(b"".join(b"\0" + b"\0\0\0" * width for _ in range(min(height, 9))))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


# --- who is best -------------------------------------------------------------------------------------


def test_report_groups_seeds_unasked(tmp_path: Path) -> None:
    """Runs that differ only by seed are one place, with mean and deviation, the best first."""
    make_seeds(tmp_path, "val_acc", {"flip": LOW, "cutout": HIGH})

    found = report(tmp_path)

    assert found.standings.group_by == ["aug"]
    assert [one.label for one in found.standings.places] == ["aug=cutout", "aug=flip"]
    assert found.standings.places[0].values == HIGH
    assert "| 1 | cutout | 0.813 ± 0.015 | 3 | 3 |" in to_markdown(found)


def test_report_groups_although_a_param_is_new_in_every_run(tmp_path: Path) -> None:
    """A directory for the output makes no group of its own."""
    for i in range(6):
        params = {"lr": i // 3, "seed": i % 3, "out": f"/tmp/{i}"}
        make_run(tmp_path, f"r{i}", {"score": float(i)}, params=params)

    assert report(tmp_path).standings.group_by == ["lr"]


def test_report_groups_no_repetitions_of_one_seed(tmp_path: Path) -> None:
    """Runs that nothing tells apart, not even the seed, are no sample of anything."""
    for i in range(4):
        make_run(tmp_path, f"r{i}", {"score": float(i)}, params={"lr": i // 2, "seed": i // 2})

    assert report(tmp_path).standings.group_by == []


def test_report_ranks_runs_without_seeds_one_by_one(tmp_path: Path) -> None:
    """Where no seed repeats, every run stands for itself."""
    for lr in (1, 2, 3):
        make_run(tmp_path, f"r{lr}", {"loss": 1.0 / lr}, params={"lr": lr})

    found = report(tmp_path)

    assert found.standings.group_by == []
    assert [one.label for one in found.standings.places] == ["r3", "r2", "r1"]


def test_report_says_that_it_guessed_the_metric(tmp_path: Path) -> None:
    """Of several results a held-out score is taken, and the page says that nobody asked for it."""
    make_run(tmp_path, "a", {"train/acc": 0.9, "val/acc": 0.8, "val/loss": 0.3, "epoch_seconds": 9.0})

    found = report(tmp_path)

    assert found.standings.metric == "val/acc"
    assert "guessed" in to_markdown(found)


def test_report_of_runs_without_results_has_the_rest(tmp_path: Path) -> None:
    """A run that has logged nothing yet is listed."""
    make_run(tmp_path, "a", status=None)

    found = report(tmp_path)

    assert (found.standings.metric, [row.label for row in found.runs]) == (None, ["demo/a"])
    assert "The runs have no results yet." in to_markdown(found)
    assert "demo/a" in to_html(found)


def test_report_counts_unfinished_runs_and_says_so(tmp_path: Path) -> None:
    """What did not finish counts, and a note says how many."""
    make_run(tmp_path, "a", {"score": 1.0})
    make_run(tmp_path, "b", {"score": 2.0}, status="failed")

    found = report(tmp_path)

    assert found.standings.notes[0].startswith("1 failed run counts with the last value that was logged")
    assert report(tmp_path, status=["finished"]).about.runs == 1


def test_report_verdict_is_that_of_significance(tmp_path: Path) -> None:
    """Best and second are tested; with three seeds the answer is that nobody can tell."""
    pytest.importorskip("scipy")
    make_seeds(tmp_path, "val_acc", {"flip": LOW, "cutout": HIGH})

    verdict = report(tmp_path).verdict

    assert verdict.sentence.startswith(
        "No difference between aug=cutout and aug=flip can be told: +0.1033, p=0.25"
    )
    assert any("too few to tell: 3 seeds" in warning for warning in verdict.warnings)


@pytest.mark.parametrize(
    ("metric", "says"), [("gsm8k/accuracy", "a is better"), ("gsm8k/seconds", "no seconds")]
)
def test_report_verdict_of_two_runs_is_that_of_their_samples(tmp_path: Path, metric: str, says: str) -> None:
    """Single runs are compared by samples, if those are what the metric is about."""
    pytest.importorskip("scipy")
    for name, right in (("a", 30), ("b", 10)):
        samples: list[Event] = [
            ev.Sample(benchmark="gsm8k", index=i, input=f"q{i}", metrics={"correct": int(i < right)})
            for i in range(40)
        ]
        scores: dict[str, int | float | str] = {"accuracy": right / 40, "seconds": 3.0}
        log(tmp_path, name, [*samples, Evaluation(benchmark="gsm8k", metrics=scores)])

    verdict = report(tmp_path, metrics=[metric]).verdict

    assert says in verdict.sentence + verdict.reason


def test_report_without_scipy_says_why_there_is_no_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is missing costs its part of the report, and the way out is named."""
    make_seeds(tmp_path, "val_acc", {"flip": LOW, "cutout": HIGH})
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    found = report(tmp_path)

    assert "pip install 'evlog[stats]'" in found.verdict.reason
    assert "pip install 'evlog[stats]'" in to_html(found).replace("&#x27;", "'")


# --- which runs ----------------------------------------------------------------------------------------


def test_report_takes_runs_or_conditions(tmp_path: Path) -> None:
    """Runs by name, and runs for which a condition holds, are the same runs."""
    make_seeds(tmp_path, "val_acc", {"flip": LOW, "cutout": HIGH})

    by_name = report(tmp_path, ["flip-0", "demo/flip-1", tmp_path / "demo" / "flip-2"])
    by_sql = report(tmp_path, where="run_id LIKE 'flip%'")

    assert by_name.runs == by_sql.runs
    assert (by_name.about.asked, by_sql.about.asked) == ("", "where \"run_id LIKE 'flip%'\"")


def test_report_of_runs_elsewhere_reads_them_there(tmp_path: Path) -> None:
    """A directory outside of the root is a run too; of two roots no report can be made."""
    run = make_run(tmp_path / "there", "a", {"score": 1.0})
    other = make_run(tmp_path / "here", "b", {"score": 2.0})

    assert [row.label for row in report(tmp_path / "here", [run]).runs] == ["demo/a"]
    with pytest.raises(StatisticsError, match="below 2 directories"):
        report(tmp_path / "here", [run, other])


def test_report_of_nothing_says_so(tmp_path: Path) -> None:
    """No run that fits, none of that name, and an empty root are errors with a way out."""
    make_run(tmp_path / "full", "a", {"score": 1.0})
    (tmp_path / "empty").mkdir()

    with pytest.raises(NoRunsError, match=r"No run below .* fits experiment 'x'"):
        report(tmp_path / "full", experiment="x")
    with pytest.raises(RunNotFoundError):
        report(tmp_path / "full", ["b"])
    with pytest.raises(NoRunsError, match="No runs below"):
        report(tmp_path / "empty")


# --- curves ------------------------------------------------------------------------------------------


def test_report_curves_are_means_over_all_runs_of_a_group(tmp_path: Path) -> None:
    """A run that failed before it had a result is in its group's curve nevertheless."""
    for seed in range(3):
        events = [Params(data={"lr": 1, "seed": seed}), *curve([0.1, 0.2, 0.3][: 3 if seed else 2])]
        events += [Evaluation(benchmark="b", metrics={"accuracy": 0.5 + seed / 10})] if seed else []
        log(tmp_path, f"one-{seed}", events)
        log(
            tmp_path,
            f"two-{seed}",
            [Params(data={"lr": 2, "seed": seed}), *curve([0.2, 0.3, 0.4]), *events[-1:]],
        )

    found = report(tmp_path, metrics=["b/accuracy"], group_by=["lr"])

    (chart,) = found.charts
    one = next(line for line in chart.curves if line.label.startswith("lr=1"))
    assert one.label == "lr=1 (n=3)"
    assert one.ys == pytest.approx([0.1, 0.2, 0.3])
    assert one.low is not None


def test_report_draws_gaps_and_dots(tmp_path: Path) -> None:
    """NaN breaks the line, a lonely point is a dot, and a cross stands where the first NaN is."""
    log(tmp_path, "a", curve([0.1, 0.2, "NaN", 0.4, "Infinity", 0.5, 0.6]))

    page = to_html(report(tmp_path))

    path = page.split('<g class="lin">')[1].split('<path class="line" d="')[1].split('"')[0]
    assert path.count("M") == 3
    assert "h0M" in path
    assert "first NaN or infinity: step 2" in page


def test_report_offers_a_logarithmic_axis_where_it_helps(tmp_path: Path) -> None:
    """Above zero and over ten times as large; one over thousands shows it first."""
    log(
        tmp_path, "a", [*curve([1.0, 1e-5], "loss"), *curve([1.0, 0.5], "flat"), *curve([1.0, -1e5], "below")]
    )

    page = to_html(report(tmp_path))

    assert page.count('class="logs"') == 1
    assert '<input type="checkbox" class="logs" checked>' in page


@pytest.mark.parametrize(
    "values", [[1e308, -1e308], [5e-324, 1e-323], [0.0, 0.0], [1.0], [math.inf, -math.inf]]
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_report_draws_any_floats(tmp_path: Path, values: list[float]) -> None:
    """No values put a coordinate outside of the numbers."""
    log(tmp_path, "a", curve([v if math.isfinite(v) else "Infinity" for v in values]))

    page = to_html(report(tmp_path))

    assert "nan" not in "".join(part.split('"')[0] for part in page.split(' d="')[1:])


# --- notes, failures, damage ----------------------------------------------------------------------------


def test_report_puts_standing_decisions_first(tmp_path: Path) -> None:
    """A decision stands while its run has the tag; the same note of several runs is told once."""
    old, new = "Decision: a by the rule 'x'.", "Decision: b by the rule 'x'."
    log(tmp_path, "a", [ev.Note(text="why\nwe did it"), ev.Note(text=old)])
    tag = ev.Tags(data={"decision": "x"})
    log(tmp_path, "b", [ev.Note(text="why\nwe did it"), ev.Note(text=old), ev.Note(text=new), tag])

    said = report(tmp_path).said

    assert [(one.text, one.runs, one.stands) for one in said] == [
        (new, ["demo/b"], True),
        (old, ["demo/a", "demo/b"], False),
        ("why\nwe did it", ["demo/a", "demo/b"], False),
    ]


def test_report_tells_the_last_line_of_what_ended_a_run(tmp_path: Path) -> None:
    """An exception's last line, else what was printed last, else that no end was logged."""
    error = ev.ErrorInfo(type="RuntimeError", message="CUDA error\nout of memory\n")
    log(tmp_path, "a", [RunEnded(status="failed", error=error)], status="failed")
    log(
        tmp_path,
        "b",
        [
            ev.Console(stream="stderr", text="one\nSegmentation fault\n\n"),
            RunEnded(status="failed", exit_code=139),
        ],
        status="failed",
    )
    log(tmp_path, "c", [RunEnded(status="failed", exit_code=3)], status="failed")
    log(tmp_path, "d", [], status=None)

    found = report(tmp_path)

    assert [row.error for row in found.troubled] == [
        "RuntimeError: out of memory",
        "Segmentation fault",
        "exit code 3",
        "no end was logged",
    ]


def test_report_names_damage(tmp_path: Path) -> None:
    """What cannot be read of a log is in the report, and the rest of the run too."""
    run = log(tmp_path, "a", curve([0.1, 0.2, 0.3]))
    file = run / "log" / f"{WRITER_A}.000001.jsonl"
    data = bytearray(file.read_bytes())
    data[data.index(b'"val/acc":0.2')] ^= 1
    file.write_bytes(bytes(data))

    found = report(tmp_path)

    assert [one.run for one in found.damaged] == ["demo/a"]
    assert "damaged range" in found.damaged[0].what
    assert found.runs[0].result == 0.3


def test_report_adds_up_energy_and_cost(tmp_path: Path) -> None:
    """What is known of each run is added up, with the number of runs that it is known of."""
    (tmp_path / "evlog.toml").write_text('[prices]\ncurrency = "EUR"\nhost = 3600.0\n')
    machine = ev.Context(kind="hardware", data={"host": "node1", "gpus": []})
    log(tmp_path, "a", [machine, ev.System(data={"energy_kwh": 0.5}), *curve([1.0, 2.0])])
    log(tmp_path, "b", curve([1.0, 2.0]))

    about = report(tmp_path).about

    assert (about.energy_kwh, about.measured_runs, about.currency) == (0.5, 1, "EUR")


# --- evaluations and pictures ------------------------------------------------------------------------------


def test_report_shows_wrong_samples_of_the_best_run(tmp_path: Path) -> None:
    """The last sample of an index counts; of an answer that evlog evaluated, the answer is shown."""
    said = {"answer": "5", "output": "It is 5", "item": "x"}
    for name, score in (("a", 0.5), ("b", 0.75)):
        log(
            tmp_path,
            name,
            [
                sample(0, {"q": "2+2"}, "4", "3", 0),
                sample(1, "2+3", "5", "6", 0),
                sample(1, "2+3", "5", "5", 1),
                sample(2, "3+3", 6, said, 0),
                Evaluation(benchmark="m", metrics={"accuracy": score}),
            ],
        )

    (found,) = report(tmp_path).benchmarks

    assert (found.run, found.samples, found.wrong) == ("demo/b", 3, 2)
    assert [(one.index, one.input, one.target, one.prediction) for one in found.shown] == [
        (0, '{"q": "2+2"}', "4", "3"),
        (2, "3+3", "6", "5"),
    ]


def test_report_carries_small_pictures_only(tmp_path: Path) -> None:
    """A PNG in the run is embedded; what is none, is huge, or lies elsewhere is counted."""
    (tmp_path / "secret.png").write_bytes(png())
    media = {
        "good": png(),
        "wide": png(100_000, 100_000),
        "text": b"<svg onload=alert(1)>",
        "heavy": png() + bytes(1_000_000),
    }
    events: list[Event] = [
        ev.Media(key=name, media_type="image", path=f"artifacts/{name}.png", step=3) for name in media
    ]
    events += [
        ev.Media(key="outside", media_type="image", path="../../secret.png"),
        ev.Media(key="absolute", media_type="image", path=str(tmp_path / "secret.png")),
        ev.Media(key="linked", media_type="image", path="artifacts/link.png"),
        ev.Media(key="pipe", media_type="image", path="artifacts/pipe.png"),
        ev.Media(key="gone", media_type="image", path="artifacts/gone.png"),
        ev.Media(key="nul", media_type="image", path="a\0b"),
    ]
    run = log(tmp_path, "a", events)
    (run / "artifacts").mkdir()
    for name, data in media.items():
        (run / "artifacts" / f"{name}.png").write_bytes(data)
    (run / "artifacts" / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(run / "artifacts" / "pipe.png")

    found = report(tmp_path)

    assert [(image.name, image.step, image.width) for image in found.images] == [("good", 3, 2)]
    assert found.more_images == 9
    assert to_html(found).count("data:image/png;base64,") == 1


# --- pages -------------------------------------------------------------------------------------------


def test_report_is_bounded_and_counts_the_rest(tmp_path: Path) -> None:
    """Runs, places, curves, points and notes beyond the limits are left out, and their number is told."""
    for i in range(12):
        events = [
            Params(data={"lr": i}),
            ev.Note(text=f"note {i}"),
            *curve([i / 20 + s / 1000 for s in range(300)]),
        ]
        log(tmp_path, f"r{i:02}", events)

    found = report(tmp_path, limits=Limits(runs=5, places=4, curves=3, points=50, notes=2))

    assert (len(found.runs), found.more_runs) == (5, 7)
    assert (len(found.standings.places), found.standings.left_out) == (4, 8)
    assert (len(found.said), found.more_said) == (2, 10)
    assert [len(line.xs) <= 50 for line in found.charts[0].curves] == [True] * 3
    page = to_html(found)
    assert "9 more are not drawn." in page
    assert "7 runs more left out" in page


def test_report_of_the_same_logs_is_the_same(tmp_path: Path) -> None:
    """Another time, and a copy elsewhere, give the same bytes."""
    for place in ("one", "two"):
        make_seeds(tmp_path / place, "val_acc", {"flip": LOW, "cutout": HIGH})

    pages = {
        to_html(report(tmp_path / place)) + to_markdown(report(tmp_path / place)) for place in ("one", "two")
    }

    assert len(pages) == 1
    assert str(tmp_path) not in pages.pop()


def test_report_as_a_dict_is_json(tmp_path: Path) -> None:
    """A program reads the same report; pictures are base64."""
    make_seeds(tmp_path, "val_acc", {"flip": LOW, "cutout": HIGH})

    found = json.loads(json.dumps(report(tmp_path).to_dict()))

    assert found["standings"]["places"][0]["place"]["scores"]["val_acc"]["n"] == 3


def test_report_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    """A frame of its own, in which nothing may reach the notebook."""
    make_run(tmp_path, "a", {"score": 1.0})

    shown = report(tmp_path)._repr_html_()

    assert shown.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert 'sandbox="allow-scripts"' in shown
