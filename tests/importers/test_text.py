"""What is understood of text logs, and what is left out."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.importers.text import Reader, Understanding, read_text
from eventlog.importers.text.lines import stamp_of
from eventlog.importers.text.values import Pair, name_of, number_of, pairs, value_of

LOGS = Path(__file__).parent / "logs"


def of(name: str) -> Understanding:
    return read_text((LOGS / name).read_text())


def series(understood: Understanding, key: str) -> list[tuple[int | None, float]]:
    return [(point.step, point.value) for point in understood.points if point.key == key]


@pytest.mark.parametrize(
    ("printed", "number"),
    [
        ("0.5", (0.5, "")),
        ("1e-3", (0.001, "")),
        ("1,234,567", (1234567, "")),
        ("12,345.5", (12345.5, "")),
        ("73.1%", (0.731, "")),
        ("32.5s", (32.5, "_s")),
        ("30ms/step", (30, "_ms_per_step")),
        (".5", (0.5, "")),
        ("-3", (-3, "")),
        ("5 apples", None),
        ("0x10", None),
        ("", None),
        ("1.2.3", None),
    ],
)
def test_number_of_reads_what_people_print(printed: str, number: tuple[float, str] | None) -> None:
    """A unit becomes part of the name, a percentage a share; what is no number is none."""
    assert number_of(printed) == number


@pytest.mark.parametrize("printed", ["nan", "NaN", "inf", "-inf", "Infinity"])
def test_number_of_keeps_what_is_not_finite(printed: str) -> None:
    """A diverged loss is a number."""
    found = number_of(printed)

    assert found is not None
    assert not math.isfinite(found[0])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Val Loss", "val_loss"),
        ("Using device", "device"),
        ("after that the best val F1", "best_val_f1"),
        ("train/loss", "train/loss"),
        ("Learning Rate", "learning_rate"),
    ],
)
def test_name_of_keeps_the_words_that_qualify(words: str, name: str) -> None:
    """Prose before a name does not become part of it."""
    assert name_of(words) == name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("loss=0.5, acc: 73.1%", [("loss", 0.5), ("acc", 0.731)]),
        ("optimizer=adam lr=1e-3", [("optimizer", "adam"), ("lr", 0.001)]),
        ("hidden=[64, 64] act='relu'", [("hidden", [64, 64]), ("act", "relu")]),
        ("f1: 0.93 ± 0.02", [("f1", 0.93), ("f1_std", 0.02)]),
        ("took: 3.2 s", [("took_s", 3.2)]),
        ("epoch done: val_loss=0.39", [("val_loss", 0.39)]),
        ("see http://example.com: there", []),
        ("use_amp: True", [("use_amp", True)]),
    ],
)
def test_pairs_finds_names_with_values(line: str, found: list[tuple[str, object]]) -> None:
    """``key=value`` and ``key: value``, several on a line, with units and deviations."""
    assert [(pair.key, pair.value) for pair in pairs(line)] == found


def test_times_of_lines_are_read_in_several_forms() -> None:
    """With a zone the moment is certain; without a date there is none."""
    assert stamp_of("2025-01-23T14:30:22.5Z loss=1").t_us == 1737642622500000
    assert stamp_of("[2025-01-23 14:30:22,123+00:00] INFO:root: loss=1") == (1737642622123000, "loss=1")
    assert stamp_of("14:30:22 loss=1") == (None, "loss=1")
    assert stamp_of("2025-13-45 14:30:22 loss=1").t_us is None


def test_a_log_of_a_torch_loop_becomes_params_metrics_and_files() -> None:
    """Exercise 2: intermixed prints are sorted, and what is not understood is shown."""
    understood = of("torch.log")

    assert understood.params == {
        "lr": 0.001,
        "epochs": 3,
        "use_amp": True,
        "model": "resnet18",
        "batch_size": 64,
        "seed": 42,
        "device": "cuda",
        "optimizer.name": "adam",
        "optimizer.betas": [0.9, 0.999],
    }
    assert series(understood, "loss")[:3] == [(100, 0.5123), (200, 0.4123), (700, 0.3123)]
    assert series(understood, "val_acc") == [(200, 0.881)]
    assert series(understood, "valid_loss") == [(0, 0.4), (1, 0.3)]
    assert understood.final == {"test_accuracy": 0.9312, "test_accuracy_std": 0.01, "total_time_s": 32.5}
    assert [(file.path, file.is_checkpoint) for file in understood.files] == [
        ("checkpoints/epoch2.pt", True),
        ("plots/confusion.png", False),
    ]
    assert understood.grids[0].columns == ["label", "precision", "recall", "f1-score", "support"]
    assert understood.grids[0].rows[1] == ["dog", 0.7, 0.9, 0.8, 120]
    assert [one.line for one in understood.left_out] == [1, 5, 13]


def test_a_log_of_keras_has_a_step_for_each_bar() -> None:
    """Epoch and position in it make the step."""
    understood = of("keras.log")

    assert series(understood, "loss") == [(50, 0.9), (100, 0.5123), (200, 0.4123)]
    assert series(understood, "val_loss") == [(100, 0.6), (200, 0.5)]


def test_a_log_of_hugging_face_is_numbered_where_it_has_no_steps() -> None:
    """Dictionaries of Python are read; fractions of epochs stay a metric of their own."""
    understood = of("huggingface.log")

    assert understood.params["learning_rate"] == 5e-05
    assert understood.params["fp16"] is True
    assert series(understood, "loss")[:2] == [(0, 2.5), (1, 1.5)]
    assert series(understood, "epoch")[0] == (0, 0.5)
    assert [value for _, value in series(understood, "eval_accuracy")] == [0.61, 0.6543]
    assert understood.files[0].path == "out/model.safetensors"


def test_patterns_of_the_user_come_first() -> None:
    """Named groups say what a line means; what the line would have meant otherwise does not count."""
    reader = Reader(
        [
            re.compile(r"<(?P<step>\d+)> (?P<key>\w+) is (?P<value>\S+)"),
            re.compile(r"ppl@(?P<step>\d+)~(?P<ppl>.*)"),
        ],
        [re.compile(r"we use (?P<optimizer>\w+)")],
    )

    understood = read_text("we use adam\n<7> Loss is 0.25\nppl@8~12.5\n", reader)

    assert understood.params == {"optimizer": "adam"}
    assert series(understood, "loss") == [(7, 0.25)]
    assert series(understood, "ppl") == [(8, 12.5)]
    assert understood.left_out == []


def test_an_object_over_several_lines_is_the_configuration() -> None:
    """Pretty-printed JSON before the training is params."""
    understood = read_text('config: {\n  "lr": 0.1,\n  "net": {"depth": 3}\n}\nstep 1 loss 0.5\n')

    assert understood.params == {"lr": 0.1, "net.depth": 3}
    assert series(understood, "loss") == [(1, 0.5)]


@pytest.mark.parametrize(
    "table",
    [
        "epoch | loss\n------+-----\n0 | 0.5\n1 | 0.4",
        "epoch,loss\n0,0.5\n1,0.4",
        "epoch\tloss\n0\t0.5\n1\t0.4",
    ],
)
def test_a_table_with_a_column_of_epochs_is_metrics(table: str) -> None:
    """Bars, commas, tabs or gaps between the cells."""
    assert series(read_text(table), "loss") == [(0, 0.5), (1, 0.4)]


def test_prose_with_a_colon_is_left_out() -> None:
    """A sentence is no param."""
    understood = read_text("Note: this run uses the new data\nERROR: out of memory in layer: 3 of them\n")

    assert understood.points == []
    assert "note" not in understood.params or understood.params["note"] != "this"


def test_a_long_line_takes_no_longer_than_it_should() -> None:
    """No expression runs away on a megabyte of nothing."""
    for piece in ("a ", "a=", "1,234", "((((", "[[", "{", "| ", "loss: ", "epoch ", " ", "|a: ", "to /a"):
        for begin in ("", "[1]\ta:1", "[CV 1] END a=1;, b=(c=", "saved "):
            read_text((begin + piece * 70_000)[:70_000])


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    """Whatever a log holds, every line is understood, left out, or empty."""
    understood = read_text(text)

    assert understood.lines <= text.count("\n") + 1


@given(st.dictionaries(st.sampled_from(["loss", "acc", "ppl", "lr"]), st.floats(width=32), min_size=1))
def test_what_is_printed_plainly_is_read_back(values: dict[str, float]) -> None:
    """A line of pairs beside a step gives its numbers back."""
    line = "step 3: " + ", ".join(f"{key}={value!r}" for key, value in values.items())

    found = {point.key: point.value for point in read_text(line).points}

    assert found.keys() == values.keys()
    for key, value in values.items():
        assert found[key] == value or (math.isnan(found[key]) and math.isnan(value))


def test_pair_says_where_it_stands() -> None:
    """Positions lead back into the line."""
    (pair,) = pairs("  lr = 0.1 ")

    assert pair == Pair("lr", 0.1, 2, 10)
    assert value_of("none") is None
