"""Ledgers: old or new, never half, and never silently forgotten."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from eventlog.delivery.ledger import (
    Ledger,
    Plan,
    generation_after,
    iter_ledgers,
    ledger_path,
    load_ledger,
    save_ledger,
)
from eventlog.delivery.shaping import Counts, Shape
from eventlog.errors import CheckpointError
from eventlog.events import RunEnded
from eventlog.projections import RunLife
from eventlog.sink import RunStatus
from eventlog.storage.cursor import Cursor
from tests.delivery.fakes import FakeClock, KeyedSink, Store, deliver, finished, put_log
from tests.faults import Killed, KilledAfter, WatchedSystem, failing, killed_at
from tests.logs import WRITER_A, WRITER_B


def cursor(seq: int, segment: int = 1) -> Cursor:
    """Return a cursor before event *seq*."""
    return Cursor(segment=segment, offset=seq * 100, seq=seq, crc="0000abcd")


OLD = Ledger(sink="x", cursors={WRITER_A: cursor(1)}, state={"rows": 1})
NEW = Ledger(
    sink="x",
    destination="https://y",
    shape=Shape(include=("a",), rename={"a": "b"}, every=2, max_points=5, redact=("s",)),
    generation=2,
    cursors={WRITER_A: cursor(9), WRITER_B: cursor(3)},
    state={"rows": 12, "names": ["a", None, {"b": 0.5}]},
    counts=Counts(seen={WRITER_A: {"a": 1}}, totals={WRITER_A: {"a": 3}}),
    life=RunLife(started_at=1, owner=(1, WRITER_A), ended={WRITER_A: RunEnded(status="failed")}, last_ts=4),
    is_begun=True,
    plan=Plan(parts=[(WRITER_A, 12), (WRITER_B, 4)], letters=[(WRITER_A, 2)]),
    retried=[(WRITER_B, 1)],
    events=12,
    last_ts=4,
    delivered_at=5,
    closed=RunStatus(status="failed", ended_at=4, exit_code=1),
    sizes={"a.jsonl": 100},
    last_error="no",
    failed_at=6,
    dead_letters=1,
)


@pytest.mark.parametrize("ledger", [OLD, NEW])
def test_ledger_is_loaded_as_it_was_saved(tmp_path: Path, ledger: Ledger) -> None:
    """Saving and loading changes nothing, and makes the directory."""
    save_ledger(tmp_path / "x" / "local.json", ledger)

    assert load_ledger(tmp_path / "x" / "local.json") == ledger


def test_ledger_that_is_not_there_is_none(tmp_path: Path) -> None:
    """Nothing was delivered yet."""
    assert load_ledger(tmp_path / "local.json") is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"sink":"x","cursors":{"a":{}}}', b"\0" * 50])
def test_ledger_that_cannot_be_read_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    """A broken ledger is an error with the way out, never a silent new beginning."""
    (tmp_path / "local.json").write_bytes(data)

    with pytest.raises(CheckpointError, match="--restart"):
        load_ledger(tmp_path / "local.json")


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("kind", [lambda n: WatchedSystem(killed_at(n)), KilledAfter])
def test_ledger_is_old_or_new_when_the_process_is_killed(
    tmp_path: Path, number: int, kind: type[KilledAfter]
) -> None:
    """Whichever call was the last, before it or in the middle of it, the file is whole."""
    path = tmp_path / "local.json"
    save_ledger(path, OLD)

    with pytest.raises(Killed):
        save_ledger(path, NEW, kind(number))

    assert load_ledger(path) in (OLD, NEW)


@pytest.mark.parametrize("name", ["create", "write", "sync", "close", "rename"])
def test_ledger_that_cannot_be_saved_leaves_the_old_one(tmp_path: Path, name: str) -> None:
    """An error leaves the old content and no other file."""
    path = tmp_path / "local.json"
    save_ledger(path, OLD)

    with pytest.raises(OSError, match="No space"):
        save_ledger(path, NEW, WatchedSystem(failing(name, 1, errno.ENOSPC)))

    assert load_ledger(path) == OLD
    assert [found.name for found in tmp_path.iterdir()] == ["local.json"]


def test_ledgers_of_a_run_are_found(tmp_path: Path) -> None:
    """One for each destination; leases, letters and leftovers are none."""
    wanted = [ledger_path(tmp_path, "a", ""), ledger_path(tmp_path, "a", "x"), ledger_path(tmp_path, "b", "")]
    for path in wanted:
        save_ledger(path, OLD)
    for name in ("a.lock.1", "a.dead.jsonl", ".a.json.1.abc.tmp"):
        (wanted[0].parent / name).write_bytes(b"")

    assert sorted(iter_ledgers(tmp_path)) == sorted(wanted)
    assert [path.name for path in wanted] == ["a.json", "a-2d711642.json", "b.json"]
    assert list(iter_ledgers(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    ("data", "generation"),
    [
        (b'{"sink":"x","generation":41,"cursors":{"a":{}}}', 42),
        (b'{"sink":"x","generation":4}\0\0', 5),
        (b'{"sink":"x","cursors":{"a":{}}}', 1),
        (b'{"sink":"x","gener', 1000),
        (b"", 1000),
        (b"\0" * 50, 1000),
    ],
)
def test_generation_after_a_broken_ledger_was_never_used(
    tmp_path: Path, data: bytes, generation: int
) -> None:
    """What the file still tells, plus one; if it tells nothing, the time."""
    path = tmp_path / "x.json"
    path.write_bytes(data)

    assert generation_after(path, FakeClock()) == generation


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"sink":"fake","generation":7,"cursors":{"a":{}}}', b"\0" * 50]
)
def test_restart_repairs_a_broken_ledger(tmp_path: Path, data: bytes) -> None:
    """Without it the error comes; with it everything is delivered, as a generation that was not there."""
    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    deliver(run, KeyedSink(store))
    ledger_path(run, "fake", "d").write_bytes(data)

    with pytest.raises(CheckpointError, match="--restart"):
        deliver(run, KeyedSink(Store()))
    again = Store()
    done = deliver(run, KeyedSink(again), restart=True)

    assert (done.events, len(again.rows)) == (20, 20)
    assert again.generations[0] > 0


def test_restart_killed_at_any_point_is_a_restart_or_none(tmp_path: Path) -> None:
    """Nothing between: the old ledger goes on, or the new one begins."""
    from tests.delivery.fakes import Deaths, deliver_or_die

    for at in range(1, 12):
        run, store = tmp_path / "p" / f"run-{at}", Store()
        put_log(run, finished(6))
        deliver(run, KeyedSink(store, refuses=lambda e: e.event.seq == 2))

        deliver_or_die(run, KeyedSink(Store(), deaths=Deaths(at)), restart=True)

        ledger = load_ledger(ledger_path(run, "fake", "d"))
        assert ledger is not None
        is_old = (ledger.generation, ledger.events, ledger.dead_letters) == (0, 6, 1)
        assert is_old or ledger.generation == 1


@pytest.mark.parametrize("name", ["create", "write", "sync", "close", "rename", "sync_directory", "unlink"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_disk_that_fails_under_the_ledger_loses_nothing(tmp_path: Path, name: str, at: int) -> None:
    """The error comes through; the next try goes on."""
    from eventlog.delivery.pump import deliver_run
    from tests.delivery.fakes import RowSink, assert_delivered_once, fresh_breaker

    run, store = tmp_path / "p" / "run", Store()
    put_log(run, finished())
    fresh_breaker()
    system = WatchedSystem(failing(name, at, errno.EIO))

    if name == "unlink":
        deliver_run(run, RowSink(store), "fake", system=system)
    else:
        with pytest.raises(OSError, match="Input/output"):
            deliver_run(run, RowSink(store), "fake", system=system)
    deliver(run, RowSink(store))

    assert_delivered_once(run, store)


def test_generation_that_nothing_tells_is_the_time_in_seconds(tmp_path: Path) -> None:
    """Of a real clock, too: another unit, or another second, could be a generation that there was."""
    clock = FakeClock()
    clock.now = 1_763_700_000.5

    assert generation_after(tmp_path / "gone.json", clock) == 1_763_700_000
