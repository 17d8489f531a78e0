"""What is exactly in a ledger: on the disk, and after a new beginning."""

from __future__ import annotations

from pathlib import Path

from eventlog.delivery.ledger import Ledger, Plan, load_ledger, restart_ledger, save_ledger
from eventlog.delivery.shaping import Counts, Shape
from eventlog.projections import RunLife
from eventlog.sink import RunStatus
from eventlog.storage.cursor import Cursor
from tests.delivery.fakes import KeyedSink, Store
from tests.logs import WRITER_A

CURSOR = Cursor(segment=1, offset=100, seq=1, crc="0000abcd")


def test_new_beginning_forgets_all_that_was_delivered() -> None:
    """What stays is where it goes to, when that was last, and what went wrong last."""
    ledger = Ledger(
        sink="x",
        destination="y",
        shape=Shape(every=2),
        generation=2,
        cursors={WRITER_A: CURSOR},
        state={"rows": 12},
        counts=Counts(seen={WRITER_A: {"a": 1}}),
        life=RunLife(started_at=1),
        is_begun=True,
        plan=Plan(parts=[(WRITER_A, 12)]),
        retried=[(WRITER_A, 1)],
        events=12,
        last_ts=4,
        delivered_at=5,
        closed=RunStatus(status="failed", ended_at=4, exit_code=1),
        sizes={"a.jsonl": 100},
        last_error="no",
        failed_at=6,
        dead_letters=3,
    )

    ledger.begin_anew(Shape(every=7), generation=5)

    assert ledger == Ledger(
        sink="x",
        destination="y",
        shape=Shape(every=7),
        generation=5,
        delivered_at=5,
        last_error="no",
        failed_at=6,
    )


def test_each_restart_is_the_next_generation(tmp_path: Path) -> None:
    """They are numbered from 0, and none comes twice: a sink tells by the number what is older."""
    path, sink = tmp_path / "x.json", KeyedSink(Store())
    found = []

    for _ in range(4):
        restart_ledger(path, sink, "x", None)
        found.append(load_ledger(path))

    assert found == [Ledger(sink="x", destination="d", generation=number) for number in range(4)]


def test_ledger_holds_what_is_not_as_always_and_no_more(tmp_path: Path) -> None:
    """It is written after each batch, so what has its default is left out; the sink stands first."""
    path = tmp_path / "x.json"

    save_ledger(path, Ledger(sink="x", cursors={WRITER_A: CURSOR}, events=1))

    cursor = '{"segment":1,"offset":100,"seq":1,"crc":"0000abcd"}'
    text = f'{{"sink":"x","cursors":{{"{WRITER_A}":{cursor}}},"life":{{}},"events":1}}\n'
    assert path.read_text() == text
