"""Seeds that are set and logged."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import eventlog
from eventlog import Tracker
from eventlog.errors import BadValueError
from eventlog.replay import view
from tests.tracker.support import run_job, view_of

torch: Any = pytest.importorskip("torch", reason="tried where torch is installed")


def tracker_in(root: Path, *, resume: bool = False) -> Tracker:
    return Tracker((), output_dir=root, lineage=False, system=False, resume=resume)


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_the_same_seed_gives_the_same_numbers() -> None:
    """Of Python, NumPy and torch."""
    eventlog.seed_everything(42)
    first = drawn()
    eventlog.seed_everything(42)
    again = drawn()
    eventlog.seed_everything(43)
    other = drawn()

    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_active_run_has_the_seed(tmp_path: Path) -> None:
    """As a fact about the run, and as the param that groups of runs differ by."""
    with tracker_in(tmp_path) as tracker:
        tracker.start_run("r")
        assert eventlog.seed_everything(42) == 42

    seen = view_of(tmp_path)
    assert seen.params == {"seed": 42}
    assert seen.context["seeds"] == {
        "seed": 42,
        "python": True,
        "numpy": True,
        "torch": True,
        "deterministic": False,
        "python_hash_seed": os.environ.get("PYTHONHASHSEED"),
    }


def test_a_tracker_seeds_and_logs_into_its_run(tmp_path: Path) -> None:
    """The method does the same as the function; outside of a run it starts one."""
    with tracker_in(tmp_path) as tracker:
        tracker.seed_everything(7)
        first = drawn()
    eventlog.seed_everything(7)

    assert view_of(tmp_path).params == {"seed": 7}
    assert drawn() == first


def test_what_is_seeded_before_a_run_is_logged_in_the_next_one_only(tmp_path: Path) -> None:
    """A later run goes on with numbers that were drawn from already: the seed is not its own."""
    eventlog.seed_everything(1)
    eventlog.seed_everything(2)
    with tracker_in(tmp_path) as tracker:
        tracker.start_run("first")
        tracker.end_run()
        tracker.start_run("second")

    assert view(tmp_path / "default" / "first").params == {"seed": 2}
    assert view(tmp_path / "default" / "second").params == {}


def test_a_run_that_is_seeded_anew_has_the_newer_seed(tmp_path: Path) -> None:
    """A seed from before the run, or an earlier one, was not the user's last word."""
    eventlog.seed_everything(1)
    with tracker_in(tmp_path) as tracker:
        tracker.start_run("r")
        eventlog.seed_everything(2)

    assert view_of(tmp_path).params == {"seed": 2}


def test_a_seed_among_the_params_is_not_logged_over(tmp_path: Path) -> None:
    """Also not when the run goes on in another process."""
    with tracker_in(tmp_path) as tracker:
        tracker.start_run("r")
        tracker.log_params({"seed": 5, "lr": 0.1})
        tracker.seed_everything(6)
    with tracker_in(tmp_path, resume=True) as tracker:
        tracker.start_run(run_id="r")
        tracker.seed_everything(8)

    seen = view_of(tmp_path)
    assert seen.params == {"seed": 5, "lr": 0.1}
    assert seen.context["seeds"]["seed"] == 8


def test_the_innermost_run_has_the_seed(tmp_path: Path) -> None:
    """In a sweep each nested run is seeded by itself."""
    with tracker_in(tmp_path) as tracker:
        tracker.start_run("sweep")
        for seed in (1, 2):
            with tracker.start_run(f"seed-{seed}", nested=True):
                eventlog.seed_everything(seed)

    runs = tmp_path / "default"
    assert [view(runs / name).params for name in ("sweep", "seed-1", "seed-2")] == [
        {},
        {"seed": 1},
        {"seed": 2},
    ]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "42", True, None])
def test_what_is_no_seed_is_refused_before_anything_is_seeded(seed: object) -> None:
    """NumPy takes 32 bits; a silent other seed would be worse than none."""
    random.seed(3)
    state = random.getstate()

    with pytest.raises(BadValueError, match="whole number from 0 to 4294967295"):
        eventlog.seed_everything(seed)  # type: ignore[arg-type]

    assert random.getstate() == state


def test_a_seed_of_numpy_is_a_seed(tmp_path: Path) -> None:
    """It is logged as the number that it is."""
    with tracker_in(tmp_path) as tracker:
        tracker.start_run("r")
        assert type(tracker.seed_everything(np.int64(4))) is int  # type: ignore[arg-type]

    assert view_of(tmp_path).params == {"seed": 4}


@pytest.mark.parametrize(("argument", "seeded"), [("None", "False"), ("True", "True"), ("False", "False")])
def test_torch_is_not_imported_unless_asked(tmp_path: Path, argument: str, seeded: str) -> None:
    """It takes seconds, and most programs that use it have imported it by then."""
    _, out, _ = run_job(
        f"""
        import sys, eventlog
        from eventlog.lineage import seeds
        eventlog.seed_everything(1, torch={argument})
        print("torch" in sys.modules, seeds._pending["torch"])
        """,
        tmp_path,
    )

    assert out == f"{seeded} {seeded}\n"


def test_deterministic_algorithms_are_switched_on(tmp_path: Path) -> None:
    """Torch is told, and what cuBLAS needs for it is set."""
    _, out, _ = run_job(
        """
        import os, torch, eventlog
        eventlog.seed_everything(1, deterministic=True)
        print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
              torch.backends.cudnn.benchmark, os.environ["CUBLAS_WORKSPACE_CONFIG"])
        """,
        tmp_path,
    )

    assert out == "True True False :4096:8\n"


def test_a_disabled_tracker_seeds_without_logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a program logs must not change what it computes."""
    monkeypatch.setenv("EVLOG_DISABLED", "1")
    with Tracker((), output_dir=tmp_path) as tracker:
        tracker.seed_everything(9)
        first = drawn()
        tracker.seed_everything(9)

    assert drawn() == first
    assert list(tmp_path.iterdir()) == []
