"""What each kind of value becomes, and that none stops the training or loses the rest of its call."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from eventlog import EvlogWarning, Tracker, TrackingConfig
from eventlog.errors import forget_reports
from eventlog.events import Histogram, Media, Metrics, Params, Summary, Table
from tests.tracker.support import logged


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    forget_reports()
    tracker = Tracker((), TrackingConfig(project="p"), output_dir=tmp_path)
    tracker.start_run("a")
    return tracker


def metrics_of(tracker: Tracker) -> list[Metrics]:
    run = tracker.run_dir
    tracker.end_run()
    return logged(run, Metrics)


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (True, 1),
        (3, 3),
        (0.25, 0.25),
        (-0.0, 0.0),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), "NaN"),
        (np.int64(7), 7),
        (np.bool_(True), 1),
        (np.array(2.5), 2.5),
        (np.array([4]), 4),
        (decimal.Decimal("1.5"), 1.5),
        (decimal.Decimal("sNaN"), "NaN"),
        (fractions.Fraction(1, 4), 0.25),
        (2**70, float(2**70)),
        (10**400, "Infinity"),
        (-(10**400), "-Infinity"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_numbers_of_every_kind_are_metrics(tracker: Tracker, value: object, kept: object) -> None:
    """A scalar of any library is one number."""
    tracker.log_metrics({"v": value, "other": 1}, 1)

    assert metrics_of(tracker)[0].data == {"v": kept, "other": 1}


@pytest.mark.parametrize(
    "value", [None, [1], {"a": 1}, 1j, b"x", dt.datetime(2026, 1, 1), np.array([1, 2]), object()]
)
def test_what_is_no_number_is_refused_by_name(tracker: Tracker, value: object) -> None:
    """The warning has the key and the type; the rest of the call is kept."""
    with pytest.warns(EvlogWarning, match=rf"'v' was not logged.*{type(value).__name__}"):
        tracker.log_metrics({"v": value, "other": 1}, 1)

    assert metrics_of(tracker)[0].data == {"other": 1}


def test_texts_among_metrics_go_to_the_summary(tracker: Tracker) -> None:
    """A text is no point of a curve."""
    tracker.log_metrics({"loss": 1.0, "phase": "warm-up"}, 1)
    run = tracker.run_dir
    tracker.end_run()

    assert [s.data for s in logged(run, Summary)] == [{"phase": "warm-up"}]
    assert [m.data for m in logged(run, Metrics)] == [{"loss": 1.0}]


@pytest.mark.parametrize(
    ("step", "kept"),
    [(5, 5), (-3, -3), (None, None), (2.0, 2), (np.int32(4), 4), (True, 1), (2**63 - 1, 2**63 - 1)],
)
def test_steps_are_whole_numbers(tracker: Tracker, step: object, kept: int | None) -> None:
    """Whole numbers of any type are steps."""
    tracker.log_metrics({"x": 1.0}, step)  # type: ignore[arg-type]

    assert metrics_of(tracker)[0].step == kept


@pytest.mark.parametrize("step", [0.5, "7", 2**63, math.nan])
def test_a_bad_step_costs_the_step_only(tracker: Tracker, step: object) -> None:
    """The numbers are kept without a step."""
    with pytest.warns(EvlogWarning, match="kept without a step"):
        tracker.log_metrics({"x": 1.0}, step)  # type: ignore[arg-type]

    assert [(m.step, m.data) for m in metrics_of(tracker)] == [(None, {"x": 1.0})]


def test_strange_keys_become_text(tracker: Tracker) -> None:
    """Numbers, enums and halves of surrogate pairs are names too."""
    tracker.log_metrics({1: 1.0, Colour.RED: 2.0, "\udc80": 3.0, "null": 4.0, "": 5.0}, 1)  # type: ignore[dict-item]

    assert metrics_of(tracker)[0].data == {"1": 1.0, "red": 2.0, "\\udc80": 3.0, "null": 4.0, "": 5.0}


def test_a_very_wide_call_is_split(tracker: Tracker) -> None:
    """What does not fit one line becomes several events of the same step."""
    wide = {f"layer{n}/" + "w" * 50: float(n) for n in range(5000)}
    tracker.log_metrics(wide, 3)

    events = metrics_of(tracker)
    assert len(events) > 1
    assert {event.step for event in events} == {3}
    assert {key: value for event in events for key, value in event.data.items()} == wide


@dataclasses.dataclass
class Optimizer:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)


class Model(msgspec.Struct):
    depth: int = 2
    optimizer: Optimizer = msgspec.field(default_factory=Optimizer)


def test_params_of_every_shape_are_welcome(tracker: Tracker) -> None:
    """Mappings, dataclasses, structs and namespaces keep their names."""
    tracker.log_params({"a": {"b": 1}})
    tracker.log_params(Model())
    tracker.log_params(argparse.Namespace(seed=3, path=Path("x/y")))
    run = tracker.run_dir
    tracker.end_run()

    assert [p.data for p in logged(run, Params)] == [
        {"a": {"b": 1}},
        {"depth": 2, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}},
        {"seed": 3, "path": "x/y"},
    ]


def test_a_huge_param_goes_to_a_file_and_comes_back(tracker: Tracker) -> None:
    """A payload over the line limit lies in an artifact; readers see no difference."""
    tracker.log_params({"vocabulary": "x" * 3_000_000})
    run = tracker.run_dir
    tracker.end_run()

    (params,) = logged(run, Params)
    assert params.data == {"vocabulary": "x" * 3_000_000}
    assert run is not None
    (segment,) = (run / "log").glob("*.jsonl")
    assert max(map(len, segment.read_bytes().splitlines())) < 1 << 20


def test_histograms_count_finite_values(tracker: Tracker) -> None:
    """Edges enclose the values; NaN is left out; a counted one is taken as it is."""
    tracker.log_histogram("w", np.array([[0.0, 1.0], [2.0, math.nan]]), step=1, bins=2)
    tracker.log_histogram("given", ([1, 2], [0.0, 0.5, 1.0]), step=1)
    run = tracker.run_dir
    tracker.end_run()

    assert [(h.key, h.counts, h.edges) for h in logged(run, Histogram)] == [
        ("w", [1, 2], [0.0, 1.0, 2.0]),
        ("given", [1, 2], [0.0, 0.5, 1.0]),
    ]


def test_tables_texts_and_images_are_logged(tracker: Tracker, tmp_path: Path) -> None:
    """Each kind comes back with its content."""
    png = b"\x89PNG\r\n\x1a\n" + b"0" * 20
    tracker.log_table("t", ["a", "b"], [[1, "x"], [2.5, None]])
    tracker.log_text("note", "héllo\n" * 3)
    tracker.log_image("plot", png, step=2, caption="c")
    run = tracker.run_dir
    tracker.end_run()

    (table,) = logged(run, Table)
    words, image = logged(run, Media)
    assert (table.columns, table.rows) == (["a", "b"], [[1, "x"], [2.5, None]])
    assert words.text == "héllo\n" * 3
    assert image.path is not None
    assert run is not None
    assert (run / image.path).read_bytes() == png
    assert (image.mime_type, image.step, image.caption) == ("image/png", 2, "c")


def test_strict_raises_instead_of_warning(tmp_path: Path) -> None:
    """With strict=True a bad value is an error."""
    from eventlog.errors import BadValueError

    with Tracker((), TrackingConfig(project="p"), output_dir=tmp_path, strict=True) as tracker:
        tracker.start_run("a")
        with pytest.raises(BadValueError):
            tracker.log_metrics({"v": None})


def test_warnings_as_errors_do_not_reach_the_training(tmp_path: Path) -> None:
    """Under -W error a bad value still stops nothing."""
    from tests.tracker.support import run_job

    code = """
    import warnings; warnings.simplefilter("error")
    from eventlog import create_tracker
    with create_tracker("local") as t:
        t.log_metrics({"v": None, "x": 1})
    """
    exit_code, _, err = run_job(code, tmp_path)

    assert exit_code == 0
    assert "'v' was not logged" in err
