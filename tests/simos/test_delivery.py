"""A delivery on a simulated machine, whole: lease, ledger and dead letters, with a fault at any call."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from weakref import WeakSet

import pytest

from eventlog.delivery import lease as leases
from eventlog.delivery.lease import STALE_S
from eventlog.delivery.ledger import ledger_path
from eventlog.delivery.letters import DeadLetters
from eventlog.delivery.pump import deliver_run
from eventlog.errors import EvlogError
from eventlog.sink import Entry, Traits
from tests.delivery.fakes import (
    FakeClock,
    FakeStop,
    Key,
    KeyedSink,
    RowSink,
    Store,
    TruncatingSink,
    fresh_breaker,
    key_of,
)
from tests.simos.faults import Fault, Injector
from tests.simos.life import RUN
from tests.simos.system import Killed, SimSystem
from tests.simos.world import World

pytestmark = pytest.mark.filterwarnings("ignore::eventlog.errors.EvlogWarning")

EVENTS, BATCH = 14, 5
REFUSED = {3, 4, 11}
Make = Callable[[Store, bool], KeyedSink]


def refuses(entry: Entry) -> bool:
    """Tell whether a destination never takes *entry*."""
    return entry.event.seq in REFUSED


def _options(is_strict: bool) -> dict[str, object]:
    return {"refuses": refuses if is_strict else None}


SINKS: dict[str, Make] = {
    "keyed": lambda store, strict: KeyedSink(
        store,
        traits=Traits(batch_events=BATCH),
        refuses=refuses if strict else None,
        names=False,
    ),
    "rows": lambda store, strict: RowSink(store, batch_events=BATCH, **_options(strict)),
    "cut back": lambda store, strict: TruncatingSink(store, batch_events=BATCH, **_options(strict)),
}
"""Sinks that make repeated batches harmless in three ways; some events are refused for good."""


@pytest.fixture(autouse=True)
def no_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no thread touch simulated files."""
    monkeypatch.setattr(leases, "_held", WeakSet())
    monkeypatch.setattr(leases, "_left", set())
    monkeypatch.setattr(leases, "_going", set())
    monkeypatch.setattr(leases, "_keep_alive", leases._held.add)


class Case:
    """A finished run, and a destination that is elsewhere: no power cut reaches it."""

    def __init__(self, sink: str) -> None:
        self.world, self.store, self._make = World(), Store(), SINKS[sink]
        life = self.world.open()
        assert life is not None
        self.world.do(life, log=EVENTS, sync=True)
        assert self.world.end(life)
        self.path = ledger_path(RUN, "fake", "d")
        self.wanted = {(life.writer, seq) for seq in life.logged}

    def deliver(self, *faults: Fault, is_strict: bool = True) -> SimSystem:
        """Deliver in a process of its own, with *faults*; return that process, which has ended."""
        system, clock = SimSystem(self.world.disk), FakeClock()
        Injector(system, *faults)
        fresh_breaker()
        try:
            deliver_run(
                RUN,
                self._make(self.store, is_strict),
                "fake",
                retry_letters=not is_strict,
                timeout_s=0.0,
                stop=FakeStop(clock),
                clock=clock,
                system=system,
            )
        except (EvlogError, OSError, Killed):
            if not faults:
                raise
        system.die()
        leases._left.clear()  # its memory goes with it
        return system

    def cut_power(self, seed: int) -> None:
        """Cut the power, and let the minute pass after which a lease of before is nobody's."""
        self.world.cut_power(random.Random(seed).randrange)
        self.world.disk.advance(STALE_S + 1)

    @property
    def letters(self) -> list[Key]:
        """Return what lies in the dead letters."""
        letters = DeadLetters(self.path, system=SimSystem(self.world.disk)).read()
        return [letter.key for letter in letters]

    def check(self) -> None:
        """Hold destination and dead letters against the log: each event is in one of them, once."""
        once = Counter([key_of(row) for row in self.store.rows] + self.letters)
        assert once == Counter(self.wanted)

    def leftovers(self) -> list[str]:
        """Return files that nobody needs."""
        return [path for path in self.world.disk.contents() if path.endswith(".tmp") or ".lock." in path]


def calls(sink: str, *, is_retry: bool) -> range:
    """Return the numbers of the calls of a delivery, or of one that tries dead letters again."""
    case = Case(sink)
    system = case.deliver()
    if is_retry:
        system = case.deliver(is_strict=False)
    case.check()
    return range(1, system.changes + 1)


@pytest.mark.parametrize(
    ("sink", "kind"),
    [
        *(("keyed", kind) for kind in ("kill", "kill-half", "EIO", "ENOSPC", "lie", "power cut")),
        *((sink, kind) for sink in ("rows", "cut back") for kind in ("kill", "power cut")),
    ],
)
@pytest.mark.parametrize("is_retry", [False, True], ids=["first", "letters again"])
def test_delivery_may_fail_at_every_call(sink: str, kind: str, is_retry: bool) -> None:
    """From taking the lease to giving it back: the next one ends with each event at one place, once."""
    for at in calls(sink, is_retry=is_retry):
        case = Case(sink)
        if is_retry:
            case.deliver()
            assert sorted(seq for _, seq in case.letters) == sorted(REFUSED)

        case.deliver(Fault("kill" if kind == "power cut" else kind, at), is_strict=not is_retry)
        if kind == "power cut":
            case.cut_power(at)
        case.deliver(is_strict=not is_retry)

        try:
            case.check()
            assert bool(case.letters) is not is_retry
            assert case.leftovers() == []
        except AssertionError as problem:
            problem.add_note(f"{kind} at {at} of {sink}")
            raise


@pytest.mark.parametrize("sink", SINKS)
def test_delivery_keeps_what_it_saved_over_a_power_cut(sink: str) -> None:
    """A cut after the end brings nothing back: no dead letter is lost, nothing is sent again."""
    for seed in range(10):
        case = Case(sink)
        case.deliver()
        rows = list(case.store.rows)

        case.cut_power(seed)
        case.deliver()

        assert case.store.rows == rows
        case.check()
