"""Spaces, the file of a sweep, its trials, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventlog.errors import EvlogError
from eventlog.sweep.config import SweepError, read_config
from eventlog.sweep.space import Choice, Range, SpaceError, grid, parse_space, sample
from eventlog.sweep.trials import state_of, trials
from eventlog.tracker import Tracker, TrackingConfig

GRID = """
name = "lr-sweep"
command = "python train.py --lr {lr} --seed {seed}"
[params]
lr = [0.1, 0.01]
seed = [0, 1, 2]
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_grid_is_every_combination_in_order() -> None:
    """The last param changes fastest; one value alone is a list of one."""
    space = parse_space({"a": [1, 2], "b": "x", "c": {"min": 1, "max": 3}})

    assert [tuple(point.values()) for point in grid(space)] == [
        (a, "x", c) for a in (1, 2) for c in (1, 2, 3)
    ]


def test_a_range_in_a_grid_is_cut_into_steps() -> None:
    """On its scale, both ends included."""
    space = parse_space({"lr": {"min": 1e-4, "max": 1e-1, "scale": "log", "steps": 4}})

    assert [point["lr"] for point in grid(space)] == [1e-4, 1e-3, 1e-2, 1e-1]


@given(
    low=st.floats(1e-6, 1e3),
    width=st.floats(0, 1e3),
    scale=st.sampled_from(["linear", "log"]),
    seed=st.integers(),
)
def test_random_points_lie_within_their_bounds(low: float, width: float, scale: str, seed: int) -> None:
    """Whatever the scale, and the same for the same seed."""
    space = parse_space(
        {"x": {"min": low, "max": low + width, "scale": scale}, "n": {"min": 1, "max": 4}, "c": "ab"}
    )

    first = [point for point, _ in zip(sample(space, seed), range(20), strict=False)]

    assert first == [point for point, _ in zip(sample(space, seed), range(20), strict=False)]
    for point in first:
        assert isinstance(point["x"], float)
        assert low <= point["x"] <= low + width or math.isclose(point["x"], low, rel_tol=1e-9)
        assert point["n"] in {1, 2, 3, 4}


def test_random_whole_numbers_are_drawn_evenly() -> None:
    """Both ends come as often as the middle."""
    space = parse_space({"n": {"min": 1, "max": 4}})
    drawn = [point["n"] for point, _ in zip(sample(space, 0), range(4000), strict=False)]

    assert all(900 < drawn.count(n) < 1100 for n in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "empty"),
        ({"min": 2, "max": 1}, "not below"),
        ({"min": 0, "max": 1, "scale": "log"}, "above 0"),
        ({"min": 0.0, "max": 1.0}, "needs steps"),
        ({"low": 0}, "min, max, scale"),
        ([[1]], "no text, number"),
    ],
)
def test_a_space_that_is_none_is_refused(value: object, said: str) -> None:
    """The message names the param and what is wrong."""
    with pytest.raises(SpaceError, match=said):
        grid(parse_space({"x": value}))


def test_config_is_read_from_toml_and_json(tmp_path: Path) -> None:
    """Both give the same sweep; the command is one text or words."""
    as_json = {
        "name": "lr-sweep",
        "command": ["python", "train.py", "--lr", "{lr}", "--seed", "{seed}"],
        "params": {"lr": [0.1, 0.01], "seed": [0, 1, 2]},
    }

    one = read_config(written(tmp_path / "a.toml", GRID))
    two = read_config(written(tmp_path / "b.json", json.dumps(as_json)))

    assert one == two
    assert one.words({"lr": 0.1, "seed": 2}) == ["python", "train.py", "--lr", "0.1", "--seed", "2"]
    assert one.space == {"lr": Choice([0.1, 0.01]), "seed": Choice([0, 1, 2])}


def test_params_are_appended_where_the_command_has_no_places(tmp_path: Path) -> None:
    """As flags of their names."""
    text = 'command = "train"\nmethod = "random"\ncount = 2\n'
    text += "[params]\nlr = {min = 0.1, max = 1.0}\nfast = true\n"
    config = read_config(written(tmp_path / "a.toml", text))

    assert config.words({"lr": 0.5, "fast": True}) == ["train", "--lr", "0.5", "--fast", "true"]
    assert config.space["lr"] == Range(min=0.1, max=1.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command = 'x'", "params"),
        ("command = 'x'\n[params]\n", "no params"),
        ("command = ''\n[params]\na=1", "command is empty"),
        ("command = 'x {b}'\n[params]\na=1", "no param"),
        ("command = 'x {a}'\n[params]\na=1\nb=2", "change nothing"),
        ("command = 'x'\nmethod='random'\n[params]\na=1", "needs count"),
        ("command = 'x'\ncount=3\n[params]\na=1", "no count"),
        ("command = 'x'\nmethod='bayes'\n[params]\na=1", "bayes"),
        ("command = 'x'\nwrong=1\n[params]\na=1", "wrong"),
        ("command = 'x", "at end of document"),
        ("command = 'x'\nname='../y'\n[params]\na=1", "sweep"),
    ],
)
def test_config_that_is_wrong_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """The message says what, before anything runs."""
    with pytest.raises(EvlogError, match=said):
        read_config(written(tmp_path / "a.toml", text))


def test_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    """No traceback for a wrong path."""
    with pytest.raises(SweepError, match=r"no\.toml"):
        read_config(tmp_path / "no.toml")


def test_trials_have_the_same_ids_everywhere(tmp_path: Path) -> None:
    """The id follows from name and params, so that another call finds what is done."""
    config = read_config(written(tmp_path / "a.toml", GRID))

    ids = [trial.run_id for trial in trials(config)]

    assert len(set(ids)) == 6
    assert ids == [trial.run_id for trial in trials(config)]
    assert all(run_id.startswith("lr-sweep-") for run_id in ids)


def test_random_trials_never_repeat_a_point(tmp_path: Path) -> None:
    """A space with fewer points than wanted gives those that it has."""
    text = 'command = "x"\nmethod = "random"\ncount = 50\n[params]\na = [1, 2, 3]\nb = [1, 2]\n'

    found = trials(read_config(written(tmp_path / "a.toml", text)))

    assert len(found) == 6


def test_state_follows_from_the_logs(tmp_path: Path) -> None:
    """Finished is done, failed is failed, killed is left for another attempt under the next id."""
    config = read_config(written(tmp_path / "a.toml", GRID))
    first, second, third, *_ = trials(config)
    for trial, status in ((first, "finished"), (second, "failed"), (third, "killed")):
        tracker = Tracker(("local",), TrackingConfig(project="p"), output_dir=tmp_path)
        tracker.start_run(trial.run_id)
        tracker.end_run(status)

    states = [state_of(trial, tmp_path / "p") for trial in trials(config)]

    assert [state.state for state in states] == ["done", "failed", "left", "left", "left", "left"]
    assert states[2].next_id == f"{third.run_id}-2"
    assert states[3].next_id == states[3].trial.run_id
