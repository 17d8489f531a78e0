"""``evlog plot`` as people give it."""

from __future__ import annotations

import json
import math
import os
import pty
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest

from tests.analysis.support_statistics import log_run
from tests.cli.conftest import Evlog, real_evlog


@pytest.fixture(autouse=True)
def runs(root: Path) -> None:
    """Two groups of two seeds."""
    for name, offset in (("flip", 0.0), ("cut", 0.2)):
        for seed in range(2):
            points = [(i, {"train/loss": math.exp(-i / 20) + offset + seed / 20}) for i in range(60)]
            log_run(
                root, f"{name}-{seed}", params={"aug": name, "seed": seed}, points=points, experiment="aug"
            )


def on_a_terminal(*args: str, columns: int = 80, lines: int = 24, **env: str) -> str:
    """Return what a command prints on a terminal of this size."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [sys.executable, "-m", "eventlog", *args],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=kept | {"TERM": "xterm-256color"} | env,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:
        pass  # how a terminal ends when nobody has it open any more
    finally:
        os.close(ours)
        process.communicate(timeout=60)
    return shown.decode()


def test_plot_fills_the_terminal_in_colour(root: Path) -> None:
    """As wide as it is, with a line left for the prompt."""
    shown = on_a_terminal("plot", "flip-0", "cut-0", "-m", "loss", "--dir", str(root), columns=100, lines=30)

    lines = shown.rstrip("\r\n").split("\r\n")
    assert "\x1b[38;5;32m" in shown
    assert 26 <= len(lines) <= 29
    assert any(line.count("─") > 85 for line in lines)


def test_plot_has_no_colour_where_it_is_not_wanted(root: Path) -> None:
    """NO_COLOR on a terminal, and pipes: letters."""
    args = ("plot", "flip-0", "--metric", "train/loss", "--dir", str(root))

    piped = real_evlog(*args)

    assert "\x1b" not in on_a_terminal(*args, NO_COLOR="1")
    assert (piped.code, piped.err) == (0, "")
    assert "\x1b" not in piped.out
    assert "aa  last 0.05234  flip-0" in piped.out.replace("   ", " ").replace("   ", " ")


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.pdf"])
def test_plot_writes_files(evlog: Evlog, root: Path, tmp_path: Path, name: str) -> None:
    """A file instead of text."""
    done = evlog("plot", "flip-0", "-m", "loss", "-o", str(tmp_path / name), "--dir", str(root))

    assert (done.code, done.out, done.err) == (0, "", "")
    assert (tmp_path / name).stat().st_size > 5000


def test_plot_makes_bands_of_groups(evlog: Evlog, root: Path) -> None:
    """By a param, or a band for each argument: the same curves under their names."""
    by_param = evlog("plot", "experiment=aug", "-g", "aug", "--json", "--dir", str(root))
    by_argument = evlog("plot", "aug=cut", "flip-0,flip-1", "--bands", "--json", "--dir", str(root))

    first, second = (json.loads(done.out)["curves"] for done in (by_param, by_argument))
    assert [curve["label"] for curve in first] == ["aug=cut (n=2)", "aug=flip (n=2)"]
    assert [curve["label"] for curve in second] == ["aug=cut (n=2)", "flip-0,flip-1 (n=2)"]
    assert [curve["ys"] for curve in first] == [curve["ys"] for curve in second]
    assert first[0]["high"][0] == pytest.approx(1.225 + 0.05 / math.sqrt(2))


def test_plot_takes_runs_from_elsewhere(evlog: Evlog, root: Path, tmp_path: Path) -> None:
    """A directory of a run that is not below the root."""
    other = log_run(tmp_path / "else", "far", points=[(0, {"train/loss": 1.0}), (1, {"train/loss": 0.5})])

    done = evlog("plot", str(other), "flip-0", "-m", "train/loss", "--json", "--dir", str(root))

    assert [curve["label"] for curve in json.loads(done.out)["curves"]] == ["far", "flip-0"]


def test_plot_tells_what_is_missing(evlog: Evlog, root: Path) -> None:
    """Notes go to stderr, beside the plot."""
    log_run(root, "bad", points=[(0, {"train/loss": 1.0}), (1, {"train/loss": math.nan})])
    log_run(root, "none", points=[(0, {"acc": 1.0})])

    done = evlog("plot", "bad", "none", "-m", "train/loss", "--x", "relative", "--log-y", "--dir", str(root))

    assert done.code == 0
    assert "train/loss by seconds since the start, log" in done.out
    assert "no train/loss in none" in done.err
    assert "NaN or infinite values of train/loss are gaps: bad (1" in done.err


def test_plot_says_what_is_wrong(evlog: Evlog, root: Path) -> None:
    """One line: 1 for what is not there, 2 for a wrong command line."""
    cases = [
        (1, ("nobody", "-m", "loss")),
        (1, ("flip-0", "-m", "accuracy")),
        (1, ("aug=none", "-m", "loss")),
        (1, ("flip-0", "-m", "loss", "-o", "a.jpg")),
        (1, ("flip-0", "-m", "loss", "-o", "nowhere/a.png")),
        (1, ("flip-0", "-m", "loss", "-g", "nothing")),
        (1, ("flip-0", "-m", "loss", "--bands", "--x", "time")),
        (2, ("flip-0", "-m", "loss", "--smooth", "1.5")),
        (2, ("flip-0", "-m", "loss", "--x", "epoch")),
        (2, ("flip-0", "-m", "loss", "--bands", "-g", "aug")),
        (2, ()),
    ]

    for code, args in cases:
        done = evlog("plot", *args, "--dir", str(root))
        assert (args, done.code) == (args, code)
        assert done.out == ""
        assert code == 2 or done.err.count("\n") == 1
