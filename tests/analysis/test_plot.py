"""Plots as text and as files."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy
import pytest
from matplotlib.axes import Axes

from eventlog.analysis import plots as plot
from eventlog.analysis.plots.axes import COLOURS, Range, moment, spanned, tick_text, ticks, time_unit
from eventlog.analysis.plots.curves import Curve, Curves
from eventlog.analysis.plots.text import pieces
from eventlog.analysis.statistics.vectors import StatisticsError
from eventlog.query.answer import MissingExtraError

NAN = math.nan
SVG = "{http://www.w3.org/2000/svg}"


def curve(ys: list[float], *, label: str = "a", key: str = "loss", band: float | None = None) -> Curve:
    """Return a curve over consecutive steps."""
    return Curve(
        label=label,
        key=key,
        xs=[float(i) for i in range(len(ys))],
        ys=ys,
        low=None if band is None else [y - band for y in ys],
        high=None if band is None else [y + band for y in ys],
    )


def several(*found: Curve, x: str = "step", smooth: float = 0.0) -> Curves:
    """Return them as one plot."""
    return Curves(
        x=x, smooth=smooth, keys=list(dict.fromkeys(c.key for c in found)), curves=[*found], notes=[]
    )


def named(axes: Axes) -> list[str]:
    """Return the names in the legend."""
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


FALLING = [2.0 * math.exp(-i / 20) + 0.1 for i in range(60)]


# --- text ------------------------------------------------------------------------------------------


def test_text_fits_the_width_and_height(tmp_path: Path) -> None:
    """Whatever the terminal: no line is longer, and all lines are there."""
    found = several(curve(FALLING), curve(FALLING[::-1], label="b"))

    for width, height in ((40, 12), (80, 24), (200, 50)):
        lines = plot.terminal(found, width=width, height=height).split("\n")
        assert max(map(len, lines)) <= width
        assert len(lines) == height
        assert lines[0] == "loss by step"


def test_text_is_plain_unless_colour_is_wanted() -> None:
    """Without colour each curve has a letter; with it braille dots, and the legend shows the colour."""
    found = several(curve(FALLING), curve(FALLING[::-1], label="b"))

    plain, coloured = plot.terminal(found), plot.terminal(found, has_colour=True)

    assert "\x1b" not in plain
    assert {"a", "b"} <= set(re.sub(r"[^ab]", "", plain.split("└")[0]))
    assert "\x1b[38;5;32m" in coloured
    assert any("\u2800" < c <= "\u28ff" for c in coloured)


def test_text_shows_where_the_curve_goes() -> None:
    """A falling curve is high at the left and low at the right."""
    rows = [line.split("│")[1] for line in plot.terminal(several(curve(FALLING))).split("\n") if "│" in line]
    marked = [row.find("a") for row in rows if "a" in row]

    assert marked == sorted(marked)
    assert marked[0] < 5
    assert marked[-1] > 40


def test_text_has_a_panel_for_each_metric() -> None:
    """One below the other, each with its own axis."""
    shown = plot.terminal(several(curve(FALLING), curve([0.5, 0.9], key="acc"), smooth=0.9))

    assert "loss by step, smoothed 0.9" in shown
    assert "acc by step, smoothed 0.9" in shown


@pytest.mark.parametrize(
    "ys",
    [[], [NAN, NAN], [1.0], [NAN, 1.0, NAN], [0.0, 0.0], [1.7e308, -1.7e308], [1e-300, 2e-300], [-5.0] * 3],
)
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("has_colour", [False, True])
def test_text_copes_with_odd_values(ys: list[float], log_y: bool, has_colour: bool) -> None:
    """No points, gaps alone, one point, no spread, the largest and smallest numbers."""
    shown = plot.terminal(several(curve(ys)), log_y=log_y, has_colour=has_colour)

    drawable = [y for y in ys if y == y and (y > 0 or not log_y)]
    assert ("no finite values" in shown) == (not drawable)


def test_text_names_few_of_many_curves() -> None:
    """Hundreds of runs do not push the plot off the screen."""
    found = several(*(curve(FALLING, label=f"run-{i}") for i in range(300)))

    lines = plot.terminal(found, height=24).split("\n")

    assert len(lines) == 24
    assert lines[-1].strip() == "and 292 more"


def test_text_makes_names_harmless() -> None:
    """What a log says moves no cursor."""
    shown = plot.terminal(several(curve([1.0, 2.0], label="x\x1b[2J\ny\u202e")))

    assert "\x1b" not in shown
    assert r"x\x1b[2J\ny\u202e" in shown


def test_text_shows_bands() -> None:
    """Dots at the edges, and mean ± std in the legend."""
    shown = plot.terminal(several(curve([1.0] * 50, label="g (n=3)", band=0.5)))

    assert shown.count(".") > 20
    assert "± 0.5" in shown


def test_text_is_drawn_by_several_threads() -> None:
    """The library has one figure; the pictures do not mix."""
    found = [several(curve(FALLING[i:], label=f"r{i}")) for i in range(8)]
    wanted, drawn = [plot.terminal(one) for one in found], [""] * 8

    def work(i: int) -> None:
        drawn[i] = plot.terminal(found[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert drawn == wanted


# --- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("A.PDF", b"%PDF")])
def test_file_is_what_its_name_says_and_always_the_same(tmp_path: Path, name: str, begins: bytes) -> None:
    """PNG, SVG, PDF: twice the same bytes, and nothing else is left beside it."""
    found = several(curve(FALLING, band=0.1), curve([0.5, NAN, 0.7], key="acc"))

    first = plot.save(found, tmp_path / name).read_bytes()
    second = plot.save(found, tmp_path / name).read_bytes()

    assert first.startswith(begins)
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_svg_does_not_depend_on_process_or_date(tmp_path: Path) -> None:
    """Another process, with other hashes, writes the same bytes, so that it can be compared."""
    code = (
        "from tests.analysis.test_plot import *\n"
        "import sys; plot.save(several(curve(FALLING, band=0.1)), sys.argv[1])"
    )
    texts = []
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}.svg"
        subprocess.run(
            [sys.executable, "-c", code, str(target)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "MPLBACKEND": "TkAgg"},
            cwd=Path(__file__).parents[2],
        )
        texts.append(target.read_text())

    assert texts[0] == texts[1]
    assert "<dc:date>" not in texts[0]
    assert ElementTree.fromstring(texts[0]).tag == f"{SVG}svg"


def test_figure_draws_gaps_bands_and_lone_points() -> None:
    """A gap breaks the line, a point between gaps is marked, a band is an area."""
    axes = plot.figure(several(curve([1.0, NAN, 3.0, NAN, 5.0, 6.0], band=0.5))).axes[0]

    line, dots = axes.lines
    assert numpy.isfinite(numpy.asarray(line.get_ydata())).tolist() == [True, False, True, False, True, True]
    assert numpy.asarray(dots.get_ydata()).tolist() == [1.0, 3.0]
    assert len(axes.collections) == 1


def test_figure_has_a_panel_for_each_metric() -> None:
    """Titles are the names of the metrics; empty places are hidden."""
    figure = plot.figure(several(*(curve(FALLING, key=key) for key in ("a", "b", "c"))))

    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()] == ["a", "b", "c"]


def test_figure_names_few_of_many_curves() -> None:
    """The legend is bounded; colours and line styles tell 28 curves apart."""
    axes = plot.figure(several(*(curve(FALLING, label=f"run-{i}") for i in range(40)))).axes[0]

    assert named(axes) == [*(f"run-{i}" for i in range(12)), "and 28 more"]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 4 * len(COLOURS)


def test_figure_takes_names_as_they_are(tmp_path: Path) -> None:
    """No formulas, and no name is left out; a name that the font lacks is no error."""
    labels = ["_hidden", "$x^{$", "a\x1bb", "訓練"]
    found = several(*(curve(FALLING, label=label, key="$k_{") for label in labels))

    axes = plot.figure(found, title="$t").axes[0]
    plot.save(found, tmp_path / "a.png", title="$t")

    assert named(axes) == [
        "_hidden",
        "$x^{$",
        r"a\x1bb",
        "訓練",
    ]


@pytest.mark.parametrize("ys", [[], [NAN, NAN], [1.0], [-1.0, 0.0], [1.7e308, -1.7e308]])
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("x", ["step", "time", "relative"])
def test_file_copes_with_odd_values(tmp_path: Path, ys: list[float], log_y: bool, x: str) -> None:
    """No points, gaps alone, one point, nothing that a logarithm takes."""
    path = plot.save(several(curve(ys, band=0.5), x=x), tmp_path / "a.svg", log_y=log_y)

    assert ElementTree.fromstring(path.read_text()).tag == f"{SVG}svg"


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """The message names the kinds that there are; nothing is written."""
    with pytest.raises(StatisticsError, match=r"\.svg"):
        plot.save(several(curve(FALLING)), tmp_path / "a.jpg")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("draw", [plot.terminal, plot.figure])
def test_plots_say_how_to_install_what_is_missing(
    draw: Callable[[Curves], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra there is one clear message."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(MissingExtraError, match=r"pip install 'evlog\[plot\]'"):
        draw(several(curve(FALLING)))


# --- axes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "most", "wanted"),
    [
        (Range(0, 99), 6, [0, 20, 40, 60, 80]),
        (Range(0.08, 2.1), 5, [0.5, 1.0, 1.5, 2.0]),
        (Range(-3, 3), 4, [-2, 0, 2]),
        (Range(1e9, 1e9 + 10), 3, [1e9, 1e9 + 5, 1e9 + 10]),
        (Range(0, 5e-324), 4, [0]),
        (Range(1.0, 1.0), 4, [1.0]),
    ],
)
def test_ticks_are_round_numbers(shown: Range, most: int, wanted: list[float]) -> None:
    """Multiples of 1, 2 or 5 times a power of ten, within the range, no more than asked for."""
    assert ticks(shown, most) == pytest.approx(wanted)


def test_tick_texts_are_as_short_as_they_may_be() -> None:
    """Neighbours differ, nothing more is shown."""
    assert [tick_text(v, 0.05) for v in (0.0, 0.05, 0.1)] == ["0", "0.05", "0.10"]
    assert [tick_text(v, 50.0) for v in (0.0, 50.0, 100.0)] == ["0", "50", "100"]
    assert tick_text(2e-7, 1e-7) == "2e-07"


def test_range_is_never_empty() -> None:
    """A single value, or none that is finite, still has an axis."""
    assert spanned([]) == spanned([NAN, math.inf]) == Range(0, 1)
    assert spanned([2.0, 2.0]) == Range(1, 3)
    assert spanned([0.0]) == Range(-0.5, 0.5)


def test_times_have_the_unit_that_suits_them() -> None:
    """Two minutes are minutes, two days are days; the clock is UTC."""
    assert time_unit([curve([0.0] * 100)])[1] == "seconds"
    assert time_unit([Curve(label="", key="", xs=[0, 7300], ys=[1, 1])])[1] == "hours"
    assert moment(1_763_700_000, 60) == "04:40:00"
    assert moment(1_763_700_000, 1e6) == "2025-11-21"


def test_pieces_lie_between_gaps() -> None:
    """Each is a stretch of finite values."""
    assert list(pieces([0, 1, 2, 3], [1.0, NAN, 2.0, 3.0])) == [([0], [1.0]), ([2, 3], [2.0, 3.0])]
