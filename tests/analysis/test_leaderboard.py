"""Rankings: who is best, over seeds, and that the cache says what the logs say."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventlog import connect
from eventlog.analysis import leaderboard
from eventlog.analysis.directions import guess_mode
from eventlog.analysis.facts import load, results
from eventlog.analysis.groups import UnknownParamError, spread, text_of
from eventlog.analysis.naming import AmbiguousMetricError, NoMetricError, UnknownMetricError, pick_metric
from eventlog.analysis.overview import Overview
from eventlog.analysis.runs import NoRunsError
from eventlog.analysis.shown import mean_and_std
from eventlog.events import Evaluation, Event, Metrics, Params, RunEnded, RunResumed, RunStarted, Summary
from eventlog.storage.layout import iter_runs
from eventlog.testing.runs import RunWriter
from tests.analysis.support_comparison import make_run, make_seeds
from tests.cli.conftest import Evlog, clean_environment, evlog

__all__ = ["clean_environment", "evlog"]  # fixtures


def places(root: Path, **asked: object) -> list[tuple[str, str]]:
    """Return place and run (or group) of a leaderboard."""
    board = leaderboard(root, **asked)  # type: ignore[arg-type]
    return [(one.place, one.name) for one in board.places]


# --- ranks -----------------------------------------------------------------------------------------


def test_leaderboard_ranks_equal_results_equally_and_nan_last(tmp_path: Path) -> None:
    """Who ties shares the rank, the next one counts on, and NaN has none."""
    values: dict[str, float | str] = {"a": "NaN", "b": 0.5, "c": 0.9, "d": 0.5, "e": 0.1}
    for run, value in values.items():
        make_run(tmp_path, run, {"score": value})

    assert places(tmp_path) == [("1", "c"), ("2=", "b"), ("2=", "d"), ("4", "e"), ("-", "a")]


def test_leaderboard_of_a_loss_puts_the_smallest_first(tmp_path: Path) -> None:
    """What the name says is better comes first, unless a mode is given."""
    make_run(tmp_path, "a", {"val/loss": 0.5})
    make_run(tmp_path, "b", {"val/loss": 0.4})

    assert places(tmp_path) == [("1", "b"), ("2", "a")]
    assert places(tmp_path, mode="max") == [("1", "a"), ("2", "b")]


def test_leaderboard_top_keeps_what_is_equal_to_the_last(tmp_path: Path) -> None:
    """A cut never goes through a tie."""
    for run, value in {"a": 1.0, "b": 2.0, "c": 2.0, "d": 0.0}.items():
        make_run(tmp_path, run, {"score": value})

    board = leaderboard(tmp_path, top=1)

    assert [one.name for one in board.places] == ["b", "c"]
    assert board.foot == ["2 more below these places"]


def test_leaderboard_counts_runs_without_the_metric(tmp_path: Path) -> None:
    """Runs that have no such result are named, not ranked."""
    make_run(tmp_path, "a", {"score": 1.0})
    make_run(tmp_path, "b", {"other": 1.0})

    board = leaderboard(tmp_path, metric="score")

    assert board.without_metric == ["demo/b"]
    assert board.foot == ["1 run without score"]


def test_leaderboard_keeps_runs_of_two_projects_apart(tmp_path: Path) -> None:
    """The same id in two projects is two runs."""
    make_run(tmp_path, "a", {"score": 1.0}, project="p")
    make_run(tmp_path, "a", {"score": 2.0}, project="q")

    board = leaderboard(tmp_path)

    assert [one.runs for one in board.places] == [["q/a"], ["p/a"]]


def test_leaderboard_groups_over_seeds(tmp_path: Path) -> None:
    """A group has the mean and the sample's deviation of its runs, and the number of its seeds."""
    make_seeds(tmp_path, "f1", {"flip": [0.80, 0.82, 0.87], "cutout": [0.9]})

    board = leaderboard(tmp_path, metric="f1", group_by=["aug"])

    first, second = board.places
    assert (first.group, first.seeds, first.scores["f1"].std) == ({"aug": "cutout"}, 1, None)
    assert second.scores["f1"].mean == pytest.approx(statistics.mean([0.80, 0.82, 0.87]))
    assert second.scores["f1"].std == pytest.approx(statistics.stdev([0.80, 0.82, 0.87]))
    assert (second.seeds, len(second.runs)) == (3, 3)


def test_leaderboard_counts_a_repeated_seed_once(tmp_path: Path) -> None:
    """Two runs of one seed are two runs and one seed."""
    for run in ("a", "b"):
        make_run(tmp_path, run, {"f1": 1.0}, params={"lr": 0.1, "seed": 7})

    (place,) = leaderboard(tmp_path, group_by=["lr"]).places

    assert (place.seeds, len(place.runs)) == (1, 2)


def test_leaderboard_takes_the_seed_from_the_context(tmp_path: Path) -> None:
    """A run whose params name no seed has that of `seed_everything`."""
    for seed in (1, 2):
        context = {"seeds": {"seed": seed}}
        make_run(tmp_path, f"run{seed}", {"f1": 1.0}, params={"lr": 0.1}, context=context)

    assert leaderboard(tmp_path, group_by=["lr"]).places[0].seeds == 2


def test_leaderboard_groups_what_has_no_such_param(tmp_path: Path) -> None:
    """Runs without the param are a group of their own; 1 and 1.0 are one value, 1 and true are two."""
    values: dict[str, dict[str, object]] = {
        "a": {"x": 1}, "b": {"x": 1.0}, "c": {"x": True}, "d": {}, "e": {"x": "1"}, "f": {"x": "ü\n"}
    }  # fmt: skip
    for run, params in values.items():
        make_run(tmp_path, run, {"f1": 1.0}, params=params)

    board = leaderboard(tmp_path, group_by=["x"])

    assert sorted(one.runs for one in board.places) == [
        ["demo/a", "demo/b"], ["demo/c"], ["demo/d"], ["demo/e"], ["demo/f"]
    ]  # fmt: skip


# --- which metric ------------------------------------------------------------------------------------


def test_leaderboard_of_a_benchmark_ranks_by_accuracy_and_shows_the_rest(tmp_path: Path) -> None:
    """A benchmark's accuracy counts where nobody says; its other metrics stand beside."""
    for run, value in {"a": 0.5, "b": 0.7}.items():
        metrics = {"format": 1.0, "partial_accuracy": 0.9, "accuracy": value}
        make_run(tmp_path, run, {"loss": 1.0}, benchmarks={"gsm8k": metrics, "math": {"accuracy": 0.1}})

    board = leaderboard(tmp_path, benchmark="gsm8k")

    assert board.metrics == ["gsm8k/accuracy", "gsm8k/format", "gsm8k/partial_accuracy"]
    assert [one.name for one in board.places] == ["b", "a"]


def test_leaderboard_without_a_metric_takes_the_only_one_that_all_have(tmp_path: Path) -> None:
    """One result in common is the one that counts; runs without any results do not matter."""
    make_run(tmp_path, "a", {"score": 1.0, "x": 1.0})
    make_run(tmp_path, "b", {"score": 2.0, "y": 1.0})
    make_run(tmp_path, "c")

    board = leaderboard(tmp_path)

    assert (board.metric, board.without_metric) == ("score", ["demo/c"])


def test_leaderboard_that_cannot_tell_lists_what_there_is(tmp_path: Path) -> None:
    """Several results in common are no default."""
    make_run(tmp_path, "a", {"x": 1.0, "y": 1.0})

    with pytest.raises(NoMetricError, match=r"--metric\. There are: x, y\."):
        leaderboard(tmp_path)


def test_leaderboard_of_nothing_says_so(tmp_path: Path) -> None:
    """No directory, no runs and no fitting runs are errors, and make no directory."""
    with pytest.raises(NoRunsError):
        leaderboard(tmp_path / "none")
    make_run(tmp_path, "a", {"x": 1.0})
    with pytest.raises(NoRunsError, match="fits project 'p'"):
        leaderboard(tmp_path, project="p")

    assert not (tmp_path / "none").exists()


def test_leaderboard_refuses_a_param_that_nobody_has(tmp_path: Path) -> None:
    """A group by nothing would be one group of all."""
    make_run(tmp_path, "a", {"x": 1.0}, params={"lr": 1})

    with pytest.raises(UnknownParamError, match=r"'learning'.*lr"):
        leaderboard(tmp_path, group_by=["learning"])


def test_pick_metric_takes_the_name_before_its_ends() -> None:
    """The very name, then the only last part, then the only last words."""
    keys = ["accuracy", "val/accuracy", "gsm8k/accuracy", "gsm8k/partial_accuracy", "val_f1"]

    assert pick_metric("accuracy", keys) == "accuracy"
    assert pick_metric("accuracy", keys, benchmark="gsm8k") == "gsm8k/accuracy"
    assert pick_metric("partial_accuracy", keys) == "gsm8k/partial_accuracy"
    assert pick_metric("f1", keys) == "val_f1"
    with pytest.raises(AmbiguousMetricError, match="gsm8k/accuracy, val/accuracy"):
        pick_metric("accuracy", keys[1:])
    with pytest.raises(UnknownMetricError, match="Near: accuracy"):
        pick_metric("acuracy", keys)


@pytest.mark.parametrize(
    ("key", "mode"),
    [
        ("val/loss", "min"), ("trainLoss", "min"), ("accuracy_loss", "min"), ("loss_accuracy", "max"),
        ("val_f1_macro", "max"), ("F1", "max"), ("perplexity", "min"), ("latency_ms", "min"), ("RMSE", "min"),
        ("train_time", "min"), ("tokens_per_second", "max"), ("samples/per_s", "max"),
        ("neg_mean_squared_error", "max"), ("negative_log_likelihood", "min"), ("calibration_error", "min"),
        ("log_likelihood", "max"), ("epoch", None), ("timestamp", None), ("x", None), ("", None),
    ],
)  # fmt: skip
def test_guess_mode_reads_the_last_word_that_tells(key: str, mode: str | None) -> None:
    """A name says what is better, or nothing."""
    assert guess_mode(key) == mode


# --- numbers -----------------------------------------------------------------------------------------


FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(FLOATS, min_size=2, max_size=6))
def test_spread_lies_within_its_values(values: list[float]) -> None:
    """A mean is between the extremes, a deviation is not negative, whatever overflows."""
    found = spread(values)

    assert found.min <= found.mean <= found.max
    assert found.min <= found.median <= found.max
    assert found.std is not None
    assert found.std >= 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
def test_spread_is_what_the_standard_library_computes(values: list[float]) -> None:
    """Mean, sample deviation and median are the textbook's."""
    found = spread(values)

    assert found.mean == pytest.approx(statistics.mean(values), rel=1e-9, abs=1e-9)
    assert found.std == pytest.approx(statistics.stdev(values), rel=1e-6, abs=1e-6)
    assert found.median == pytest.approx(statistics.median(values))


@given(FLOATS, st.integers(1, 9))
def test_spread_of_equal_values_is_that_value(value: float, n: int) -> None:
    """Groups of different sizes can tie."""
    assert spread([value] * n).mean == value


def test_spread_with_nan_is_nan() -> None:
    """A diverged run is not averaged away."""
    assert math.isnan(spread([1.0, math.nan]).mean)


def test_mean_and_std_ends_at_the_second_digit_of_the_deviation() -> None:
    """What is shown of a mean is what is known of it."""
    assert mean_and_std(spread([0.80, 0.81, 0.82])) == "0.810 ± 0.010"
    assert mean_and_std(spread([0.5, 0.5])) == "0.5 ± 0"
    assert mean_and_std(spread([0.123456789])) == "0.123457"
    assert mean_and_std(spread([math.nan, 1.0])) == "nan ± nan"


def test_text_of_writes_numbers_as_people_do() -> None:
    """Params look as in a paper."""
    shown = [text_of(value) for value in (5e-5, 1e-4, 0.001, 0.1, 1.5e-7, 1e20, 3, True, None, "x", [1])]

    assert shown == ["5e-5", "1e-4", "0.001", "0.1", "1.5e-7", "1e20", "3", "true", "-", "x", "[1]"]


KEYS = st.sampled_from(["loss", "b/acc", "a", "ü\n", "b/x", "rank1/loss"])
NUMBERS = st.sampled_from([0.0, 1, -3, 0.1, "NaN", "Infinity", "-Infinity", 1e300]) | st.floats(-5, 5)
EVENTS = st.one_of(
    st.builds(Metrics, step=st.none() | st.integers(0, 3), data=st.dictionaries(KEYS, NUMBERS, max_size=3)),
    st.builds(
        Evaluation,
        benchmark=st.sampled_from(["b", "it's", ""]),
        metrics=st.dictionaries(KEYS, NUMBERS, max_size=3),
    ),
    st.builds(
        Summary,
        data=st.dictionaries(
            KEYS,
            NUMBERS | st.sampled_from([True, None, "text", [1.0], {"acc": 0.5, "d": {"e": 1}}]),
            max_size=3,
        ),
    ),
    st.builds(Params, data=st.dictionaries(KEYS, NUMBERS, max_size=2)),
    st.just(Evaluation(benchmark="b", metrics={"acc": 0.25}, data={"large": "x" * (1 << 20)})),
)


def shown(results: dict[str, float]) -> str:
    """Return results as a text, in which NaN equals itself. A zero has no sign: SQL's `last` may lose it."""
    return repr(sorted((key, abs(value) if value == 0 else value) for key, value in results.items()))


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(["r1", "r2"]), st.integers(0, 1), EVENTS), max_size=14))
@example([("r1", 0, Metrics(step=0, data={"loss": -0.0, "a": "NaN"}))])
def test_overview_has_the_results_that_the_logs_have(history: list[tuple[str, int, Event]]) -> None:
    """Whatever was logged by whom, the cache gives the numbers that a fold over the log gives."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        writers: dict[tuple[str, int], RunWriter] = {}
        for run, rank, event in history:
            if (run, rank) not in writers:
                writers[run, rank] = RunWriter(root / "p" / run, rank=rank)
                writers[run, rank].write(RunStarted(name=run) if rank == 0 else RunResumed(reason="joined"))
            writers[run, rank].write(event)
        for (_, rank), writer in writers.items():
            writer.write(*([RunEnded(status="finished")] if rank == 0 else []))
            writer.close()

        with connect(root) as connection:
            view = Overview(connection)
            names, found = view.names(), {run.label: run for run in view.scores()}

        expected = {f"{run.project}/{run.run_id}": load(run.path) for run in iter_runs(root)}
        assert found.keys() == expected.keys()
        for label, facts in expected.items():
            assert shown(found[label].results) == shown(results(facts))
            assert repr(found[label].params) == repr(facts.view.flat_params)
        assert names == {key for facts in expected.values() for key in results(facts)}


def test_overview_takes_each_metric_of_its_last_evaluation(tmp_path: Path) -> None:
    """Evaluations may have different metrics; each metric counts where it came last."""
    writer = RunWriter(tmp_path / "p" / "a")
    writer.write(RunStarted(name="a"))
    for metrics in ({"acc": 0.1, "f1": 0.2}, {"acc": 0.3}, {"f1": 0.4, "x": 0.5}, {"acc": 0.6}):
        writer.write(Evaluation(benchmark="b", metrics=dict(metrics)))
    writer.close()

    with connect(tmp_path) as connection:
        (run,) = Overview(connection).scores()

    assert run.results == {"b/acc": 0.6, "b/f1": 0.4, "b/x": 0.5}


def test_overview_takes_only_the_metrics_that_are_asked_for(tmp_path: Path) -> None:
    """A part of the results is that part."""
    make_run(tmp_path, "a", {"x": 1.0, "y": 2.0}, benchmarks={"b": {"z": 3.0}})

    with connect(tmp_path) as connection:
        (run,) = Overview(connection).scores(["y", "b/z"])

    assert run.results == {"y": 2.0, "b/z": 3.0}


# --- as it is used -----------------------------------------------------------------------------------


def test_leaderboard_command_shows_mean_seeds_and_foot(evlog: Evlog, tmp_path: Path) -> None:
    """The table says what it ranks by, and counts what it leaves out."""
    make_seeds(tmp_path, "val_f1", {"flip": [0.80, 0.82, 0.81], "cutout": [0.7, 0.9]})
    make_run(tmp_path, "without", {"loss": 1.0}, params={"aug": "flip"})

    out = evlog("leaderboard", "--metric", "f1", "--group-by", "aug", "--dir", str(tmp_path)).out

    assert out.splitlines() == [
        "Leaderboard: val_f1 (larger is better, as the name says)",
        "",
        "rank  aug            val_f1  runs  seeds",
        "   1  flip    0.810 ± 0.010     3      3",
        "   2  cutout    0.80 ± 0.14     2      2",
        "",
        "1 run without val_f1",
    ]


def test_leaderboard_command_takes_the_seeds_words(evlog: Evlog, tmp_path: Path) -> None:
    """`leaderboard` alone and with a benchmark work as the older tool's did."""
    for i in range(3):
        make_run(tmp_path, f"exp_{i}", {"loss": 1.0}, benchmarks={"gsm8k": {"accuracy": i / 10}})

    plain = evlog("leaderboard", "--dir", str(tmp_path))
    of_benchmark = evlog("leaderboard", "--benchmark", "gsm8k", "--top", "2", "--dir", str(tmp_path))

    assert [line.split()[1] for line in plain.out.splitlines()[3:]] == [
        "demo/exp_2",
        "demo/exp_1",
        "demo/exp_0",
    ]
    assert of_benchmark.out.splitlines()[-1] == "1 more below these places"


def test_leaderboard_command_writes_json_csv_and_markdown(evlog: Evlog, tmp_path: Path) -> None:
    """Programs get every number; JSON has no NaN."""
    make_run(tmp_path, "a|b", {"score": "NaN"}, params={"note": "x"})
    ask = ("leaderboard", "--dir", str(tmp_path))

    board = json.loads(evlog(*ask, "--json").out)
    assert board["places"][0]["scores"]["score"]["mean"] == "NaN"
    assert evlog(*ask, "--format", "csv").out == "rank,run,name,status,score\n,demo/a|b,a|b,finished,NaN\n"
    assert r"| - | demo/a\|b | nan | finished |" in evlog(*ask, "--format", "markdown").out


def test_leaderboard_command_selects_runs(evlog: Evlog, tmp_path: Path) -> None:
    """Conditions in SQL, status and experiment narrow what is ranked."""
    make_run(tmp_path, "a", {"score": 1.0}, params={"lr": 0.1}, experiment="e")
    make_run(tmp_path, "b", {"score": 2.0}, params={"lr": 0.2}, experiment="e", status="failed")
    make_run(tmp_path, "c", {"score": 3.0}, status=None)

    def ranked(*options: str) -> list[str]:
        out = evlog("leaderboard", "--dir", str(tmp_path), "--json", *options).out
        return [place["name"] for place in json.loads(out)["places"]]

    assert ranked("--where", "(params->>'$.lr')::DOUBLE < 0.15 -- less") == ["a"]
    assert ranked("--experiment", "e") == ["b", "a"]
    assert ranked("--status", "finished", "--status", "crashed") == ["c", "a"]


def test_leaderboard_command_fails_in_one_line(evlog: Evlog, tmp_path: Path) -> None:
    """What cannot be answered is said, with the way out."""
    make_run(tmp_path, "a", {"x": 1.0})
    ask = ("leaderboard", "--dir", str(tmp_path))

    for options, said in {
        ("--metric", "nope"): "There are: x",
        ("--benchmark", "nope"): "the benchmark 'nope'",
        ("--where", "nonsense"): "nonsense",
        ("--group-by", "lr"): "'lr'",
        ("--project", "it's"): "project",
    }.items():
        found = evlog(*ask, *options)
        assert (found.code, said in found.err, "Traceback" in found.err) == (1, True, False)


def test_leaderboard_is_shown_in_notebooks_with_all_texts_escaped(tmp_path: Path) -> None:
    """Names from logs are no markup."""
    make_run(tmp_path, "a", {"score": 1.0}, params={"x": "<script>"})

    page = leaderboard(tmp_path, group_by=["x"])._repr_html_()

    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_importing_analysis_loads_nothing_heavy() -> None:
    """The package is light until a function is asked for; then it is that function, whoever imported what."""
    code = (
        "import pkgutil, sys, eventlog.analysis as a; "
        "names = [m.name for m in pkgutil.walk_packages(a.__path__, 'eventlog.analysis.')]; "
        "assert len(names) > 40; [__import__(n) for n in names if n != 'eventlog.analysis.totals']; "
        "assert not {'duckdb', 'typer', 'scipy', 'numpy', 'matplotlib'} & set(sys.modules), 'heavy'; "
        "__import__('eventlog.analysis.totals'); "
        "assert all(callable(getattr(a, name)) for name in a.__all__); print('light')"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout == "light\n", done.stderr
