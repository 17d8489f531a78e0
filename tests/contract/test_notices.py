"""`SinkContract` is red for sinks that break one rule, each in the test that is about it."""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from eventlog.errors import SinkRejectedError
from eventlog.events import Metrics, UnknownEvent
from eventlog.sink import Batch, Entry, Point, RunInfo, RunStatus, Sink
from eventlog.storage.cursor import Checkpoint
from eventlog.testing import MemorySink, MemoryStore, SinkContract
from eventlog.testing.fakes import metric_points, place_of


class Appending(MemorySink):
    """Has no way to know an event that it has already."""

    def write(self, batch: Batch) -> None:
        held = self.store.entries.setdefault(self._place, {})
        for entry in batch.entries():
            held[entry.writer, len(held)] = entry


class NumbersBatches(MemorySink):
    """Knows a repeated batch by its number, as if batches were always cut the same."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._number = 0

    def open(self, run: RunInfo) -> Checkpoint | None:
        self._number = int(str(run.state.get("number", 0)))
        return super().open(run)

    def write(self, batch: Batch) -> None:
        held = self.store.entries.setdefault(self._place, {})
        for place, entry in enumerate(batch.entries()):
            held[f"{self._number}", place] = entry
        self._number += 1

    def state(self) -> dict[str, object]:
        return {"number": self._number}


class TakesStepsOnly(MemorySink):
    """Remembers the largest step, as if writers took turns always in the same way."""

    def write(self, batch: Batch) -> None:
        held = self.store.entries.setdefault(self._place, {})
        for entry in batch.entries():
            if isinstance(entry.event, Metrics) and entry.event.step is not None:
                largest = max((point.step or 0 for point in metric_points(held.values())), default=-1)
                if entry.event.step > largest:
                    held[entry.writer, entry.event.seq] = entry


class MixesRuns(MemorySink):
    """Has one place for everything."""

    def open(self, run: RunInfo) -> Checkpoint | None:
        self._place = "everything"
        return None

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        return metric_points(self.store.entries.get("everything", {}).values())


class SaysItIsDone(MemorySink):
    """Gives its own position, also to a generation that it has nothing of."""

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        return () if run.generation else super().delivered(run)  # type: ignore[return-value]  # empty


class KnowsItsTypes(MemorySink):
    """Raises at a type of a later version."""

    def write(self, batch: Batch) -> None:
        for entry in batch.entries():
            if isinstance(entry.event, UnknownEvent):
                raise TypeError(entry.event.type)
        super().write(batch)


class LovesNumbers(MemorySink):
    """Raises at NaN."""

    def write(self, batch: Batch) -> None:
        for entry in batch.entries():
            if isinstance(entry.event, Metrics):
                for value in entry.event.data.values():
                    value + 0  # type: ignore[operator]  # that is the fault
        super().write(batch)


class OwnRejectionError(SinkRejectedError):
    """Cannot be pickled."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


class RejectsBadly(MemorySink):
    """Rejects with an error that does not survive pickling."""

    def write(self, batch: Batch) -> None:
        if any(isinstance(entry.event, Metrics) and not entry.event.data for entry in batch.entries()):
            raise OwnRejectionError("no", code=422)
        super().write(batch)


class StateOfSets(MemorySink):
    """Its state is not JSON."""

    def state(self) -> dict[str, object]:
        return {"steps": (1, 2)}


class Wandering(MemorySink):
    """Another destination at every start."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store, name=str(random.random()))


class Gossip(MemorySink):
    """Shows its password."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.destination = "https://ada:hunter2@example.org/runs"


class GossipInState(MemorySink):
    """Keeps its key in the state."""

    def state(self) -> dict[str, object]:
        return {"key": "hunter2"}


class Scribbles(MemorySink):
    """Writes among the run's artifacts."""

    def open(self, run: RunInfo) -> Checkpoint | None:
        (run.path / "artifacts" / "seen-by-me").write_text("yes")
        return super().open(run)


class StartsThreads(MemorySink):
    """Begins before it is asked to."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.enough = threading.Event()
        threading.Thread(target=self.enough.wait, args=(5,), daemon=True).start()


class OnlyOnce(MemorySink):
    """Cannot be opened again."""

    def close(self, status: RunStatus | None) -> None:
        super().close(status)
        del self._place

    def open(self, run: RunInfo) -> Checkpoint | None:
        assert self._place == ""
        return super().open(run)


class WantsAStatus(MemorySink):
    """Takes `close(None)` for an end."""

    def close(self, status: RunStatus | None) -> None:
        assert status is not None
        super().close(status)


class KnowsThreeEnds(MemorySink):
    """Has never heard of crashes."""

    def close(self, status: RunStatus | None) -> None:
        if status is not None:
            ["running", "finished", "failed"].index(status.status)
        super().close(status)


class WantsEvents(MemorySink):
    """Cannot close what never began."""

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        self.store.entries[place_of(run)]
        return super().delivered(run)


class KeepsTheLastBatch(MemorySink):
    """Writes only at the next batch, and forgets the last one when it is killed."""

    def write(self, batch: Batch) -> None:
        for older in self.batches[-1:]:
            held = self.store.entries.setdefault(self._place, {})
            held.update({(e.writer, e.event.seq): e for e in older.entries()})
        self.batches.append(batch)

    def close(self, status: RunStatus | None) -> None:
        self.write(Batch([]))
        self.batches.clear()


class EndsWithTheRun(MemorySink):
    """Takes nothing more after the run has ended once."""

    def write(self, batch: Batch) -> None:
        if not any(self.store.statuses.get(self._place, [])):
            super().write(batch)


class DoublesAtTheEnd(MemorySink):
    """Writes everything out again whenever it is closed."""

    def close(self, status: RunStatus | None) -> None:
        held = self.store.entries.setdefault(self._place, {})
        if any(self.store.statuses.get(self._place, [])):
            held.update({(w, -1 - s): e for (w, s), e in list(held.items())})
        super().close(status)


CASES: list[tuple[Callable[[MemoryStore], Sink], str]] = [
    (Appending, "test_a_batch_that_is_repeated_after_a_kill_counts_once"),
    (Appending, "test_several_unsaved_batches_are_repeated_together"),
    (NumbersBatches, "test_batches_may_be_cut_and_mixed_otherwise"),
    (TakesStepsOnly, "test_batches_may_be_cut_and_mixed_otherwise"),
    (MixesRuns, "test_runs_do_not_mix"),
    (SaysItIsDone, "test_another_generation_is_delivered_anew"),
    (KnowsItsTypes, "test_events_of_every_type_pass"),
    (LovesNumbers, "test_odd_events_pass_or_are_rejected_by_name"),
    (RejectsBadly, "test_odd_events_pass_or_are_rejected_by_name"),
    (StateOfSets, "test_delivering_twice_changes_nothing"),
    (Wandering, "test_the_destination_is_stable_and_without_secrets"),
    (Gossip, "test_the_destination_is_stable_and_without_secrets"),
    (GossipInState, "test_the_destination_is_stable_and_without_secrets"),
    (Scribbles, "test_the_log_is_left_alone"),
    (StartsThreads, "test_making_a_sink_does_nothing_yet"),
    (OnlyOnce, "test_a_run_goes_on_after_it_was_closed"),
    (WantsAStatus, "test_a_delivery_that_stopped_goes_on"),
    (KnowsThreeEnds, "test_every_status_is_taken"),
    (WantsEvents, "test_a_run_without_events_passes"),
    (KeepsTheLastBatch, "test_a_batch_that_was_saved_is_there"),
    (EndsWithTheRun, "test_a_run_goes_on_after_it_was_closed"),
    (DoublesAtTheEnd, "test_a_kill_at_the_end_changes_nothing"),
    (DoublesAtTheEnd, "test_delivering_twice_changes_nothing"),
]


class ContractOf(SinkContract):
    __test__: ClassVar[bool] = False
    secrets: ClassVar[tuple[str, ...]] = ("hunter2",)

    def __init__(self, make: Callable[[MemoryStore], Sink]) -> None:
        self._make, self._store = make, MemoryStore()

    def make_sink(self) -> Sink:
        return self._make(self._store)


def obey(contract: ContractOf, rule: str, tmp_path: Path) -> None:
    test = getattr(contract, rule)
    test(*[tmp_path] * len(inspect.signature(test).parameters))


@pytest.mark.parametrize(("make", "rule"), CASES, ids=[f"{make.__name__}-{rule}" for make, rule in CASES])
def test_contract_notices_a_broken_rule(
    make: Callable[[MemoryStore], Sink], rule: str, tmp_path: Path
) -> None:
    """A sink with this fault does not pass this test; a good one does."""
    obey(ContractOf(MemorySink), rule, tmp_path / "good")

    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the fault's business
        obey(ContractOf(make), rule, tmp_path / "bad")


def test_every_rule_is_broken_by_some_fault() -> None:
    """No test of the contract passes for everybody."""
    rules = {name for name in vars(SinkContract) if name.startswith("test_")}

    assert rules == {rule for _, rule in CASES}


class Tolerant(MemorySink):
    def expected(self, entries: Iterable[Entry]) -> Iterator[Point]:
        return iter(())

    def delivered(self, run: RunInfo) -> Iterator[Point]:
        return iter(())


def test_a_sink_that_expects_nothing_is_compared_with_nothing(tmp_path: Path) -> None:
    """A sink whose proof is empty proves nothing: its author gives the points in the subclass."""
    contract = ContractOf(Tolerant)

    with pytest.raises(AssertionError, match="nothing to compare"):
        obey(contract, "test_delivering_twice_changes_nothing", tmp_path)
