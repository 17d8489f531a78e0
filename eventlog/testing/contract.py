"""The rules that every sink keeps, as tests to inherit.

A subclass says how to make a sink; pytest does the rest. Every call of `make_sink` stands for a new process
that delivers to the same destination.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from eventlog import events as ev
from eventlog.sink import Entry, Point, ReadsBack, RunInfo, Sink, Traits
from eventlog.storage.layout import ARTIFACTS_DIRECTORY, LOG_DIRECTORY
from eventlog.testing.driver import Courier, Killed, Order, describe_difference
from eventlog.testing.fakes import metric_points
from eventlog.testing.runs import every_event, make_run, odd_events, points

STATUSES = ("running", "finished", "failed", "killed", "crashed")


class SinkContract:
    """Tests that a sink must pass; inherit from it in a class whose name begins with ``Test``.

    Attributes:
        secrets: texts of `make_sink` that must be nowhere: neither in the destination nor in the state.
    """

    secrets: ClassVar[tuple[str, ...]] = ()

    # --- for the subclass ------------------------------------------------------------------------

    def make_sink(self) -> Sink:
        """Return a new sink, always for the same destination."""
        raise NotImplementedError("make_sink: return a new sink for the test's destination")

    def points(self, run: RunInfo) -> list[Point] | None:
        """Return what the destination holds of *run*; None if that cannot be read, and is not compared."""
        sink = self.make_sink()
        return list(sink.delivered(run)) if isinstance(sink, ReadsBack) else None

    def expected(self, entries: Iterable[Entry]) -> list[Point]:
        """Return what it should hold after *entries*: what the sink says, or the values of the metrics."""
        sink = self.make_sink()
        return list(sink.expected(entries) if isinstance(sink, ReadsBack) else metric_points(entries))

    def after_kill(self, sink: Sink) -> None:
        """Free what an ended process would (threads, children), without finishing anything."""

    # --- what a sink says of itself ----------------------------------------------------------------

    def test_making_a_sink_does_nothing_yet(self) -> None:
        """A sink is made to ask for its traits and destination; work begins with `open`."""
        threads = threading.active_count()
        sinks = [self.make_sink() for _ in range(10)]

        assert threading.active_count() == threads, "making a sink started a thread"
        assert all(isinstance(sink.traits, Traits) for sink in sinks), "traits is no Traits"

    def test_the_destination_is_stable_and_without_secrets(self, tmp_path: Path) -> None:
        """Checkpoints are kept for each destination, in files that anybody may read."""
        first = self.make_sink().destination
        courier = Courier(make_run(tmp_path / "logs" / "p" / "a", points(5)), self.make_sink)
        sink = courier.deliver()

        assert isinstance(first, str), "destination is no text"
        assert first == sink.destination == self.make_sink().destination, "destination is not always the same"
        assert not re.search(r"://[^/@\s]*@", first), f"destination holds a password: {first}"
        told = first + json.dumps(courier.state)
        assert not [s for s in self.secrets if s in told], "destination or state hold a secret"

    # --- everything passes ----------------------------------------------------------------------------

    def test_a_run_without_events_passes(self, tmp_path: Path) -> None:
        """A run may be killed before it says anything."""
        run = tmp_path / "logs" / "p" / "empty"
        make_run(run, [], status=None)
        for log in (run / LOG_DIRECTORY).iterdir():
            log.chmod(0o644)
            log.write_bytes(log.read_bytes().split(b"\n")[0] + b"\n")

        self._deliver(run)

    def test_events_of_every_type_pass(self, tmp_path: Path) -> None:
        """What the destination has no place for is passed over; also types of a later version."""
        run = tmp_path / "logs" / "p" / "a"
        events = every_event(run)
        known = {type(event) for event in events} | {ev.RunStarted, ev.RunEnded}
        frames = {ev.SegmentOpened, ev.SegmentSealed}
        assert set(ev.KNOWN) - frames <= known, "the contract lacks an event type"
        make_run(run, events)

        self._deliver(run, size=1)

    def test_odd_events_pass_or_are_rejected_by_name(self, tmp_path: Path) -> None:
        """Odd names, huge texts, NaN: delivered, made fit, or `SinkRejectedError`; nothing else is raised."""
        run = make_run(tmp_path / "logs" / "p" / "a", odd_events())

        courier = self._deliver(run, size=10)

        ours = {(entry.writer, entry.event.seq) for entry in courier.delivered_entries()}
        assert ours, "everything was rejected"

    def test_every_status_is_taken(self, tmp_path: Path) -> None:
        """A run may stand in five ways when the sink is closed."""
        for status in STATUSES:
            run = make_run(tmp_path / "logs" / "p" / status, points(3), status=None)
            self._deliver(run, status=status)

    # --- once, whatever happens ----------------------------------------------------------------------

    def test_a_batch_that_is_repeated_after_a_kill_counts_once(self, tmp_path: Path) -> None:
        """Whichever batch was delivered and not saved: the destination ends with each point once."""
        for kill_in in (0, 1, 3):
            run = make_run(tmp_path / "logs" / "p" / f"k{kill_in}", points(25))
            courier = Courier(run, self.make_sink)
            self._killed(courier, kill_in=kill_in)
            courier.deliver()

            self._check(courier, f"killed in batch {kill_in}")

    def test_a_batch_that_was_saved_is_there(self, tmp_path: Path) -> None:
        """Returning from `write` means delivered: a kill later loses nothing, for nothing is repeated."""
        for kill_in in (0, 2):
            run = make_run(tmp_path / "logs" / "p" / f"k{kill_in}", points(25))
            courier = Courier(run, self.make_sink)
            self._killed(courier, kill_in=kill_in, kill_after_save=True)
            courier.deliver()

            self._check(courier, f"killed after batch {kill_in} was saved")

    def test_a_kill_at_the_end_changes_nothing(self, tmp_path: Path) -> None:
        """Closing may be repeated, with and without the batches before it."""
        run = make_run(tmp_path / "logs" / "p" / "a", points(10))
        courier = Courier(run, self.make_sink)
        self._killed(courier, kill_in=-1)
        self._killed(courier, kill_in=-1)
        courier.deliver()

        self._check(courier, "killed after closing")

    def test_batches_may_be_cut_and_mixed_otherwise(self, tmp_path: Path) -> None:
        """After a kill the same events come in other batches, and other writers' events between them."""
        orders: tuple[Order, ...] = ("by writer", "in turns", "merged")
        for number, order in enumerate(orders):
            run = make_run(tmp_path / "logs" / "p" / f"o{number}", points(24), ranks=2)
            courier = Courier(run, self.make_sink)
            self._killed(courier, kill_in=2, size=5)
            self._killed(courier, kill_in=1, size=3, order=order, save_every=2)
            courier.deliver(size=4, order=order)

            self._check(courier, f"cut and mixed otherwise: {order}")

    def test_several_unsaved_batches_are_repeated_together(self, tmp_path: Path) -> None:
        """While a run is followed, the checkpoint is saved less often than batches are delivered."""
        run = make_run(tmp_path / "logs" / "p" / "a", points(25))
        courier = Courier(run, self.make_sink)
        self._killed(courier, kill_in=2, size=4, save_every=10)
        courier.deliver(size=50)

        self._check(courier, "three batches repeated as one")

    # --- again ------------------------------------------------------------------------------------------

    def test_a_run_goes_on_after_it_was_closed(self, tmp_path: Path) -> None:
        """A run that was resumed has more to tell, to a new object and to the old one."""
        run = make_run(tmp_path / "logs" / "p" / "a", points(10))
        courier = Courier(run, self.make_sink)
        sink = courier.deliver()
        make_run(run, points(10, start=10))
        courier.deliver(sink=sink)
        make_run(run, points(5, start=20), status="failed")
        courier.deliver(status="failed")

        self._check(courier, "resumed twice")

    def test_a_delivery_that_stopped_goes_on(self, tmp_path: Path) -> None:
        """`close(None)` is no end: the pump stopped, or waits until the destination is back."""
        run = make_run(tmp_path / "logs" / "p" / "a", points(10), status=None)
        courier = Courier(run, self.make_sink)
        sink = courier.deliver(status=None)
        courier.deliver(status=None, sink=sink)
        make_run(run, points(10, start=10))
        courier.deliver()

        self._check(courier, "stopped twice")

    def test_delivering_twice_changes_nothing(self, tmp_path: Path) -> None:
        """Opening and closing without news is harmless."""
        courier = self._deliver(make_run(tmp_path / "logs" / "p" / "a", points(10)))
        courier.deliver()

        self._check(courier, "delivered twice")

    def test_another_generation_is_delivered_anew(self, tmp_path: Path) -> None:
        """Who asks for everything anew finds everything once, whatever became of the old."""
        run = make_run(tmp_path / "logs" / "p" / "a", points(10))
        self._deliver(run)
        anew = Courier(run, self.make_sink, generation=1)
        self._killed(anew, kill_in=1, size=4)
        anew.deliver()

        self._check(anew, "generation 1")

    def test_runs_do_not_mix(self, tmp_path: Path) -> None:
        """Two runs with the same metrics, one delivered in the middle of the other."""
        one = Courier(make_run(tmp_path / "logs" / "p" / "a", points(20)), self.make_sink)
        other = Courier(make_run(tmp_path / "logs" / "p" / "b", points(7)), self.make_sink)
        self._killed(one, kill_in=1)
        sink = other.deliver()
        one.deliver(sink=sink)

        self._check(one, "the first of two runs")
        self._check(other, "the second of two runs")

    # --- the log is the truth -----------------------------------------------------------------------------

    def test_the_log_is_left_alone(self, tmp_path: Path) -> None:
        """A sink reads a run's log and artifacts, and writes somewhere else."""
        run = tmp_path / "logs" / "p" / "a"
        make_run(run, every_event(run))
        before = _fingerprints(run)
        self._deliver(run)

        assert _fingerprints(run) == before, "the sink has changed the log or the artifacts"

    # --- doing --------------------------------------------------------------------------------------------

    def _deliver(self, run: Path, *, size: int = 7, status: str = "finished") -> Courier:
        courier = Courier(run, self.make_sink)
        courier.deliver(size=size, status=status)
        self._check(courier, f"delivered with batches of {size}")
        return courier

    def _killed(
        self,
        courier: Courier,
        *,
        kill_in: int,
        kill_after_save: bool = False,
        size: int = 7,
        order: Order = "merged",
        save_every: int = 1,
    ) -> None:
        """Deliver in a process that is killed in batch *kill_in*; see `Courier.deliver`."""
        sink = self.make_sink()
        try:
            courier.deliver(
                sink=sink,
                kill_in=kill_in,
                kill_after_save=kill_after_save,
                size=size,
                order=order,
                save_every=save_every,
            )
        except Killed:
            self.after_kill(sink)

    def _check(self, courier: Courier, what: str) -> None:
        """Compare what the destination holds with what it should."""
        held = self.points(courier.info)
        if held is None:
            return
        entries = courier.delivered_entries()
        wanted = self.expected(entries)
        assert wanted or not any(metric_points(entries)), "nothing to compare: `expected` yields no point"
        merges = self.make_sink().traits.merges_equal_points
        difference = describe_difference(wanted, held, merges=merges)
        assert not difference, f"{what}: the destination differs from the log\n{difference}"


def _fingerprints(run: Path) -> dict[str, str]:
    """Return what lies in the log and among the artifacts, by path."""
    files = [p for d in (LOG_DIRECTORY, ARTIFACTS_DIRECTORY) for p in (run / d).rglob("*") if p.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
