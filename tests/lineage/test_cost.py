"""What runs cost: hours of devices, energy, and the prices of ``evlog.toml``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from eventlog import connect
from eventlog.configuration import ConfigurationError
from eventlog.devices import device_hours
from eventlog.events import Context, Event, Metrics, RunEnded, RunResumed, RunStarted, System
from tests.logs import START_TS, WRITER_A, WRITER_B, LogMaker, put

HOUR = 3_600_000_000
A100 = {"name": "NVIDIA A100-SXM4-80GB"}
WRITER_C = "r0-01KAHCZG000000000000000C00"


def hardware(host: str, gpus: list[dict[str, str]], kind: str = "hardware", *, ts: int = START_TS) -> Context:
    return Context(ts=ts, kind=kind, data={"host": host, "gpus": gpus})


def write(run: Path, events: list[Event], writer: str = WRITER_A, *, is_sealed: bool = True) -> None:
    """Write the whole log of one writer."""
    maker = LogMaker(writer, start_ts=START_TS)
    put(run, 1, b"".join(maker.segment(events, is_sealed=is_sealed)), writer=writer)


def started(ts: int = START_TS) -> RunStarted:
    return RunStarted(ts=ts, name="r")


def ended(hours: float) -> RunEnded:
    return RunEnded(ts=START_TS + int(hours * HOUR), status="finished")


def prices(root: Path, text: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "evlog.toml").write_text(text)


def ask(root: Path, columns: str = "device_hours, cost", **options: Any) -> list[tuple[Any, ...]]:
    with connect(root, **options) as runs:
        return [tuple(row) for row in runs.sql(f"SELECT {columns} FROM runs ORDER BY run_id").fetchall()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root with a run of two hours on four GPUs, and one of half an hour without."""
    write(tmp_path / "p" / "on-gpus", [started(), hardware("a", [A100] * 4), ended(2)])
    write(tmp_path / "p" / "without", [started(), hardware("b", []), ended(0.5)])
    return tmp_path


def test_the_cost_is_hours_times_prices(root: Path) -> None:
    """A machine with GPUs counts as its GPUs, one without as itself."""
    prices(root, '[prices]\ncurrency = "EUR"\nhost = 0.4\n[prices.devices]\n"NVIDIA A100*" = 2.1\n')

    assert ask(root, "device_hours, cost, currency") == [(8.0, pytest.approx(16.8), "EUR"), (0.5, 0.2, "EUR")]
    assert ask(root, "devices") == [({"NVIDIA A100-SXM4-80GB": 8.0},), ({"host": 0.5},)]


def test_a_changed_price_changes_the_next_answer(root: Path) -> None:
    """Prices are settings, not facts: nothing of them is kept."""
    before = ask(root, "cost")
    prices(root, "[prices]\nhost = 1.0\ndevices = {'nvidia*' = 1.0}\n")
    dear = ask(root, "cost")
    prices(root, "[prices]\nhost = 2.0\ndevices = {'nvidia*' = 2.0}\n")

    assert (before, dear, ask(root, "cost")) == ([(None,)] * 2, [(8.0,), (0.5,)], [(16.0,), (1.0,)])


@pytest.mark.parametrize(
    ("table", "cost"),
    [
        ("host = 1.0", None),
        ("devices = {'NVIDIA A100*' = 2.0, '*' = 1.0}", 16.0),
        ("devices = {'*' = 1.0, 'NVIDIA A100*' = 2.0}", 8.0),
        ("devices = {'nvidia a100-sxm4-80gb' = 3.0}", 24.0),
        ("devices = {'*H100*' = 3.0}", None),
        ("devices = {\"it's*\" = 3.0, '*' = 0.0}", 0.0),
        ("devices = {}", None),
    ],
)
def test_the_first_price_that_fits_counts(root: Path, table: str, cost: float | None) -> None:
    """Case does not matter; without a price the cost is not known, rather than too low."""
    prices(root, f"[prices]\n{table}\n")

    assert ask(root, "cost")[0] == (cost,)


def test_a_run_on_two_kinds_of_devices_needs_both_prices(tmp_path: Path) -> None:
    """Half of a sum would look like a whole one."""
    gpus = [A100, {"name": "NVIDIA T4"}]
    write(tmp_path / "p" / "r", [started(), hardware("a", gpus), ended(1)])
    prices(tmp_path, "[prices]\ndevices = {'*A100*' = 2.0}\n")
    half = ask(tmp_path, "cost")
    prices(tmp_path, "[prices]\ndevices = {'*A100*' = 2.0, '*T4' = 0.5}\n")

    assert (half, ask(tmp_path, "cost")) == ([(None,)], [(2.5,)])


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("'NVIDIA A100' = 2.0", "NVIDIA A100"),
        ("host = -1.0", "host"),
        ("host = inf", "host"),
        ("devices = 3", "devices"),
        ("host =", "evlog.toml"),
    ],
)
def test_prices_that_are_none_are_named(root: Path, table: str, reason: str) -> None:
    """A slip must not make runs cheap."""
    prices(root, f"[prices]\n{table}\n")

    with pytest.raises(ConfigurationError, match=reason):
        ask(root)


def test_a_run_that_crashed_costs_what_it_used(tmp_path: Path) -> None:
    """It counts to its last event, as does one that goes on."""
    prices(tmp_path, "[prices]\nhost = 1.0\n")
    events = [started(), hardware("a", []), Metrics(ts=START_TS + 3 * HOUR, step=1, data={"loss": 1.0})]
    write(tmp_path / "p" / "r", events, is_sealed=False)

    assert ask(tmp_path, "status, device_hours, cost") == [("crashed", 3.0, 3.0)]


def test_hosts_count_once_each_and_ranks_of_a_host_together(tmp_path: Path) -> None:
    """Two writers on one host share its devices; another host adds its own."""
    run, late = tmp_path / "p" / "r", START_TS + HOUR
    write(run, [started(), hardware("a", [A100] * 2), ended(2)])
    write(run, [RunResumed(ts=START_TS, reason="joined"), hardware("a", [A100] * 2), ended(1.5)], WRITER_C)
    other = [RunResumed(ts=late, reason="joined"), hardware("b", [A100], "hardware/b", ts=late), ended(2)]
    write(run, other, WRITER_B)

    assert ask(tmp_path, "device_hours") == [(5.0,)]


def test_a_break_between_two_processes_is_free(tmp_path: Path) -> None:
    """A run that was resumed after a week does not pay for it; unchanged hardware is not logged anew."""
    run, late = tmp_path / "p" / "r", START_TS + 168 * HOUR
    write(
        run,
        [started(), hardware("a", [A100]), Metrics(ts=START_TS + HOUR, step=1, data={"x": 1})],
        is_sealed=False,
    )
    write(run, [RunResumed(ts=late), RunEnded(ts=late + 2 * HOUR, status="finished")], WRITER_C)

    assert ask(tmp_path, "device_hours, duration_s / 3600") == [(3.0, 170.0)]


def test_only_visible_gpus_are_paid(tmp_path: Path) -> None:
    """A job that was given two of eight GPUs holds two."""
    variables = Context(ts=START_TS, kind="environment", data={"variables": {"CUDA_VISIBLE_DEVICES": "2,3"}})
    write(tmp_path / "p" / "r", [started(), hardware("a", [A100] * 8), variables, ended(1)])
    hidden = Context(ts=START_TS, kind="environment", data={"variables": {"CUDA_VISIBLE_DEVICES": ""}})
    write(tmp_path / "p" / "s", [started(), hardware("a", [A100] * 8), hidden, ended(1)])

    assert ask(tmp_path, "devices") == [({"NVIDIA A100-SXM4-80GB": 2.0},), ({"host": 1.0},)]


def test_a_run_whose_hardware_is_not_known_has_no_cost(tmp_path: Path) -> None:
    """Older runs say nothing of it."""
    prices(tmp_path, "[prices]\nhost = 1.0\n")
    write(tmp_path / "p" / "r", [started(), Context(ts=START_TS, kind="command"), ended(1)])

    assert ask(tmp_path, "devices, device_hours, energy_kwh, cost, currency") == [(None,) * 5]


@pytest.mark.parametrize(
    "data",
    [{}, {"gpus": 3}, {"gpus": ["x", None]}, {"gpus": [{"name": 5}]}, {"gpus": {"a": 1}, "host": None}],
)
def test_rubbish_for_hardware_is_no_error(data: dict[str, object]) -> None:
    """Logs come from anybody."""
    events = [(WRITER_A, 0, Context(kind="hardware", data=data))]

    assert sum(device_hours(events, {WRITER_A: (0, HOUR)}).values()) == 1.0


def test_energy_is_the_last_value_of_each_writer(tmp_path: Path) -> None:
    """The values of a writer are its sum so far; those of several are added."""
    run = tmp_path / "p" / "r"
    values = [System(ts=START_TS + i, data={"energy_kwh": 0.5 * i}) for i in range(4)]
    write(run, [started(), *values, System(ts=START_TS + 9, data={"cpu/percent": 1.0}), ended(1)])
    write(run, [RunResumed(ts=START_TS), System(ts=START_TS + 5, data={"energy_kwh": 2.0})], WRITER_C)

    assert ask(tmp_path, "energy_kwh") == [(3.5,)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", -1.0, "much", None, True, [1]])
def test_energy_that_is_none_does_not_count(tmp_path: Path, value: object) -> None:
    """What no sampler writes is passed over."""
    good = System(ts=START_TS + 1, data={"energy_kwh": 1.0})
    odd = System(ts=START_TS + 2, data={"energy_kwh": value})  # type: ignore[dict-item]
    write(tmp_path / "p" / "r", [started(), good, odd, ended(1)])

    assert ask(tmp_path, "energy_kwh") == [(1.0,)]


def test_a_run_that_goes_on_is_reckoned_anew(tmp_path: Path) -> None:
    """What the cache holds of a run is joined with what is new, however often it is asked."""
    run, maker = tmp_path / "p" / "r", LogMaker(WRITER_A, start_ts=START_TS)
    prices(tmp_path, "[prices]\nhost = 1.0\n")
    first = [started(), hardware("a", []), System(ts=START_TS + HOUR, data={"energy_kwh": 1.0})]
    put(run, 1, b"".join(maker.segment(first)))
    seen = [ask(tmp_path, "device_hours, energy_kwh, cost")]
    put(run, 2, b"".join(maker.segment([Metrics(ts=START_TS + 2 * HOUR, step=1, data={"x": 1.0})])))
    seen.append(ask(tmp_path, "device_hours, energy_kwh, cost"))
    put(run, 3, b"".join(maker.segment([System(ts=START_TS + 3 * HOUR, data={"energy_kwh": 3.0}), ended(4)])))
    seen.append(ask(tmp_path, "device_hours, energy_kwh, cost"))

    assert seen == [[(1.0, 1.0, 1.0)], [(2.0, 1.0, 2.0)], [(4.0, 3.0, 4.0)]]


def test_the_past_has_the_cost_that_it_had(tmp_path: Path) -> None:
    """Hours and energy are those up to the moment; prices are today's."""
    prices(tmp_path, "[prices]\nhost = 1.0\n")
    values = [System(ts=START_TS + i * HOUR, data={"energy_kwh": float(i)}) for i in range(1, 5)]
    write(tmp_path / "p" / "r", [started(), hardware("a", []), *values, ended(5)])
    moment = "2025-11-21T06:50:00"

    (hours, energy, cost) = ask(tmp_path, "device_hours, energy_kwh, cost", as_of=moment)[0]

    assert (hours, energy, cost) == (2.0, 2.0, 2.0)


def test_a_sandbox_knows_the_prices(root: Path) -> None:
    """Strangers' questions see the same cost, though not the file."""
    prices(root, '[prices]\ncurrency = "US$"\nhost = 0.4\ndevices = {"NVIDIA*" = 2.0}\n')

    assert ask(root, "cost, currency", sandbox=True) == [(16.0, "US$"), (0.2, "US$")]


def test_the_page_on_cost_says_what_is_so(root: Path) -> None:
    """Its table of prices is taken, and its question answered."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "cost.md").read_text()
    toml, sql = (re.search(f"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("toml", "sql"))
    assert toml is not None
    assert sql is not None
    prices(root, toml[1])

    with connect(root) as runs:
        (row,) = runs.sql(sql[1]).fetchall()

    assert tuple(row) == (None, 8.5, None, pytest.approx(17.0), "EUR")
