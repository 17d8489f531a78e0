"""The ledger for people: what was sent where and when, and how far behind each destination is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from eventlog.delivery.backlog import backlog
from eventlog.delivery.lease import holder_of
from eventlog.delivery.ledger import Ledger, iter_ledgers, load_ledger
from eventlog.errors import CheckpointError
from eventlog.replay import is_running


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How one run stands at one destination. Times are microseconds since the epoch.

    Attributes:
        state: ``complete``, ``behind``, ``failing`` (the last try failed) or ``unreadable``.
        events: that were delivered.
        lag_events, lag_s: what the log holds beyond: events, and seconds between the newest of both.
        told: the status that the destination knows.
        shape: what was left out or changed on the way.
        holder: who is delivering it at this moment.
    """

    project: str
    run_id: str
    sink: str
    destination: str
    state: str
    events: int = 0
    last_seq: dict[str, int] = {}
    lag_events: int = 0
    lag_s: float = 0.0
    delivered_at: int | None = None
    told: str = ""
    shape: str = ""
    dead_letters: int = 0
    last_error: str = ""
    failed_at: int | None = None
    holder: str = ""


def standings(run: Path) -> list[Standing]:
    """Return how *run* stands at each destination that it was ever sent to."""
    return [_standing(run, path) for path in iter_ledgers(run)]


def _standing(run: Path, path: Path) -> Standing:
    try:
        ledger = load_ledger(path) or Ledger(sink=path.stem)
    except CheckpointError as error:
        return Standing(
            project=run.parent.name,
            run_id=run.name,
            sink=path.stem,
            destination="",
            state="unreadable",
            last_error=str(error),
        )
    waiting = backlog(run, ledger.cursors)
    told = ledger.closed
    # A run that was going on when it was delivered, and then ended without a word: that is news.
    behind = waiting.events > 0 or told is None or (told.is_running and not is_running(run))
    newest, sent = waiting.last_ts, ledger.last_ts
    return Standing(
        project=run.parent.name,
        run_id=run.name,
        sink=ledger.sink,
        destination=ledger.destination,
        state="failing" if ledger.last_error else "behind" if behind else "complete",
        events=ledger.events,
        last_seq={writer: cursor.seq - 1 for writer, cursor in ledger.cursors.items()},
        lag_events=waiting.events,
        lag_s=(newest - sent) / 1e6 if waiting.events and newest and sent else 0.0,
        delivered_at=ledger.delivered_at,
        told=told.status if told else "",
        shape="" if ledger.shape.is_plain else str(ledger.shape),
        dead_letters=ledger.dead_letters,
        last_error=ledger.last_error or "",
        failed_at=ledger.failed_at,
        holder=holder_of(path.with_suffix("")) or "",
    )


def events_left(run: Path, sink_names: Sequence[str]) -> int:
    """Return how many events of *run* the slowest of these sinks does not have yet."""
    ledgers = {ledger.sink: ledger for ledger in _readable(iter_ledgers(run))}
    cursors = [ledgers[name].cursors if name in ledgers else {} for name in sink_names]
    return max((backlog(run, one).events for one in cursors), default=0)


def _readable(paths: Iterable[Path]) -> Iterable[Ledger]:
    for path in paths:
        try:
            ledger = load_ledger(path)
        except CheckpointError:
            continue  # `standings` shows it
        if ledger is not None:
            yield ledger
