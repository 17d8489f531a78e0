"""The judges of the campaign: what is lost, doubled, out of order or made up is seen by each of them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from eventlog.events import Event, Metrics, Note, Params, RunEnded, RunStarted
from eventlog.sink import Batch
from eventlog.storage.merge import RunReader
from tests.crash.campaign import look
from tests.crash.lives import ON_DISK, RETURNED, Notes, Plan, kind_of, plan
from tests.logs import LogMaker, put
from tests.torture import crowds, full_disks, power_cuts, scripted, writeback

CALLS, ON_THE_DISK = 20, 10
"""So many calls had returned, and so many of them promised the disk."""
HOW: Plan = plan(random.Random(1))._replace(threads=1)


def event(number: int, loss: float | None = None) -> Event:
    """Return what the call *number* of a writer logs."""
    kind = kind_of(number)
    if kind == "metrics":
        return Metrics(step=number, data={"t": 0, "loss": number + 0.5 if loss is None else loss})
    return Params(data={"t": 0, "n": number}) if kind == "params" else Note(text=f"0 {number}")


def make(run: Path, events: Iterable[Event]) -> Notes:
    """Write a log of *events*, and what its writer noted of its calls."""
    put(run, 1, b"".join(LogMaker().segment([RunStarted(name="x"), *events], is_sealed=False)))
    notes = Notes(1)
    for number in range(CALLS):
        notes.marks[number] = ON_DISK if number < ON_THE_DISK else RETURNED
    return notes


WHOLE = list(range(CALLS))
LOGS: dict[str, tuple[list[Event], int, int]] = {
    "whole": ([event(n) for n in WHOLE], 0, 0),
    "one call more than was noted": ([event(n) for n in [*WHOLE, CALLS]], 0, 0),
    "one missing": ([event(n) for n in WHOLE if n != 4], 1, 0),
    "one missing that promised nothing": ([event(n) for n in WHOLE if n != 14], 0, 0),
    "one twice": ([event(n) for n in [*WHOLE[:8], 7, *WHOLE[8:]]], 0, 1),
    "two swapped": ([event(n) for n in [*WHOLE[:3], 4, 3, *WHOLE[5:]]], 1, 1),
    "never logged": ([event(n) for n in [*WHOLE, CALLS + 1]], 0, 1),
    "another value": ([event(n, 9.5 if n == 2 else None) for n in WHOLE], 1, 1),
}
"""A log, and how many calls that promised the disk are not in it, and how many events are made up."""


@pytest.mark.parametrize("name", LOGS)
def test_judge_of_kills_sees(name: str, tmp_path: Path) -> None:
    """Every call that had returned counts."""
    events, lost, invented = LOGS[name]
    notes = make(tmp_path / "p" / "r", events)

    found = look(tmp_path / "p" / "r", HOW, notes, "now")

    is_late = name == "one missing that promised nothing"
    assert len(found.compared.missing(notes, RETURNED)) == lost + is_late
    assert len(found.compared.invented) == len(found.problems) == invented


@pytest.mark.parametrize("name", LOGS)
def test_judges_of_power_cuts_and_writeback_see(name: str, tmp_path: Path) -> None:
    """What had promised the disk counts, however the writer ended: neither judge is told."""
    events, lost, invented = LOGS[name]
    run, tally = tmp_path / "p" / "r", power_cuts.Tally()
    notes = make(run, events)
    notes.freeze()

    one = power_cuts.Writing(run, HOW, notes, pid=0)
    problems = power_cuts._examine(one, None, time.monotonic_ns(), tally)
    told = writeback._examine(run, HOW, notes)

    # Each reads twice, before and after a recovery.
    assert (tally.lost, tally.invented) == (told.lost, told.invented) == (lost, 2 * invented)
    assert bool(problems) is bool(told.problems) is bool(lost or invented)


def test_judge_of_power_cuts_sees_bytes_that_a_sync_had_reached(tmp_path: Path) -> None:
    """Also those of frames, which are no events; and what was noted after the cut does not count."""
    run, tally = tmp_path / "p" / "r", power_cuts.Tally()
    notes = make(run, [event(n) for n in WHOLE])
    (segment,) = (run / "log").iterdir()
    notes.synced_bytes[1] = segment.stat().st_size + 1
    one = power_cuts.Writing(run, HOW, notes, pid=0)

    notes.freeze()
    notes.synced_bytes[2] = 100

    problems = power_cuts._examine(one, None, time.monotonic_ns(), tally)
    assert [problem.partition(":")[0] for problem in problems] == ["lost, synced bytes of segment 1"]


@pytest.mark.parametrize("is_told", [False, True])
def test_judge_of_full_disks_sees_what_nobody_was_told_of(is_told: bool, tmp_path: Path) -> None:
    """A lost event is counted in the log or told of; a made up one is neither."""
    root, source = tmp_path / "root", tmp_path / "source.txt"
    source.write_text("content\n")
    scripted.train(root, source)
    case = scripted.Case(script="train", root=str(root), source=str(source), limit_bytes=1)
    said = "3 events could not be written" if is_told else ""
    outcome = scripted.Outcome(exit_code=0, seconds=0.0, said=said)
    whole, cut, made_up = (full_disks.Tally() for _ in range(3))

    full_disks._check_run(case, outcome, whole)
    (run,) = (path.parent for path in root.glob("*/*/log"))
    first, *_ = sorted((run / "log").iterdir())
    lines = first.read_bytes().splitlines(keepends=True)
    first.chmod(0o644)
    first.write_bytes(b"".join(lines[:5] + lines[6:]))
    full_disks._check_run(case, outcome, cut)
    put(run, 1, b"".join(LogMaker().segment([Metrics(step=7, data={"loss": 1.0})])))
    full_disks._check_run(case, outcome, made_up)

    assert whole.problems == []
    assert bool(cut.lost) is bool(cut.problems) is not is_told
    assert made_up.invented > 0


def test_judge_of_crowds_sees_what_is_missing_and_what_came_twice(tmp_path: Path) -> None:
    """Each event of each run comes once."""
    put(
        tmp_path / "p" / "r",
        1,
        b"".join(LogMaker().segment([event(1), event(2), RunEnded(status="finished")])),
    )
    batch = Batch(list(RunReader(tmp_path / "p" / "r").slices()))
    found = {}
    for times in range(3):
        to = crowds.Destination()
        for _ in range(times):
            to.take("r", batch)
        found[times] = crowds._compare(to, {"r": 3}, [])[:2]

    assert found == {0: (3, 0), 1: (0, 0), 2: (0, 3)}
    assert crowds._compare(to, {"r": 2}, [])[2]
    assert Counter(to.seqs("r").values()) == {2: 3}


def test_judge_of_crowds_tells_events_by_when_they_were_logged(tmp_path: Path) -> None:
    """What was logged before the finished runs were taken in, and came after them, waited for them."""
    now = round(time.time() * 1e6)

    def batch(name: str, logged_at: int) -> Batch:
        put(tmp_path / name, 1, b"".join(LogMaker(start_ts=logged_at).segment([event(1)])))
        return Batch(list(RunReader(tmp_path / name).slices()))

    to = crowds.Destination(backlog=1)
    to.take("finished", batch("finished", now - 90_000_000))
    to.take("live-early", batch("live-early", now - 60_000_000))
    to.take("live-late", batch("live-late", round(time.time() * 1e6)))

    assert 59_000 < to.quantile_ms(0.5, afterwards=False) < 90_000
    assert to.quantile_ms(0.5, afterwards=True) < 30_000


def test_judge_of_full_disks_hears_a_process_that_may_write_no_file(tmp_path: Path) -> None:
    """What it says of lost events must not be lost with them."""
    case = scripted.Case(
        script="train", root=str(tmp_path / "root"), source=str(tmp_path / "gone"), limit_bytes=0
    )

    with scripted.Player() as player:
        outcome = player.play(case)

    assert outcome.exit_code == 0
    assert outcome.said.count("EvlogWarning") > 1
